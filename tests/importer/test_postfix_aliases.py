"""Postfix's virtual aliases as our alias table."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer.folder import write
from relay.process.files import read_files
from tests.importer.loading import load_text, loaded, meanings
from tests.importer.postfix_site import site


def test_a_text_file_is_used_where_it_is(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "mynetworks = 127.0.0.0/8\nvirtual_alias_maps = hash:/etc/postfix/virtual\n",
        virtual="v.example x\nann@v.example ann@b.example\n",
    )
    config = loaded(tmp_path, draft)
    assert config.routes.aliases == (tmp_path / "postfix/virtual",)
    aliases = read_files(config).tables.aliases
    assert aliases.listed.expand("ann@v.example") == ("ann@b.example",)
    assert draft.unmapped == []


def test_several_tables_become_one_and_the_first_line_counts(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "virtual_alias_maps = texthash:/etc/postfix/one, inline:{ {bob@v.example = x@b.example, y@b.example} },"
        " hash:/etc/postfix/two\n",
        one="ann@v.example first@b.example\n",
        two="ann@v.example second@b.example\n@v.example rest@b.example\n",
    )
    write(draft, tmp_path / "relay", force=False)
    config = load_text(tmp_path / "relay", (tmp_path / "relay/relay.toml").read_text())
    aliases = read_files(config).tables.aliases
    assert aliases.listed.expand("ann@v.example") == ("first@b.example",)
    assert aliases.listed.expand("bob@v.example") == ("x@b.example", "y@b.example")
    assert aliases.listed.expand("zoe@v.example") == ("rest@b.example",)


@pytest.mark.parametrize(
    ("table", "advice"),
    [
        ("regexp:/x", "a catch-all"),
        ("pcre:/x", "a catch-all"),
        ("mysql:/x", "postmap -s mysql:/x"),
        ("hash:/none", "postmap -s hash:/none"),
        ("tcp:localhost:10002", "SRS is built in"),
    ],
)
def test_what_cannot_be_read_is_named_with_advice(tmp_path: Path, table: str, advice: str) -> None:
    draft = site(tmp_path, f"virtual_alias_maps = {table}\n")
    assert advice in meanings(draft)["virtual_alias_maps"]
    assert draft.value(("routes",), "aliases") is None


def test_lines_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "virtual_alias_maps = hash:/etc/postfix/virtual\n",
        virtual="ann@v.example |/bin/x\nbob@v.example b@b.example\n",
    )
    setting = next(setting for setting in draft.unmapped if setting.name == "aliases")
    assert setting.where == f"{tmp_path}/postfix/virtual:1"
    assert "a command is no address" in setting.meaning
    loaded(tmp_path, draft)


def test_a_file_without_any_good_line_is_named(tmp_path: Path) -> None:
    draft = site(tmp_path, "virtual_alias_maps = hash:/etc/postfix/virtual\n", virtual="@@ x@y.example\n")
    assert "no line of the file can be used" in meanings(draft)["virtual_alias_maps"]


@pytest.mark.parametrize(("transport", "said"), [("", True), ("mailbox_transport = lmtp:inet:10.0.0.1:24\n", False)])
def test_aliases_that_end_at_users_of_this_host_are_named(tmp_path: Path, transport: str, said: bool) -> None:
    draft = site(
        tmp_path,
        f"mydestination = b.example\nvirtual_alias_maps = hash:/etc/postfix/virtual\n{transport}",
        virtual="v.example x\nann@v.example ann\nbob@v.example c@c.example\nzoe@v.example ann@v.example\n",
    )
    named = meanings(draft).get("virtual_alias_maps", "")
    assert ("1 aliases lead to users of this host (ann@v.example)" in named) is said


def test_an_alias_to_itself_ends_at_a_user_of_this_host(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "mydestination = b.example\nmyorigin = b.example\nvirtual_alias_maps = hash:/etc/postfix/virtual\n",
        virtual="ann@b.example ann, c@c.example\nbob bob\nJoe@b.example joe@B.example\nzoe@b.example z@c.example\n",
    )
    said = meanings(draft)["virtual_alias_maps"]
    assert "3 aliases lead to users of this host (ann@b.example, bob, joe@b.example)" in said


def test_entries_of_aliases_5_that_lead_elsewhere_are_named(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "mydestination = b.example\nalias_maps = hash:/etc/postfix/aliases\n",
        aliases='postmaster: root\nroot: admin@c.example\n"bob": b, b@d.example\nx: |/bin/y a@b\nlist: :include:/x@y\n',
    )
    said = meanings(draft)["alias_maps = hash:/etc/postfix/aliases"]
    assert "2 of its entries lead to other hosts (root, bob)" in said
    assert "alias_maps" not in " ".join(
        meanings(site(tmp_path, "mydestination =\nalias_maps = hash:/etc/postfix/aliases\n"))
    )


VIRTUAL = "joe@foreign.example joe@b.example\nann@ours.example ann@b.example\n"


@pytest.mark.parametrize(
    ("text", "virtual", "foreign"),
    [
        ("", VIRTUAL, "foreign.example, ours.example"),
        ("virtual_alias_domains = ours.example\n", VIRTUAL, "foreign.example"),
        ("", f"ours.example domain\n{VIRTUAL}", "foreign.example"),
        ("relay_domains = example\nvirtual_alias_domains = ours.example\n", VIRTUAL, ""),
        ("mydestination = ours.example, foreign.example\n", VIRTUAL, ""),
        ("virtual_mailbox_domains = ldap:/x\n", VIRTUAL, ""),  # any domain may be in there
    ],
)
def test_domains_that_an_alias_would_make_ours_are_named(tmp_path: Path, text: str, virtual: str, foreign: str) -> None:
    draft = site(tmp_path, f"{text}virtual_alias_maps = hash:/etc/postfix/virtual\n", virtual=virtual)
    said = meanings(draft).get("virtual_alias_maps", "")
    assert (f"{foreign}: Postfix takes no mail from strangers" in said) is bool(foreign)
