"""Lookup tables for Postfix: SRS addresses there and back, by the socketmap and tcp_table protocols."""
