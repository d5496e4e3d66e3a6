"""The same table in a real Postfix: what it delivers to is what `AliasTable.expand` says."""

from __future__ import annotations

import re
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.mail.address import parse
from relay.route.alias_file import parse_virtual
from relay.route.alias_table import AliasLoop, AliasTable
from tests.journeys.postfix import Postfix
from tests.peers import free_port, needs, program, wait_until

pytestmark = needs("postfix", root=True)

TABLE = """\
fwd.example          anything
alice@fwd.example    alice@ext.example
list@fwd.example     a@ext.example, b@ext.example
  c@ext.example d@ext.example
# comments and empty lines do not end an entry

  e@ext.example
plus+x@fwd.example   exact@ext.example
plus@fwd.example     plain@ext.example, two+t@ext.example
chain@fwd.example    plus+deep@fwd.example
same@fwd.example     same@fwd.example, copy@ext.example
behind@fwd.example   behind2@fwd.example
behind2@fwd.example  same@fwd.example
diamond@fwd.example  left@fwd.example, right@fwd.example
left@fwd.example     a@ext.example
right@fwd.example    A@EXT.example
spaces@fwd.example   "a b"@ext.example
round@fwd.example    about@fwd.example
about@fwd.example    round@fwd.example
grow@fwd.example     grow+g@fwd.example
@remap.example       @ext.example
kept@remap.example   keeper@ext.example
single@moved.example @ext.example
@catch.example       one@ext.example
@open.example        @open.example
admin                root@ext.example
kept                 shadow@ext.example
bare@fwd.example     joe, admin, b@ext.example
role@fwd.example     postmaster
twice@fwd.example    first@ext.example
Twice@fwd.example    second@ext.example
"q..x"@fwd.example   "q..y"@ext.example
lead@fwd.example     .lead@ext.example, in...ner@ext.example
pair@fwd.example     "jo\\.e"@ext.example
final@fwd.example    joe@ext.example.
"to..chain"@fwd.example  "q\\..x"@fwd.example, "pair"@fwd.example
"""
RECIPIENTS = [
    "alice@fwd.example",
    "ALICE@FWD.example",
    "list@fwd.example",
    "plus+x@fwd.example",
    "plus+y@fwd.example",
    "plus+y+z@fwd.example",
    "chain@fwd.example",
    "same@fwd.example",
    "same+d@fwd.example",
    "behind@fwd.example",
    "diamond@fwd.example",
    "spaces@fwd.example",
    "round@fwd.example",
    "grow@fwd.example",
    "who@remap.example",
    "who+d@remap.example",
    "kept+d@remap.example",
    "single+d@moved.example",
    "who+d@catch.example",
    "who+d@open.example",
    "admin@local.example",
    "admin+d@local.example",
    "kept@local.example",
    "admin@catch.example",
    "u%x@remap.example",
    "bare@fwd.example",
    "bare+d@fwd.example",
    "role@fwd.example",
    "twice@fwd.example",
    "q..x@fwd.example",
    '"q..x"@fwd.example',
    '"q..x"@fwd.example.',
    "lead@fwd.example",
    '"lead+d"@fwd.example',
    "pair@fwd.example",
    r'"pa\ir"@fwd.example',
    "final@fwd.example",
    "final@fwd.example.",
    "to..chain@fwd.example",
    "a..b@remap.example",
]


class Judge:
    """A Postfix with the table, whose deliveries all end in the discard transport."""

    def __init__(self, folder: Path) -> None:
        (folder / "virtual").write_text(TABLE)
        subprocess.run([program("postmap"), f"hash:{folder}/virtual"], check=True, capture_output=True)
        settings = {
            "myorigin": "local.example",
            "mydestination": "local.example",
            "recipient_delimiter": "+",
            "virtual_alias_maps": f"hash:{folder}/virtual",
            "default_transport": "discard",
            "local_transport": "discard",
        }
        self.postfix = Postfix(folder, "mx.fwd.example", "127.0.0.15", free_port(), settings=settings)

    def deliveries(self, recipient: str) -> set[str] | None:
        """Where it delivers a message to; None where it defers it as a loop."""
        with smtplib.SMTP(
            self.postfix.address, self.postfix.port, local_hostname="test.invalid", timeout=30
        ) as session:
            assert session.mail("s@sender.example")[0] == 250
            assert session.rcpt(recipient)[0] == 250
            code, text = session.data(b"Subject: test\r\n\r\n")
        if code == 451:
            return None
        queue_id = text.rsplit(b" ", 1)[1].decode()
        wait_until(lambda: f"{queue_id}: removed" in self.postfix.log, f"the delivery of {queue_id}")
        return {address.lower() for address in re.findall(rf"{queue_id}: to=<(.+?)>", self.postfix.log)}


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with tempfile.TemporaryDirectory(prefix="srs-relay-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postfix's daemons change their user
        judge = Judge(folder)
        judge.postfix.start()
        try:
            yield judge
        finally:
            judge.postfix.stop()


@pytest.fixture(scope="module")
def table() -> AliasTable:
    return parse_virtual(TABLE, "virtual", local_domains=["local.example"])


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_postfix_agrees(judge: Judge, table: AliasTable, recipient: str) -> None:
    given = str(parse(recipient))  # as the door hands it on
    try:
        expanded = {address.lower() for address in table.expand(given) or (given,)}
    except AliasLoop:
        expanded = None
    assert expanded == judge.deliveries(recipient)
