"""Files of lines that people edit: read again when they change, and their bad lines, which are named and skipped."""
