"""Nobody writes in the name of our own domains without proof, and mail that has the proof comes in whoever brings it.

Ours are the local, SRS and signing domains, and for From whatever is akin to them: a signature of ours could speak for
it. What would leave under our address and our signature has to be true, whatever policy DNS shows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import idna
import pytest

from tests.journeys import authors
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.maildir import parse
from tests.journeys.next_hop import sight
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World, key_pair, opened
from tests.peers import wait_until

pytestmark = pytest.mark.slow

STRANGER, TRUSTED = "127.0.0.66", "127.0.0.99"
ALICE, ANN, CEO = "alice@fwd.example", "ann@sender.example", "ceo@fwd.example"
TAKEN, DENIED, UNPROVEN, LATER = (250, "2.0.0"), (550, "5.7.1"), (550, "5.7.23"), (451, "4.7.1")


class House:
    """A relay with every kind of own domain, in front of a sink.

    fwd.example            local, signs, p=reject; news.fwd.example is a service's
    brand.example          local, without a key of ours and without DMARC; branded.example the same with p=reject
    srs.parent.example     the SRS domain; all of parent.example has one owner, by its DMARC record
    signed.example         we sign for it
    a.public.example       local; below public.example everybody can have a domain (psd=y)
    mail.lonely.example    local; no DMARC record says who owns it
    shaky.example          local; DNS does not answer for its DMARC record, nor for what is above srs.dark.example
    """

    def __init__(self, world: World) -> None:
        zone = world.zone
        zone["_dmarc.fwd.example", "TXT"] = ['"v=DMARC1; p=reject"']
        zone["_dmarc.parent.example", "TXT"] = ['"v=DMARC1; p=none; adkim=s; aspf=s"']
        zone["srs.parent.example", "TXT"] = [f'"v=spf1 ip4:{FWD} ?all"']
        zone["_dmarc.public.example", "TXT"] = ['"v=DMARC1; p=none; psd=y"']
        zone["branded.example", "TXT"] = [f'"v=spf1 ip4:{SENDER} ip4:{FWD} -all"']
        zone["_dmarc.branded.example", "TXT"] = ['"v=DMARC1; p=reject"']
        for domain in ("news.fwd.example", "sub.srs.parent.example", "shaky.example", "other.example"):
            authors.publish(zone, domain, SENDER)
        for domain in ("strict.example", "xn--mgbab5jf10d.example"):
            authors.publish(zone, domain, FWD, "p=reject")
        world.failures |= {"_dmarc.shaky.example": "servfail", "_dmarc.dark.example": "servfail"}
        self._count = itertools.count(1)
        self.world = world
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        names = ("brand", "branded", "a.public", "mail.lonely", "shaky", "srs.dark")
        keys = [("fwd.example", "fwd.example.pem"), ("signed.example", "signed.example.pem")]
        self.relay = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n",
            clients={"trusted": [f"{TRUSTED}/32"]},
            files={"signed.example.pem": key_pair("signed.example")[0]},
            senders={"local_domains": ["fwd.example", *(f"{name}.example" for name in names)]},
            srs={"domain": "srs.parent.example"},
            dkim=[{"domain": domain, "selector": "relay1", "private_key": file} for domain, file in keys],
        )

    def send(
        self,
        from_fields: str | bytes,
        sender: str = ANN,
        *,
        source: str = SENDER,
        helo: str = "mx.sender.example",
        signer: str = "",
        broken: bool = False,
    ) -> tuple[Answer, str]:
        """One message with these From fields (or this one value): the last reply, and the subject it had."""
        fields = from_fields.encode() if isinstance(from_fields, str) else from_fields
        if not re.match(rb"from\s*:", fields, re.IGNORECASE):
            fields = b"From: " + fields
        subject = f"message {next(self._count)}"
        content = fields + f"\r\nSubject: {subject}\r\n\r\ntext\r\n".encode()
        if signer:
            content = authors.signed(content, signer, "relay1" if signer == "fwd.example" else authors.SELECTOR)
        if broken:
            content = authors.broken(content)
        with Dialogue((self.relay.address, self.relay.port), source=source) as session:
            return session.deliver(sender, ALICE, content, helo=helo), subject

    def arrived(self, subject: str) -> Received:
        """The transaction that brought the message with this subject."""
        line = f"\r\nSubject: {subject}\r\n".encode()
        return wait_until(lambda: [one for one in self.sink.received if line in one.content], repr(subject))[0]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


# MAIL FROM


@pytest.mark.parametrize(
    "sender",
    [
        "ceo@brand.example",
        "ceo@BRAND.Example",
        "ceo@below.brand.example",
        "ceo@srs.parent.example",
        "ceo@below.srs.parent.example",
        "ceo@signed.example",
        "ceo@mail.lonely.example",
        "SRS0=HHHH=TT=sender.example=ann@srs.parent.example",
    ],
)
def test_a_sender_of_ours_is_refused_without_proof(house: House, sender: str) -> None:
    answer, _ = house.send(ANN, sender)
    assert answer[:2] == DENIED and sender.rpartition("@")[2].lower() in answer.text


@pytest.mark.parametrize(
    ("source", "sender"),
    [
        (SENDER, CEO),
        (STRANGER, CEO),
        (SENDER, "ceo@nowhere.fwd.example"),
        (STRANGER, "x@news.fwd.example"),
        (FWD, "ceo@brand.example"),
    ],
)
def test_a_sender_of_ours_that_spf_does_not_allow_is_refused(house: House, source: str, sender: str) -> None:
    assert house.send(ANN, sender, source=source)[0][:2] in (DENIED, UNPROVEN)


@pytest.mark.parametrize(("source", "sender"), [(FWD, CEO), (SENDER, "x@news.fwd.example"), (TRUSTED, CEO)])
def test_a_sender_of_ours_from_a_host_of_ours_is_true(house: House, source: str, sender: str) -> None:
    assert house.send(ANN, sender, source=source)[0][:2] == TAKEN


@pytest.mark.parametrize(
    "sender",
    [
        "x@parent.example",
        "x@sales.parent.example",
        "x@b.public.example",
        "x@notfwd.example",
        "x@fwd.example.sender.example",
    ],
)
def test_a_sender_beside_or_above_ours_is_nobody_of_ours(house: House, sender: str) -> None:
    """It is rewritten on its way out, so that nothing of ours speaks for it."""
    answer, subject = house.send(ANN, sender)
    assert answer[:2] == TAKEN
    assert house.arrived(subject).sender.endswith("@srs.parent.example")


# From


@pytest.mark.parametrize(
    "author",
    [
        CEO,
        "ceo@FWD.EXAMPLE",
        "ceo@brand.example",
        "ceo@signed.example",
        "ceo@srs.parent.example",
        "ceo@below.fwd.example",
        "ceo@far.below.fwd.example",
        "ceo@parent.example",
        "ceo@sales.parent.example",
        "ceo@deep.sales.parent.example",
        "ceo@below.srs.parent.example",
        "ceo@a.public.example",
        "ceo@below.a.public.example",
        "ceo@mail.lonely.example",
    ],
)
@pytest.mark.parametrize("sender", ["", ANN], ids=["null sender", "sender"])
def test_an_author_of_ours_or_akin_is_refused_without_proof(house: House, author: str, sender: str) -> None:
    answer, _ = house.send(author, sender)
    assert answer[:2] == DENIED and author.rpartition("@")[2].lower() in answer.text


@pytest.mark.parametrize(
    "author",
    ["x@notfwd.example", "x@b.public.example", "x@other.lonely.example", "x@fwd.example.sender.example"],
)
def test_an_author_who_is_not_akin_is_a_stranger_like_any(house: House, author: str) -> None:
    assert house.send(author)[0][:2] == TAKEN


@pytest.mark.parametrize(("sender", "author"), [(ANN, CEO), ("", CEO), (ANN, "ceo@sales.parent.example")])
def test_a_trusted_client_may_write_for_us(house: House, sender: str, author: str) -> None:
    assert house.send(author, sender, source=TRUSTED)[0][:2] == TAKEN


@pytest.mark.parametrize(
    ("source", "sender", "author"),
    [
        (FWD, CEO, "ceo@brand.example"),
        (FWD, ANN, CEO),
        (SENDER, "x@news.fwd.example", "ceo@brand.example"),
        (FWD, "", "ceo@brand.example"),
    ],
)
def test_spf_for_another_domain_is_no_proof(house: House, source: str, sender: str, author: str) -> None:
    """Though both be ours."""
    assert house.send(author, sender, source=source, helo="mx.fwd.example")[0][:2] in (DENIED, UNPROVEN)


@pytest.mark.parametrize(
    ("signer", "broken"), [("other.example", False), ("fwd.example", True)], ids=["by another", "broken"]
)
@pytest.mark.parametrize("sender", ["", ANN], ids=["null sender", "sender"])
def test_a_signature_that_does_not_speak_for_the_author_is_no_proof(
    house: House, signer: str, broken: bool, sender: str
) -> None:
    assert house.send(CEO, sender, signer=signer, broken=broken)[0][:2] == DENIED


def test_strict_alignment_is_asked_of_our_own_mail_as_well(house: House) -> None:
    """SPF and DKIM pass for a domain akin to the author's; the owner of parent.example wants the very same."""
    sender = "x@sub.srs.parent.example"
    assert house.send("ceo@srs.parent.example", sender, signer="sub.srs.parent.example")[0][:2] == DENIED
    assert house.send(sender, sender)[0][:2] == TAKEN


