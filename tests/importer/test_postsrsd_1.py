"""PostSRSd 1: the file of Debian, files of other systems, and units."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer import postsrsd, postsrsd_1
from relay.importer.draft import Draft, ImportFailed, Value
from relay.importer.text import config_text
from tests.importer.loading import loaded, meanings
from tests.peers import needs

SRS = ("srs",)
BOTH = [("127.0.0.1:10001", "tcp", "forward"), ("127.0.0.1:10002", "tcp", "reverse")]


def draft(text: str) -> Draft:
    return postsrsd_1.draft(Path("/etc/default/postsrsd"), text)


def tables(made: Draft) -> list[tuple[Value, ...]]:
    names = ("address", "protocol", "direction")
    return [tuple(entry.keys[name].value for name in names) for entry in made.arrays.get("tables", [])]


def test_every_setting_that_has_a_counterpart() -> None:
    made = draft(
        "SRS_DOMAIN=srs.example\nSRS_EXCLUDE_DOMAINS=a.example,b.example\nSRS_SEPARATOR=+\nSRS_SECRET=/etc/s\n"
        "SRS_HASHLENGTH=6\nSRS_HASHMIN=5\nSRS_FORWARD_PORT=1001\nSRS_REVERSE_PORT=1002\nSRS_LISTEN_ADDR=127.0.0.2\n"
    )
    values = {key: made.value(SRS, key) for key in made.tables[SRS]}
    assert values == {
        "domain": "srs.example",
        "secrets_file": "/etc/s",
        "hash": "compatible",
        "separator": "+",
        "hash_length": 6,
        "hash_min": 5,
    }
    assert made.strings(("senders",), "local_domains") == ("a.example", "b.example")
    assert tables(made) == [("127.0.0.2:1001", "tcp", "forward"), ("127.0.0.2:1002", "tcp", "reverse")]
    assert made.tables[SRS]["separator"].origin == "SRS_SEPARATOR (/etc/default/postsrsd:3)"
    assert made.unmapped == []


def test_what_is_not_set_has_the_defaults_of_the_packages() -> None:
    made = draft("SRS_DOMAIN=srs.example\n")
    assert made.value(SRS, "secrets_file") == "/etc/postsrsd.secret"
    assert tables(made) == BOTH
    assert made.tables[SRS]["secrets_file"].origin == "PostSRSd's default of SRS_SECRET"


@pytest.mark.parametrize("separator", [",", " ", "; ", "\n  "])
def test_domains_are_divided_as_by_postsrsd(separator: str) -> None:
    made = draft(f'SRS_EXCLUDE_DOMAINS="a.example{separator}b.example"\n')
    assert made.strings(("senders",), "local_domains") == ("a.example", "b.example")


def test_domains_with_a_dot_in_front_have_no_exact_counterpart() -> None:
    made = draft("SRS_EXCLUDE_DOMAINS=.a.example,b.example,c_d!\n")
    assert made.strings(("senders",), "local_domains") == ("b.example",)
    said = meanings(made)["SRS_EXCLUDE_DOMAINS"]
    assert ".a.example stands for all domains below" in said and "c_d!: no domain names" in said


def test_a_value_that_a_blank_ends_is_named() -> None:
    made = draft("SRS_EXCLUDE_DOMAINS=a.example, b.example\n")
    assert "put quotes around" in meanings(made)["b.example"]


@pytest.mark.parametrize("value", ["`postconf -h mydomain`", "$(hostname -d)", "not_a!domain"])
def test_a_domain_that_cannot_be_known_is_to_fill_in(value: str) -> None:
    made = draft(f"SRS_DOMAIN={value}\n")
    assert made.value(SRS, "domain") is None
    assert "srs.domain is to fill in" in meanings(made)["SRS_DOMAIN"]


@pytest.mark.parametrize("name", ["SRS_EXCLUDE_DOMAINS", "SRS_SECRET", "SRS_HASHLENGTH", "SRS_FORWARD_PORT"])
def test_a_value_that_a_command_prints_is_named(name: str) -> None:
    assert "output of a command" in meanings(draft(f"SRS_DOMAIN=a.example\n{name}=$(print it)\n"))[name]


def test_extra_options_stand_before_the_variables() -> None:
    made = draft(
        'SRS_DOMAIN=a.example\nSRS_EXCLUDE_DOMAINS=b.example\nSRS_EXTRA_OPTIONS="-A -dx.example -Xc.example -a+ -t9"\n'
    )
    assert made.value(SRS, "domain") == "a.example"
    assert made.value(SRS, "separator") == "+"
    assert made.strings(("senders",), "local_domains") == ("b.example", "c.example")
    assert set(meanings(made)) == {"-A", "SRS_EXTRA_OPTIONS -t"}


def test_a_unit_has_variables_a_file_and_a_command_line(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("SRS_HASHLENGTH=5\n")
    made = draft(
        '[Service]\nEnvironment=SRS_DOMAIN=a.example "SRS_EXCLUDE_DOMAINS=b.example c.example"\n'
        f"EnvironmentFile=-{tmp_path}/env\nEnvironmentFile=-/none\nExecStart=\n"
        "ExecStart=/usr/sbin/postsrsd -s/etc/s -d ${SRS_DOMAIN} \\\n  -f 1 -r2 -u nobody -X${SRS_EXCLUDE_DOMAINS}\n"
    )
    assert made.value(SRS, "domain") == "a.example"
    assert made.value(SRS, "hash_length") == 5
    assert made.value(SRS, "secrets_file") == "/etc/s"
    assert made.strings(("senders",), "local_domains") == ("b.example", "c.example")
    assert tables(made) == [("127.0.0.1:1", "tcp", "forward"), ("127.0.0.1:2", "tcp", "reverse")]
    assert made.tables[SRS]["domain"].origin == "-d (/etc/default/postsrsd:6)"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "127.0.0.1:10001"),
        ("::1", "[::1]:10001"),
        ("*", "0.0.0.0:10001"),
        ("mx.example", "127.0.0.1:10001"),
    ],
)
def test_addresses_to_listen_on(host: str, address: str) -> None:
    made = draft(f"SRS_LISTEN_ADDR='{host}'\n")
    assert tables(made)[0][0] == address
    assert ("SRS_LISTEN_ADDR" in meanings(made)) is (host == "mx.example")


def test_a_port_for_everybody_is_for_this_host_alone() -> None:
    made = draft("SRS_LISTEN_ADDR=0.0.0.0\n")
    assert made.arrays["tables"][0].keys["clients"].value == ("127.0.0.1/32",)
    assert "clients" not in draft("").arrays["tables"][0].keys


@pytest.mark.parametrize("port", ["0", "70000", "nothing-of-that-name"])
def test_what_is_no_port_makes_no_table(port: str) -> None:
    made = draft(f"SRS_FORWARD_PORT={port}\n")
    assert tables(made) == BOTH[1:]
    assert "no table for forward lookups" in meanings(made)["SRS_FORWARD_PORT"]


@pytest.mark.parametrize("text", ["SRS_DOMAIN='x", "SRS_EXTRA_OPTIONS='-Z'", "SRS_EXTRA_OPTIONS='\"'"])
def test_what_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(ImportFailed, match=r"^/etc/default/postsrsd.*: .*$"):
        draft(text)


@needs("postsrsd")
def test_the_file_of_debian(tmp_path: Path) -> None:
    made = postsrsd.read(Path("/etc/default/postsrsd"))
    assert made.value(SRS, "secrets_file") == "/etc/postsrsd.secret"
    assert tables(made) == BOTH
    assert "To fill in: the domain of rewritten senders" in config_text(made)
    (tmp_path / "secret").write_text("tops3cr3t\n")
    made.tables[SRS]["secrets_file"].value = str(tmp_path / "secret")
    made.their_files.clear()
    assert loaded(tmp_path, made).srs.hash == "compatible"
