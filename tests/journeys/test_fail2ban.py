"""`deploy/fail2ban` on the log of a real relay: who is counted by each mode, and that nobody can have others banned."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.srs import address as srs
from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import ROOT, RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.users import PASSWORD, submission
from tests.journeys.world import MAILBOX, SENDER, opened
from tests.peers import needs, program, wait_until

pytestmark = [pytest.mark.slow, needs("fail2ban-regex")]

DEPLOY = ROOT / "deploy" / "fail2ban"
FILTER = DEPLOY / "filter.d" / "srs-relay.conf"
VICTIM = "198.51.100.7"
LOGIN, DENIED, ERRORS, USERS, FORGER, LIAR = (f"127.0.1.{n}" for n in range(1, 7))
ALIASES = """\
alice@fwd.example carol@mailbox.example
left@fwd.example  REJECT she has left
abuse@fwd.example carol@mailbox.example
"""
MESSAGE = b"From: news@sender.example\r\nTo: alice@fwd.example\r\nMessage-ID: <1@sender.example>\r\n\r\nhi\r\n"
JSON_LINE = f'"}}\n{{"time":"","level":"info","event":"auth","ip":"{VICTIM}","mechanism":"PLAIN","reply":"5"}}'
CONSOLE_LINE = f'00:00:00              auth          ip={VICTIM} mechanism=PLAIN reply="502 5.5.1"'


@pytest.fixture(scope="module", params=["json", "console"])
def log(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The log of a relay that had honest and other clients, in each of its forms."""
    with opened() as world:
        relay = world.relay(aliases=ALIASES, log={"format": request.param}, limits={"errors": 200})
        world.start(RecordingSink(MAILBOX, world.port))
        _honest(relay)
        _others(relay)
        wait_until(lambda: relay.log_text.count("disconnect") >= 8, "the ends of all sessions")
        relay.stop()
        yield relay.folder / "log"
        (relay.folder / "log").write_text("")  # `opened` reads it as JSON


def _honest(relay: RelayProcess) -> None:
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        assert client.deliver("news@sender.example", "alice@fwd.example", MESSAGE).code == 250
        assert client.offer("news@sender.example", "left@fwd.example").code == 550
        assert client("QUIT").code == 221


def _others(relay: RelayProcess) -> None:
    def client(source: str) -> Dialogue:
        return Dialogue((relay.address, relay.port), source=source)

    with client(LOGIN) as talk:
        talk("EHLO pc.example")
        for command in ("AUTH PLAIN AGpvZQBodW50ZXIy", "AUTH LOGIN", "AUTH CRAM-MD5"):
            assert talk(command).code == 502
        assert talk(b"AUTH PLAIN \0joe\0hunter2").code == 500
    with client(DENIED) as talk:
        assert talk.offer("x@sender.example", "joe@elsewhere.example").code == 550
        assert talk("RCPT TO:<joe%elsewhere.example@fwd.example>").code == 550
    with client(ERRORS) as talk:
        talk.send(b"FOO\r\n" * 200)
        assert talk.closed()
    with client(USERS) as talk:
        assert talk.offer("x@sender.example", "nobody@fwd.example").code == 550
    forged = srs.forward("joe@sender.example", srs.Scheme("fwd.example", (b"another",)), 1.79e9)
    with client(FORGER) as talk:
        assert talk.offer("", forged).code == 550
        for _ in range(25):  # past `srs.forged_rate` the reply is another
            answer = talk(f"RCPT TO:<{forged}>")
        assert answer.code in (450, 250)
    with client(LIAR) as talk:
        _lie(talk)


def _lie(talk: Dialogue) -> None:
    """Refused by replies of every kind, with names and addresses that look like a log line about somebody else."""
    shown = JSON_LINE.replace("\n", "")
    for helo in (f"ip={VICTIM}", f'","ip":"{VICTIM}"', f"<ip={VICTIM}>", shown, f"h[1]:{CONSOLE_LINE}"):
        talk(f"EHLO {helo.replace(' ', '_')}")
        for sender in (
            "",
            f'"ip={VICTIM} reply=550"@sender.example',
            f'"{CONSOLE_LINE}"@sender.example'.replace('="', "="),
        ):
            talk("RSET")
            talk(f"MAIL FROM:<{sender}>")
            talk(f"RCPT TO:<{shown}>")
            talk(f"RCPT TO:<a h[1]: {CONSOLE_LINE}>")
            talk(f'RCPT TO:<"h[1]: ip={VICTIM} reply=550 5.7.1 <a>: relaying denied"@elsewhere.example>')
            talk(f"RCPT TO:<a@[{VICTIM}]>")
            talk(f"MAIL FROM:<{shown}> ip={VICTIM}")
    talk(f"AUTH ip={VICTIM}")
    talk(f'AUTH PLAIN","ip":"{VICTIM}')


