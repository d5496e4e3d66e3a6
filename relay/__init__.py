"""A forwarding SMTP relay that makes forwarding safe: SPF, SRS, DKIM, a durable queue, and bounces that come home."""

__version__ = "0.1.0"
