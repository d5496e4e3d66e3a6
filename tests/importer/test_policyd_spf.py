"""policyd-spf.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer import policyd_spf
from relay.importer.draft import Draft, ImportFailed
from tests.importer.loading import loaded, meanings

SPF = ("spf",)
# The settings of Debian's file.
DEBIAN = """\
debugLevel = 1
TestOnly = 1

HELO_reject = Fail
Mail_From_reject = Fail

PermError_reject = False
TempError_Defer = False

skip_addresses = 127.0.0.0/8,::ffff:127.0.0.0/104,::1
"""


def draft(tmp_path: Path, text: str) -> Draft:
    (tmp_path / "policyd-spf.conf").write_text(text)
    return policyd_spf.read(tmp_path / "policyd-spf.conf")


@pytest.mark.parametrize("wanted", [False, True])
def test_the_file_of_debian(tmp_path: Path, wanted: bool) -> None:
    made = draft(tmp_path, DEBIAN)
    spf = loaded(tmp_path, made, wanted=wanted).spf
    assert (spf.fail, spf.softfail, spf.permerror, spf.temperror) == ("reject", "tag", "tag", "tag")
    assert list(map(str, spf.skip)) == ["127.0.0.0/8", "::1/128"]
    assert made.tables[SPF]["fail"].origin == f"Mail_From_reject ({tmp_path}/policyd-spf.conf:5)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail_From_reject = Softfail", ("reject", "reject", "tag", "tag")),
        ("Mail_From_reject = SPF_Not_Pass", ("reject", "reject", "reject", "tag")),
        ("Mail_From_reject = False\nPermError_reject = True\nTempError_Defer = True", ("tag", "tag", "tag", "tag")),
        ("Mail_From_reject = No_Check", ("tag", "tag", "tag", "tag")),
        ("PermError_reject = True\nTempError_Defer = True", ("reject", "tag", "reject", "defer")),
        ("TestOnly = 0\nMail_From_reject = Softfail", ("tag", "tag", "tag", "tag")),
        ("defaultSeedOnly = 0", ("tag", "tag", "tag", "tag")),
        ("No_Mail = True", ("tag", "tag", "tag", "tag")),
        ("Mail_From_reject = Nonsense", ("reject", "tag", "tag", "tag")),
    ],
)
def test_what_results_lead_to(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    spf = loaded(tmp_path, draft(tmp_path, f"{text}\n")).spf
    assert (spf.fail, spf.softfail, spf.permerror, spf.temperror) == expected


def test_hosts_that_are_known(tmp_path: Path) -> None:
    made = draft(
        tmp_path,
        "Whitelist = 192.0.2.0/24, 198.51.100.7,x\nHELO_Whitelist = mx.a.example, a b\n"
        "Domain_Whitelist_PTR = b.example\nDomain_Whitelist = c.example\n",
    )
    config = loaded(tmp_path, made)
    assert list(map(str, config.spf.skip)) == ["192.0.2.0/24", "198.51.100.7/32"]
    assert config.dmarc.skip == ("mx.a.example", "a", "b", "b.example", ".b.example")
    assert config.spf.fail == "reject-unless-dkim"
    assert "SPF record of c.example" in meanings(made)["Domain_Whitelist"]
    assert "x is no address" in meanings(made)["Whitelist"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Authserv_Id = mx.A.example", "mx.a.example"), ("Authserv_Id = HOSTNAME", None), ("Authserv_Id = a b", None)],
)
def test_the_authserv_id(tmp_path: Path, text: str, expected: str | None) -> None:
    made = draft(tmp_path, f"{text}\n")
    assert made.value((), "authserv_id") == expected
    assert ("Authserv_Id" in meanings(made)) is (text.endswith("a b"))


@pytest.mark.parametrize(
    "text",
    [
        "HELO_reject = Fail",
        "Reject_Not_Pass_Domains = a.example",
        "HELO_pass_restriction = x",
        "No_Mail = True",
        "Prospective = 10.0.0.1",
    ],
)
def test_what_changes_for_mail_is_said(tmp_path: Path, text: str) -> None:
    made = draft(tmp_path, f"{text}\n")
    assert [setting.name for setting in made.unmapped if setting.matters] == [text.split()[0]]


@pytest.mark.parametrize("text", ["HELO_reject = No_Check", "Header_Type = AR", "Void_Limit = 2"])
def test_a_usual_value_is_not_named(tmp_path: Path, text: str) -> None:
    assert draft(tmp_path, f"{text}\n").unmapped == []


@pytest.mark.parametrize("text", ["a = b\n", "Socket x\n", "SRS_DOMAIN=x\n", ""])
def test_a_file_of_another_program_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImportFailed, match="this is no configuration of policyd-spf"):
        draft(tmp_path, text)


def test_a_folder_is_looked_into(tmp_path: Path) -> None:
    draft(tmp_path, DEBIAN)
    assert policyd_spf.read(tmp_path).source == f"{tmp_path}/policyd-spf.conf"
