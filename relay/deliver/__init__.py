"""SMTP and LMTP out: next hops, TLS, pooled connections, and what a reply means."""
