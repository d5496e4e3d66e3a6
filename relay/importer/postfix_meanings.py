"""What parameters of Postfix mean here that have no key of their own, where that matters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from relay.importer.draft import Draft, Origin
from relay.importer.main_cf import MainCf, Service, split_list
from relay.importer.postfix_aliases import tell_of_local_aliases
from relay.importer.postfix_smtpd import Smtpd

_HEADERS = "messages are not changed or refused by patterns."
_REWRITES = "addresses are not rewritten by tables, but by aliases (recipients) and SRS (senders)."
_COPIES = "nobody gets copies; an alias with two targets makes one."
_CHECKS = "clients, senders and recipients are not checked by tables."


class _Meaning(NamedTuple):
    """What a parameter means; `usual` are values that make no difference, in lower case."""

    text: str
    usual: tuple[str, ...] = ()


_MATTERS = {
    "always_bcc": _Meaning(_COPIES),
    "body_checks": _Meaning(_HEADERS),
    "canonical_maps": _Meaning(_REWRITES),
    "content_filter": _Meaning("no content filter is called.", ("",)),
    "default_transport": _Meaning(
        "mail without a next hop goes to the smarthost, or to the MX of its domain.", ("smtp",)
    ),
    "fallback_relay": _Meaning("there is no second smarthost."),
    "header_checks": _Meaning(_HEADERS),
    "home_mailbox": _Meaning("the relay has no mailboxes."),
    "luser_relay": _Meaning("unknown users are refused; a catch-all (@example.org) in the alias table takes them."),
    "mailbox_command": _Meaning("the relay runs no commands and has no mailboxes."),
    "masquerade_domains": _Meaning(_REWRITES),
    "mime_header_checks": _Meaning(_HEADERS),
    "nested_header_checks": _Meaning(_HEADERS),
    "postscreen_dnsbl_sites": _Meaning("DNS lists are named in clients.dnsbl and clients.dnswl: see docs/abuse.md."),
    "recipient_bcc_maps": _Meaning(_COPIES),
    "relocated_maps": _Meaning("moved users are unknown users: nobody is told a new address."),
    "sender_bcc_maps": _Meaning(_COPIES),
    "sender_dependent_default_transport_maps": _Meaning("the next hop does not depend on the sender."),
    "sender_dependent_relayhost_maps": _Meaning("the next hop does not depend on the sender."),
    "smtp_dns_support_level": _Meaning(
        "TLSA records are followed (delivery.dane) where a resolver on this host validates DNSSEC, or with"
        " dns.trust_ad; `srs-relay check` says whether it does.",
        ("enabled", "disabled"),
    ),
    "smtp_fallback_relay": _Meaning("there is no second smarthost."),
    "smtp_generic_maps": _Meaning(_REWRITES),
    "smtp_header_checks": _Meaning(_HEADERS),
    "smtpd_client_message_rate_limit": _Meaning(
        "clients have a limit of connections (limits.connections_per_client), not of messages.", ("0",)
    ),
    "smtpd_proxy_filter": _Meaning("no content filter is called."),
    "smtpd_sasl_exceptions_networks": _Meaning("logins are offered to every client."),
    "soft_bounce": _Meaning("refusals are for good.", ("no",)),
    "virtual_mailbox_base": _Meaning("the relay has no mailboxes."),
}
# Names that are read for keys of ours; they also show that a file is one of Postfix.
_MAPPED = {
    *("myhostname", "mydomain", "myorigin", "mydestination", "mynetworks", "mynetworks_style", "inet_interfaces"),
    *("inet_protocols", "relay_domains", "relay_recipient_maps", "relayhost", "transport_maps", "virtual_alias_maps"),
    *("smtp_tls_policy_maps",),
    *("virtual_alias_domains", "virtual_maps", "virtual_mailbox_domains", "virtual_mailbox_maps", "virtual_transport"),
    *("smtp_sasl_auth_enable", "smtp_sasl_password_maps", "smtp_tls_security_level", "smtpd_tls_security_level"),
    *("smtpd_sasl_auth_enable", "smtpd_sasl_type", "smtpd_sasl_path", "smtpd_sender_login_maps", "tls_server_sni_maps"),
    *("smtpd_tls_cert_file", "smtpd_tls_key_file", "smtpd_tls_chain_files", "message_size_limit", "alias_maps"),
    *("maximal_queue_lifetime", "bounce_queue_lifetime", "minimal_backoff_time", "maximal_backoff_time"),
    *("smtp_bind_address", "smtp_bind_address6", "recipient_delimiter", "local_recipient_maps", "smtpd_milters"),
    *("smtpd_recipient_restrictions", "smtpd_relay_restrictions", "compatibility_level", "queue_directory"),
}
KNOWN = frozenset({*_MATTERS, *_MAPPED})

_MILTERS = (  # what stands in the address of a milter, and what to do about it
    (r"opendkim|:8891\b|:12301\b", "OpenDKIM: `srs-relay import opendkim /etc/opendkim.conf` reads its keys."),
    (r"opendmarc|:8893\b|:54321\b", "OpenDMARC: `srs-relay import opendmarc /etc/opendmarc.conf` reads its policy."),
    (r"srs", "PostSRSd: `srs-relay import postsrsd /etc/postsrsd.conf` reads its secret."),
    (r"rspamd|:11332\b", "rspamd is not asked: the relay does not look for spam."),
    (r"clam|amavis|spam|:11333\b", "it is not asked: the relay looks neither for spam nor for viruses."),
)
_NOT_READ = "the import does not read this parameter. See postconf(5) whether your mail depends on it."
_CLEANUP = (
    "header fields are not removed by patterns; receive.hide_clients = true leaves users' addresses out of Received."
)
_NO_DIFFERENCE = re.compile(  # for mail: files and processes of Postfix itself, logs, and what the program names itself
    r"alias_database|anvil_\w+|append_\w+|biff|broken_sasl_auth_clients|debug\w*|default_database_type|default_privs"
    r"|delay_logging_resolution_limit|disable_vrfy_command|\w+_directory|enable_long_queue_ids|(?:im|ex)port_environment"
    r"|local_destination_\w+|local_recipient_maps|mail_(?:name|owner|release_date|version)|mailbox_size_limit"
    r"|mailbox_transport|local_transport|mailq_path|maillog_\w+|milter_\w+|multi_instance\w*|newaliases_path"
    r"|process_id_directory|proxy_(?:read|write)_maps|relay_transport|sendmail_path|setgid_group|show_user_\w+"
    r"|smtp_tls_CApath|smtp_tls_CAfile|smtpd?_tls_loglevel|smtpd?_tls_session_cache\w*|smtpd_banner|smtpd_delay_reject"
    r"|smtpd_sasl_\w+|smtp_sasl_(?:security|tls_security)_options|(?:sender|recipient)_canonical_classes"
    r"|smtpd_use_tls|smtpd_tls_auth_only|syslog_\w+|unknown_\w+_code|virtual_(?:gid|uid)_maps|virtual_minimum_uid"
)
_POLICIES = (  # what stands in smtpd_*_restrictions
    (r"reject_rbl_client|reject_rhsbl_\w+|permit_dnswl_client", "no DNS lists are asked about clients."),
    (
        r"check_policy_service \S*spf\S*",
        "`srs-relay import policyd-spf /etc/postfix-policyd-spf-python/policyd-spf.conf` reads it.",
    ),
    (r"check_policy_service \S*(?:grey|10023)\S*", "there is no greylisting."),
    (r"check_policy_service \S+", "no policy service is asked."),
    (r"check_\w+_access \S+", _CHECKS),
    (
        r"permit_mx_backup",
        "mail for domains whose MX is here is not taken for that alone: write a route for each ([routes.domains]).",
    ),
    (
        r"permit_tls_\w*clientcerts",
        "clients are not known by their certificates: name their addresses in clients.trusted.",
    ),
    (
        r"reject_unknown_\w+|reject_invalid_\w+|reject_non_fqdn_\w+",
        "clients.require_reverse and clients.require_helo ask for names of clients; domains of senders are not looked"
        " up, but for SPF and DMARC.",
    ),
)
_RESTRICTIONS = re.compile("smtpd_(?:client|helo|sender|relay|recipient|data|end_of_data)_restrictions")
_FOR_ONE_PORT = (  # options of a port that make no difference for mail, or none there
    *("local_header_rewrite_clients", "milter_macro_daemon_name", "smtpd_reject_unlisted_recipient"),
    *("smtpd_tls_security_level", "smtpd_etrn_restrictions"),
)
_SRS = re.compile(
    r"tcp:\S*:1000[12]\b|socketmap:\S*(?:forward|reverse)\b|(?:tcp|socketmap|unix|inet|local):\S*srs", re.IGNORECASE
)


def tell_unmapped(draft: Draft, main_cf: MainCf) -> None:
    """Name the parameters without a counterpart that make a difference."""
    for name, meaning in _MATTERS.items():
        if name in main_cf and (value := main_cf.get(name)) and value.lower() not in meaning.usual:
            draft.no_counterpart(main_cf.origin(name), meaning.text, matters=True)
    _tell_canonical(draft, main_cf)
    _tell_milters(draft, main_cf)
    _tell_restrictions(draft, main_cf, main_cf.parameters)
    _tell_delimiter(draft, main_cf)
    _tell_subdomains(draft, main_cf)
    if draft.strings(("senders",), "local_domains"):
        tell_of_local_aliases(draft, main_cf)
    _tell_unread(draft, main_cf)


def tell_services(draft: Draft, ports: Iterable[Smtpd], others: Iterable[Service]) -> None:
    """Name what smtpd has for one port alone in master.cf, as far as nothing else reads it, and its other ports."""
    for smtpd in ports:
        options = smtpd.service.options if smtpd.service is not None else {}
        _tell_restrictions(draft, smtpd.main_cf, options)
        for name in options:
            if not (name in smtpd.main_cf.read or name in _FOR_ONE_PORT or _NO_DIFFERENCE.fullmatch(name)):
                meaning = _CLEANUP if name == "cleanup_service_name" else _NOT_READ
                draft.no_counterpart(smtpd.main_cf.origin(name), meaning, matters=True)
    for service in others:
        meaning = "the import does not read this port of Postfix; where mail comes in there, write a [[listen]] for it."
        draft.no_counterpart(Origin(f"{service.name} in master.cf", service.where), meaning, matters=True)


def asks_postsrsd(main_cf: MainCf) -> Origin | None:
    """Where PostSRSd rewrites senders; None if it does not."""
    for name in ("sender_canonical_maps", "smtpd_milters"):
        if _SRS.search(main_cf.get(name)):
            return main_cf.origin(name)
    return None


def _tell_canonical(draft: Draft, main_cf: MainCf) -> None:
    """PostSRSd's tables are known by their ports and names; others rewrite addresses."""
    for name in ("sender_canonical_maps", "recipient_canonical_maps"):
        value = main_cf.get(name)
        if not value:
            continue
        if _SRS.search(value):
            meaning = (
                f"{value} is PostSRSd: `srs-relay import postsrsd` reads its settings. Put its SRS domain into [srs],"
                " so that addresses that it has sent stay valid. Where the relay is the MTA, nothing takes the place of"
                " these maps: SRS is built in."
            )
        else:
            meaning = _REWRITES
        draft.no_counterpart(main_cf.origin(name), meaning, matters=True)


