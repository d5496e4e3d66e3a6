"""The configuration: its models, its values, and the files that it is read from."""
