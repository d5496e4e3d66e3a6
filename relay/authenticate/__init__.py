"""Authentication of a message: SPF, DKIM, ARC and DMARC, the decision on them, and Authentication-Results."""
