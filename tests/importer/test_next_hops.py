"""Next hops of Postfix as URLs."""

from __future__ import annotations

import pytest

from relay.importer import next_hops
from relay.network import endpoint


@pytest.mark.parametrize(
    ("text", "url", "problem"),
    [
        ("smtp:[mx.example]", "smtp://mx.example:25", ""),
        ("smtp:[mx.example]:2525", "smtp://mx.example:2525", ""),
        (":[192.0.2.1]", "smtp://192.0.2.1:25", ""),
        ("relay:192.0.2.1:26", "smtp://192.0.2.1:26", ""),
        ("smtp:[2001:db8::1]:587", "smtp://[2001:db8::1]:587", ""),
        ("smtp:[ipv6:2001:db8::1]", "smtp://[2001:db8::1]:25", ""),
        ("smtp:mx.example", "smtp://mx.example:25", "its MX"),
        ("smtp:[mx.example]:submission", "smtp://mx.example:587", ""),
        ("smtp:[a.example], [b.example]", "smtp://a.example:25", "the first alone"),
        ("lmtp:inet:127.0.0.1:24", "lmtp://127.0.0.1:24", ""),
        ("lmtp:inet:dovecot:24", "lmtp://dovecot:24", ""),
        ("lmtp:[dovecot.example]", "lmtp://dovecot.example:24", ""),
        ("dovecot-lmtp:[127.0.0.1]", "lmtp://127.0.0.1:24", "master.cf"),
        ("slow:[mx.example]", "smtp://mx.example:25", "master.cf"),
        ("lmtp:unix:private/dovecot-lmtp", "", "Unix socket"),
        ("lmtp:unix:/run/dovecot/lmtp", "lmtp:///run/dovecot/lmtp", ""),
        ("lmtp:unix:/run/a%b", "lmtp:///run/a%25b", ""),
        ("lmtp:unix:../x/../../../run/lmtp", "lmtp:///run/lmtp", ""),
        ("smtp:unix:/run/x", "", "LMTP alone"),
        ("lmtp:unix:/" + "x" * 200, "", "at most 107 octets"),
        ("lmtp:unix:", "", "a next hop is written"),
        ("smtp:[mx.example]:nothing-like-that", "", "no host with a port"),
        ("smtp:[mx.example]:70000", "", "no host with a port"),
        ("smtp:[a@b]", "", "no host"),
        ("smtp:", "", ""),
        ("", "", ""),
        (":", "", ""),
        ("relay", "", ""),
        ("mailman:", "", "only master.cf says"),
    ],
)
def test_transports(text: str, url: str, problem: str) -> None:
    hop = next_hops.transport(text, {})
    assert hop.url == url
    assert problem in hop.problem and bool(problem) is bool(hop.problem)
    assert not url or str(endpoint(url)) == url


@pytest.mark.parametrize(
    ("text", "refuses", "local"),
    [("error:no", True, False), ("discard:", True, False), ("local:", False, True), ("virtual", False, True)],
)
def test_transports_without_a_host(text: str, refuses: bool, local: bool) -> None:
    hop = next_hops.transport(text, {})
    assert (hop.url, hop.refuses, hop.is_local) == ("", refuses, local)


def test_tls_from_the_first_octet() -> None:
    assert next_hops.transport("smtp:[mx.example]:465", {}, wrapped=True).url == "smtps://mx.example:465"


@pytest.mark.parametrize(
    ("text", "program", "hop"),
    [
        ("mailman:", "pipe", next_hops.NextHop("", is_local=True)),
        ("closed:", "error", next_hops.NextHop("", refuses=True)),
        ("slow:", "smtp", next_hops.NextHop("")),
    ],
)
def test_transports_of_master_cf(text: str, program: str, hop: next_hops.NextHop) -> None:
    assert next_hops.transport(text, {text[:-1]: program}) == hop


def test_lmtp_by_another_name() -> None:
    assert next_hops.transport("boxes:[127.0.0.1]", {"boxes": "lmtp"}).url == "lmtp://127.0.0.1:24"
