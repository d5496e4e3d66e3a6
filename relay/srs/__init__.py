"""The codec of addresses of ours that stand for others: SRS0 and SRS1 for senders, reply addresses for authors."""
