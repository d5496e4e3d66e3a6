"""What the fuzzer calls: for each parser of octets from strangers a function that takes any octets.

A function returns for whatever the parser accepts or refuses in the way that its docstring says. It raises where the
parser raises anything else, or where what it accepted breaks a rule that its callers rely on.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import warnings
from collections.abc import Callable
from contextlib import suppress

import dns.exception
import dns.message

from relay.accounts import dovecot_protocol as dovecot
from relay.accounts.names import check_name, name_key
from relay.accounts.password_hash import prepared
from relay.accounts.plain_and_login import claimed_user
from relay.accounts.user_senders import parse_senders
from relay.accounts.users_authenticator import MECHANISMS
from relay.accounts.users_file import parse_users
from relay.authenticate.arc_chain import arc_sets
from relay.authenticate.author import author_domains, doubtful_domains, from_fields, possible_authors
from relay.authenticate.dmarc_record import policy_record
from relay.authenticate.public_key import parse_record
from relay.authenticate.results_field import read_results, without_comments
from relay.authenticate.signature import require_usable, signed_content
from relay.deliver.reply_parser import ClientProtocol, NoReply
from relay.dns import Tlsa
from relay.mail.address import BadAddress, domain_of, lookup_key, normal_address, parse, split
from relay.mail.mailbox_list import read, text_of
from relay.mail.message import Message
from relay.mail.reply import Refused
from relay.mail.tag_list import Unverified, field_tags, tag_list
from relay.receive.auth_exchange import parse_auth
from relay.receive.authenticator import LoggedIn
from relay.receive.chunk_decoder import ChunkDecoder
from relay.receive.chunking import ABSURD, parse_bdat
from relay.receive.command import parse_line, parse_mail, parse_rcpt
from relay.receive.data_decoder import DataDecoder, has_bare_newline, normalize_newlines
from relay.receive.proxy_protocol import BadProxyHeader, parse_v1, parse_v2
from relay.srs import address as srs
from relay.srs import reply_address
from relay.transport_security import tlsa
from relay.transport_security.dane import Mismatch, authenticate
from relay.transport_security.mta_sts_policy import BadPolicy
from relay.transport_security.mta_sts_policy import parse as parse_policy
from relay.transport_security.mta_sts_record import BadRecord, policy_id

Target = Callable[[bytes], object]

NOW = 1_796_000_000.0  # seconds since 1970
SCHEME = srs.Scheme("fwd.test", (b"fuzz secret",))


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def addresses(octets: bytes) -> None:
    """Addresses as they stand in the envelope, in tables and in fields."""
    text = _text(octets)
    with suppress(BadAddress):
        mailbox = parse(text)
        assert parse(str(mailbox)) == mailbox
        normal = normal_address(str(mailbox))
        assert normal_address(normal) == normal
    normal_address(text)
    lookup_key(text)
    domain_of(text)
    with suppress(BadAddress):
        split(text)


def srs_addresses(octets: bytes) -> None:
    """SRS and reply addresses that strangers write: nothing is accepted without our hash."""
    text = _text(octets)
    for candidate in (text, f"{text}@fwd.test", f"SRS0={text}@fwd.test", f"SRS1={text}@fwd.test"):
        srs.is_srs(candidate)
        with suppress(srs.SrsError):
            raise AssertionError(f"accepted without a hash: {srs.reverse(candidate, SCHEME, NOW)}")
        with suppress(srs.SrsError):
            raise AssertionError(f"accepted without a hash: {reply_address.reverse(candidate, SCHEME)}")
    with suppress(srs.SrsError):
        written = srs.forward(text, SCHEME, NOW)
        back = srs.reverse(written, SCHEME, NOW)
        assert srs.is_srs(text) or lookup_key(str(back)) == lookup_key(text), (text, written, back)


def commands(octets: bytes) -> None:
    """Lines of an SMTP client."""
    with suppress(Refused):
        command = parse_line(octets)
        assert command.verb == command.verb.upper()
    for parser in (parse_mail, lambda text: parse_rcpt(text, True), lambda text: parse_rcpt(text, False)):
        with suppress(Refused):
            parser(_text(octets))


def content(octets: bytes) -> None:
    """What follows DATA, cut anywhere: the same content comes out, and it has no end of data inside."""
    whole = DataDecoder()
    taken = whole.feed(octets)
    cut, parts = DataDecoder(), bytearray()
    for n in range(len(octets)):
        if not cut.finished:
            parts += cut.feed(octets[n : n + 1])
    assert taken == parts and whole.finished == cut.finished
    assert not has_bare_newline(normalize_newlines(taken))


def chunks(octets: bytes) -> None:
    """The argument of BDAT; and chunks, cut anywhere: the same content comes out, and no end of data leaves with it."""
    with suppress(Refused):
        chunk = parse_bdat(_text(octets), 1000)
        assert 0 <= chunk.left == chunk.size <= ABSURD * 1000
    whole, cut = ChunkDecoder(), ChunkDecoder()
    taken = whole.feed(octets) + whole.end()
    parts = b"".join([*(cut.feed(octets[n : n + 1]) for n in range(len(octets))), cut.end()])
    assert taken == parts and whole.hides_end == cut.hides_end
    for left in (taken, normalize_newlines(taken)):
        on_the_wire = (b"\r\n" + left).replace(b"\r\n.", b"\r\n..").replace(b"\0", b"")
        assert whole.hides_end or b"\r\n.\r\n" not in on_the_wire


def headers(octets: bytes) -> None:
    """Messages: their fields, authors, signatures and chains."""
    message = Message(octets)
    assert b"".join(message.wire()).startswith(b"") and sum(len(field.raw) for field in message.fields) <= len(octets)
    from_fields(message)
    author_domains(message)
    doubtful_domains(message)
    authors = possible_authors(message)
    if authors is not None:
        assert {domain_of(author) for author in authors} >= {*author_domains(message), *doubtful_domains(message)}
    message.without_mbox_lines()
    with suppress(Unverified):
        arc_sets(message)
    for field in message.fields:
        read(text_of(field.value))
        read_results(_text(without_comments(field.value)))
        with suppress(Unverified):
            tags = field_tags(field)
            signed_content(tags)
            require_usable(tags, NOW)


def dovecot_answers(octets: bytes) -> None:
    """What a server on Dovecot's socket says: only an OK with a name lets somebody in."""
    handshake = dovecot.Handshake()
    with suppress(dovecot.BadLine):
        handshake.take(b"VERSION\t1\t2")
        for line in octets.split(b"\n"):
            handshake.take(line)
            handshake.take(b"MECH\t" + line)
    assert len(" ".join(handshake.mechanisms)) < 500 and not {"ANONYMOUS", "EXTERNAL"} & set(handshake.mechanisms)
    for line in octets.split(b"\n"):
        assert dovecot.unescape(dovecot.escape(line)) == line
        with suppress(dovecot.BadLine):
            answer = dovecot.parse_answer(line)
            if isinstance(answer, dovecot.Accepted):
                assert dovecot.unescape(line.split(b"\t")[0]) == b"OK" and answer.user.isprintable() and answer.user


