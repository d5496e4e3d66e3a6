"""`[auth]`: who checks the passwords of Postfix' users (`smtpd_sasl_type`), and which senders are whose."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from relay.accounts.dovecot_unreachable import unix_listener
from relay.accounts.names import check_name
from relay.accounts.user_senders import sender_key
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.lookup_tables import TableEntry, entries, origin_of, tables
from relay.importer.main_cf import MainCf, split_list
from relay.importer.postfix_smtpd import Smtpd

_AUTH = ("auth",)
_SOCKET = "/run/dovecot/auth-client"
_OTHER_SOCKET = f"{unix_listener(Path(_SOCKET), 'srs-relay')} makes one for the relay (docs/operating.md)"
_OWN_SENDERS = (
    "a user writes as himself alone, in the envelope and in From (550 5.7.1); auth.senders adds other addresses."
)
_MISMATCH = (  # the restrictions without which smtpd_sender_login_maps has no effect
    "reject_sender_login_mismatch",
    "reject_authenticated_sender_login_mismatch",
    "reject_known_sender_login_mismatch",
)


def set_users(draft: Draft, ports: Sequence[Smtpd]) -> None:
    """Set the keys of this part, where users log in. `senders.local_domains` is set already."""
    taking = [smtpd for smtpd in ports if smtpd.login != "none"]
    if not taking:
        return
    main_cf = taking[0].main_cf
    _set_source(draft, main_cf)
    for smtpd in taking[1:]:
        for name in ("smtpd_sasl_type", "smtpd_sasl_path", "smtpd_sender_login_maps"):
            if smtpd.main_cf.get(name) != main_cf.get(name):
                meaning = f"all ports have the same users; those of {taking[0].origin} are taken."
                draft.no_counterpart(smtpd.main_cf.origin(name), meaning, matters=True)
    for smtpd in taking:
        if smtpd.tls in ("none", "may") and not smtpd.main_cf.is_on("smtpd_tls_auth_only"):
            meaning = "clients log in inside TLS only: those that send passwords without it get 538 5.7.11."
            draft.no_counterpart(smtpd.main_cf.origin("smtpd_tls_auth_only"), meaning, matters=True)
            break
    _set_senders(draft, main_cf, taking)


def _set_source(draft: Draft, main_cf: MainCf) -> None:
    """Who checks the passwords."""
    kind, origin = main_cf.get("smtpd_sasl_type").lower(), main_cf.origin("smtpd_sasl_type")
    if kind == "dovecot":
        _set_dovecot(draft, main_cf)
        return
    meaning = (
        f"{kind}: the relay does not ask it, and its passwords cannot be taken over: `srs-relay users add NAME` adds"
        " each user. Or let Dovecot check them (auth.dovecot)."
    )
    draft.no_counterpart(origin, meaning, matters=True)
    text = "# The users who may log in; `srs-relay users add NAME` adds one.\n"
    draft.new_file(_AUTH, "users", "users", text, origin, "It has no users yet.")


def _set_dovecot(draft: Draft, main_cf: MainCf) -> None:
    path, origin = main_cf.get("smtpd_sasl_path"), main_cf.origin("smtpd_sasl_path")
    if path.startswith("inet:"):
        draft.ask(_AUTH, "dovecot", _SOCKET, f"the socket of Dovecot on this host. {_OTHER_SOCKET}.")
        meaning = f"{path}: Dovecot is asked on a Unix socket of this host only, not over the network. {_OTHER_SOCKET}."
        draft.no_counterpart(origin, meaning, matters=True)
        return
    queue = main_cf.get("queue_directory")
    absolute = posixpath.normpath(posixpath.join(queue, path.removeprefix("unix:")))
    draft.set(_AUTH, "dovecot", absolute, origin)
    if absolute.startswith(f"{queue.rstrip('/')}/"):
        meaning = (
            f"{absolute} is in the folder of Postfix, where the user of the relay may not go. {_OTHER_SOCKET}: name"
            f" {_SOCKET} in auth.dovecot."
        )
        draft.no_counterpart(origin, meaning, matters=True)


def _set_senders(draft: Draft, main_cf: MainCf, taking: Iterable[Smtpd]) -> None:
    """The senders that users may use besides their own."""
    maps, origin = tables(main_cf, "smtpd_sender_login_maps"), main_cf.origin("smtpd_sender_login_maps")
    if not maps:
        draft.no_counterpart(origin, f"Postfix lets users write as anybody; here {_OWN_SENDERS}", matters=True)
        return
    if not all(map(_is_enforced, taking)):
        meaning = f"Postfix does not ask these maps on every port, because {_MISMATCH[0]} is not there; "
        draft.no_counterpart(origin, f"{meaning}here {_OWN_SENDERS}", matters=True)
    senders: dict[str, dict[str, None]] = {}
    for table in maps:
        where = origin_of(main_cf, "smtpd_sender_login_maps", table)
        try:
            rows = entries(main_cf, table)
        except ImportFailed as error:
            draft.no_counterpart(where, f"{error}. {_OWN_SENDERS.capitalize()}", matters=True)
            continue
        for row in rows:
            for name, sender in _owned(draft, row):
                senders.setdefault(name, {})[sender] = None
    if senders:
        lines = [f"# From {origin}: a user, and the senders that are his.\n"]
        lines += [f"{name} {' '.join(own)}\n" for name, own in senders.items()]
        comment = "Changes of Postfix' table do not reach it. A user's own address need not stand there."
        draft.new_file(_AUTH, "senders", "senders", "".join(lines), origin, comment)


def _is_enforced(smtpd: Smtpd) -> bool:
    lists = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
    words = " ".join(smtpd.main_cf.get(f"smtpd_{step}_restrictions") for step in lists).replace(",", " ").split()
    return not set(words).isdisjoint(_MISMATCH)


def _owned(draft: Draft, row: TableEntry) -> Iterator[tuple[str, str]]:
    """The users of an entry, each with a sender that is his. `user` without a domain is one of each of our own."""
    key, origin = row.key, Origin(f"smtpd_sender_login_maps {row.key}", row.where)
    domains = draft.strings(("senders",), "local_domains")
    senders = [key] if "@" in key else [f"{key}@{domain}" for domain in domains]
    for name in split_list(row.value):
        try:
            check_name(name)
            owned = [(name, sender_key(sender)) for sender in senders]
        except ValueError as error:
            draft.no_counterpart(origin, f"{name}: {error}.", matters=True)
            continue
        yield from owned
