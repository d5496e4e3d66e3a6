"""A host with Postfix and PostSRSd that moves to the relay by the snippets of docs/moving-from-postfix.md.

Everything runs on loopback addresses and free ports, in folders of the test. So places in the snippets are replaced,
as `_places` lists them; apart from that the snippets run as they are. The world outside is two sinks: one takes what
Postfix sends, which has no DNS here, and one is the MX of elsewhere.example, which the relay finds by DNS.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.journeys.clients import Answer, Dialogue
from tests.journeys.page import blocks, file_of
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import ROOT, RelayProcess
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World
from tests.peers import answers, free_port, program, wait_until

PAGE = "moving-from-postfix.md"
OTHER = "you@your-other-mailbox.example"  # where alice@example.com is forwarded
CONTENT = b"From: someone@elsewhere.example\r\nSubject: %s\r\n\r\nhello\r\n"

# Starts and stops the relay as systemd does, and returns when it is ready.
_SYSTEMCTL = """\
#!/bin/sh
set -eu
cd "{folder}"
if [ -e pid ]; then
    kill "$(cat pid)" 2>/dev/null || true
    while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.05; done
    rm pid
fi
[ "$1" != stop ] || exit 0
touch log
before=$(grep -c '"event":"ready"' log || true)
cd "{root}"
setsid "{python}" -m relay serve --config "{folder}/relay.toml" >> "{folder}/log" 2>> "{folder}/stderr" < /dev/null &
echo $! > "{folder}/pid"
for _ in $(seq 400); do
    [ "$(grep -c '"event":"ready"' "{folder}/log")" = "$before" ] || exit 0
    sleep 0.05
