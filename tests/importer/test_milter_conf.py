"""The files of OpenDKIM and OpenDMARC."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.opendkim_syntax import ConfSetting
from relay.importer import milter_conf
from relay.importer.draft import Draft, ImportFailed
from relay.importer.milter_conf import OFF, Meaning
from tests.importer.loading import meanings


def settings(tmp_path: Path, text: str) -> dict[str, ConfSetting]:
    (tmp_path / "opendkim.conf").write_text(text)
    return milter_conf.read(tmp_path / "opendkim.conf")


def test_names_have_no_case_and_the_later_one_counts(tmp_path: Path) -> None:
    read = settings(tmp_path, '# c\nDomain a.example\n\ndomain\t b.example # c\nAuthservID "mx.example"\n')
    assert read == {
        "domain": ConfSetting("b.example", f"{tmp_path}/opendkim.conf:4"),
        "authservid": ConfSetting("mx.example", f"{tmp_path}/opendkim.conf:5"),
    }


def test_files_are_included(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("Domain b.example\n")
    assert settings(tmp_path, "Include more.conf\n")["domain"].where == f"{tmp_path}/more.conf:1"


def test_files_that_include_each_other_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="include each other"):
        settings(tmp_path, "Include opendkim.conf\n")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Domain x\n", True),
        ("Domain x\nFoo y\nSyslog yes\n", True),
        ("Syslog yes\nSocket x\n", True),
        ("", False),
        ("Foo x\n", False),
        ("Syslog yes\nSocket x\nFoo y\n", False),
        ("Domain x\nFoo y\n", False),
    ],
)
def test_a_file_is_what_most_of_it_says(tmp_path: Path, text: str, good: bool) -> None:
    read = settings(tmp_path, text)
    known = ("Domain", "Syslog", "Socket")
    if good:
        milter_conf.check(tmp_path, read, known, "OpenDKIM")
    else:
        with pytest.raises(ImportFailed, match="this is no configuration of OpenDKIM: "):
            milter_conf.check(tmp_path, read, known, "OpenDKIM")


@pytest.mark.parametrize(("value", "on"), [("yes", True), ("True", True), ("1", True), ("no", False), ("", False)])
def test_switches(tmp_path: Path, value: str, on: bool) -> None:
    assert milter_conf.is_on(settings(tmp_path, f"SubDomains {value}\n"), "subdomains") is on


def test_a_setting_is_named_where_its_value_makes_a_difference(tmp_path: Path) -> None:
    draft = Draft("OpenDKIM", "")
    read = settings(tmp_path, "One No\nTwo yes\nThree x\n")
    means = {name: Meaning(f"means {name}.", usual=OFF) for name in ("One", "Two", "Three", "Four")}
    milter_conf.tell_unmapped(draft, read, means)
    assert meanings(draft) == {"Two": "means Two.", "Three": "means Three."}


@pytest.mark.parametrize(
    ("value", "expected", "said"),
    [
        ("mx.Example", "mx.example", False),
        ("HOSTNAME", None, True),
        ("a b", None, True),
        ("OpenDMARC", "opendmarc", False),
    ],
)
def test_the_authserv_id(tmp_path: Path, value: str, expected: str | None, said: bool) -> None:
    draft = Draft("OpenDKIM", "")
    milter_conf.set_authserv_id(draft, settings(tmp_path, f"AuthservID {value}\n"))
    assert draft.value((), "authserv_id") == expected
    assert bool(draft.unmapped) is said


@pytest.mark.parametrize(("value", "expected"), [("10", "10s"), ("0", None), ("x", None)])
def test_the_time_for_dns(tmp_path: Path, value: str, expected: str | None) -> None:
    draft = Draft("OpenDKIM", "")
    milter_conf.set_dns_timeout(draft, settings(tmp_path, f"DNSTimeout {value}\n"))
    assert draft.value(("dns",), "timeout") == expected
    assert bool(draft.unmapped) is (expected is None)
