"""What is said of lines that cannot be used, and whom they may be for."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from relay.table_files.bad_lines import NAMED, NONE, BadLine, BadLines, TryLater, is_utf8, readable_domain, shown


@pytest.mark.parametrize(
    ("domains", "hidden", "known"),
    [
        ([], [], ["a.example", "b.example"]),
        (["a.example"], ["a.example"], ["b.example"]),
        ([""], ["a.example", "b.example"], []),
    ],
)
def test_a_line_hides_the_unknown_users_of_its_domain(domains: list[str], hidden: list[str], known: list[str]) -> None:
    bad = BadLines((), frozenset(domains))
    assert all(bad.hide(domain) for domain in hidden)
    assert not any(bad.hide(domain) for domain in known)


def test_the_log_names_lines_up_to_a_number() -> None:
    lines = [BadLine(f"aliases:{number}", "malformed", "no mail") for number in range(NAMED + 1)]
    with capture_logs() as logs:
        BadLines(lines[:-1]).report("aliases")
        NONE.report("aliases")
    assert [log["at"] for log in logs] == [line.where for line in lines[:-1]]
    with capture_logs() as logs:
        BadLines(lines).report("aliases")
    assert len(logs) == NAMED + 1
    assert (logs[-1]["path"], logs[-1]["lines"], logs[-1]["named"]) == ("aliases", NAMED + 1, NAMED)


@pytest.mark.parametrize(
    ("entry", "domain"),
    [
        ("b(d@X.Example", "x.example"),
        ("a@b@bücher.example", "xn--bcher-kva.example"),
        ("b(d@x..example", ""),
        ("b(d@x\udce4.example", ""),
        ("b(d", ""),
        ("", ""),
    ],
)
def test_the_domain_of_an_address_that_cannot_be_read(entry: str, domain: str) -> None:
    assert readable_domain(entry) == domain


def test_octets_that_are_no_utf8_are_shown_by_their_number() -> None:
    text = b"caf\xe9 \xc3\xa4".decode("utf-8", "surrogateescape")
    assert not is_utf8(text)
    assert is_utf8("ä")
    assert shown(text) == "caf\\xe9 ä"


def test_mail_that_a_bad_line_may_be_for_is_deferred() -> None:
    reply = str(TryLater("alice@fwd.example"))
    assert reply.startswith("451 4.3.5 <alice@fwd.example>")
