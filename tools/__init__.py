"""Programs for developers; nothing of them is installed with the relay."""
