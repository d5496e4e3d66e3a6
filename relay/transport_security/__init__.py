"""MTA-STS (RFC 8461) and DANE (RFC 7672): how the owners of domains say that their mail hosts can be verified."""
