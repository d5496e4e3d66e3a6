"""What is rewritten of a message that leaves: the envelope sender (SRS) and From; and the trace field on top."""
