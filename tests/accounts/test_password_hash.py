"""Password hashes: which are taken, what a password is, and that nobody's hash costs what a user's does."""

from __future__ import annotations

import argon2
import pytest

from relay.accounts import password_hash
from relay.accounts.password_hash import OURS, Costs, costs_of, hash_password, is_password, nobodys_hash, prepared
from tests.accounts.hashes import cheap


def test_a_new_hash_is_as_rfc_9106_recommends() -> None:
    hashed = hash_password("p\u00e4ss")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$") and costs_of(hashed) == OURS
    assert is_password(hashed, "p\u00e4ss") and is_password(hashed, "pa\u0308ss") and not is_password(hashed, "pass")
    assert hash_password("p\u00e4ss") != hashed


@pytest.mark.parametrize("password", ["", "a\0b", "tab\t", "line\n", "\x7f", "\udcff"])
def test_what_is_no_password(password: str) -> None:
    with pytest.raises(ValueError, match="password"):
        prepared(password)
    assert not is_password(cheap("x"), password)


@pytest.mark.parametrize(
    ("password", "form"),
    [("a b", "a b"), (" a ", " a "), ("a\u00a0b\u3000", "a b "), ("e\u0301", "\u00e9"), ("\ufb01", "\ufb01")],
)
def test_a_password_has_one_form(password: str, form: str) -> None:
    assert prepared(password) == form


@pytest.mark.parametrize(
    "hashed",
    [
        *(
            "",
            "x",
            "$",
            "$argon2id$",
            "{SSHA}abc",
            "$2y$10$abcdefghijklmnopqrstuu",
            "$argon2id$v=19$m=8,t=1,p=1$c2FsdA",
        ),
        "$argon2i$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2d$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=16,t=9999,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=65536,t=1,p=999$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=16,t=0,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=-16,t=1,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=16,t=1,p=1$$l7rFdTQFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$l7rFd!QFzVX1gpWWUG5Y5w",
        "$argon2id$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$l7r\u00e4dTQFzVX1gpWWUG5Y5w",
    ],
)
def test_what_is_no_hash(hashed: str) -> None:
    with pytest.raises(ValueError, match="hash"):
        costs_of(hashed)


def test_hashes_of_other_programs() -> None:
    """OWASP's parameters, and those of `argon2` in a shell."""
    for hashed in (cheap("x", memory_cost=19456, time_cost=2), cheap("x", hash_len=16, salt_len=8)):
        assert costs_of(hashed) and is_password(hashed, "x") and not is_password(hashed, "y")


def test_nobodys_hash_costs_the_same_and_is_nobodys() -> None:
    costs = Costs(64, 2, 1, 16)
    hashed = nobodys_hash(costs)
    assert costs_of(hashed) == costs and hashed != nobodys_hash(costs)
    # it is computed, not refused for its form: only then does it take as long
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        argon2.PasswordHasher().verify(hashed, "x")
    assert costs_of(nobodys_hash()) == password_hash.OURS
