"""The logins of Postfix at the hosts that it sends through (`smtp_sasl_password_maps`)."""

from __future__ import annotations

from typing import NamedTuple

from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.draft import Table as DraftTable
from relay.importer.lookup_tables import entries, origin_of, tables
from relay.importer.main_cf import MainCf


class Login(NamedTuple):
    """User and password for one host."""

    user: str
    password: str
    origin: Origin


def find_login(draft: Draft, main_cf: MainCf, next_hop: str) -> Login | None:
    """The login at a next hop, by what transport(5) or `relayhost` call it; None if there is none."""
    if not main_cf.is_on("smtp_sasl_auth_enable"):
        return None
    for table in tables(main_cf, "smtp_sasl_password_maps"):
        origin = origin_of(main_cf, "smtp_sasl_password_maps", table)
        try:
            found = table.name.removeprefix("{").removesuffix("}").strip() if table.kind == "static" else ""
            rows = {} if table.kind == "static" else {entry.key: entry for entry in entries(main_cf, table)}
        except ImportFailed as error:
            problem = f"{error}. Write user and password_file into the table of the smarthost."
            draft.no_counterpart(origin, problem, matters=True)
            continue
        entry = next((rows[key] for key in _lookup_keys(next_hop) if key in rows), None)
        user, colon, password = (found or (entry.value if entry is not None else "")).partition(":")
        if colon:
            where = Origin("smtp_sasl_password_maps", entry.where) if entry is not None else origin
            return Login(user, password, where)
    return None


def set_login(draft: Draft, table: DraftTable, login: Login) -> None:
    """User and password of a smarthost. The password goes into a file of its own."""
    draft.set(table, "user", login.user, login.origin)
    name = f"{table[-1]}.password"
    text = login.password + "\n"
    draft.new_file(table, "password_file", name, text, login.origin, "It has the password alone.")


def _lookup_keys(next_hop: str) -> list[str]:
    """The keys to look a host up by: as it is written, then without its port."""
    host = next_hop.rpartition(":")[0] if not next_hop.endswith("]") and ":" in next_hop else next_hop
    return [next_hop, host, host.strip("[]")]
