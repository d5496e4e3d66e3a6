"""Decides where a recipient goes: the senders behind SRS addresses, aliases, domain routes, and checks for loops."""