TRICKS: dict[str, str | bytes] = {
    "two fields": f"From: {ANN}\r\nFrom: {CEO}",
    "two fields, ours first": f"From: {CEO}\r\nFrom: {ANN}",
    "three fields": f"From: {ANN}\r\nFrom: {CEO}\r\nFrom: {ANN}",
    "two authors": f"Ann <{ANN}>, CEO <{CEO}>",
    "two authors, ours first": f"CEO <{CEO}>, Ann <{ANN}>",
    "a group": f"all of us: {CEO};",
    "a group beside": f"{ANN}, all of us: {CEO};",
    "two angles": f"<{CEO}> <{ANN}>",
    "two angles, ours last": f"<{ANN}> <{CEO}>",
    "an address as a bare name": f"{CEO} <{ANN}>",
    "an address behind": f"<{ANN}> {CEO}",
    "without a comma": f"{ANN} {CEO}",
    "with a semicolon": f"{ANN}; {CEO}",
    "a comment in the domain": "ceo@(not really)fwd.example",
    "a comment that never ends": f"(hidden <{ANN}> {CEO}",
    "a quote that never ends": f'"Ann <{ANN}> <{CEO}>',
    "white space in the domain": "ceo@fwd . example",
    "folded": f"\r\n\t{CEO}",
    "folded at the at": "<ceo@\r\n fwd.example>",
    "a final dot": "ceo@fwd.example.",
    "a quoted local part": '"ann@sender.example"@fwd.example',
    "a source route": f"<@sender.example:{CEO}>",
    "space before the colon": f"From : {CEO}",
    "shouted": f"FROM:{CEO}",
    "fullwidth": "ceo@fwd.example".translate(
        {ord("."): "\N{IDEOGRAPHIC FULL STOP}", ord("f"): "\N{FULLWIDTH LATIN SMALL LETTER F}"}
    ),
    "white space before the end of the domain": "ceo@fw d.example",
    "a tab in the domain": "CEO <ceo@fwd.exam\tple>",
    "a fold in the domain": "CEO <ceo@fwd.ex\r\n ample>",
    "an octet that some decoders drop": b"ceo@fw\xffd.example",
    "an empty quoted string": 'ceo@""fwd.example',
    "an empty quoted string within": 'CEO <ceo@fwd.""example>',
    "a quoted domain": 'ceo@"fwd.example"',
    "a joiner": "ceo@fw\N{ZERO WIDTH JOINER}d.example",
    "a non-joiner": "CEO <ceo@fwd\N{ZERO WIDTH NON-JOINER}.example>",
    "a soft hyphen of Mongolian": "ceo@\N{MONGOLIAN TODO SOFT HYPHEN}fwd.example",
    "a word joiner": "ceo@fw\N{WORD JOINER}d.example",
    "a joiner and another dot": "ceo@fw\N{ZERO WIDTH JOINER}d\N{IDEOGRAPHIC FULL STOP}example",
    "an encoded word in the domain": "ceo@=?utf-8?q?fwd=2Eexample?=",
    "an encoded at sign": "ceo=?utf-8?q?=40?=fwd.example",
    "a quoted string alone": f'"{CEO}"',
    "a comment alone": f"({CEO})",
    "empty angle brackets": "ceo@fwd.exam<>ple",
    "a backslash": "ceo@fw\\d.example",
    "brackets": "ceo@[fwd.example]",
    "octets that are no UTF-8": b"\xff\xfe <" + CEO.encode() + b">",
    "many authors": ", ".join([f"a{n}@d{n}.example" for n in range(2000)] + [CEO]),
    "far away": f"{'x' * 20_000} <{CEO}>",
    "between comments of quotation marks": f'(") "The CEO" <{CEO}> (") <{ANN}>',
    "a comment in the domain, and one that never ends": "ceo@(not really)fwd.example (",
    "a comment in the domain, far away": f"{'x' * 9000} <ceo@(not really)fwd.example>",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_shape_of_from_hides_an_author_of_ours(house: House, trick: str) -> None:
    """Whoever shows the message may read it another way than we do: what anyone could take for the author counts."""
    assert house.send(TRICKS[trick])[0][:2] == DENIED


DIVIDED = [
    'ceo@{}" "{}',
    "CEO <ceo@{} {}>",
    'ceo@{}""{}',
    "ceo@{}\N{ZERO WIDTH JOINER}{}",
    "ceo@{}\N{WORD JOINER}{}",
    "<ceo@{}\xad{}>",
]


@pytest.mark.parametrize("shape", DIVIDED, ids=ascii)
@pytest.mark.parametrize("domain", ["branded.example", "sub.branded.example", "strict.example"])
def test_no_shape_of_from_hides_an_author_under_a_policy(house: House, shape: str, domain: str) -> None:
    answer, _ = house.send(shape.format(domain[:3], domain[3:]))
    assert answer.code == 550 and answer.enhanced in ("5.7.1", "5.7.26") and domain in answer.text


def test_a_joiner_that_idna_allows_is_refused_only_for_what_it_hides(house: House) -> None:
    """Persian needs them; without it the first name is nobody's, and the second one has a policy."""
    for name, expected in (("xn--mgba3gch31f060k", TAKEN), ("xn--mgbab5jf10dv53l", (550, "5.7.26"))):
        assert house.send(f"ann@{idna.decode(name)}.example".encode())[0][:2] == expected


@pytest.mark.parametrize("shape", [*DIVIDED, "ceo@{}{} CEO"], ids=ascii)
def test_an_odd_from_of_nobody_in_particular_is_taken(house: House, shape: str) -> None:
    assert house.send(shape.format("somewhere", "else.example"))[0][:2] == TAKEN


@pytest.mark.parametrize(
    "shape",
    ['ceo@{}" "{}', "CEO <ceo@{} {}>", 'ceo@{}""{}', "ceo@{}\u200d{}", "ceo@{}\0{}", "<ceo@{}\x01{}>"],
    ids=ascii,
)
@pytest.mark.parametrize("domain", ["fwd.example", "signed.example"])
def test_a_from_that_only_some_read_as_ours_leaves_without_its_signature(house: House, shape: str, domain: str) -> None:
    """From a trusted client: it is not judged here, but what would vouch for it is not ours to give."""
    answer, subject = house.send(shape.format(domain[:2], domain[2:]), source=TRUSTED)
    assert answer[:2] == TAKEN
    signed = re.findall(rb"\r\nDKIM-Signature:[^:]*?d=([^;]+);", b"\r\n" + house.arrived(subject).content)
    assert signed == ([b"fwd.example"] if domain == "signed.example" else [])


@pytest.mark.parametrize("author", ["ceo@fwd.example CEO", "ceo @ fwd.example", "(CEO) ceo@fwd.example."])
def test_sloppy_mail_of_our_own_is_signed(house: House, author: str) -> None:
    answer, subject = house.send(author, source=TRUSTED)
    assert answer[:2] == TAKEN
    assert b"d=fwd.example" in house.arrived(subject).content


@pytest.mark.parametrize("field", ["From", "Sender", "Reply-To"])
@pytest.mark.parametrize("control", ["\0", "\x01", "\x1b", "\x7f"])
def test_a_control_character_in_an_address_is_refused(house: House, field: str, control: str) -> None:
    other = f"From: {ANN}\r\n" if field != "From" else ""
    fields = f"{other}{field}: Ann <ann@sen{control}der.example>"
    answer, _ = house.send(fields if other else fields.removeprefix("From: "))
    assert answer[:2] == (550, "5.6.0") and field in answer.text
    named = f"{other}{field}: An{control}n <{ANN}>"
    assert house.send(named if other else named.removeprefix("From: "))[0][:2] == TAKEN
    assert house.send(fields if other else fields.removeprefix("From: "), source=TRUSTED)[0][:2] == TAKEN


@pytest.mark.parametrize("trick", ["two fields", "two fields, ours first", "two authors", "two authors, ours first"])
def test_proof_for_one_author_is_none_for_another(house: House, trick: str) -> None:
    """Both of them pass by a signature of their own, and a reader sees either."""
    assert house.send(TRICKS[trick], signer="fwd.example")[0][:2] == DENIED
    assert house.send(TRICKS[trick], CEO, source=FWD, helo="mx.fwd.example")[0][:2] == DENIED


@pytest.mark.parametrize("name", [f'"{CEO}"', f"Ann ({CEO})", "=?utf-8?q?ceo=40fwd=2Eexample?="])
def test_a_name_is_no_author(house: House, name: str) -> None:
    """Mailing lists write such names in earnest: `"ceo@fwd.example via list" <list@lists.example>`."""
    assert house.send(f"{name} <{ANN}>")[0][:2] == TAKEN


# proof


@pytest.mark.parametrize(
    ("source", "helo", "sender", "author", "signer"),
    [
        (FWD, "mx.fwd.example", CEO, CEO, ""),
        (FWD, "mx.fwd.example", "", CEO, ""),
        (STRANGER, "mx.other.example", CEO, CEO, "fwd.example"),
        (STRANGER, "mx.sender.example", "", CEO, "fwd.example"),
        (SENDER, "mx.other.example", "list-bounces@other.example", CEO, "fwd.example"),
        (SENDER, "mx.sender.example", "x@news.fwd.example", CEO, ""),
        (SENDER, "mx.sender.example", ANN, "x@news.fwd.example", "news.fwd.example"),
        (SENDER, "mx.sender.example", "ceo@branded.example", "ceo@branded.example", ""),
    ],
    ids=[
        "from our own host",
        "a bounce from our own host",
        "signed, back by a forwarder that keeps the sender",
        "signed, back with a null sender",
        "signed, back by a forwarder with SRS, or a list",
        "by a service, for the domain above",
        "signed by a service",
        "by a host of a domain we hold no key for",
    ],
)
def test_mail_of_ours_that_is_proven_comes_in_and_passes_on(
    house: House, source: str, helo: str, sender: str, author: str, signer: str
) -> None:
    answer, subject = house.send(author, sender, source=source, helo=helo, signer=signer)
    assert answer[:2] == TAKEN
    arrived = house.arrived(subject)
    assert parse(arrived.content)["From"] == author, "what we can speak for ourselves is never rewritten"
    assert sight(house.world, arrived).dmarc == "pass"


def test_what_a_service_sends_below_our_domain_passes_on(house: House) -> None:
    author = "x@news.fwd.example"
    answer, subject = house.send(author, author)
    assert answer[:2] == TAKEN
    assert sight(house.world, house.arrived(subject)).dmarc == "pass"


# when nobody can say


def test_whether_it_is_ours_is_asked_again_later_where_dns_does_not_answer(house: House) -> None:
    """For one of ours that may be true, and for one who may be akin to ours, nothing is final."""
    assert house.send("ceo@shaky.example", "ceo@shaky.example")[0][:2] == LATER
    assert house.send("ceo@srs.dark.example")[0][:2] == LATER
    assert house.send("ceo@sales.dark.example")[0].code == 451
