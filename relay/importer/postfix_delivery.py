"""Postfix, as far as mail leaves: relayhost and its password, TLS, addresses to send from, the queue."""

from __future__ import annotations

import ipaddress

from relay.config.values import duration as seconds
from relay.importer import next_hops
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.lookup_tables import TableEntry, entries, tables
from relay.importer.main_cf import MainCf, split_list
from relay.importer.postfix_login import find_login, set_login
from relay.importer.postfix_tls import BY_MX, tls_level
from relay.importer.postfix_values import duration, number

_DANE = "TLSA records are followed at every level (delivery.dane), where DNSSEC proves them."
_DELIVERY, _SMARTHOST, _QUEUE = ("delivery",), ("delivery", "smarthost"), ("queue",)


def fill(draft: Draft, main_cf: MainCf) -> None:
    """Set the keys of this part."""
    _set_families(draft, main_cf)
    _set_sources(draft, main_cf)
    level = _tls_level(draft, main_cf)
    if level is not None:
        draft.set(_DELIVERY, "tls", level, _tls_origin(main_cf), _DANE if _is_dane(main_cf) else "")
    name = "default_destination_concurrency_limit"
    name = "smtp_destination_concurrency_limit" if "smtp_destination_concurrency_limit" in main_cf else name
    if name in main_cf and (value := number(main_cf.get(name))):
        draft.set(_DELIVERY, "concurrency", value, main_cf.origin(name), "In each process.")
    _set_smarthost(draft, main_cf, level)
    _set_queue(draft, main_cf)


def _set_families(draft: Draft, main_cf: MainCf) -> None:
    words = [word.lower() for word in split_list(main_cf.get("inet_protocols"))]
    preferred = main_cf.get("smtp_address_preference").lower()
    if "inet_protocols" in main_cf and "all" not in words:
        families = tuple(word for word in ("ipv6", "ipv4") if word in words)
        if len(families) == 1:
            draft.set(_DELIVERY, "families", families, main_cf.origin("inet_protocols"))
            return
    if preferred == "ipv4":
        draft.set(_DELIVERY, "families", ("ipv4", "ipv6"), main_cf.origin("smtp_address_preference"))


def _set_sources(draft: Draft, main_cf: MainCf) -> None:
    for name, key, version in (("smtp_bind_address", "source_ipv4", 4), ("smtp_bind_address6", "source_ipv6", 6)):
        text = main_cf.get(name).strip("[]")
        if not text:
            continue
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            ip = None
        if ip is None or ip.version != version:
            draft.no_counterpart(main_cf.origin(name), f"{text} is no IPv{version} address.", matters=True)
        elif not ip.is_unspecified:
            draft.set(_DELIVERY, key, str(ip), main_cf.origin(name))


def _tls_level(draft: Draft, main_cf: MainCf) -> str | None:
    """TLS towards next hops; None if Postfix has its default."""
    level = main_cf.get("smtp_tls_security_level").lower()
    if not level and main_cf.is_on("smtp_enforce_tls"):
        level = "verify"
    elif not level and main_cf.is_on("smtp_use_tls"):
        level = "may"
    if not level:
        return None
    mapped = tls_level(level)
    by_mx = "" if main_cf.get("relayhost") else BY_MX.get(level, "")
    for problem in filter(None, (mapped.problem, by_mx)):
        draft.no_counterpart(_tls_origin(main_cf), problem, matters=True)
    return mapped.level or None


def _is_dane(main_cf: MainCf) -> bool:
    return main_cf.get("smtp_tls_security_level").lower() in ("dane", "dane-only")


def _tls_origin(main_cf: MainCf) -> Origin:
    names = ("smtp_tls_security_level", "smtp_enforce_tls", "smtp_use_tls")
    return main_cf.origin(next((name for name in names if main_cf.get(name)), names[0]))


def _set_smarthost(draft: Draft, main_cf: MainCf, level: str | None) -> None:
    relayhost, origin = main_cf.get("relayhost"), main_cf.origin("relayhost")
    wrapped = main_cf.is_on("smtp_tls_wrappermode")
    if relayhost:
        hop = next_hops.host(relayhost, "smtps" if wrapped else "smtp")
    else:
        wildcard = _wildcard(main_cf)
        if wildcard is None:
            return
        entry, origin = wildcard
        hop, relayhost = (
            next_hops.transport(entry.value, main_cf.programs(), wrapped=wrapped),
            entry.value.partition(":")[2],
        )
    if hop.problem:
        draft.no_counterpart(origin, f"{hop.problem}.", matters=True)
    if not hop.url:
        return
    draft.set(_SMARTHOST, "url", hop.url, origin)
    login = find_login(draft, main_cf, relayhost)
    has_login = login is not None
    if login is not None:
        set_login(draft, _SMARTHOST, login)
    elif main_cf.is_on("smtp_sasl_auth_enable") and "smtp_sasl_password_maps" in main_cf:
        meaning = f"there is no entry for {relayhost}; [delivery.smarthost] has neither user nor password."
        draft.no_counterpart(main_cf.origin("smtp_sasl_password_maps"), meaning, matters=True)
    strict = level
    if level is not None and has_login and level in ("none", "may"):
        strict = None  # our default verifies the certificate, because a password is sent
        meaning = (
            f"{level}: a password is not sent without TLS here, and only to a host whose certificate is valid"
            ' (delivery.smarthost.tls = "verify", or "require" for any certificate).'
        )
        draft.no_counterpart(_tls_origin(main_cf), meaning, matters=True)
    if strict is not None:
        draft.set(_SMARTHOST, "tls", strict, _tls_origin(main_cf))


def _wildcard(main_cf: MainCf) -> tuple[TableEntry, Origin] | None:
    """The entry `*` of transport_maps, which is a relayhost by another name."""
    for table in tables(main_cf, "transport_maps"):
        try:
            found = next((entry for entry in entries(main_cf, table) if entry.key == "*"), None)
        except ImportFailed:
            continue
        if found is not None:
            return found, Origin("transport_maps *", found.where)
    return None


def _set_queue(draft: Draft, main_cf: MainCf) -> None:
    values: dict[str, str] = {}
    for name, key, unit in (
        ("maximal_queue_lifetime", "retry_for", "d"),
        ("bounce_queue_lifetime", "bounce_retry_for", "d"),
        ("minimal_backoff_time", "retry_min", "s"),
        ("maximal_backoff_time", "retry_max", "s"),
    ):
        if name not in main_cf:
            continue
        value = duration(main_cf.get(name), unit)
        if value is None:
            meaning = f"{main_cf.get(name)}: queue.{key} has its default; no value means a single attempt."
            draft.no_counterpart(main_cf.origin(name), meaning, matters=True)
        else:
            values[key] = value
            draft.set(_QUEUE, key, value, main_cf.origin(name))
    if "retry_min" in values and "retry_max" in values and seconds(values["retry_min"]) > seconds(values["retry_max"]):
        comment = "maximal_backoff_time is shorter."
        draft.set(_QUEUE, "retry_max", values["retry_min"], main_cf.origin("minimal_backoff_time"), comment)
