"""Postfix, as far as recipients go."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer.draft import Draft
from tests.importer.loading import loaded, meanings
from tests.importer.postfix_site import site


def route(draft: Draft, domain: str) -> tuple[object, object]:
    table = ("routes", "domains", domain)
    return draft.value(table, "next_hop"), draft.value(table, "recipients")


def routes(draft: Draft) -> list[str]:
    """The domains with a route that counts."""
    return [
        table[2]
        for table in draft.tables
        if table[:2] == ("routes", "domains") and draft.value(table, "recipients") is not None
    ]


def test_domains_that_are_relayed(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "relay_domains = a1.example, texthash:/etc/postfix/relay\ntransport_maps = texthash:/etc/postfix/transport\n"
        "relay_recipient_maps = texthash:/etc/postfix/users\n",
        relay="a2.example OK\n",
        transport="a1.example smtp:[10.0.0.5]:2525\na2.example lmtp:inet:10.0.0.6:24\n",
        users="ann@a1.example x\n@a2.example x\n",
    )
    assert route(draft, "a1.example") == ("smtp://10.0.0.5:2525", f"{tmp_path}/postfix/users")
    assert route(draft, "a2.example") == ("lmtp://10.0.0.6:24", f"{tmp_path}/postfix/users")
    assert draft.comments[("routes", "domains", "a2.example")] == f"From {tmp_path}/postfix/relay:1."
    loaded(tmp_path, draft)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, "any")),
        ("relay_transport = smtp:[10.0.0.5]\n", ("smtp://10.0.0.5:25", "any")),
        (
            "relay_transport = smtp:[10.0.0.5]\nsmtpd_recipient_restrictions = reject_unverified_recipient\n",
            ("smtp://10.0.0.5:25", "callout"),
        ),
        ("relay_transport = smtp:[10.0.0.5]\nrelay_recipient_maps = ldap:/x\n", ("smtp://10.0.0.5:25", "callout")),
        ("relay_recipient_maps = ldap:/x\n", (None, "any")),
        ("transport_maps = inline:{ r.example=error:gone }\n", (None, None)),
        ("transport_maps = inline:{ .example=smtp:[10.0.0.7] }\n", ("smtp://10.0.0.7:25", "any")),
        ("transport_maps = inline:{ r.example=lmtp:unix:private/x }\n", (None, None)),
    ],
)
def test_users_and_next_hops_of_relayed_domains(tmp_path: Path, text: str, expected: tuple[object, object]) -> None:
    draft = site(tmp_path, f"relay_domains = r.example\n{text}")
    assert route(draft, "r.example") == expected
    loaded(tmp_path, draft)


def test_several_files_of_users_become_one(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "relay_domains = r.example\nrelay_recipient_maps = texthash:/etc/postfix/one, texthash:/etc/postfix/two\n",
        one="ann@r.example x\n",
        two="bob@r.example x\n",
    )
    config = loaded(tmp_path, draft)
    assert config.routes.domains["r.example"].recipients == (tmp_path / "r.example.users",)
    text = (tmp_path / "r.example.users").read_text()
    assert "ann@r.example" in text and "bob@r.example" in text


def test_domains_with_mailboxes_behind_lmtp(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "virtual_mailbox_domains = v.example\nvirtual_transport = lmtp:inet:127.0.0.1:24\n"
        "virtual_mailbox_maps = mysql:/x.cf\n",
    )
    assert route(draft, "v.example") == ("lmtp://127.0.0.1:24", "callout")
    assert "mysql:/x.cf cannot be read" in meanings(draft)["virtual_mailbox_maps"]


@pytest.mark.parametrize(
    "text", ["", "virtual_transport = lmtp:unix:private/dovecot-lmtp\n", "virtual_transport = virtual\n"]
)
def test_mailboxes_of_this_host_need_a_host_to_be_named(tmp_path: Path, text: str) -> None:
    draft = site(tmp_path, f"virtual_mailbox_domains = v.example\n{text}")
    assert "routes.domains.v.example.next_hop" in draft.to_fill_in()
    assert any("the relay has no mailboxes" in said for said in meanings(draft).values())
    assert str(loaded(tmp_path, draft).next_hop("v.example")) == "lmtp://127.0.0.1:24"


def test_a_list_in_a_database_gets_a_route_as_an_example(tmp_path: Path) -> None:
    draft = site(tmp_path, "virtual_mailbox_domains = mysql:/x.cf\nvirtual_transport = lmtp:inet:10.0.0.1:24\n")
    assert "mysql:/x.cf" in meanings(draft)["virtual_mailbox_domains"]
    key = draft.tables[("routes", "domains", "virtual-mailbox-domains.example")]["next_hop"]
    assert (key.kind, key.value) == ("fill in", "lmtp://10.0.0.1:24")


@pytest.mark.parametrize(
    ("text", "domains"),
    [
        ("mydestination = $myhostname, b.example, localhost.b.example, localhost\n", ["mx.a.example", "b.example"]),
        ("myorigin = $mydomain\nmydestination = b.example\n", ["a.example", "b.example"]),
        ("myorigin = /etc/postfix/mailname\nmydestination =\n", ["c.example"]),
        ("mydestination = /etc/postfix/names\n", ["d.example"]),
    ],
)
def test_our_own_domains(tmp_path: Path, text: str, domains: list[str]) -> None:
    draft = site(tmp_path, text, mailname="c.example\n", names="d.example\n")
    assert list(draft.strings(("senders",), "local_domains")) == domains


def test_own_domains_may_have_a_mailbox_host(tmp_path: Path) -> None:
    draft = site(tmp_path, "mydestination = $myhostname, b.example\nmailbox_transport = lmtp:inet:10.0.0.1:24\n")
    assert route(draft, "b.example") == ("lmtp://10.0.0.1:24", "callout")
    assert routes(draft) == ["b.example"]
    without = site(tmp_path, "mydestination = $myhostname, b.example\n")
    assert routes(without) == []
    assert without.to_fill_in() == ["srs.domain"]
    assert "b.example" in " ".join(meanings(without))


def test_a_next_hop_makes_no_foreign_domain_ours(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "relay_domains = r.example\ntransport_maps = texthash:/etc/postfix/transport\n",
        transport="gmail.com smtp:[10.0.0.1]\n.r.example smtp:[10.0.0.1]\nann@r.example smtp:[10.0.0.2]\n",
    )
    config = loaded(tmp_path, draft)
    assert list(config.routes.domains) == ["r.example"]
    assert [entry.domains for entry in config.delivery.destinations] == [("gmail.com", ".r.example")]
    assert str(config.next_hop("gmail.com")) == "smtp://10.0.0.1:25"
    said = meanings(draft)
    assert "transport_maps gmail.com" not in said
    assert "an alias" in said["transport_maps ann@r.example"]


@pytest.mark.parametrize(("name", "is_named"), [("com", True), ("*", True), ("localhost", False)])
def test_a_top_level_domain_is_no_route(tmp_path: Path, name: str, is_named: bool) -> None:
    draft = site(tmp_path, f"relay_domains = {name}\n")
    assert not [table for table in draft.tables if table[:2] == ("routes", "domains")]
    assert (f"{name} is no full domain name" in meanings(draft).get("relay_domains", "")) is is_named


def test_a_list_server_behind_a_pipe_needs_a_host_to_be_named(tmp_path: Path) -> None:
    text = "relay_domains = lists.example\ntransport_maps = hash:/etc/postfix/transport\n"
    draft = site(tmp_path, text, transport="lists.example mailman:\n")
    assert "routes.domains.lists.example.next_hop" in draft.to_fill_in()


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    draft = site(tmp_path, "transport_maps = ldap:/x\nrelay_domains = r.example, b!.example\n")
    assert "ldap:/x" in meanings(draft)["transport_maps"]
    assert "no full domain name" in meanings(draft)["relay_domains"]