def dns_records(octets: bytes) -> None:
    """Records of DMARC, DKIM and MTA-STS, and the answers that they come in."""
    text = _text(octets)
    policy_record([(octets,), (b"v=DMARC1; " + octets,)])
    for record in (text, f"v=STSv1; {text}"):
        with suppress(BadRecord):
            assert policy_id([record]).isalnum() or not record.startswith("v=STSv1;")
    with suppress(Unverified):
        tag_list(text)
    for algorithm in ("rsa-sha256", "ed25519-sha256"):
        with suppress(Unverified):
            parse_record(text, algorithm)
    with suppress(dns.exception.DNSException, ValueError):
        dns.message.from_wire(octets, continue_on_error=True)


def proxy_headers(octets: bytes) -> None:
    """PROXY headers of both versions."""
    with suppress(BadProxyHeader):
        parse_v1(octets)
    if len(octets) >= 4:
        with suppress(BadProxyHeader):
            parse_v2(b"\r\n\r\n\0\r\nQUIT\n" + octets[:2] + len(octets[2:]).to_bytes(2, "big") + octets[2:])


def replies(octets: bytes) -> None:
    """Replies of servers, cut anywhere."""
    with asyncio.Runner() as runner:
        runner.run(_replies(octets))


async def _replies(octets: bytes) -> None:
    protocol = ClientProtocol()
    for start in range(0, len(octets), 7):
        protocol.data_received(octets[start : start + 7])
        with suppress(NoReply):  # it has no connection, and does not wait for one
            while True:
                assert 100 <= (await protocol.read_response()).code <= 999


def logins(octets: bytes) -> None:
    """What clients say in AUTH, and the responses of PLAIN and LOGIN behind it."""
    with suppress(Refused):
        mechanism, initial = parse_auth(octets.decode("utf-8", "replace"))
        assert mechanism and not {" ", "\t"}.intersection(mechanism + initial)
    with asyncio.Runner() as runner:
        runner.run(_log_in(octets))


async def _log_in(octets: bytes) -> None:
    async def check(name: str, password: str) -> LoggedIn:
        with suppress(ValueError):
            check_name(name)
            assert name_key(name_key(name)) == name_key(name)
        with suppress(ValueError):
            assert prepared(prepared(password)) == prepared(password)
        return LoggedIn(name)

    for mechanism, begin in MECHANISMS.items():
        user = claimed_user(mechanism, octets)
        login = begin(check)
        with suppress(Refused):
            step = await login.step(octets)
            if not isinstance(step, LoggedIn):
                step = await login.step(octets)
            assert isinstance(step, LoggedIn) and name_key(step.user) == user


def account_files(octets: bytes) -> None:
    """The files of users and of their senders."""
    text = _text(octets)
    with suppress(ValueError):
        users = parse_users(text, "users")
        assert all(users.find(user.name) is user for user in users.by_key.values())
    with suppress(ValueError):
        parse_senders(text, "senders")


