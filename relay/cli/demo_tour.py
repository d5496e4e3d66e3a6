"""The way of one message through the relay and of its bounce back, and what is measured on it.

At the mailbox, dkimpy verifies DKIM and ARC, and pyspf evaluates SPF, with the DNS of the demo. Our own checks see the
same message, and where they see it otherwise the demo says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

from relay.authenticate import spf
from relay.authenticate.dns_budget import Budget
from relay.authenticate.verdict import check_stranger
from relay.cli.demo_servers import MailServer, Received
from relay.cli.demo_world import ALIAS, PATIENCE, SENDER, World
from relay.cli.dkimpy_opinion import SignatureOpinion
from relay.cli.errors import CommandFailed
from relay.cli.second_opinion import Difference, SecondOpinion, ask_others
from relay.mail.message import Message
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey

FORGED = "SRS0=fakehash=AA=shop.example=news@fwd.example"


@dataclass(frozen=True, slots=True)
class Findings:
    """What the demo has measured.

    Attributes:
        original: the octets that the sender sent.
        arrived: the message at the mailbox.
        spf_without: SPF at the mailbox, had the sender not been rewritten.
        spf_with: SPF at the mailbox as it was.
        signatures: from top to bottom.
        dmarc, arc: their results at the mailbox.
        differences: between these results and those of our own checks.
        accepted: the relay's reply to the bounce.
        returned: the bounce at the sender's server.
        refused: the relay's reply to a bounce to a forged address.
    """

    original: bytes
    arrived: Received
    spf_without: str
    spf_with: str
    signatures: tuple[SignatureOpinion, ...]
    dmarc: str
    arc: str
    differences: tuple[Difference, ...]
    accepted: str
    returned: Received
    refused: str

    @property
    def unchanged(self) -> bool:
        """Whether the mailbox got the octets of the sender, below the fields that were added."""
        return self.arrived.content.endswith(self.original)

    @property
    def came_home(self) -> bool:
        """Whether the bounce reached the sender, with the null sender."""
        return (self.returned.sender, self.returned.recipients) == ("", (SENDER,))

    @property
    def problems(self) -> list[str]:
        """The expectations that are not met, one line each."""
        signers = {signature.domain for signature in self.signatures if signature.result == "pass"}
        expected = {
            "the message was changed on its way": self.unchanged,
            "SPF does not pass with the rewritten sender": self.spf_with == "pass",
            "a DKIM signature is missing or broken": signers == {"shop.example", "fwd.example"},
            "DMARC does not pass for the author's domain": self.dmarc == "pass",
            "the ARC chain is not whole": self.arc == "pass",
            "the bounce did not reach the sender": self.came_home,
            "a forged SRS address was not refused": self.refused.startswith("550"),
        }
        return [*(problem for problem, good in expected.items() if not good), *map(str, self.differences)]


async def tour(demo_world: World) -> Findings:
    """Send a message through the relay, bounce it at the mailbox, and return what was measured.

    Raises:
        CommandFailed: the relay refused one of them, or it did not arrive.
    """
    original = _newsletter(demo_world.key)
    reply = await demo_world.sender.send(demo_world.relay, SENDER, ALIAS, original)
    if not reply.startswith("250"):
        raise CommandFailed(f"the relay refused the message: {reply}")
    arrived = await _next(demo_world.mailbox)

    bounce = _bounce(arrived)
    accepted = await demo_world.mailbox.send(demo_world.relay, "", arrived.sender, bounce)
    if not accepted.startswith("250"):
        raise CommandFailed(f"the relay refused the bounce: {accepted}")
    opinion = await _examined(demo_world, arrived, arrived.sender)
    unrewritten = await _examined(demo_world, arrived, SENDER)
    return Findings(
        original,
        arrived,
        spf_without=unrewritten.spf.result,
        spf_with=opinion.spf.result,
        signatures=opinion.dkimpy.signatures,
        dmarc=opinion.dmarc.result,
        arc=opinion.dkimpy.arc,
        differences=tuple(dict.fromkeys((*opinion.differences, *unrewritten.differences))),
        accepted=accepted,
        returned=await _next(demo_world.sender),
        refused=await demo_world.mailbox.send(demo_world.relay, "", FORGED, bounce),
    )


async def _next(host: MailServer) -> Received:
    try:
        return await host.next_message(PATIENCE)
    except TimeoutError:
        raise CommandFailed(f"nothing reached {host.name} within {PATIENCE:g} s") from None


async def _examined(demo_world: World, arrived: Received, sender: str) -> SecondOpinion:
    """What the mailbox host makes of the message, had it come from a sender."""
    message, budget = Message(arrived.content), Budget(demo_world.resolver)
    session = {"ip": arrived.client, "helo": arrived.helo, "sender": sender, "receiver": demo_world.mailbox.name}
    result = await spf.check(budget.spf, **session)
    ours = await check_stranger(budget, message, sender, result, None, datetime.now(UTC).timestamp())
    return await ask_others(budget.authors, message, ours, **session)


def _newsletter(key: SigningKey) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = f"Shop News <{SENDER}>"
    message["To"] = ALIAS
    message["Subject"] = "What SPF makes of forwarding"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="shop.example")
    message.set_content("Nothing in it changes on its way.\n..not even this line\n")
    octets = message.as_bytes()
    return sign(Message(octets), key, int(datetime.now(UTC).timestamp())) + octets


def _bounce(undelivered: Received) -> bytes:
    """The bounce of a mailbox host that has accepted the message and then cannot deliver it."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "Mail Delivery System <mailer-daemon@mailbox.example>"
    message["To"] = undelivered.sender
    message["Subject"] = "Undelivered: the mailbox is full"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="mailbox.example")
    message["Auto-Submitted"] = "auto-replied"
    message.set_content("Your message could not be delivered: 552 5.2.2 the mailbox is full\n")
    return message.as_bytes()
