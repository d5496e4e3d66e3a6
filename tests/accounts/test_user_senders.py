"""Which senders are whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.accounts.user_senders import UserSenders, parse_senders
from relay.table_files.reloaded_file import ReloadedFile

TABLE = """
# people
alice   press@fwd.example  @Whole.example
ALICE   "odd local"@x.example ann+list@x.example
bob@b\u00fccher.example bob@other.example
"""


@pytest.fixture
def senders(tmp_path: Path) -> UserSenders:
    path = tmp_path / "senders"
    path.write_text(TABLE)
    return UserSenders(("fwd.example", "two.example"), ReloadedFile(path, parse_senders))


@pytest.mark.parametrize(
    ("user", "address", "allowed"),
    [
        ("alice", "", True),
        ("alice", "alice@fwd.example", True),
        ("Alice", "ALICE@Two.Example", True),
        ("alice", "alice+shop@two.example", True),
        ("alice", "alice@elsewhere.example", False),
        ("alice", "press@fwd.example", True),
        ("alice", "press@two.example", False),
        ("alice", "anybody@whole.example", True),
        ("alice", "anybody@sub.whole.example", False),
        ("alice", "anybody@notwhole.example", False),
        ("alice", '"press"@fwd.example', True),
        ("alice", "ann+list@x.example", True),
        ("alice", "ann@x.example", False),
        ("alice", "alice", False),
        ("alice", "bob@fwd.example", False),
        ("carol", "carol@fwd.example", True),
        ("carol", "press@fwd.example", False),
        ("carol@x.example", "carol@x.example", True),
        ("carol@x.example", "carol@fwd.example", False),
        ("carol@x.example", "", True),
        ("bob@xn--bcher-kva.example", "bob@b\u00fccher.example", True),
        ("Bob@xn--bcher-kva.example", "bob@other.example", True),
    ],
)
def test_who_may_use_what(senders: UserSenders, user: str, address: str, allowed: bool) -> None:
    assert senders.may_use(user, address) is allowed


def test_without_a_file_everybody_has_his_own() -> None:
    senders = UserSenders(("fwd.example",))
    assert senders.of("j.doe") == {"j.doe@fwd.example"} and senders.of("j@x.example") == {"j@x.example"}
    assert not UserSenders(()).of("joe") and UserSenders(()).may_use("joe", "")


@pytest.mark.parametrize(
    "local",
    ["SRS0=abcd=XY=shop.example=ann", "srs1=abcd=x.example==b=XY=y.example=z", "reply=abcdefghij=shop.example=ann"],
)
def test_a_whole_domain_is_without_our_return_addresses(tmp_path: Path, local: str) -> None:
    """They stand for people elsewhere. Those of other domains are ordinary addresses."""
    path = tmp_path / "senders"
    path.write_text(f"alice @fwd.example @other.example {local}@listed.example\n")
    senders = UserSenders((), ReloadedFile(path, parse_senders), srs_domain="fwd.example")
    assert senders.may_use("alice", "ann@fwd.example")
    assert not senders.may_use("alice", f"{local}@fwd.example")
    assert not senders.may_use("alice", f"{local}+x@FWD.example")
    assert senders.may_use("alice", f"{local}@other.example")
    assert senders.may_use("alice", f"{local}@listed.example")


def test_bad_entries_are_skipped_and_the_rest_of_the_line_counts() -> None:
    table = parse_senders(
        "joe joe@x.example x@ @ * @a@b joe2@x.example\nann\na:b c@d.example\n\udcff a@b.example\n", "s"
    )
    assert table.by_name == {"joe": {"joe@x.example", "joe2@x.example"}}
    assert [line.where for line in table.bad.lines] == ["s:1"] * 4 + ["s:2", "s:3", "s:4"]
    with pytest.raises(ValueError, match=r"^s:1: "):
        parse_senders("ann\n", "s")
