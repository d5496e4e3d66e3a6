"""Where a recipient goes: SRS addresses home, aliases, domain routes, and the guards against loops."""
