"""Tables that are asked for one key at a time: databases and regexp tables."""
