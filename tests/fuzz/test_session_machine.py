"""SMTP sessions of every kind, with commands in any order, cut and pipelined at random, against a model of their rules.

The model says what each reply has to be, and which messages must have been taken, octet for octet, with which envelope,
user and trust. It is written from the RFCs, and knows nothing of the session. The examples are the same in every run;
`SESSION_FUZZ=N` runs N others, see docs/testing.md.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import pytest
import structlog.testing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.accounts.failures import OF_CLIENT
from relay.mail.envelope import MailFrom
from relay.receive.shared_counts import ALL, CONNECTIONS, DISK, MEMORY, bucket
from tests.fuzz.session_house import House
from tests.fuzz.session_model import (
    COMMAND_LINE,
    ENDINGS,
    ERRORS,
    GOOD,
    GOOD_PARAMETERS,
    HEADER,
    IDLE,
    KINDS,
    LARGEST,
    LOGINS,
    MAIL_PARAMETERS,
    RECIPIENTS,
    SECRETS,
    SENDERS,
    USER,
    Kind,
    Model,
    Taken,
    b64,
    contents,
    cuts,
    faults,
    mails,
    normal,
    recipients,
    senders,
)
from tests.receive.door import Talk, within_patience

EXAMPLES = int(os.environ.get("SESSION_FUZZ", "0"))

Check = Callable[[str], None]


class Sessions(RuleBasedStateMachine):
    """One client after another, each in a session of some kind."""

    house: ClassVar[House]

    def __init__(self) -> None:
        super().__init__()
        self.house.log.clear()
        self.house.accounts.forget_failures()
        self.failures = 0
        self.talk: Talk | None = None
        self.out = b""
        self.due: list[tuple[str, Check | None]] = []  # the codes of which one must come, for each reply
        self.taken: list[Taken] = []

    # the connection

    @initialize(kind=st.sampled_from(KINDS))
    def connects(self, kind: Kind) -> None:
        self.model = Model(kind)
        self.door = self.house.doors[kind]
        self.door.taker.taken.clear()
        self.taken = []
        self._run(self._connect())

    async def _connect(self) -> None:
        tls = self.house.context if self.model.kind.tls == "implicit" else None
        host = "mx.test" if tls else None
        self.talk = Talk(*await asyncio.open_connection(*self.door.address, ssl=tls, server_hostname=host))
        self.model.tls = tls is not None
        assert (await self.talk.reply()) == "220 mx.test ESMTP srs-relay\r\n"

    @precondition(lambda self: self.model.over)
    @rule(kind=st.sampled_from(KINDS))
    def connects_again(self, kind: Kind) -> None:
        self.connects(kind)

    def _run(self, work: Any) -> Any:
        return self.house.runner.run(work)

    async def _send(self, sizes: Sequence[int] = ()) -> None:
        """Sends what was said, in pieces, and reads the replies that are due."""
        assert self.talk is not None
        said, self.out = self.out, b""
        for size in sizes:
            if said:
                self.talk.writer.write(said[:size])
                said = said[size:]
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # for the other side to read just that
        if said:
            self.talk.writer.write(said)
        due, self.due = self.due, []
        for codes, check in due:
            reply = await self.talk.reply()
            assert reply[:3] in codes.split(), f"{reply!r}, and not {codes}"
            assert re.fullmatch(r"(\d{3}-[ -~]+\r\n)*\d{3} [ -~]*\r\n", reply), reply
            if check is not None:
                check(reply)

    async def _ends(self, *, lost: bool = False) -> None:
        """The end of the connection, after which nothing may be left of it."""
        assert self.talk is not None
        try:
            rest = await within_patience(self.talk.reader.read())
            assert lost or rest == b"", "a reply to nothing"
        except (ConnectionError, ssl.SSLError):
            assert lost
        self.talk.writer.close()
        try:
            await within_patience(self.talk.writer.wait_closed())
        except (ConnectionError, ssl.SSLError):
            pass
        self.talk = None
        await within_patience(self.door.listener.finished())
        counts = self.door.limits.total
        for part in (CONNECTIONS, MEMORY, DISK):
            assert counts(part + ALL) == counts(part + bucket("127.0.0.1")) == 0
        assert not self.door.limits.monitor.transfers

    @precondition(lambda self: not self.model.over and (self.out or self.due))
    @rule(sizes=cuts)
    def sends(self, sizes: list[int]) -> None:
        self._run(self._send(sizes))

    def _settle(self, sizes: Sequence[int] = ()) -> None:
        """Sends what is said once the session is over, and sees its end."""
        if self.model.over:
            self._run(self._send(sizes))
            self._run(self._ends())

    @invariant()
    def takes_what_it_acknowledges(self) -> None:
        """Nothing else, and nothing less."""
        if self.out or self.due or not hasattr(self, "door"):
            return
        taken = [
            Taken(
                t.mail, [r.recipient for r in t.recipients], message.content, c.user, c.trusted, bool(c.tls), c.protocol
            )
            for c, t, message in self.door.taker.taken
        ]
        assert taken == self.taken
        for session in self.door.listener._sessions:
            connection = session._connection
            assert connection.account.trusted == connection.client.trusted == self.model.trusted

    @invariant()
    def fails_nowhere(self) -> None:
        assert not self.house.problems, self.house.problems
        for line in self.house.log:
            assert line["log_level"] not in ("error", "critical"), line
            assert not any(secret in str(line) for secret in SECRETS), line
        self.house.log.clear()

    def teardown(self) -> None:
        if self.talk is None:
            return
        failed = sys.exc_info()[0] is not None  # the session is as it is then, and its end tells nothing
        try:
            if not failed:
                self._run(self._send())
                self.takes_what_it_acknowledges()
        finally:
            self.talk.writer.transport.abort()
            self._run(self._ends(lost=True))
        self.fails_nowhere()

    # the rules that hold for every command

    def _says(self, line: bytes, codes: str, check: Check | None = None) -> None:
        """A command, and its reply."""
        self.out += line + b"\r\n"
        self._answered(codes, check)

    def _answered(self, codes: str, check: Check | None = None, *, counts: bool = True) -> None:
        model = self.model
        self.due.append((codes, check))
        if (codes[0] in "45" and counts) or (codes[0] == "2" and model.idle > IDLE):
            self._error()

    def _error(self) -> None:
        self.model.errors += 1
        if self.model.errors >= ERRORS and not self.model.trusted:
            self.due.append(("421", None))
            self.model.over = True

    def _forbidden(self, verb: str) -> str:
        """530 where the command needs TLS or a login first."""
        model, free = self.model, ("AUTH", "EHLO", "HELO", "HELP", "NOOP", "QUIT", "STARTTLS")
        if model.kind.tls == "require" and not model.tls and verb not in free:
            return "530"
        if model.kind.auth == "required" and not model.user and verb not in (*free, "RSET"):
            return "530"
        if verb not in ("MAIL", "RCPT", "DATA", "BDAT"):
            model.idle += 1
        return ""

    # commands

    @precondition(lambda self: not self.model.over)
    @rule(
        verb=st.sampled_from(["EHLO", "EHLO", "HELO", "ehlo"]), name=st.sampled_from(["c.test", "[1.2.3.4]", "", "x y"])
    )
    def greets(self, verb: str, name: str) -> None:
        model = self.model
        self._forbidden(verb.upper())
        if not name:
            self._says(verb.encode(), "501")
        else:
            model.forget()
            model.helo = verb.upper()
            offers = {"PIPELINING", f"SIZE {LARGEST}", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"}
            offers |= {"STARTTLS"} if model.offers_tls else set()
            offers |= {"REQUIRETLS"} if model.tls else set()
            offers |= {"AUTH PLAIN LOGIN"} if model.takes_logins else set()
            expected = offers | {"mx.test"} if model.helo == "EHLO" else {"mx.test"}

            def check(reply: str) -> None:
                assert {line[4:] for line in reply.splitlines()} == expected

            self._says(f"{verb} {name}".encode(), "250", check)
        self._settle()

    @precondition(lambda self: not self.model.over)
    @rule(sender=senders, parameters=st.lists(st.sampled_from([*GOOD_PARAMETERS, *MAIL_PARAMETERS]), max_size=3))
    def mail(self, sender: str, parameters: list[str]) -> None:
        model = self.model
        line = " ".join([f"MAIL FROM:{sender}", *parameters])
        codes = self._forbidden("MAIL") or ("503" if not model.helo or model.mail is not None else "")
        if not codes:
            address, refused = SENDERS[sender]
            keywords = [parameter.partition("=")[0] for parameter in parameters]
            found = {MAIL_PARAMETERS[parameter] for parameter in parameters} | {refused}
            found |= {"501"} if len(set(keywords)) < len(keywords) else set()
            found |= {"530"} if "REQUIRETLS" in parameters and not model.tls else set()
            found |= {"555"} if "AUTH" in keywords and not model.takes_logins else set()
            found |= {"553"} if not sender.isascii() and "SMTPUTF8" not in parameters else set()
            codes = " ".join(sorted(found - {""}))
            if not codes:
                values = {
                    keyword: parameter.partition("=")[2]
                    for keyword, parameter in zip(keywords, parameters, strict=True)
                }
                model.mail = MailFrom(
                    address,
                    int(values.get("SIZE", "0")),
                    "8BITMIME" if "BODY=8BITMIME" in parameters else "7BIT",
                    "SMTPUTF8" in values,
                    values.get("RET", "").upper(),
                    values.get("ENVID", ""),
                    "REQUIRETLS" in values,
                )
        self._says(line.encode(), codes or "250")
        self._settle()

    @precondition(lambda self: not self.model.over)
    @rule(recipient=recipients)
    def rcpt(self, recipient: str) -> None:
        model = self.model
        codes = self._forbidden("RCPT")
        if not codes and (model.mail is None or model.chunks is not None or model.lost):
            codes = "503"
        elif not codes:
            address, codes = RECIPIENTS[recipient]
            if codes:
                model.refused += 1
            else:
                model.recipients.append(address)
        self._says(f"RCPT TO:{recipient}".encode(), codes or "250")
        self._settle()

    def _not_ready(self) -> str:
        model = self.model
        if model.mail is None:
            return "503"
        if not model.recipients:
            return "554" if model.refused else "503"
        return ""

    @precondition(lambda self: not self.model.over)
    @rule(content=mails | contents, argument=st.sampled_from([b"", b"", b"", b" x"]), sizes=cuts)
    def data(self, content: bytes, argument: bytes, sizes: list[int]) -> None:
        model = self.model
        codes = self._forbidden("DATA")
        if not codes:
            model.idle = 0
            codes = "503" if model.chunks is not None or model.lost else self._not_ready()
            codes = codes or ("501" if argument else "")
        if codes:
            self._says(b"DATA" + argument, codes)
        else:
            content += b"" if content.endswith(b"\r\n") or not content else b"\r\n"
            stuffed = re.sub(rb"\r\n\.", rb"\r\n..", b"\r\n" + content)[2:]
            self.out += b"DATA\r\n" + stuffed + b".\r\n"
            self.due.append(("354", None))
            self._message(content)
        self._settle(sizes)

    def _message(self, content: bytes) -> None:
        """The end of a message, and the reply to it."""
        model = self.model
        codes = faults(content, model.trusted, ended=True)
        if not codes:
            assert model.mail is not None
            letters = ("S" if model.tls else "") + ("A" if model.user else "")
            protocol = "ESMTP" + letters if model.helo == "EHLO" else "SMTP"
            sent = (model.mail, model.recipients, normal(content), model.user, model.trusted, model.tls, protocol)
            self.taken.append(Taken(*sent))
            model.errors = 0
        model.forget()
        self._answered(codes or "250")

    @precondition(lambda self: not self.model.over)
    @rule(content=contents, last=st.booleans(), padded=st.booleans())
    def bdat(self, content: bytes, last: bool, padded: bool) -> None:
        model = self.model
        size = f"{len(content):09}" if padded else str(len(content))
        self.out += f"BDAT {size}{' LAST' if last else ''}\r\n".encode() + content
        codes = self._forbidden("BDAT")
        if codes:
            self._answered(codes)
        else:
            model.idle = 0 if last else model.idle + (not content)
            is_new = not model.lost
            codes = self._not_ready() or model.lost
            if codes:
                model.lost = codes if model.mail is not None else ""
            else:
                model.chunks = (model.chunks or b"") + content
                codes = faults(model.chunks, model.trusted, ended=False, announced=len(content))
                model.lost = codes
                whole = model.chunks + (b"" if model.chunks.endswith((b"\r", b"\n")) or not model.chunks else b"\r\n")
                if last and not codes:
                    self._message(whole)
                    self._settle()
                    return
            if last:
                model.forget()
            self._answered(codes or "250", counts=is_new)
        self._settle()

    def bdat_without_a_size(self, size: bytes, sizes: list[int]) -> None:
        codes = {b" 99999999999": "552", b" \0": "500"}.get(size, "501")
        self.model.errors = 0 if self.model.errors + 1 < ERRORS or self.model.trusted else self.model.errors
        self._says(b"BDAT" + size, codes)
        self.model.over = True
        self._settle(sizes)

    @precondition(lambda self: not self.model.over)
    @rule(
        line=st.sampled_from(
            ["RSET", "RSET x", "NOOP", "noop x", "VRFY c", "VRFY \u00fc", "HELP", "EXPN x", "FOO", "", "NOOP \u00fc"]
        )
    )
    def other(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        known = verb in ("RSET", "NOOP", "VRFY", "HELP")
        codes = {"EXPN": "502"}.get(verb, "500") if not known else self._forbidden_argument(verb, line)
        if verb == "RSET" and not codes:
            self.model.forget()
        self._says(line.encode(), codes or {"VRFY": "252", "HELP": "214"}.get(verb, "250"))
        self._settle()

    def _forbidden_argument(self, verb: str, line: str) -> str:
        idle = self.model.idle
        codes = self._forbidden(verb)
        if not codes and not line.isascii() and verb != "VRFY":
            self.model.idle = idle
            return "501"
        return codes or ("501" if line == "RSET x" else "")

    @precondition(lambda self: not self.model.over)
    @rule(number=st.sampled_from([1, 1, 1, 5, IDLE + 5]))
    def waits(self, number: int) -> None:
        for _ in range(number):
            if not self.model.over:
                self._forbidden("NOOP")
                self._says(b"NOOP", "250")
        self._settle()

    @precondition(lambda self: not self.model.over)
    @rule(
        octets=st.sampled_from([COMMAND_LINE - 2, COMMAND_LINE - 1, 10 * COMMAND_LINE]),
        verb=st.sampled_from([b"NOOP ", b"HELP "]),
    )
    def long_lines(self, octets: int, verb: bytes) -> None:
        good = octets + 2 <= COMMAND_LINE
        if good:
            self._forbidden("NOOP")
        self._says(verb + b"x" * (octets - len(verb)), ("214" if verb == b"HELP " else "250") if good else "500")
        self._settle()

    def takes_it_for_a_web_server(self, line: bytes) -> None:
        self.out += line + b"\r\n"
        self.due.append(("521", None))
        self.model.over = True
        self._settle()

    def quits(self, sizes: list[int]) -> None:
        self.out += b"QUIT\r\n"
        self.due.append(("221", None))
        self.model.over = True
        self._settle(sizes)

    # TLS

    def _starttls_refused(self, argument: str) -> str:
        model = self.model
        self._forbidden("STARTTLS")
        if model.tls:
            return "503"
        if not model.offers_tls:
            return "502"
        return "501" if argument else "503" if model.chunks is not None or model.lost else ""

    @precondition(lambda self: not self.model.over)
    @rule(
        argument=st.sampled_from(["", "", "", " x"]),
        injected=st.sampled_from(
            [b"", b"", b"RSET\r\nMAIL FROM:<a@b.test>\r\n", b"AUTH PLAIN " + GOOD + b"\r\n", b"no"]
        ),
    )
    def starttls(self, argument: str, injected: bytes) -> None:
        """What is sent behind it in clear is neither answered nor done."""
        codes = self._starttls_refused(argument)
        if codes:
            self._says(f"STARTTLS{argument}".encode(), codes)
            self._settle()
            return
        self._run(self._send())
        self.out = b"STARTTLS\r\n" + injected
        self._answered("220")
        if self.model.over:
            self.due.pop()  # the handshake comes first
        self.model.forget()
        self._run(self._handshake())

    async def _handshake(self) -> None:
        assert self.talk is not None
        await self._send()
        await self.talk.starts_tls(self.house.context)
        self.model.tls, self.model.helo = True, ""
        if self.model.over:
            self.due.append(("421", None))
            await self._send()
            await self._ends()

    def breaks_the_handshake(self, garbage: bytes) -> None:
        if not self._starttls_refused("") and self.model.idle <= IDLE:
            self.model.over = True
            self._run(self._break(garbage))

    async def _break(self, garbage: bytes) -> None:
        assert self.talk is not None
        await self._send()
        self.out, self.due = b"STARTTLS\r\n", [("220", None)]
        await self._send()
        self.talk.writer.write(garbage)
        await self._ends(lost=True)

    @precondition(lambda self: self.model.offers_tls and not self.model.over)
    @rule()
    def gets_secure(self) -> None:
        self.greets("EHLO", "c.test")
        if not self.model.over:
            self.starttls("", b"")
        if not self.model.over:
            self.greets("EHLO", "c.test")

    # logins

    @precondition(lambda self: not self.model.over)
    @rule(name=st.sampled_from([*LOGINS]))
    def logs_in(self, name: str) -> None:
        model, (first, *more) = self.model, LOGINS[name]
        if len(first[0]) + 2 > COMMAND_LINE and not model.takes_logins:
            self._says(first[0], "500")
            self._settle()
            return
        self._forbidden("AUTH")
        if model.mail is not None:
            codes = "503"
        elif model.kind.auth == "none":
            codes = "502"
        elif not model.tls:
            codes = "538"
        elif model.helo != "EHLO" or model.user:
            codes = "503"
        elif first[1][0] != "=" and self.failures >= OF_CLIENT:
            codes = "454"
        else:
            codes = ""
        if codes:
            self._says(first[0], codes)
        for line, reply in [] if codes else [first, *more]:
            self.out += line + b"\r\n"
            code = reply.removeprefix("=")
            if code == "334":
                self.due.append((code, None))
                continue
            self.failures += code == "535"
            if code == "235":
                model.user = USER
            self._answered(code)
        self._settle()

    @precondition(lambda self: self.model.takes_logins and not self.model.user and not self.model.over)
    @rule(name=st.sampled_from(["plain", "login", "wrong password"]))
    def gets_known(self, name: str) -> None:
        self.greets("EHLO", "c.test")
        if not self.model.over:
            self.logs_in(name)

    @precondition(lambda self: self.model.takes_logins and not self.model.user and not self.model.over)
    @rule(times=st.sampled_from([1, OF_CLIENT, OF_CLIENT + 2]))
    def guesses(self, times: int) -> None:
        self.greets("EHLO", "c.test")
        for _ in range(times):
            if not self.model.over:
                self.logs_in("wrong password")

    # whole mails, so that what follows on one is reached

    @precondition(lambda self: not self.model.over and self.model.mail is None)
    @rule(sender=st.sampled_from(["<>", "<a@b.test>"]), content=mails, sizes=cuts, chunks=st.integers(0, 3))
    def mails(self, sender: str, content: bytes, sizes: list[int], chunks: int) -> None:
        steps: list[Callable[[], None]] = [lambda: self.mail(sender, []), lambda: self.rcpt("<c@d.test>")]
        if chunks:
            content = content.removesuffix(b"\r\n") if chunks == 2 else content
            size = len(content) // chunks + 1
            pieces_of_it = [content[at : at + size] for at in range(0, len(content), size)]
            steps += [partial(self.bdat, piece, False, False) for piece in pieces_of_it]
            steps.append(lambda: self.bdat(b"", True, False))
        else:
            steps.append(lambda: self.data(content, b"", sizes))
        if not self.model.helo:
            steps.insert(0, lambda: self.greets("EHLO", "c.test"))
        for step in steps:
            if not self.model.over:
                step()

    # the end of a session: all ways are one rule, so that sessions become long

    @precondition(lambda self: not self.model.over)
    @rule(way=st.sampled_from([*ENDINGS]), sizes=cuts)
    def ends(self, way: str, sizes: list[int]) -> None:
        kind, _, what = way.partition(":")
        if kind == "quits":
            self.quits(sizes)
        elif kind == "web":
            self.takes_it_for_a_web_server(what.encode())
        elif kind == "bdat":
            self.bdat_without_a_size(what.encode(), sizes)
        elif kind == "handshake" and self.model.offers_tls:
            self.breaks_the_handshake(what.encode())
        elif kind in ("closes", "aborts"):
            self.goes(what, kind == "aborts", sizes)

    def goes(self, half: str, aborts: bool, sizes: list[int]) -> None:
        """The client closes its side, or drops the connection, in the middle of something that must not count."""
        model = self.model
        ready = not self._forbidden("DATA") and not self._not_ready() and not model.lost
        if half == "message" and ready and model.chunks is None:
            self.out += b"DATA\r\n" + HEADER + b"half of it\r\n.\r"
            self.due.append(("354", None))
        elif half == "chunk":
            self.out += b"BDAT 100 LAST\r\n" + HEADER
        elif (
            half == "AUTH"
            and model.takes_logins
            and not model.user
            and model.helo == "EHLO"
            and self.failures < OF_CLIENT
        ):
            if model.mail is None:
                self.out += b"AUTH LOGIN\r\n" + b64(USER)
                self.due.append(("334", None))
        elif half == "NOO":
            self.out += b"NOO"
        model.over = True
        self._run(self._go(aborts or model.tls, sizes))

    async def _go(self, aborts: bool, sizes: Sequence[int]) -> None:
        assert self.talk is not None
        await self._send(sizes)
        if aborts:
            self.talk.writer.transport.abort()
        else:
            self.talk.writer.write_eof()
        await self._ends(lost=aborts)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with structlog.testing.capture_logs() as log:
        house = House(tmp_path_factory.mktemp("house"), log)
        yield house
        house.close()
        assert not house.problems, house.problems


def explore(house: House, examples: int, *, derandomize: bool = True) -> None:
    machine = type("Sessions", (Sessions,), {"house": house})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            derandomize=derandomize,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_sessions(house: House) -> None:
    explore(house, 20)


@pytest.mark.slow
def test_many_sessions(house: House) -> None:
    explore(house, 150)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(not EXAMPLES, reason="SESSION_FUZZ is not set")
def test_others_than_last_time(house: House) -> None:
    explore(house, EXAMPLES, derandomize=False)
