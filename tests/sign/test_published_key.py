"""What DNS may have under the name of a key, and what that is called."""

from __future__ import annotations

import pytest

from relay.dns import DnsFailure
from relay.sign.keys import SigningKey, generate, parse
from relay.sign.published_key import Published, State, compare
from tests import corpus

RSA = corpus.RSA


@pytest.mark.parametrize("key", [corpus.RSA, corpus.ED25519], ids=["rsa", "ed25519"])
def test_a_key_that_is_published(key: SigningKey) -> None:
    assert compare(key, (key.public_record(),)) == Published("matches")
    assert compare(key, (key.public_record() + "; t=y; n=a note",)) == Published("matches")


@pytest.mark.parametrize(
    ("records", "state", "problem"),
    [
        ((), "missing", ""),
        (("v=DKIM1; p=",), "revoked", ""),
        (("v=DKIM1; k=rsa",), "differs", "the key record has no key (p=)"),
        (("v=spf1 -all",), "differs", "the record is none of DKIM1"),
        ((corpus.ED25519.public_record(),), "differs", "the key is not for rsa (k=)"),
        ((RSA.public_record(), "v=spf1 -all"), "differs", "DNS has 2 records under the name"),
    ],
)
def test_a_key_that_verifiers_do_not_find(records: tuple[str, ...], state: State, problem: str) -> None:
    published = compare(RSA, records)
    assert published.state == state
    assert published.problem.startswith(problem) and bool(published.problem) == bool(problem)


def test_another_key_under_the_name() -> None:
    other = SigningKey(RSA.domain, "ed25519", parse(generate("ed25519")))
    assert compare(corpus.ED25519, (other.public_record(),)) == Published("differs", "it is another key")


def test_dns_that_does_not_answer_says_nothing_of_the_key() -> None:
    assert compare(RSA, DnsFailure("SERVFAIL")) == Published("no answer", "SERVFAIL")
