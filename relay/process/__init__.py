"""The processes of one host: the supervisor, its workers, and what they read before they start."""
