"""Delivery over SMTP and LMTP: next hops, TLS, pooled connections, and what a reply means."""
