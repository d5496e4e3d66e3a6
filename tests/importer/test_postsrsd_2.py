"""PostSRSd 2: postsrsd.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer import postsrsd_2
from relay.importer.draft import Draft, ImportFailed, Value
from tests.importer.loading import loaded, meanings

SRS = ("srs",)
# The options that the example of PostSRSd 2.4 has, with its values.
EXAMPLE = """\
domains = {}
#domains-file =
#srs-domain =
socketmap = unix:/var/spool/postfix/srs
#keep-alive = 30
secrets-file = "/usr/local/etc/postsrsd.secret"
#original-envelope = embedded
#separator = "="
"""


def draft(text: str, folder: Path = Path("/etc")) -> Draft:
    return postsrsd_2.draft(folder / "postsrsd.conf", text)


def tables(made: Draft) -> list[dict[str, Value]]:
    return [{name: key.value for name, key in entry.keys.items()} for entry in made.arrays.get("tables", [])]


def test_every_option_that_has_a_counterpart(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("tops3cr3t\n")
    made = draft(
        'domains = {"a.example", "b.example"}\nsrs-domain = "srs.example"\nsocketmap = inet:localhost:10003\n'
        f'secrets-file = "{tmp_path}/secret"\nseparator = "+"\nhash-length = 6\nhash-minimum = 5\n'
        "original-envelope = embedded\nalways-rewrite = off\n"
    )
    assert made.unmapped == []
    config = loaded(tmp_path, made)
    assert (config.srs.domain, config.srs.hash, config.srs.separator) == ("srs.example", "compatible", "+")
    assert (config.srs.hash_length, config.srs.hash_min) == (6, 5)
    assert config.senders.local_domains == ("a.example", "b.example")
    assert tables(made) == [{"address": "127.0.0.1:10003", "protocol": "socketmap"}]
    assert made.tables[SRS]["separator"].origin == "separator (/etc/postsrsd.conf:5)"


def test_the_example_of_the_package() -> None:
    made = draft(EXAMPLE)
    assert made.value(SRS, "domain") is None
    assert made.value(SRS, "secrets_file") == "/usr/local/etc/postsrsd.secret"
    assert tables(made) == [
        {"address": "unix:/var/spool/postfix/srs", "protocol": "socketmap", "mode": "0660", "group": "postfix"}
    ]


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("domains = {a.example, b.example}", "a.example"),
        ("domains = {.a.example}", "a.example"),
        ("domains = {a.example}\nsrs-domain = s.example", "s.example"),
        ('domains = {a.example}\nsrs-domain = ""', "a.example"),
        ("domains-file = domains", "f.example"),
        ("domains = {a.example}\ndomains-file = domains", "a.example"),
    ],
)
def test_the_srs_domain_is_by_default_the_first_domain(tmp_path: Path, text: str, domain: str) -> None:
    (tmp_path / "domains").write_text("# c\n\nf.example # x\ng.example\n")
    made = draft(text, tmp_path)
    assert made.value(SRS, "domain") == domain
    assert ("g.example" in made.strings(("senders",), "local_domains")) is ("domains-file" in text)


def test_a_file_of_domains_is_followed_no_further() -> None:
    made = draft("domains-file = /nowhere/domains")
    assert "No such file" in meanings(made)["domains-file"]


@pytest.mark.parametrize(
    ("socketmap", "address"),
    [
        ("inet:localhost:10003", "127.0.0.1:10003"),
        ("inet:10003", "127.0.0.1:10003"),
        ("inet6:localhost:10003", "[::1]:10003"),
        ("inet:[::1]:10003", "[::1]:10003"),
        ("inet:*:10003", "0.0.0.0:10003"),
        ("local:/run/srs", "unix:/run/srs"),
    ],
)
def test_sockets(socketmap: str, address: str) -> None:
    assert tables(draft(f'socketmap = "{socketmap}"'))[0]["address"] == address


@pytest.mark.parametrize("socketmap", ["inet:mx.example:10003", "inet:localhost", "other:x"])
def test_a_socket_that_cannot_be_had_is_named(socketmap: str) -> None:
    made = draft(f'socketmap = "{socketmap}"')
    assert tables(made)[0]["address"] == "127.0.0.1:10003"
    assert socketmap in " ".join(meanings(made).values())


@pytest.mark.parametrize(("socketmap", "own"), [("inet:localhost:10003", "10004"), ("unix:/srs", "10003")])
def test_stored_senders_stay_with_postsrsd(socketmap: str, own: str) -> None:
    made = draft(f'original-envelope = database\nenvelope-database = "sqlite:x.db"\nsocketmap = "{socketmap}"')
    assert tables(made) == [{"address": f"127.0.0.1:{own}", "protocol": "socketmap"}]
    said = meanings(made)["original-envelope"]
    assert "sqlite:x.db cannot be taken over" in said and "bounces would be lost" in said
    assert f"recipient_canonical_maps = socketmap:{socketmap}:reverse, socketmap:inet:127.0.0.1:{own}:reverse" in said


def test_a_milter_has_no_counterpart_and_tables_take_its_place() -> None:
    made = draft('socketmap = ""\nmilter = inet:localhost:9997')
    assert "smtpd_milters" in meanings(made)["milter"]
    assert tables(made) == [{"address": "127.0.0.1:10003", "protocol": "socketmap"}]


def test_options_without_a_counterpart() -> None:
    made = draft("always-rewrite = on\nkeep-alive = 9\nno-such-option = 1\n")
    matters = {setting.name: setting.matters for setting in made.unmapped}
    assert matters == {"always-rewrite": True, "keep-alive": False, "no-such-option": True}


@pytest.mark.parametrize(
    ("length", "shortest", "written", "accepted"), [(4, 4, 4, 4), (20, 8, 20, 8), (2, 1, 4, 4), (5, 9, 5, 5)]
)
def test_lengths_stay_within_our_bounds(length: int, shortest: int, written: int, accepted: int) -> None:
    made = draft(f"hash-length = {length}\nhash-minimum = {shortest}\n")
    assert (made.value(SRS, "hash_length"), made.value(SRS, "hash_min")) == (written, accepted)
    assert bool(made.unmapped) is ((length, shortest) != (written, accepted))


def test_files_are_included(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("domains += {b.example}\n")
    made = draft('domains = {a.example}\ninclude("more.conf")\n', tmp_path)
    assert made.strings(("senders",), "local_domains") == ("a.example", "b.example")


def test_files_that_include_each_other_are_named(tmp_path: Path) -> None:
    (tmp_path / "postsrsd.conf").write_text('include("postsrsd.conf")\n')
    with pytest.raises(ImportFailed, match="include each other"):
        draft('include("postsrsd.conf")\n', tmp_path)


@pytest.mark.parametrize("text", ["domains = {", "separator = ,", "domains = 'a"])
def test_what_is_not_in_the_syntax_is_one_line(text: str) -> None:
    with pytest.raises(ImportFailed, match=r"^/etc/postsrsd\.conf: line 1: .*$"):
        draft(text)


@pytest.mark.parametrize(("name", "value"), [("hash-length", "x"), ("separator", "/"), ("srs-domain", "'a b'")])
def test_a_value_that_cannot_be_is_named(name: str, value: str) -> None:
    assert name in meanings(draft(f"{name} = {value}"))
