"""The durable queue: what was accepted is here until it is delivered, bounced or dropped."""