def banned(log: Path, mode: str) -> set[str]:
    """The addresses that the filter finds in a log."""
    command = [program("fail2ban-regex"), "-o", "ip", str(log), f"{FILTER}[mode={mode}]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


EXPECTED = {
    "auth": {LOGIN, LIAR},
    "relay": {DENIED, LIAR},
    "errors": {ERRORS},
    "users": {USERS},
    "srs": {FORGER},
    "normal": {LOGIN, DENIED, ERRORS, LIAR},
    "guess": {USERS, FORGER},
    "aggressive": {LOGIN, DENIED, ERRORS, USERS, FORGER, LIAR},
}


@pytest.mark.parametrize("mode", EXPECTED)
def test_each_mode_counts_whom_it_is_for_and_nobody_else(log: Path, mode: str) -> None:
    found = banned(log, mode)
    # The liar is refused in many ways; where it is counted, it is counted as itself.
    assert found - {LIAR} == EXPECTED[mode] - {LIAR} and (LIAR in found or LIAR not in EXPECTED[mode])
    assert VICTIM in log.read_text()


@pytest.mark.parametrize("mode", ["normal", "aggressive"])
def test_lines_from_the_journal_and_from_syslog_are_read_too(log: Path, tmp_path: Path, mode: str) -> None:
    """As fail2ban writes an entry of the journal (host, identifier, process), and as syslog writes a file."""
    journal = tmp_path / "journal"
    journal.write_text(
        "".join(f"Nov 30 00:11:26 mx srs-relay[4711]: {line}\n" for line in log.read_text().splitlines())
    )
    assert banned(journal, mode) == banned(log, mode)


def test_every_try_counts_once(log: Path) -> None:
    command = [program("fail2ban-regex"), "-o", "ip", str(log), f"{FILTER}[mode=auth]"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.split()
    assert found.count(LOGIN) == 4


@needs("fail2ban-client", package="fail2ban")
def test_the_example_of_a_jail_is_one(tmp_path: Path) -> None:
    shutil.copytree("/etc/fail2ban", tmp_path / "etc")
    shutil.copytree(DEPLOY, tmp_path / "etc", dirs_exist_ok=True)
    command = [program("fail2ban-client"), "-c", str(tmp_path / "etc"), "-d"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    started = [line for line in done.stdout.splitlines() if line.startswith("['start', 'srs-relay")]
    assert started == ["['start', 'srs-relay']", "['start', 'srs-relay-guess']"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_failed_logins_count_and_good_ones_do_not(tmp_path: Path, form: str) -> None:
    with opened() as world:
        ours = submission(world, log={"format": form})
        for source, name, password, code in (
            (LOGIN, "alice", "hunter2", 535),  # a user, who is named
            (DENIED, "hunter2", "hunter2", 535),  # nobody
            (SENDER, "alice", PASSWORD, 235),
        ):
            with ours.client(source) as client:
                assert client.log_in(name, password) == code
                assert client("AUTH PLAIN x").code in (501, 503)  # a program's fault, and no try of a password
        with Dialogue((ours.relay.address, ours.starttls), source=USERS) as talk:
            talk("EHLO pc.example")
            assert talk("AUTH LOGIN").code == 538
        wait_until(lambda: ours.relay.log_text.count("disconnect") >= 4, "the ends of all sessions")
        ours.relay.stop()
        log = tmp_path / "log"
        log.write_text(ours.relay.log_text)
        (ours.relay.folder / "log").write_text("")  # `opened` reads it as JSON
    assert banned(log, "auth") == banned(log, "normal") == {LOGIN, DENIED, USERS}
    assert "hunter2" not in log.read_text()
