"""Next hops of Postfix (transport(5), `relayhost`) as URLs of ours."""

from __future__ import annotations

import posixpath
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from relay.mail.address import is_domain
from relay.network import endpoint

_QUEUE = "/var/spool/postfix"  # the default of queue_directory
_PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}
_REFUSING = ("error", "retry", "discard")
_LOCAL = ("local", "virtual", "maildrop", "pipe")  # delivery on the host itself
_NETWORK = ("", "smtp", "relay", "lmtp", "smtps")
_HOST = re.compile(r"(?:inet:)?(?:\[(?P<literal>[^]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[\w-]+))?\Z")


class NextHop(NamedTuple):
    """A next hop.

    Attributes:
        url: empty if there is none, or none that can be said.
        refuses: the transport refuses mail, or throws it away.
        is_local: the transport delivers on the host itself.
        problem: what differs from Postfix, or why there is no URL; empty if all is well.
    """

    url: str
    refuses: bool = False
    is_local: bool = False
    problem: str = ""


def transport(value: str, programs: Mapping[str, str], *, wrapped: bool = False, queue: str = _QUEUE) -> NextHop:
    """The next hop of `transport:nexthop`, as on the right of transport(5).

    Args:
        programs: the program of each transport in master.cf; without those that are not known.
        wrapped: `smtp_tls_wrappermode` is on.
        queue: `queue_directory`, where the path of a Unix socket begins.
    """
    name, _, rest = value.strip().partition(":")
    program = name if name in (*_NETWORK, *_REFUSING, *_LOCAL) else programs.get(name, "")
    if program in _REFUSING:
        return NextHop("", refuses=True)
    if program in _LOCAL:
        return NextHop("", is_local=True)
    is_known = name in _NETWORK
    if not rest:
        is_network = is_known or program in _NETWORK[1:]
        return NextHop("", problem="" if is_network else f"{name}: only master.cf says what this transport does")
    scheme = "lmtp" if "lmtp" in (program or name) else "smtps" if wrapped or name == "smtps" else "smtp"
    hop = host(rest, scheme, queue=queue)
    if not is_known and not program and not hop.problem:
        return hop._replace(problem=f"{name}: its settings in master.cf are not known")
    return hop


def host(text: str, scheme: str, *, queue: str = _QUEUE) -> NextHop:
    """The URL of `[host]:port`, `host:port`, `host`, `inet:host:port`, `unix:path`."""
    first, *others = (part for part in re.split(r"[,\s]+", text.strip()) if part)
    if first.startswith("unix:"):
        return _socket(first.removeprefix("unix:"), scheme, queue)
    match = _HOST.match(first)
    if match is None:
        return NextHop("", problem=f"{first} is no host")
    port = _port(match["port"], scheme)
    name = (match["literal"] or match["name"]).strip()
    name = re.sub(r"^ipv6:", "", name, flags=re.IGNORECASE)
    if port is None or not (":" in name or is_domain(name)):
        return NextHop("", problem=f"{first} is no host with a port")
    url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}"
    try:
        endpoint(url)
    except ValueError:
        return NextHop("", problem=f"{first} is no host with a port")
    if others:
        return NextHop(url, problem=f"of several hosts the first alone is taken: {text}")
    if match["name"] is not None and scheme != "lmtp" and not re.fullmatch(r"[\d.]+", name):
        return NextHop(
            url, problem=f"{name} without brackets: Postfix asks for its MX, the relay connects to the host itself"
        )
    return NextHop(url)


def _socket(path: str, scheme: str, queue: str) -> NextHop:
    """A Unix socket; Dovecot makes one in the folder of Postfix, where other users may not go."""
    absolute = posixpath.normpath(posixpath.join(queue, path)) if path else ""
    try:
        url = str(endpoint(f"lmtp://{quote(absolute)}"))
    except ValueError as error:
        return NextHop("", problem=f"unix:{path}: {error}")
    if scheme != "lmtp":
        return NextHop("", problem=f"unix:{path} is a Unix socket, and the relay speaks LMTP alone there")
    if absolute.startswith(f"{queue.rstrip('/')}/"):
        problem = (
            f"{absolute} is a Unix socket in the folder of Postfix, where the user of the relay may not go; let the"
            " program make another one (Dovecot: unix_listener), such as lmtp:///run/dovecot/lmtp, or listen on a port"
        )
        return NextHop("", problem=problem)
    return NextHop(url)


def _port(text: str | None, scheme: str) -> int | None:
    if text is None:
        return _PORTS[scheme]
    if text.isdecimal():
        return int(text) if 0 < int(text) < 65536 else None
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        return None
