"""The keys of next hops: what the queue, the dispatcher and the log call the place that a delivery goes to.

A key is the recipient's domain, or the URL of a configured next hop. Deliveries with the same key share places. Own
messages have keys of their own. So has doubtful mail (`[delivery.doubtful]`), and mail to a configured next hop that a
table of `[[delivery.destinations]]` limits: both may have to wait while other mail to the same next hop has not.
"""

from __future__ import annotations

_OWN = "!"  # neither a domain nor a URL begins with it
_DOUBTFUL = "?"  # likewise; own messages are never doubtful
_LIMITED = "\t"  # and none has this one in it


def own_hop(key: str) -> str:
    """The key for own messages to the next hop of another key."""
    return _OWN + key


def doubtful_hop(key: str) -> str:
    """The key for doubtful mail to the next hop of another key."""
    return _DOUBTFUL + key


def limited_hop(url: str, table: str) -> str:
    """The key for mail to a URL that the table of this name limits. A domain says by itself which table limits it."""
    return url + _LIMITED + table


def is_own_hop(key: str) -> bool:
    """Whether a key is for own messages."""
    return key.startswith(_OWN)


def is_doubtful_hop(key: str) -> bool:
    """Whether a key is for doubtful mail."""
    return key.startswith(_DOUBTFUL)


def limiting_table(key: str) -> str:
    """The name of the table that limits mail with the key of a URL; empty where none does."""
    return key.partition(_LIMITED)[2]


def shown_hop(key: str) -> str:
    """The next hop that a key stands for, as the log and the queue commands show it."""
    return key.lstrip(_OWN + _DOUBTFUL).partition(_LIMITED)[0]


def peer(key: str) -> str:
    """What stands for the next hop of a key as the other end of connections: it knows doubtful mail by its source
    address, and cannot tell other mail apart."""
    return key.removeprefix(_OWN).partition(_LIMITED)[0]


def is_url(key: str) -> bool:
    """Whether a key stands for a URL of the configuration, and not for a domain that a stranger may have chosen."""
    return "://" in key
