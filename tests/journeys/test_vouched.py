"""A Postfix whose milters have checked what it hands over: what they found is the relay's verdict, forgeries are not.

SPF is put on as policy services do it (PREPEND, access(5)); DKIM is checked by OpenDKIM itself, which says nothing of
mail that is not signed.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys import authors
from tests.journeys.maildir import parse
from tests.journeys.postfix import Postfix
from tests.journeys.world import MAILBOX, SENDER, World, opened
from tests.peers import free_port, needs, program, wait_until

pytestmark = [needs("postfix", "opendkim", root=True), pytest.mark.slow]

AUTHOR = "author.example"
NEWS = f"news@{AUTHOR}"
OFFICE = "mx.sender.example"
LETTER = (
    f"From: News <{NEWS}>\r\nTo: carol@mailbox.example\r\nSubject: today\r\nDate: Mon, 16 Jun 2025 10:00:00 +0200\r\n"
    f"Message-ID: <1@{AUTHOR}>\r\n\r\nHello.\r\n"
).encode()
SPF_PASS = f"Authentication-Results: {OFFICE}; spf=pass (sender SPF authorized) smtp.mailfrom={NEWS}"
FORGED = f"Authentication-Results: {OFFICE}; dkim=pass header.d={AUTHOR}\r\n".encode()


class OpenDkim:
    """OpenDKIM as a milter that verifies with the keys it is given."""

    def __init__(self, folder: Path, keys: dict[str, str]) -> None:
        self.port = free_port()
        self._folder, self._keys = folder, keys
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._folder.mkdir(mode=0o755)
        keys, strangers, config = (self._folder / name for name in ("keys", "strangers", "conf"))
        keys.write_text("".join(f"{name} {text}\n" for name, text in self._keys.items()))
        strangers.write_text("192.0.2.99\n")  # else whoever is on loopback would be of the house, and not checked
        config.write_text(
            f"Mode v\nSocket inet:{self.port}@127.0.0.1\nTestPublicKeys {keys}\nAuthservID {OFFICE}\n"
            f"InternalHosts {strangers}\nBackground no\nSyslog no\n"
        )
        self._process = subprocess.Popen([program("opendkim"), "-f", "-x", str(config)])
        wait_until(self._listens, "OpenDKIM")

    def _listens(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)


class Office:
    """The company's Postfix with its checks, the relay behind it, and the mailbox."""

    def __init__(self, world: World) -> None:
        authors.publish(world.zone, AUTHOR, SENDER, "p=reject")
        milter = OpenDkim(world.base / "opendkim", world.keys)
        world.start(milter)
        self.relay = world.relay(clients={"trusted": [SENDER], "authserv_ids": [OFFICE]})
        self.postfix = Postfix(
            world.base / "office",
            OFFICE,
            SENDER,
            world.port,
            relayhost=f"[{self.relay.address}]:{self.relay.port}",
            settings={
                "smtpd_milters": f"inet:127.0.0.1:{milter.port}",
                "smtpd_sender_restrictions": f"check_sender_access inline:{{ {{{NEWS} = PREPEND {SPF_PASS}}} }}",
            },
        )
        self.mailbox = Postfix(world.base / "mailbox", "mx.mailbox.example", MAILBOX, world.port, mailboxes=BOXES)
        world.start_all(self.postfix, self.mailbox)


CASES = {
    "signed": (authors.signed(LETTER, AUTHOR), False),
    "not signed": (LETTER, True),
    "not signed, with a forged result on top": (FORGED + LETTER, True),
    "not signed, with a forged result further down": (LETTER.replace(b"To: ", FORGED + b"To: "), True),
    "signature broken": (authors.broken(authors.signed(LETTER, AUTHOR)), True),
}
BOXES = [f"{number}@mailbox.example" for number in range(len(CASES))]


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    with opened() as world:
        yield Office(world)


@pytest.mark.parametrize(("box", "case"), list(zip(BOXES, CASES, strict=True)))
def test_from_is_rewritten_where_the_mta_saw_dmarc_pass_by_spf_alone(office: Office, box: str, case: str) -> None:
    """The mailbox host reads what the MTA saw in our ARC set, and nothing of what a sender said in its name."""
    content, rewritten = CASES[case]
    office.postfix.submit(NEWS, [box], content)
    [arrived] = office.mailbox.wait_for_mail(box)
    message = parse(arrived)
    assert (f"<{NEWS}>" not in str(message["From"])) is rewritten
    testimony = "".join(message["ARC-Authentication-Results"].split())
    assert testimony.startswith(f"i=1;{OFFICE};") and "spf=pass" in testimony
    assert ("dkim=pass" in testimony) is not rewritten
