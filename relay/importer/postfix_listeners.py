"""`[[listen]]`, from the ports where Postfix takes mail and the addresses that it has."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence

from relay.importer.draft import Draft, Key
from relay.importer.main_cf import MainCf, split_list
from relay.importer.postfix_smtpd import MX_PORT, Smtpd

_EVERYWHERE = {4: "0.0.0.0", 6: "::"}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_TAKEN = "Postfix has this port until it is stopped."


def set_listeners(draft: Draft, ports: Sequence[Smtpd]) -> None:
    """Set the listeners. `[tls]` is set already, as far as it is known.

    Where only main.cf is known, and users log in, there are examples of the ports where they do.
    """
    has_ipv6, named, seen = _has_ipv6(), False, set[str]()
    for smtpd in ports:
        for address in dict.fromkeys(_addresses(draft, smtpd)):
            text = f"[{address}]:{smtpd.port}" if ":" in address else f"{address}:{smtpd.port}"
            if text in seen:
                continue
            seen.add(text)
            keys = {"address": Key(text, str(smtpd.origin)), **_keys(draft, smtpd)}
            if ":" in address and not has_ipv6:
                draft.entry("listen", keys, "once this host has IPv6.", "if wanted")
                continue
            unread = " master.cf, where services have other ports, is not read." if smtpd.service is None else ""
            draft.entry("listen", keys, "" if named else _TAKEN + unread)
            named = True
    if ports and ports[0].service is None and ports[0].login != "none":
        for port, tls in ((587, "require"), (465, "implicit")):
            keys = {"address": Key(f"0.0.0.0:{port}"), "tls": Key(tls), "auth": Key("required")}
            draft.entry("listen", keys, f"users log in on port {port}. Import the folder of master.cf.", "if wanted")


def _keys(draft: Draft, smtpd: Smtpd) -> dict[str, Key]:
    """The keys of a listener besides its address."""
    keys, login, tls = dict[str, Key](), smtpd.login, smtpd.tls
    has_tls = ("tls",) in draft.tables or "tls.certificates" in draft.arrays
    if has_tls and tls in ("require", "implicit"):
        keys["tls"] = Key(tls, str(smtpd.tls_origin))
    elif has_tls and tls == "none":
        keys["tls"] = Key(tls, str(smtpd.tls_origin))
        if login != "none":
            keys["tls"] = Key("starttls", comment="Clients log in inside TLS only.")
    if login != "none":
        is_open = login == "offered" and smtpd.port != MX_PORT
        comment = '"required" takes mail only from clients that log in, trusted ones too.' if is_open else ""
        keys["auth"] = Key(login, str(smtpd.main_cf.origin("smtpd_sasl_auth_enable")), comment)
    if smtpd.main_cf.get("smtpd_upstream_proxy_protocol").lower() == "haproxy":
        keys["proxy_protocol"] = Key(True, str(smtpd.main_cf.origin("smtpd_upstream_proxy_protocol")))
        keys["proxies"] = Key(("127.0.0.1/32",), comment="The addresses of the proxies: change it if they are others.")
    return keys


def _addresses(draft: Draft, smtpd: Smtpd) -> Iterator[str]:
    """The addresses of a port, without brackets."""
    versions = _versions(smtpd.main_cf)
    for interface in [smtpd.host] if smtpd.host else split_list(smtpd.main_cf.get("inet_interfaces")):
        word = interface.lower()
        if word in ("all", "loopback-only", "localhost"):
            yield from ((_EVERYWHERE if word == "all" else _LOOPBACK)[version] for version in versions)
            continue
        try:
            ip = ipaddress.ip_address(interface.strip("[]"))
        except ValueError:
            meaning = f"{interface} is a name; write the address to listen on into [[listen]]."
            draft.no_counterpart(smtpd.origin, meaning, matters=True)
            continue
        if ip.version in versions:
            yield str(ip)


def _versions(main_cf: MainCf) -> list[int]:
    """The versions of IP that are used, IPv4 first."""
    words = {word.lower() for word in split_list(main_cf.get("inet_protocols"))}
    return [version for version in (4, 6) if words & {"all", f"ipv{version}"}] or [4, 6]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
