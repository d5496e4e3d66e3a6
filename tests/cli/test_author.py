"""Who a command says that runs it."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from relay.cli import author as module
from relay.cli.author import author


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_USER", "DOAS_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "_logged_in", lambda: "")


def test_an_account_without_more_is_the_person() -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    by = author()
    assert (by.who, by.account, by.uid, by.host) == (name, None, os.getuid(), socket.gethostname())


@pytest.mark.parametrize("variable", ["SUDO_USER", "DOAS_USER"])
def test_who_ran_sudo_is_named_beside_the_account(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "anna")
    by = author()
    assert (by.who, by.account) == ("anna", pwd.getpwuid(os.getuid()).pw_name)


def test_who_logged_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.delenv("DOAS_USER", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: str(os.getuid()))
    assert author().who == pwd.getpwuid(os.getuid()).pw_name
    for text in ("4294967295", "", "4000000000"):
        monkeypatch.setattr(Path, "read_text", lambda _, text=text: text)
        by = author()
        assert (by.who, by.account) == (
            ("4000000000", pwd.getpwuid(os.getuid()).pw_name)
            if text == "4000000000"
            else (pwd.getpwuid(os.getuid()).pw_name, None)
        )


def test_a_number_without_a_name_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999)
    assert (author().who, author().uid) == ("3999999", 3_999_999)
