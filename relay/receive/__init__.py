"""The receiving side of SMTP: listeners, sessions, the DATA stream, and the limits on all of them."""