def _tell_milters(draft: Draft, main_cf: MainCf) -> None:
    seen = set[str]()
    for name in ("smtpd_milters", "non_smtpd_milters"):
        for milter in split_list(main_cf.get(name)):
            if milter in seen:
                continue
            seen.add(milter)
            known = (text for pattern, text in _MILTERS if re.search(pattern, milter, re.IGNORECASE))
            draft.no_counterpart(main_cf.origin(name), f"{milter}: {next(known, 'no milter is called.')}", matters=True)


def _tell_restrictions(draft: Draft, main_cf: MainCf, names: Iterable[str]) -> None:
    """Name what stands in those of the parameters that are restrictions."""
    for name in filter(_RESTRICTIONS.fullmatch, names):
        value = " ".join(main_cf.get(name).replace(",", " ").split())
        for pattern, text in _POLICIES:
            found = list(dict.fromkeys(match[0] for match in re.finditer(pattern, value)))
            if found:
                value = re.sub(pattern, "", value)
                draft.no_counterpart(main_cf.origin(name), f"{', '.join(found)}: {text}", matters=True)


def _tell_unread(draft: Draft, main_cf: MainCf) -> None:
    """Name the parameters that nothing has looked at, so that none is lost in silence."""
    transports = {program for program in main_cf.programs() if program not in ("smtp", "relay", "lmtp", "local")}
    for name in main_cf.parameters:
        is_own = name.removesuffix("_destination_recipient_limit").removesuffix("_destination_concurrency_limit")
        if name in main_cf.read or name in KNOWN or is_own in transports or _NO_DIFFERENCE.fullmatch(name):
            continue
        draft.no_counterpart(main_cf.origin(name), _NOT_READ, matters=True)


def _tell_delimiter(draft: Draft, main_cf: MainCf) -> None:
    if "recipient_delimiter" not in main_cf or (value := main_cf.get("recipient_delimiter")) == "+":
        return
    meaning = f'"+" divides user and detail here (user+detail@example.org), not {value!r}.'
    draft.no_counterpart(main_cf.origin("recipient_delimiter"), meaning, matters=True)


def _tell_subdomains(draft: Draft, main_cf: MainCf) -> None:
    """By default relay_domains stands for all domains below as well."""
    matching = main_cf.get("parent_domain_matches_subdomains")
    is_default = "parent_domain_matches_subdomains" not in main_cf
    routed = [table for table in draft.tables if table[:2] == ("routes", "domains")]
    if "relay_domains" in main_cf and routed and (is_default or "relay_domains" in matching):
        meaning = (
            "a route is for one domain. Postfix takes mail for the domains below as well: name those that there are."
        )
        draft.no_counterpart(main_cf.origin("relay_domains"), meaning, matters=True)
