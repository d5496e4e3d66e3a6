"""Rate limits, shared by all processes of a host."""

from relay.rate.buckets import CLIENTS, ClientBuckets, PersonBuckets, TokenBuckets
from relay.rate.rates import FORGERIES, UNKNOWN_BURST, UNKNOWN_RATE, Rates

__all__ = [
    "CLIENTS",
    "FORGERIES",
    "UNKNOWN_BURST",
    "UNKNOWN_RATE",
    "ClientBuckets",
    "PersonBuckets",
    "Rates",
    "TokenBuckets",
]
