"""The forwarder's own signatures, DKIM and ARC, and the keys that make them."""