def mta_sts_policies(octets: bytes) -> None:
    """Policies of MTA-STS."""
    with suppress(BadPolicy):
        policy = parse_policy(octets.decode("utf-8", "replace"))
        assert policy.patterns or policy.mode == "none"
        assert not policy.allows("")


def tlsa_records(octets: bytes) -> None:
    """TLSA records with any data."""
    if len(octets) >= 3:
        tlsa.is_usable(Tlsa(octets[0] % 5, octets[1] % 3, octets[2] % 4, octets[3:]))


def certificates(octets: bytes) -> None:
    """What a server shows as its certificate and as an authority above it, half of the octets for each."""
    records = Tlsa(3, 1, 1, bytes(32)), Tlsa(2, 1, 2, bytes(64)), Tlsa(2, 0, 0, octets[::2]), Tlsa(2, 1, 0, octets[::2])
    half = len(octets) // 2
    for chain in ([octets], [octets[:half], octets[half:]]):
        with suppress(Mismatch), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cryptography finds much of it odd
            authenticate(records, chain, ["mx.b.test"], datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))


TARGETS: dict[str, Target] = {
    "account-files": account_files,
    "addresses": addresses,
    "certificates": certificates,
    "commands": commands,
    "content": content,
    "chunks": chunks,
    "dns-records": dns_records,
    "dovecot-answers": dovecot_answers,
    "headers": headers,
    "logins": logins,
    "mta-sts-policies": mta_sts_policies,
    "proxy-headers": proxy_headers,
    "replies": replies,
    "srs-addresses": srs_addresses,
    "tlsa-records": tlsa_records,
}
"""Every parser, by the name that the command takes."""

_CERTIFICATE = base64.b64decode(  # of an authority that is a mail host too
    "MIHvMIGioAMCAQICAQEwBQYDK2VwMAwxCjAIBgNVBAMMAWEwHhcNMjUwMTAxMDAwMDAwWhcNNDUwMTAxMDAwMDAwWjAMMQowCAYD"
    "VQQDDAFhMCowBQYDK2VwAyEAhio0xgUwZfUIEBUQc8Nnz8LzdUTE+Sf4NIsCW2Vk+CujKTAnMA8GA1UdEwEB/wQFMAMBAf8wFAYD"
    "VR0RBA0wC4IJbXguYi50ZXN0MAUGAytlcANBAIzv2zTYNdlhz6inffGW4bXR7dOm5WKuKtR3tHcLdh2SgfiQq+Q4PPrz5AHDCwW9"
    "PTgojhOI2o+4NJBApi5CJgk="
)

SEEDS: dict[str, tuple[bytes, ...]] = {
    "account-files": (b"a:$argon2id$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$l7rFdTQFzVX1gpWWUG5Y5w\n#x\nb a@b.test @c.test\n",),
    "addresses": (b'"a b\\"c"@[IPv6:2001:db8::1]', "jörg@bücher.test".encode(), b"<@a,@b:c@d.test>"),
    "certificates": (_CERTIFICATE, _CERTIFICATE * 2),
    "commands": (b"MAIL FROM:<a@b.test> SIZE=1 BODY=8BITMIME RET=HDRS ENVID=x+2B SMTPUTF8", b"BDAT 10 LAST"),
    "content": (b"a\r\n..b\r\n.\r\n", b"a\n.\nb\r\n.\r\n", b"\r\n\0.\r\n"),
    "chunks": (b"10 LAST", b"a\r\n.\r\nb", b"a\r\n\0.", b".\r\0\n.\r"),
    "dns-records": (b"v=DKIM1; k=rsa; p=MIGf", b"v=DMARC1; p=reject; rua=mailto:a@b.test!10m", b"v=STSv1; id=1;"),
    "dovecot-answers": (
        b"MECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n",
        b"CONT\t1\tYQ==\nOK\t1\tuser=a\x01tb\tresp=YQ==\tnologin\nFAIL\t1\tuser=a\tcode=temp_fail\treason=b\ttemp\n",
    ),
    "headers": (
        b"From: =?utf-8?q?a?= <a@b.test>, c:d@e;\r\n"
        b"DKIM-Signature: v=1; a=rsa-sha256; d=b.test; s=s; h=from; bh=; b=\r\n"
        b"ARC-Seal: i=1; cv=none; a=rsa-sha256; d=b.test; s=s; b=\r\nAuthentication-Results: x; spf=pass\r\n\r\nx\r\n",
    ),
    "logins": (b"PLAIN AGEAYg==", b"a\0a\0p\xc3\xa4ss", b"LOGIN ="),
    "mta-sts-policies": (b"version: STSv1\nmode: enforce\nmx: *.a.test\nmax_age: 86400\n",),
    "proxy-headers": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", b"\x21\x11" + bytes(12)),
    "replies": (b"250-a\r\n250 b\r\n", b"421 4.3.2 x\r\n"),
    "srs-addresses": (b"SRS0=HHHH=TT=a.test=b", b"SRS1=HHHH=a.test==HHHH=TT=b.test=c", b"a@b.test"),
    "tlsa-records": (b"\3\1\1" + bytes(32), b"\2\0\0\x30\x03\x02\x01\x01"),
}
"""Where the fuzzer begins."""
