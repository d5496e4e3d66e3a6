"""The same secret at PostSRSd, Mail::SRS and pysrs: they read what we write, and we read what they write."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from relay.srs.address import Expired, Forged, Scheme, Separator, forward, reverse
from tests.peers import free_port, needs, program, wait_until

DAY = 86400
SECRETS = (b"tops3cr3t", b"the one before")
RELAY = Scheme("relay.example", SECRETS)
THERE = replace(RELAY, domain="peer.example")  # we, in the peer's place

SENDERS = [
    "test@otherdomain.com",
    "Test@OtherDomain.COM",
    "a=b+c-d@x-y.example.org",
    "o'brien@otherdomain.com",
    "jörg@otherdomain.com",
]
FORWARDED = [
    "SRS0=opaque+string@otherdomain.com",
    "srs0-aaaa=2W=orig.net=joe@Fwd.Example.Net",
    "SRS1=X=thirddomain.com==opaque+string@otherdomain.com",
]


class Refused(Exception):
    """The peer found the address wrong."""


@dataclass
class Peer:
    """One of them, at `peer.example`; `ask` takes `forward` or `reverse` and an address."""

    ask: Callable[[str, str], str]

    def forward(self, sender: str) -> str:
        return self.ask("forward", sender)

    def reverse(self, address: str) -> str:
        return self.ask("reverse", address)


PERL = """
use Mail::SRS;
my ($command, $address, $separator, $length, @secrets) = @ARGV;
my $srs = Mail::SRS->new(Secret => \\@secrets, Separator => $separator, HashLength => $length);
print $command eq "forward" ? $srs->forward($address, "peer.example") : $srs->reverse($address);
"""
PYTHON = """
import sys, SRS
command, address, separator, length, *secrets = sys.argv[1:]
srs = SRS.new(secret=tuple(secrets), separator=separator, hashlength=int(length))
print(srs.forward(address, "peer.example") if command == "forward" else srs.reverse(address), end="")
"""


def _library(scheme: Scheme, *command: str) -> Peer:
    options = (scheme.separator, str(scheme.hash_length), *(secret.decode() for secret in scheme.secrets))

    def ask(direction: str, address: str) -> str:
        done = subprocess.run([*command, direction, address, *options], capture_output=True, timeout=30)
        if done.returncode:
            raise Refused(done.stderr.decode())
        return done.stdout.decode()

    return Peer(ask)


def _mail_srs(scheme: Scheme) -> Peer:
    return _library(scheme, "perl", "-e", PERL, "--")


def _pysrs(scheme: Scheme) -> Peer:
    return _library(scheme, "/usr/bin/python3", "-c", PYTHON)


def _ask_postsrsd(port: int, address: str) -> str:
    """One look-up of Postfix's tcp_table(5) protocol."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, connection.makefile("rwb") as stream:
        stream.write(f"get {quote(address)}\n".encode("ascii"))
        stream.flush()
        code, _, value = stream.readline().decode("ascii").strip().partition(" ")
    if code != "200":
        raise Refused(value)
    return unquote(value)


@contextmanager
def _postsrsd(scheme: Scheme, folder: Path) -> Iterator[Peer]:
    ports = {"forward": free_port(), "reverse": free_port()}
    secrets = folder / f"{ports['forward']}.secret"
    secrets.write_bytes(b"\n".join(scheme.secrets) + b"\n")
    options = ["-4", "-s", str(secrets), "-d", scheme.domain, "-a", scheme.separator, "-n", str(scheme.hash_length)]
    options += ["-f", str(ports["forward"]), "-r", str(ports["reverse"])]
    with subprocess.Popen([program("postsrsd"), *options]) as daemon:
        try:
            wait_until(lambda: all(map(_listens, ports.values())) or daemon.poll() is not None, "postsrsd")
            assert daemon.poll() is None, "postsrsd has given up"
            yield Peer(lambda direction, address: _ask_postsrsd(ports[direction], address))
        finally:
            daemon.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


Start = Callable[[Scheme], Peer]


