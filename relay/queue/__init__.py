"""The durable queue: it keeps every accepted message until it is delivered, bounced or dropped."""
