"""The first day of a forwarding host: init, its records published, serve as a user of its own, and mail through it.

Two hosts are connected by a wire. One is ours, with IPv4 alone or with both families; the other one is the rest of the
world (`far_host`). Their addresses are public, because mail is not sent to others; nothing leaves the two namespaces.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers import needs, wait_until

ROOT = Path(__file__).parents[2]
V4, V4B, V6, V6B = "11.22.33.5", "11.22.33.6", "2a00:1:2::5", "2a00:1:2::6"
FAR4, FAR6 = "11.22.33.1", "2a00:1:2::1"
USER = ["setpriv", "--reuid", "2525", "--regid", "2525", "--clear-groups"]
MAY_BIND = ["--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"]
WORLD = f"""
shop.example. 60 IN MX 10 mx.mailbox.example.
shop.example. 60 IN TXT "v=spf1 ip4:{FAR4} ip6:{FAR6} -all"
mailbox.example. 60 IN MX 10 mx.mailbox.example.
bulk.example. 60 IN MX 10 mx.mailbox.example.
mx.mailbox.example. 60 IN A {FAR4}
mx.mailbox.example. 60 IN AAAA {FAR6}
"""

pytestmark = [needs("ip", root=True), pytest.mark.slow]


class Namespace:
    """A network namespace, as long as its process lives."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        own, new = Path("/proc/self/ns/net"), Path(f"/proc/{self._holder.pid}/ns/net")
        wait_until(lambda: not new.samefile(own), "a network namespace")
        self.pid = self._holder.pid
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *command: str) -> list[str]:
        """The command as it is run inside."""
        return ["nsenter", "--target", str(self.pid), "--net", *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside; its output is text. Raises CalledProcessError."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=60, check=True, env=environment
        )

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


