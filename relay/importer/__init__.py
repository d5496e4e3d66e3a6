"""Reads the configuration of PostSRSd, OpenDKIM, OpenDMARC, policyd-spf and Postfix, and writes one of ours."""
