"""The kinds of OpenDKIM's tables; what is read from them is tested beside `relay.sign.opendkim_keys`."""

from __future__ import annotations

import pytest

from relay.config import opendkim_syntax as opendkim
from relay.config.opendkim_syntax import ConfSetting


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/etc/x", ("file", "/etc/x")),
        ("FILE:/etc/x", ("file", "/etc/x")),
        ("refile:/etc/x", ("refile", "/etc/x")),
        ("a, b", ("csl", "a, b")),
        ("::1", None),
        ("127.0.0.1, ::1", ("csl", "127.0.0.1, ::1")),
    ],
)
def test_the_kinds_of_tables(value: str, expected: tuple[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="only text files"):
            opendkim.dataset(ConfSetting(value, "opendkim.conf:1"))
    else:
        assert opendkim.dataset(ConfSetting(value, "opendkim.conf:1")) == expected


def test_the_password_of_a_database_is_not_shown() -> None:
    with pytest.raises(ValueError, match="//…@localhost") as caught:
        opendkim.dataset(ConfSetting("dsn:mysql://user:pa55@localhost/db", "opendkim.conf:1"))
    assert "pa55" not in str(caught.value)