class Hosts:
    """Our host and the world.

    Args:
        addresses: those of our host.
    """

    def __init__(self, stack: ExitStack, addresses: Sequence[str]) -> None:
        self._stack = stack
        self.ours, self.far = Namespace(), Namespace()
        stack.callback(self.ours.close)
        stack.callback(self.far.close)
        self.folder = Path(tempfile.mkdtemp(prefix="first-day-"))  # where another user may go, unlike tmp_path
        stack.callback(shutil.rmtree, self.folder)
        self.folder.chmod(0o755)
        self.ours.run("ip", "link", "add", "wan", "type", "veth", "peer", "name", "far")
        self.ours.run("ip", "link", "set", "far", "netns", str(self.far.pid))
        self.ours.run("ip", "link", "set", "wan", "up")
        self.far.run("ip", "link", "set", "far", "up")
        for address in (FAR4, FAR6):
            self.far.run("ip", "address", "add", *_with_prefix(address), "dev", "far", "nodad")
        for address in addresses:
            self.ours.run("ip", "address", "add", *_with_prefix(address), "dev", "wan", "nodad")
        for gateway in {FAR6 if ":" in address else FAR4 for address in addresses}:
            self.ours.run("ip", "route", "add", "default", "via", gateway, "dev", "wan")

    def relay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the relay on our host."""
        return self.ours.run(sys.executable, "-m", "relay", *arguments)

    def serve(self, wrapper: Sequence[str]) -> None:
        """Start the relay on our host, and wait until it listens."""
        command = [*wrapper, sys.executable, "-m", "relay", "serve", "--config", f"{self.folder}/relay/relay.toml"]
        self._start(self.ours, command, "log")
        wait_until(lambda: '"event":"ready"' in self.text("log"), f"the relay: {self.text('log')}")

    def publish(self, zone: str) -> None:
        """Start the world, with these records in DNS; PTR records are published, too."""
        zone = re.sub(r"^;(\S+ \d+ IN PTR )", r"\1", zone, flags=re.MULTILINE)
        (self.folder / "zone").write_text(zone + WORLD)
        command = [sys.executable, "-m", "tests.journeys.far_host", str(self.folder / "zone"), FAR4, FAR6]
        self._start(self.far, command, "arrived")
        wait_until(lambda: "ready" in self.text("arrived"), "the world")

    def send(self, recipient: str) -> None:
        """Send a message from the world to our host."""
        code = (
            "import smtplib, sys; "
            f"smtplib.SMTP('{V4}', 25, 'mx.mailbox.example', 60).sendmail('news@shop.example', sys.argv[1], "
            "'From: news@shop.example\\r\\nSubject: Hi\\r\\n\\r\\nHi.\\r\\n')"
        )
        self.far.run(sys.executable, "-c", code, recipient)

    def arrived(self, count: int = 1) -> list[dict[str, object]]:
        """What has reached the world, once it is so many messages."""
        wait_until(lambda: len(self.text("arrived").splitlines()) > count, f"mail: {self.text('log')}")
        return [json.loads(line) for line in self.text("arrived").splitlines()[1:]]

    def text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def _start(self, namespace: Namespace, command: Sequence[str], log: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RELAY_DNS__NAMESERVERS": f'["{FAR4}:53"]'}
        with (self.folder / log).open("wb") as file:
            process = subprocess.Popen(
                namespace.command(*command), stdout=file, stderr=subprocess.STDOUT, env=environment, cwd="/"
            )
        self._stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def _with_prefix(address: str) -> list[str]:
    return [f"{address}/64" if ":" in address else f"{address}/24"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize(
    ("host", "given", "sources"),
    [
        ((V4,), (V4,), {V4}),
        ((V4,), (), {V4}),
        ((V4, V6), (V4,), {V4}),
        ((V4, V6), (V4, V6), {V6}),
        ((V4, V6), (), {V6}),
        ((V4, V6, V6B), (V4, V6), {V6}),
    ],
)
@pytest.mark.parametrize("user", ["root", "srs-relay"])
def test_mail_of_the_first_day_passes_spf_behind_us(
    stack: ExitStack, host: tuple[str, ...], given: tuple[str, ...], sources: set[str], user: str
) -> None:
    hosts = Hosts(stack, host)
    names = ["--domain", "fwd.example", "--hostname", "mx.fwd.example"]
    addresses = [word for address in given for word in ("--address", address)]
    alias = ["--alias", "alice@fwd.example", "alice@mailbox.example"]
    folder = f"{hosts.folder}/relay"
    printed = hosts.relay("init", folder, *names, *addresses, *alias)
    hosts.publish(printed.stdout)
    if user != "root":
        subprocess.run(["chown", "-R", "2525:2525", folder], check=True)
    hosts.serve([*USER, *MAY_BIND] if user != "root" else [])
    hosts.send("alice@fwd.example")

    [seen] = hosts.arrived()

    assert seen["ip"] in sources
    assert (seen["spf"], seen["recipients"], seen["helo"]) == ("pass", ["alice@mailbox.example"], "mx.fwd.example")
    assert str(seen["sender"]).startswith("SRS0=")
    again = hosts.relay("dns", "--config", f"{folder}/relay.toml")
    assert sorted(again.stdout.splitlines()) == sorted(printed.stdout.splitlines())


def test_a_second_address_for_bulk_has_its_own_name_and_records(stack: ExitStack) -> None:
    """What `dns` says to publish is what `check` asks for, and what makes SPF pass for both addresses."""
    hosts = Hosts(stack, (V4, V4B))
    folder = f"{hosts.folder}/relay"
    names = ["--domain", "fwd.example", "--hostname", "mx.fwd.example", "--address", V4]
    aliases = [["--alias", f"{name}@fwd.example", f"{name}@{name}.example"] for name in ("mailbox", "bulk")]
    hosts.relay("init", folder, *names, *(word for alias in aliases for word in alias))
    bulk = f'[[delivery.destinations]]\ndomains = ["bulk.example"]\nsource_ipv4 = "{V4B}"\nhelo = "bulk.fwd.example"\n'
    with Path(folder, "relay.toml").open("a") as file:
        file.write(bulk)
    printed = hosts.relay("dns", "--config", f"{folder}/relay.toml").stdout
    assert f"bulk.fwd.example. 3600 IN A {V4B}" in printed and f"ip4:{V4B}" in printed
    hosts.publish(printed)
    hosts.serve([])
    for name in ("mailbox", "bulk"):
        hosts.send(f"{name}@fwd.example")

    seen = {str(one["recipients"]): (one["ip"], one["helo"], one["spf"]) for one in hosts.arrived(2)}

    assert seen == {
        "['mailbox@mailbox.example']": (V4, "mx.fwd.example", "pass"),
        "['bulk@bulk.example']": (V4B, "bulk.fwd.example", "pass"),
    }
    environment = ["env", f'RELAY_DNS__NAMESERVERS=["{FAR4}:53"]']
    only = ["check", "--config", f"{folder}/relay.toml", "--json", "--only", "spf,ptr,address,port25"]
    checked = hosts.ours.run(*environment, sys.executable, "-m", "relay", *only)
    findings = json.loads(checked.stdout)["findings"]
    assert {finding["level"] for finding in findings} == {"ok"}, findings
    subjects = {(finding["check"], finding["subject"]) for finding in findings}
    assert subjects >= {("ptr", V4), ("ptr", V4B), ("address", "bulk.fwd.example"), ("spf", "bulk.fwd.example")}


@pytest.mark.parametrize(
    ("setup", "arguments", "records", "delivery", "said"),
    [
        (
            ["ip address add 10.0.0.5/24 dev wan", "ip route add default via 10.0.0.1"],
            [],
            [";mx.fwd.example. 3600 IN A 192.0.2.1"],
            {},
            "mail leaves from 10.0.0.5, which is private",
        ),
        (
            ["ip address add 10.0.0.5/24 dev wan", "ip route add default via 10.0.0.1"],
            ["--address", "203.0.113.5"],
            ["mx.fwd.example. 3600 IN A 203.0.113.5"],
            {"families": ["ipv4"]},
            "mail leaves from 10.0.0.5, and a NAT has to make 203.0.113.5 of it",
        ),
        (
            [
                "ip address add 203.0.113.9/24 dev wan",
                "ip address add 203.0.113.5/24 dev wan",
                "ip route add default via 203.0.113.1",
            ],
            ["--address", "203.0.113.5"],
            ["mx.fwd.example. 3600 IN A 203.0.113.5"],
            {"families": ["ipv4"], "source_ipv4": "203.0.113.5"},
            "mail leaves from 203.0.113.5 (delivery.source_ipv4)",
        ),
        (
            [
                "echo 2 > /proc/sys/net/ipv6/conf/wan/use_tempaddr",
                "ip address add 2001:db8:5::5/64 dev wan nodad mngtmpaddr",
                "ip -6 route add default via 2001:db8:5::1 dev wan",
            ],
            [],
            ["mx.fwd.example. 3600 IN AAAA 2001:db8:5::5"],
            {"families": ["ipv6"], "source_ipv6": "2001:db8:5::5"},
            "mail leaves from 2001:db8:5::5",
        ),
        ([], [], [";mx.fwd.example. 3600 IN A 192.0.2.1"], {}, "this host has no route to the world"),
    ],
    ids=["NAT", "NAT-given", "second-address", "temporary-address", "no-network"],
)
def test_init_says_what_it_finds(
    stack: ExitStack,
    tmp_path: Path,
    setup: list[str],
    arguments: list[str],
    records: list[str],
    delivery: dict[str, object],
    said: str,
) -> None:
    host = Namespace()
    stack.callback(host.close)
    for command in ["ip link add wan type veth peer name far", "ip link set wan up", "ip link set far up", *setup]:
        host.run("sh", "-c", command)
    names = ["--domain", "fwd.example", "--hostname", "mx.fwd.example"]

    printed = host.run(sys.executable, "-m", "relay", "init", str(tmp_path), *names, *arguments)

    assert [line for line in printed.stdout.splitlines() if re.search(" IN A+ ", line)] == records
    assert tomllib.loads((tmp_path / "relay.toml").read_text()).get("delivery", {}) == delivery
    assert said in printed.stderr