@pytest.fixture(
    params=[
        pytest.param("PostSRSd", marks=needs("postsrsd")),
        pytest.param("Mail::SRS", marks=needs("perl:Mail::SRS")),
        pytest.param("pysrs", marks=needs("python3:SRS")),
    ]
)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts the peer with the secrets, separator and hash length of a scheme."""
    with ExitStack() as running:
        starts: dict[str, Start] = {
            "PostSRSd": lambda scheme: running.enter_context(_postsrsd(scheme, tmp_path)),
            "Mail::SRS": _mail_srs,
            "pysrs": _pysrs,
        }
        yield starts[request.param]


@pytest.fixture
def peer(start: Start) -> Peer:
    return start(THERE)


def fold(address: str) -> str:
    return address.encode().lower().decode()


def test_both_write_the_same_octets(peer: Peer) -> None:
    for sender in SENDERS + FORWARDED:
        before = forward(sender, THERE, time.time())
        assert peer.forward(sender) in (before, forward(sender, THERE, time.time()))


def test_they_read_what_we_write(peer: Peer) -> None:
    for sender in SENDERS:
        ours = forward(sender, RELAY, time.time())
        assert peer.reverse(ours) == sender
        assert fold(peer.reverse(fold(ours))) == fold(sender)
    for sender in FORWARDED:
        ours = forward(sender, RELAY, time.time())
        assert peer.reverse(ours) == reverse(ours, RELAY, time.time())


def test_we_read_what_they_write(peer: Peer) -> None:
    for sender in SENDERS:
        theirs = peer.forward(sender)
        assert reverse(theirs, RELAY, time.time()) == sender
        assert reverse(fold(theirs), RELAY, time.time()) == fold(sender)
    for sender in FORWARDED:
        theirs = peer.forward(sender)
        assert reverse(theirs, RELAY, time.time()) == peer.reverse(theirs)


def test_a_chain_with_the_peer_in_the_middle_leads_back_by_us(peer: Peer) -> None:
    now = time.time()
    first, last = Scheme("f1.example", (b"alphaSecret",)), Scheme("f3.example", (b"charlieSecret",))
    ours = forward("Joe+tag@origin.example", first, now)
    theirs = peer.forward(ours)
    end = forward(theirs, last, now)
    assert end.startswith("SRS1=")
    assert reverse(end, last, now) == peer.reverse(theirs) == ours
    assert reverse(ours, first, now) == "Joe+tag@origin.example"


def test_a_chain_with_the_peer_at_its_ends_leads_back_by_the_peer(start: Start) -> None:
    now = time.time()
    first, last = start(THERE), start(replace(THERE, secrets=(b"charlieSecret",)))
    between = Scheme("f2.example", (b"bravoSecret",))
    theirs = first.forward("Joe+t@origin.example")
    ours = forward(theirs, between, now)
    end = last.forward(ours)
    assert end.startswith("SRS1=")
    assert last.reverse(end) == reverse(ours, between, now) == theirs
    assert fold(last.reverse(fold(end))) == fold(theirs)
    assert first.reverse(theirs) == "Joe+t@origin.example"


@pytest.mark.parametrize("separator", ["=", "-", "+"])
def test_separators_and_longer_hashes_go_both_ways(start: Start, separator: Separator) -> None:
    scheme = replace(RELAY, separator=separator, hash_length=8)
    peer = start(scheme)
    for sender in ("test@otherdomain.com", f"SRS0{separator}opaque+string@otherdomain.com"):
        ours = forward(sender, scheme, time.time())
        theirs = peer.forward(sender)
        assert ours[4] == theirs[4] == separator
        assert peer.reverse(ours) == sender
        assert reverse(theirs, RELAY, time.time()) == sender


def test_addresses_signed_before_a_change_of_secrets_are_read(peer: Peer) -> None:
    old = replace(RELAY, secrets=SECRETS[1:])
    assert peer.reverse(forward("test@otherdomain.com", old, time.time())) == "test@otherdomain.com"
    assert reverse(peer.forward("test@otherdomain.com"), replace(RELAY, secrets=(b"new", *SECRETS)), time.time()) == (
        "test@otherdomain.com"
    )


def test_both_refuse_the_same(peer: Peer) -> None:
    now = time.time()
    good = forward("test@otherdomain.com", RELAY, now)
    bad = {
        good.replace("test@", "tesd@"): Forged,
        forward("test@otherdomain.com", replace(RELAY, secrets=(b"guessed",)), now): Forged,
        forward("test@otherdomain.com", RELAY, now - 23 * DAY): Expired,
        forward("test@otherdomain.com", RELAY, now + 2 * DAY): Expired,
    }
    assert peer.reverse(forward("test@otherdomain.com", RELAY, now - 20 * DAY)) == "test@otherdomain.com"
    for address, error in bad.items():
        with pytest.raises(Refused):
            peer.reverse(address)
        with pytest.raises(error):
            reverse(address, RELAY, now)


def test_we_read_a_quoted_local_part_as_each_of_them_writes_it(peer: Peer) -> None:
    for sender in ('"quoted user"@otherdomain.com', "user@[192.0.2.1]"):
        assert reverse(peer.forward(sender), RELAY, time.time()) == sender


@needs("python3:SRS")
def test_pysrs_and_we_quote_alike() -> None:
    pysrs = _pysrs(THERE)
    for sender in ('"quoted user"@otherdomain.com', '"a@b"@otherdomain.com', '"a\\"b\\\\c"@otherdomain.com'):
        ours = forward(sender, THERE, time.time())
        assert pysrs.forward(sender) in (ours, forward(sender, THERE, time.time()))
        assert pysrs.reverse(ours) == reverse(ours, THERE, time.time()) == sender
