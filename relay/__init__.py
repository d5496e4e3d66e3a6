"""A forwarding SMTP relay with SPF, SRS, DKIM, DMARC, ARC, a durable queue, and bounces that reach the true sender."""

__version__ = "0.2.0"
