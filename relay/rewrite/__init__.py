"""The envelope sender that leaves (SRS) and the trace fields on top."""
