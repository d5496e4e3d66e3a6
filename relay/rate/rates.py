"""All rate limits of a host: what counts, by whom, and how much of it."""

from __future__ import annotations

from relay.config.sections import RatesSection, SrsSection
from relay.known_clients import KnownClients
from relay.rate.buckets import ClientBuckets, PersonBuckets, TokenBuckets
from relay.rate.greylist import Greylist
from relay.rate.traffic import Traffic

FORGERIES = 20  # from one client at once: an honest host that returns forged mail brings some
UNKNOWN_BURST, UNKNOWN_RATE = 100, 30  # unknown users that a client may ask for at once, and then a minute
NOTICES, NOTICES_AN_HOUR = 10, 10  # to one domain without SPF, at once and then an hour


class Rates:
    """All rate limits.

    Args:
        known: the clients that do not count with their networks; kept over a reload.
        traffic: how much mail is taken.

    Attributes:
        mail, bounces: messages to one sender or author behind our SRS and reply addresses, from other senders and from
            the null sender.
        forgeries: forged SRS and reply addresses of a client.
        hidden: bounces of a client past that limit, to good and to forged addresses alike.
        unknown_users: unknown users that the mailbox host is asked for on behalf of a client.
        notices: DSNs to senders of a domain without SPF.
        greylist: mail that the filter has asked to come again.
        traffic: mail by client, sender domain, alias and destination.
    """

    def __init__(self, srs: SrsSection, known: KnownClients | None = None, traffic: RatesSection | None = None) -> None:
        self.known = known or KnownClients()
        self.mail = PersonBuckets(srs.reverse_rate)
        self.bounces = PersonBuckets(srs.bounce_rate)
        self.forgeries = ClientBuckets(srs.forged_rate, FORGERIES, self.known)
        self.hidden = ClientBuckets(srs.bounce_rate, srs.bounce_rate, self.known)
        self.unknown_users = ClientBuckets(UNKNOWN_RATE, UNKNOWN_BURST, self.known)
        self.notices = TokenBuckets(NOTICES_AN_HOUR / 60, NOTICES)
        self.greylist = Greylist()
        self.traffic = Traffic(traffic or RatesSection(), self.known)