done
cat "{folder}/stderr" >&2
exit 1
"""


class Host:
    """The host of `example.com`, with a user bob@, and alice@ who is forwarded."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ports = {name: free_port() for name in ("forward", "reverse", "table", "relay", "behind")}
        self.relay = RelayProcess(world.base / "relay", {})
        world.relays.append(self.relay)
        (self.relay.folder / "relay.toml").unlink()
        self._secret = world.base / "postsrsd.secret"
        self._secret.write_text("tops3cr3t\n")
        self._postsrsd: subprocess.Popen[bytes] | None = None
        world.zone["elsewhere.example", "MX"] = ["10 mx.sender.example."]
        world.zone["elsewhere.example", "TXT"] = [f'"v=spf1 ip4:{SENDER} -all"']
        world.zone["your-other-mailbox.example", "MX"] = ["10 mx.mailbox.example."]
        world.zone["mail.example.com", "A"] = [FWD]
        world.zone["example.com", "MX"] = ["10 mail.example.com."]
        self.outside = [world.start(RecordingSink(address, world.port)) for address in (SENDER, MAILBOX)]
        self.postfix = Postfix(
            world.base / "host",
            "mail.example.com",
            FWD,
            world.port,
            mailboxes=["bob@example.com"],
            relayhost=f"[{MAILBOX}]:{world.port}",
            settings={
                "mynetworks": f"{FWD}/32",
                "virtual_alias_maps": f"texthash:{world.base}/host/etc/virtual",
                "sender_canonical_maps": f"tcp:127.0.0.1:{self._ports['forward']}",
                "sender_canonical_classes": "envelope_sender",
                "recipient_canonical_maps": f"tcp:127.0.0.1:{self._ports['reverse']}",
                "recipient_canonical_classes": "envelope_recipient, header_recipient",
            },
        )
        (world.base / "host" / "etc").mkdir(parents=True)
        (world.base / "host" / "etc" / "virtual").write_text(f"alice@example.com {OTHER}\n")
        self._environment = self._environment_of_commands()

    def _environment_of_commands(self) -> dict[str, str]:
        bin_folder = self._world.base / "bin"
        bin_folder.mkdir()
        systemctl = _SYSTEMCTL.format(folder=self.relay.folder, root=ROOT, python=sys.executable)
        command = f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m relay "$@"\n'
        for name, text in (("systemctl", systemctl), ("srs-relay", command)):
            (bin_folder / name).write_text(text)
            (bin_folder / name).chmod(0o755)
        return {
            **os.environ,
            "PATH": f"{bin_folder}:/usr/sbin:{os.environ['PATH']}",
            "MAIL_CONFIG": str(self.postfix.folder / "etc"),
            # What the relay needs to find its way on loopback stands on top of the configurations of the page.
            "RELAY_WORKERS": "1",
            "RELAY_DNS__NAMESERVERS": f'["{self._world.nameserver()}"]',
            "RELAY_DELIVERY__PUBLIC_ADDRESSES_ONLY": "false",
            "RELAY_DELIVERY__PORT": str(self._world.port),
            "RELAY_DELIVERY__FAMILIES": '["ipv4"]',
            "RELAY_DELIVERY__SOURCE_IPV4": FWD,
            "RELAY_QUEUE__RETRY_MIN": "1s",
            "RELAY_QUEUE__RETRY_MAX": "2s",
        }

    @property
    def _places(self) -> dict[str, str]:
        """What stands in the page, and what it is here. Longer ones come before those that begin like them."""
        port, ports = self._world.port, self._ports
        return {
            "127.0.0.1:10001": f"127.0.0.1:{ports['forward']}",
            "127.0.0.1:10002": f"127.0.0.1:{ports['reverse']}",
            "127.0.0.1:10003": f"127.0.0.1:{ports['table']}",
            "127.0.0.1:10025": f"{FWD}:{ports['relay']}",
            "[127.0.0.1]:10025": f"[{FWD}]:{ports['relay']}",
            "127.0.0.1:2525": f"{FWD}:{ports['behind']}",
            'smtp://127.0.0.1:25"': f'smtp://{FWD}:{port}"',
            '"0.0.0.0:25"': f'"{FWD}:{port}"',
            'trusted = ["127.0.0.1"]': f'trusted = ["{FWD}"]',
            "smtp/inet": f"{FWD}:{port}/inet",
            "smtp inet n - y": f"{FWD}:{port} inet n - n",
            "inet n - y": "inet n - n",  # nothing is in a chroot here
            "--server mail.example.com": f"--server {FWD}:{port} --local-interface {SENDER}",
            "'relayhost ='": f"'relayhost = [{MAILBOX}]:{port}'",
            "/var/lib/srs-relay": str(self.relay.folder),
            "/var/spool/postfix": str(self.postfix.folder / "queue"),
            "/etc/postfix": str(self.postfix.folder / "etc"),
            "/etc/postsrsd.secret": str(self._secret),
            " -o srs-relay": "",
        }

    def start(self) -> Host:
        self.start_postsrsd()
        self._world.start(self.postfix)
        return self

    def stop(self) -> None:
        self._shell("systemctl stop srs-relay\n")
        self.stop_postsrsd()

    def start_postsrsd(self) -> None:
        options = [f"-s{self._secret}", "-dexample.com", f"-f{self._ports['forward']}", f"-r{self._ports['reverse']}"]
        self._postsrsd = subprocess.Popen([program("postsrsd"), "-4", *options])

    def stop_postsrsd(self) -> None:
        if self._postsrsd is not None:
            self._postsrsd.terminate()
            self._postsrsd.wait(10)
            self._postsrsd = None

    def follow(self, *headings: str) -> str:
        """Do what stands below a heading; returns what the commands print."""
        output = ""
        for block in blocks(PAGE, *headings):
            if file_of(block):
                self.write(block)
            else:
                output += self.run(block)
        return output

    def write(self, block: str) -> None:
        """Write the file that a block shows."""
        path = Path(self._here(file_of(block)))
        path.write_text(self._here(block))
        path.chmod(0o600)

    def greeting(self) -> str:
        """What port 25 says."""
        with Dialogue((FWD, self._world.port), source=SENDER) as session:
            return session.greeting.text

    def _here(self, text: str) -> str:
        """The text with its places replaced, all in one go: a free port may be one that the page names."""
        places = self._places
        return re.sub("|".join(map(re.escape, places)), lambda match: places[match[0]], text)

    def run(self, commands: str) -> str:
        """Run commands; returns what they print. Postfix greets again afterwards."""
        done = self._shell(commands)
        assert done.returncode == 0, f"{commands}\n{done.stderr}\n{self.relay.stderr}"
        wait_until(lambda: answers(FWD, self._world.port), "the greeting")
        return done.stdout

    def _shell(self, commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-euc", self._here(commands)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=self._environment,
            cwd=self._world.base,
        )

    # mail

    def offer(self, sender: str, recipient: str, subject: str = "hello", source: str = SENDER) -> Answer:
        """Hand a message to port 25 of the host from outside."""
        helo = {SENDER: "mx.sender.example", MAILBOX: "mx.mailbox.example"}[source]
        with Dialogue((FWD, self._world.port), source=source) as session:
            return session.deliver(sender, recipient, CONTENT % subject.encode(), helo)

    def forwarded(self, user: str) -> str:
        """The sender that a message of user@elsewhere.example has when it is forwarded."""
        assert self.offer(f"{user}@elsewhere.example", "alice@example.com").code == 250
        return self.arrived(OTHER, user).sender

    def comes_home(self, address: str) -> bool:
        """Whether a bounce to a rewritten sender is accepted, and arrives at elsewhere.example."""
        user = address.partition("=elsewhere.example=")[2].partition("@")[0]
        subject = f"bounce {os.urandom(4).hex()}"
        answer = self.offer("", address, subject, MAILBOX)
        assert answer.code == 250, answer
        return self.arrived(f"{user}@elsewhere.example", subject).sender == ""

    def arrived(self, recipient: str, needle: str) -> Received:
        """The message outside for a recipient, whose sender or content has this text in it."""

        def find() -> Received | None:
            for received in (each for sink in self.outside for each in sink.received):
                if recipient in received.recipients and needle.encode() in received.sender.encode() + received.content:
                    return received
            return None

        found = wait_until(find, f"mail for {recipient} with {needle!r}")
        assert found is not None
        return found

    def refuses(self, recipient: str) -> bool:
        """Whether a recipient is refused for good in the session."""
        return self.offer("", recipient, source=MAILBOX).code == 550
