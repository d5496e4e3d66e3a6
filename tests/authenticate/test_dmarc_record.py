"""Records as domain owners write them, well or badly."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate.dmarc_record import RECORD_OCTETS, policy_record, report_uris

RUA = "rua=mailto:d@example.com"


def policies(*texts: str) -> tuple[str, str, str] | None:
    found = policy_record([(text.encode("latin-1"),) for text in texts])
    return None if found is None else (found.p, found.sp, found.np)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DMARC1; p=reject", ("reject", "reject", "reject")),
        ("v=DMARC1;p=reject", ("reject", "reject", "reject")),
        ("v=DMARC1; p=reject;", ("reject", "reject", "reject")),
        ("v=DMARC1; p=reject ; ", ("reject", "reject", "reject")),
        ("v=DMARC1;; ;p=reject;;", ("reject", "reject", "reject")),
        ("v = DMARC1 ;\tp\t=\treject", ("reject", "reject", "reject")),
        ("V=DMARC1; P=Reject; SP=NONE", ("reject", "none", "none")),
        ("v=DMARC1; rua=mailto:d@example.com; p=quarantine", ("quarantine",) * 3),
        ("v=DMARC1; p=none; sp=quarantine", ("none", "quarantine", "quarantine")),
        ("v=DMARC1; p=none; sp=quarantine; np=reject", ("none", "quarantine", "reject")),
        ("v=DMARC1; p=none; np=reject", ("none", "none", "reject")),
        ("v=DMARC1; p=reject; pct=0; rf=afrf; ri=86400; x=y; np2=none; =none; junk", ("reject",) * 3),
        ("v=DMARC1; p=reject; fo=1:q:!; ruf=nonsense; rua=", ("reject",) * 3),
        ("v=DMARC1; p=reject; sp; np", ("reject",) * 3),
        ("v=DMARC1; p=reject; sp\v=none; np=\vnone; rua=\vmailto:d@example.com", ("",) * 3),
        ("v=DMARC1; p=reject; sp\v=none", ("reject",) * 3),
        ("v=DMARC1; p=reject; Xp=none; pX=none", ("reject",) * 3),
        ("v=DMARC1; p=Xreject", ("",) * 3),
        ("v=DMARC1; p=reject; x=b\xfccher; y=a\tb\0", ("reject",) * 3),
    ],
)
def test_policies(text: str, expected: tuple[str, str, str]) -> None:
    assert policies(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=DMARC1 p=reject",
        "v=DMARC1, p=reject",
        "v=dmarc1; p=reject",
        "v=DMARC2; p=reject",
        "v=DMARC10; p=reject",
        "v=DMARC; p=reject",
        "p=reject; v=DMARC1",
        "; v=DMARC1; p=reject",
        "x=y; v=DMARC1; p=reject",
        "p=reject",
        "DMARC1; p=reject",
        "v=spf1 -all",
        '"v=DMARC1; p=reject"',
    ],
)
def test_what_does_not_begin_with_the_version_is_no_record(text: str) -> None:
    assert policies(text) is None
    assert policies(text, "v=DMARC1; p=none") == ("none", "none", "none"), "it is no second record either"


def test_of_several_records_none_counts() -> None:
    assert policies("v=DMARC1; p=reject", "v=DMARC1; p=reject") is None
    assert policies("v=DMARC1; p=reject", "v=DMARC1") is None


@pytest.mark.parametrize(
    "text", ["v=DMARC1; p=reject; p=none", "v=DMARC1; p=reject; P=reject", "v=DMARC1; v=DMARC1; p=reject"]
)
def test_a_tag_list_that_names_a_tag_twice_is_void(text: str) -> None:
    assert policies(text) is None


def test_character_strings_are_joined_without_anything_between() -> None:
    found = policy_record([(b"v=DMA", b"RC1; p=rej", b"ect; t", b"=y")])
    assert found is not None
    assert (found.text, found.p, found.testing) == ("v=DMARC1; p=reject; t=y", "reject", True)


@pytest.mark.parametrize(
    "tags", ["", "p=", "p=monitor", "p=none,reject", "p", "sp=reject", "p=reject; sp=no", "p=reject; np="]
)
def test_a_policy_that_cannot_be_understood(tags: str) -> None:
    assert policies(f"v=DMARC1; {tags}; {RUA}") == ("none", "none", "none")
    assert policies(f"v=DMARC1; {tags}") == ("", "", "")


@pytest.mark.parametrize(
    ("rua", "valid"),
    [
        ("mailto:d@example.com", True),
        ("MAILTO:d@example.com", True),
        ("mailto:d@example.com!10m", True),
        ("https://example.com/report", True),
        ("nonsense, mailto:d@example.com", True),
        ("mailto:a@example.com , mailto:b@example.com", True),
        ("", False),
        ("d@example.com", False),
        ("mailto:d%40example.com?subject=%5Bx%5D", True),
        ("mailto:d%@example.com", False),
        ("mailto: d@example.com", False),
        ("mailto:d\xfc@example.com", False),
        ("4:d@example.com", False),
        ("!10m", False),
        (",,", False),
    ],
)
def test_only_a_report_address_that_is_one_makes_up_for_it(rua: str, valid: bool) -> None:
    assert policies(f"v=DMARC1; p=x; rua={rua}") == (("none",) * 3 if valid else ("",) * 3)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", ("u", False, "r", "r")),
        ("psd=y; t=y; adkim=s; aspf=s", ("y", True, "s", "s")),
        ("psd=N; T=Y; adkim=S; aspf=R", ("n", True, "s", "r")),
        ("psd=u; t=n; adkim=r", ("u", False, "r", "r")),
        ("psd=yes; t=1; adkim=strict; aspf=", ("u", False, "r", "r")),
    ],
)
def test_the_other_tags_and_their_defaults(tags: str, expected: tuple[str, bool, str, str]) -> None:
    found = policy_record([(f"v=DMARC1; p=none; {tags}".encode(),)])
    assert found is not None
    assert (found.psd, found.testing, found.adkim, found.aspf) == expected


def test_an_endless_record_is_none_and_costs_little() -> None:
    assert policies("v=DMARC1; p=reject;" + " " * (RECORD_OCTETS - 19)) is not None
    assert policies("v=DMARC1; p=reject;" + " " * (RECORD_OCTETS - 18)) is None
    started = time.process_time()
    for unit in ("a=b;", ";", "a" * 50 + ";", " ", "v=", "=", "rua=mailto:a,"):
        policies("v=DMARC1;" + unit * 2000, "v" + " " * 16000 + "=")
    assert time.process_time() - started < 1.0  # seconds; a search that goes back takes minutes


@given(st.lists(st.lists(st.binary(max_size=30) | st.sampled_from([b"v=DMARC1;", b"p=reject", b";", b"="])).map(tuple)))
def test_any_octets_can_be_read(records: list[tuple[bytes, ...]]) -> None:
    found = policy_record(records)
    assert found is None or (found.text.isascii() and found.text.isprintable())


def test_the_text_of_a_record_is_whole() -> None:
    text = "v=DMARC1; p=reject; rua=" + ",".join(f"mailto:d{number}@reports.example.com" for number in range(20))
    record = policy_record([(text[:200].encode(), text[200:].encode())])
    assert record is not None and record.text == text


def test_the_addresses_for_reports_are_told_from_what_is_none() -> None:
    rua = "mailto:a@x.example!10m , https://x.example/in,a@x.example,,mailto:b@x.example,two words"
    assert report_uris(rua) == (
        ["mailto:a@x.example", "https://x.example/in", "mailto:b@x.example"],
        ["a@x.example", "two words"],
    )
    assert report_uris("") == ([], [])
