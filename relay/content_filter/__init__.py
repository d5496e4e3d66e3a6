"""The filter: what rspamd and clamd say of a message after DATA, and what follows from it."""
