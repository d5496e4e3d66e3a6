"""Who may send to whom, as a table: client x recipient -> the targets, or the reply."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.config.model import Config
from relay.deliver.classify import classify
from relay.dns import DnsFailure
from relay.mail.envelope import Client
from relay.mail.outcome import Outcome, deferral
from relay.mail.reply import Refused
from relay.network import Endpoint
from relay.rate import FORGERIES, Rates
from relay.route.roles import OwnAddresses
from relay.route.router import Routed, Router, Watch
from relay.route.srs_reverse import RouteRequest, TokenLookup
from relay.route.tables import read_tables
from relay.srs import reply_address as replies
from relay.srs.address import Scheme, forward, forward_token

NOW = 1577836860.0
SCHEME = Scheme(domain="fwd.example", secrets=(b"tops3cr3t",))
ALIASES = """\
fwd.example           anything
alice@fwd.example     alice@mailbox.example
list@fwd.example      a@ext.example, b@ext.example, alice@fwd.example
chief@fwd.example     list@fwd.example
mixed@fwd.example     bob@example.org, x@asked.example, y@ext.example, y@EXT.example
half@fwd.example      nobody@fwd.example, a@ext.example
dangling@fwd.example  nobody@fwd.example
round@fwd.example     about@fwd.example
about@fwd.example     round@fwd.example
helpdesk@fwd.example  postmaster@fwd.example
back@fwd.example      {srs}
stale@fwd.example     SRS0=AAAA=2W=origin.example=joe@fwd.example
we%ird@fwd.example    weird@ext.example
abuse@roles.example   abuse@ext.example
@catch.example        one@ext.example
@remap.example        @ext.example
@brand.example        @fwd.example
@copied.example       @fwd.example, copy@ext.example
sales@example.org     sales@ext.example
admin                 root@ext.example
"""
SRS = forward("joe@origin.example", SCHEME, NOW)
REPLY = str(replies.forward("joe@origin.example", SCHEME))
ADMIN = "admin@mailbox.example"


async def probe(next_hop: Endpoint, address: str) -> Outcome:
    if address.endswith("@down.example"):
        return deferral("4.4.1", "connection refused")
    return classify("rcpt", 250 if address.startswith("eve@") else 550, "")


async def lookup(token_id: str) -> str | None:
    return "stored@origin.example" if token_id == "id7" else None


async def own_addresses() -> list[str]:
    return ["203.0.113.25"]


BuildRouter = Callable[..., Router]


@pytest.fixture
def build(tmp_path: Path) -> BuildRouter:
    (tmp_path / "aliases").write_text(ALIASES.format(srs=SRS))
    (tmp_path / "users").write_text("bob\npostmaster\n")
    (tmp_path / "srs.secret").write_text("tops3cr3t\n")

    def build(
        srs: dict[str, object] | None = None,
        tokens: TokenLookup = lookup,
        addresses: OwnAddresses = own_addresses,
        watch: Watch = lambda address, behind: None,
        **routes: object,
    ) -> Router:
        config = Config.model_validate(
            {
                "hostname": "mx.fwd.example",
                "listen": [{"address": "127.0.0.1:2525"}, {"address": "0.0.0.0:25"}],
                "delivery": {
                    "source_ipv4": "192.0.2.25",
                    "source_ipv6": "2001:db8::25",
                    "destinations": [{"domains": ["bulk.example"], "source_ipv4": "192.0.2.26"}],
                },
                "senders": {"local_domains": ["fwd.example", "company.example"]},
                "srs": {"domain": "fwd.example", "secrets_file": "srs.secret", **(srs or {})},
                "routes": {
                    "aliases": "aliases",
                    "postmaster": ADMIN,
                    "domains": {
                        "example.org": {"next_hop": "lmtp://10.0.0.5:24", "recipients": "users", "srs": False},
                        "asked.example": {"next_hop": "smtp://10.0.0.6", "recipients": "callout", "srs": True},
                        "down.example": {"next_hop": "smtp://10.0.0.7", "recipients": "callout"},
                        "any.example": {"recipients": "any"},
                    },
                    **routes,
                },
            },
            context={"base": tmp_path},
        )
        tables = read_tables(config.routes, ("fwd.example", "company.example", "mx.fwd.example"))
        rates = Rates(config.srs)
        return Router(
            config, SCHEME, tables, rates, probe=probe, token_lookup=tokens, own_addresses=addresses, watch=watch
        )

    return build


@pytest.fixture
def router(build: BuildRouter) -> Router:
    return build()


def told(routed: Routed) -> str:
    """A decision on one line: kind, then each target, with `plain` where the sender stays."""
    targets = [f"{t.address}{'' if t.srs else ' plain'}" for t in routed.targets]
    return f"{routed.kind}: {', '.join(targets)}"


CAME_TO = "198.51.100.25"  # the address that they connected to
OUTSIDER, TRUSTED = Client("192.0.2.1", 25, local=CAME_TO), Client("192.0.2.2", 25, trusted=True, local=CAME_TO)


async def routed_as(router: Router, request: RouteRequest) -> Routed:
    """Both steps of a RCPT."""
    return await router.route(request, await router.reverse(request))


async def answer(router: Router, recipient: str, *, trusted: bool = False, sender: str = "s@sender.example") -> str:
    client = TRUSTED if trusted else OUTSIDER
    request = RouteRequest(recipient, sender, client, NOW)
    try:
        routed = await routed_as(router, request)
        router.refuse_over_rate(routed.persons, request)
        return told(routed)
    except Refused as refused:
        return f"{refused.reply.code} {refused.reply.enhanced}"


UNKNOWN, DENIED = "550 5.1.1", "550 5.7.1"
EVERYONE = [
    # SRS addresses of ours
    (SRS, "srs: joe@origin.example"),
    (SRS.lower(), "srs: joe@origin.example"),
    (SRS.replace("@fwd.example", "@FWD.Example"), "srs: joe@origin.example"),
    (SRS.replace("joe", "jim"), UNKNOWN),
    ("SRS0=AAAA=2W=origin.example=joe@fwd.example", UNKNOWN),
    ("srs1+nothing@fwd.example", UNKNOWN),
    (forward("joe@origin.example", SCHEME, NOW - 30 * 86400), UNKNOWN),
    (forward("SRS0=o=p=aque@hop.example", SCHEME, NOW), "srs: SRS0=o=p=aque@hop.example"),
    (forward("SRS1=HHHH=fwd.example==" + SRS[5:-12] + "@hop.example", SCHEME, NOW), "srs: joe@origin.example"),
    (forward_token("id7", SCHEME, NOW), "srs: stored@origin.example"),
    (forward_token("gone", SCHEME, NOW), UNKNOWN),
    (forward("bob@example.org", SCHEME, NOW), "srs: bob@example.org plain"),
    (forward("nobody@example.org", SCHEME, NOW), UNKNOWN),
    (forward("who@remap.example", SCHEME, NOW), "srs: who@ext.example"),
    (forward("percent%x@origin.example", SCHEME, NOW), "srs: percent%x@origin.example"),
    ("SRS0@fwd.example", UNKNOWN),
    # reply addresses of authors
    (REPLY, "reply: joe@origin.example"),
    (REPLY.replace("@fwd.example", "@FWD.Example"), "reply: joe@origin.example"),
    (REPLY.replace("joe", "jim"), UNKNOWN),
    ("reply=unknown@fwd.example", UNKNOWN),
    (replies.forward_token("id7", SCHEME), "reply: stored@origin.example"),
    (replies.forward_token("gone", SCHEME), UNKNOWN),
    (str(replies.forward("bob@example.org", SCHEME)), "reply: bob@example.org plain"),
    (str(replies.forward("nobody@example.org", SCHEME)), UNKNOWN),
    (str(replies.forward("alice@brand.example", SCHEME)), "reply: alice@mailbox.example"),
    (REPLY.replace("@fwd.", "@brand."), "reply: joe@origin.example"),
    (REPLY.replace("joe@fwd.", "jim@brand."), UNKNOWN),
    # postmaster and abuse
    ("postmaster", f"postmaster: {ADMIN}"),
    ("PostMaster", f"postmaster: {ADMIN}"),
    ("postmaster@mx.fwd.example", f"postmaster: {ADMIN}"),
    ("POSTMASTER@FWD.example", f"postmaster: {ADMIN}"),
    ("abuse@fwd.example", f"postmaster: {ADMIN}"),
    ("postmaster@catch.example", f"postmaster: {ADMIN}"),
    ("postmaster@asked.example", f"postmaster: {ADMIN}"),
    ("abuse@example.org", f"postmaster: {ADMIN}"),
    ("postmaster@example.org", "domain: postmaster@example.org plain"),
    ("abuse@roles.example", "alias: abuse@ext.example"),
    ("postmaster+x@fwd.example", UNKNOWN),
    # the author of our bounces, at every domain of ours
    ("MAILER-DAEMON@fwd.example", f"postmaster: {ADMIN}"),
    ("mailer-daemon@mx.fwd.example", f"postmaster: {ADMIN}"),
    ("Mailer-Daemon@catch.example", f"postmaster: {ADMIN}"),
    ("mailer-daemon@example.org", f"postmaster: {ADMIN}"),
    ("mailer-daemon@any.example", f"postmaster: {ADMIN}"),
    ("mailer-daemon@company.example", f"postmaster: {ADMIN}"),
    ('"mailer-daemon"@fwd.example', f"postmaster: {ADMIN}"),
    # by an address of ours
    ("postmaster@[192.0.2.25]", f"postmaster: {ADMIN}"),
    ("postmaster@[192.0.2.26]", f"postmaster: {ADMIN}"),
    ("Postmaster@[IPv6:2001:DB8:0::25]", f"postmaster: {ADMIN}"),
    ("postmaster@[IPv6:::ffff:192.0.2.25]", f"postmaster: {ADMIN}"),
    ("postmaster@[198.51.100.25]", f"postmaster: {ADMIN}"),
    ("abuse@[198.51.100.25]", f"postmaster: {ADMIN}"),
    ("mailer-daemon@[127.0.0.1]", f"postmaster: {ADMIN}"),
    ("postmaster@[203.0.113.25]", f"postmaster: {ADMIN}"),
    ("helpdesk@fwd.example", f"alias: {ADMIN}"),
    # aliases
    ("alice@fwd.example", "alias: alice@mailbox.example"),
    ("Alice+x@FWD.example", "alias: alice+x@mailbox.example"),
    ("list@fwd.example", "alias: a@ext.example, b@ext.example, alice@mailbox.example"),
    (
        "mixed@fwd.example",
        "alias: bob@example.org plain, x@asked.example, y@ext.example",
    ),
    ("half@fwd.example", "alias: a@ext.example"),
    ("dangling@fwd.example", UNKNOWN),
    ("round@fwd.example", "451 4.4.6"),
    ("back@fwd.example", "alias: joe@origin.example"),
    (SRS.replace("@fwd.", "@brand."), "srs: joe@origin.example"),
    (SRS.replace("@fwd.", "@copied."), "srs: joe@origin.example, copy@ext.example"),
    (SRS.replace("joe@fwd.", "jim@brand."), UNKNOWN),
    (SRS.replace("joe@fwd.", "jim@copied."), UNKNOWN),
    (forward("alice@brand.example", SCHEME, NOW), "srs: alice@mailbox.example"),
    (forward("alice@brand.example", SCHEME, NOW).replace("@fwd.", "@brand."), "srs: alice@mailbox.example"),
    ("stale@fwd.example", UNKNOWN),
    ("nobody@fwd.example", UNKNOWN),
    ("nobody@roles.example", UNKNOWN),
    ("any@catch.example", "alias: one@ext.example"),
    ("any@remap.example", "alias: any@ext.example"),
    ("admin@company.example", "alias: root@ext.example"),
    ("admin@fwd.example", "alias: root@ext.example"),
    ("we%ird@fwd.example", "alias: weird@ext.example"),
    # domain routes
    ("bob@example.org", "domain: bob@example.org plain"),
    ("bob+x@example.org", "domain: bob+x@example.org plain"),
    ("nobody@example.org", UNKNOWN),
    ("sales@example.org", "alias: sales@ext.example"),
    ("eve@asked.example", "domain: eve@asked.example"),
    ("nobody@asked.example", UNKNOWN),
    ("eve@down.example", "451 4.4.1"),
    ("who@any.example", "domain: who@any.example"),
]
# What an outsider is refused, and a trusted client may reach: the second column is the address it then goes to.
TRUSTED_ONLY = [
    ("someone@elsewhere.example", DENIED),
    ("nobody@company.example", DENIED),
    ("postmaster@elsewhere.example", DENIED),
    ("abuse@company.example", DENIED),
    ("admin@elsewhere.example", DENIED),
    ("SRS0=AAAA=2W=origin.example=joe@elsewhere.example", DENIED),
    (REPLY.replace("@fwd.", "@elsewhere."), DENIED),
    ("user@[192.0.2.1]", DENIED),
    ("user@[192.0.2.25]", DENIED),
    ("postmaster@[192.0.2.99]", DENIED),
    ("postmaster@[IPv6:2001:db8::99]", DENIED),
    ("mailer-daemon@elsewhere.example", DENIED),
    ("mailer-daemon@sub.fwd.example", DENIED),
    ("user%other.example@elsewhere.example", DENIED),
    ("user@sub.fwd.example", DENIED),
    ("nobody@mx.fwd.example", UNKNOWN),
]
# Attempts to go through a domain of ours to another host.
ROUTES_IN_LOCAL_PARTS = [
    "user%other.example@fwd.example",
    "user%other.example@example.org",
    "user%other.example@any.example",
    "eve%other.example@asked.example",
    "user%other.example@catch.example",
    "user%other.example@remap.example",
    "alice+x%other.example@fwd.example",
    '"user@other.example"@fwd.example',
    '"user@other.example"@any.example',
    '"user\\@other.example"@any.example',
    '"user@other.example"@remap.example',
    "other.example!user@any.example",
    '"@other.example:user"@any.example',
]


@pytest.mark.parametrize("trusted", [False, True], ids=["outsider", "trusted"])
@pytest.mark.parametrize(("recipient", "expected"), EVERYONE)
async def test_everyone(router: Router, trusted: bool, recipient: str, expected: str) -> None:
    assert await answer(router, recipient, trusted=trusted) == expected


@pytest.mark.parametrize(("recipient", "reply"), TRUSTED_ONLY)
async def test_only_trusted_clients_reach_other_hosts(router: Router, recipient: str, reply: str) -> None:
    assert await answer(router, recipient) == reply
    assert await answer(router, recipient, trusted=True) == f"trusted: {recipient}"


@pytest.mark.parametrize("recipient", ROUTES_IN_LOCAL_PARTS)
async def test_a_local_part_is_no_way_to_another_host(router: Router, recipient: str) -> None:
    assert await answer(router, recipient) == DENIED


@pytest.mark.parametrize("recipient", ["someone@elsewhere.example", "user%x@fwd.example", "alice@fwd.example"])
async def test_without_any_route_nothing_is_relayed(build: BuildRouter, recipient: str) -> None:
    router = build(aliases=None, domains={})
    assert (await answer(router, recipient))[:5] == "550 5"
    assert await answer(router, SRS) == "srs: joe@origin.example"
    assert router.served_domains == frozenset()


@pytest.mark.parametrize(
    ("recipient", "chain"),
    [
        ("Alice@fwd.example", ("Alice@fwd.example",)),
        ("alice+x@fwd.example", ("alice@fwd.example",)),
        ("any@catch.example", ("any@catch.example",)),
        ("chief@fwd.example", ("chief@fwd.example", "list@fwd.example")),
        ("postmaster", ("postmaster@mx.fwd.example",)),
        ("abuse@fwd.example", ("abuse@fwd.example",)),
        (forward("who@remap.example", SCHEME, NOW), ("who@remap.example",)),
        (SRS, ()),
        ("bob@example.org", ()),
    ],
)
async def test_what_was_expanded_gets_a_loop_mark(router: Router, recipient: str, chain: tuple[str, ...]) -> None:
    assert (await routed_as(router, RouteRequest(recipient, "", OUTSIDER, NOW))).chain == chain


async def test_the_aliases_behind_the_postmaster_are_marked_too(build: BuildRouter) -> None:
    routed = await routed_as(
        build(postmaster="chief@fwd.example"), RouteRequest("abuse@fwd.example", "", OUTSIDER, NOW)
    )
    assert routed.chain == ("abuse@fwd.example", "chief@fwd.example", "list@fwd.example")


async def test_served_domains(router: Router) -> None:
    served = {"fwd.example", "roles.example", "catch.example", "remap.example", "example.org"}
    served |= {"brand.example", "copied.example"}
    assert router.served_domains == served | {"asked.example", "down.example", "any.example"}
    assert all(router.is_served(domain) for domain in router.served_domains)
    assert not router.is_served("company.example")
    assert not router.is_served("mx.fwd.example")


async def test_a_refusal_never_shows_what_stands_behind_an_alias(router: Router) -> None:
    for recipient in ("dangling@fwd.example", "round@fwd.example", "stale@fwd.example"):
        with pytest.raises(Refused) as refused, capture_logs():
            await routed_as(router, RouteRequest(recipient, "", OUTSIDER, NOW))
        assert f"<{recipient}>" in refused.value.reply.text
        assert not any(word in refused.value.reply.text for word in ("nobody@", "about@", "joe"))


async def test_a_target_that_cannot_exist_is_logged(router: Router) -> None:
    with capture_logs() as logs:
        await answer(router, "half@fwd.example")
    assert logs == [
        {
            "event": "alias_target_unknown",
            "alias": "half@fwd.example",
            "target": "nobody@fwd.example",
            "log_level": "warning",
        }
    ]


async def test_without_a_postmaster_the_tables_decide(build: BuildRouter) -> None:
    router = build(postmaster="")
    assert await answer(router, "postmaster") == UNKNOWN
    assert await answer(router, "abuse@fwd.example") == UNKNOWN
    assert await answer(router, "postmaster@catch.example") == "alias: one@ext.example"
    assert await answer(router, "postmaster@any.example") == "domain: postmaster@any.example"
    assert await answer(router, "postmaster@[192.0.2.25]") == UNKNOWN
    assert await answer(router, "mailer-daemon@fwd.example") == UNKNOWN


async def test_an_alias_for_the_postmaster_reads_the_replies_to_our_bounces(build: BuildRouter, tmp_path: Path) -> None:
    table = "x.example any\npostmaster@x.example px@ext.example\npostmaster@mx.fwd.example pm@ext.example\n"
    (tmp_path / "aliases").write_text(table + "y.example any\nmailer-daemon@y.example md@ext.example\n")
    router = build(postmaster="")
    for recipient, target in [
        ("mailer-daemon@x.example", "postmaster: px@ext.example"),
        ("mailer-daemon@fwd.example", "postmaster: pm@ext.example"),
        ("mailer-daemon@[192.0.2.25]", "postmaster: pm@ext.example"),
        ("postmaster@[192.0.2.25]", "alias: pm@ext.example"),
        ("mailer-daemon@y.example", "alias: md@ext.example"),
    ]:
        assert await answer(router, recipient) == target


async def test_an_address_literal_while_our_name_cannot_be_looked_up_is_not_refused_for_good(
    build: BuildRouter,
) -> None:
    async def nothing() -> list[str]:
        raise DnsFailure("timeout")

    router = build(addresses=nothing)
    assert await answer(router, "postmaster@[203.0.113.25]") == "451 4.4.3"
    assert await answer(router, "postmaster@[192.0.2.25]") == f"postmaster: {ADMIN}"
    assert await answer(router, "joe@[203.0.113.25]") == DENIED


@pytest.mark.parametrize(
    ("postmaster", "expected"),
    [
        ("list@fwd.example", "postmaster: a@ext.example, b@ext.example, alice@mailbox.example"),
        ("postmaster@example.org", "postmaster: postmaster@example.org plain"),
        ("postmaster@fwd.example", UNKNOWN),
    ],
)
async def test_the_postmaster_may_be_an_address_of_ours(build: BuildRouter, postmaster: str, expected: str) -> None:
    assert await answer(build(postmaster=postmaster), "abuse@fwd.example") == expected


async def test_srs_addresses_may_be_for_bounces_only(build: BuildRouter) -> None:
    router = build(srs={"accept": "null"})
    assert await answer(router, SRS, sender="") == "srs: joe@origin.example"
    assert await answer(router, REPLY, sender="s@sender.example") == "reply: joe@origin.example"
    for trusted in (False, True):
        assert await answer(router, SRS, sender="s@sender.example", trusted=trusted) == DENIED


@pytest.mark.parametrize("recipient", [SRS, SRS.replace("@fwd.", "@brand."), SRS.replace("@fwd.", "@copied.")])
async def test_no_detour_leads_round_the_rules_for_srs_addresses(build: BuildRouter, recipient: str) -> None:
    """A domain may be mapped onto the SRS domain as a whole: `@brand.example @fwd.example`."""
    assert await answer(build(srs={"accept": "null"}), recipient) == DENIED
    await assert_rates_hold(build, recipient)


@pytest.mark.parametrize("domain", ["fwd.example", "brand.example", "copied.example"])
async def test_no_detour_leads_round_the_rules_for_reply_addresses(build: BuildRouter, domain: str) -> None:
    await assert_rates_hold(build, REPLY.replace("fwd.example", domain))


async def assert_rates_hold(build: BuildRouter, recipient: str) -> None:
    router, sender, later = build(srs={"reverse_rate": 1}), "s@sender.example", "450 4.7.1"
    kind = "reply" if replies.is_reply(recipient) else "srs"
    routed = await routed_as(router, RouteRequest(recipient, sender, OUTSIDER, NOW))
    assert told(routed).startswith(f"{kind}: joe@origin.example")
    assert router.count([routed, routed], sender, OUTSIDER, NOW)
    assert await answer(router, recipient) == later
    guesses = [await answer(router, recipient.replace("joe", f"j{n}")) for n in range(FORGERIES + 1)]
    assert guesses == [UNKNOWN] * FORGERIES + [later]
    with pytest.raises(Refused) as refused:
        await routed_as(router, RouteRequest(recipient.replace("joe", "jim"), sender, OUTSIDER, NOW))
    assert refused.value.reply.text.startswith(f"<{recipient.replace('joe', 'jim')}>: too many forged")
    for address, forged in ((recipient, False), (recipient.replace("joe", "jim"), True)):
        if kind == "reply" and forged:
            assert await answer(router, address, sender="") == later
        else:
            home = (await routed_as(router, RouteRequest(address, "", OUTSIDER, NOW))).returned
            assert home is not None and home.forged is forged and home.hidden is (kind == "srs")


async def test_mail_of_our_own_goes_anywhere(router: Router) -> None:
    for recipient, expected in [
        (SRS, "srs: joe@origin.example"),
        ("x@elsewhere.example", "trusted: x@elsewhere.example"),
    ]:
        assert told(await routed_as(router, RouteRequest(recipient, "", None, NOW))) == expected


async def test_an_srs_address_that_leads_to_itself_ends(build: BuildRouter) -> None:
    token = forward_token("id7", SCHEME, NOW)

    async def itself(token_id: str) -> str:
        return token

    assert await answer(build(tokens=itself), token) == UNKNOWN


def replace_aliases(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    os.utime(folder / name, (1, 1))


BAD = "451 4.3.5"
BAD_TABLE = """\
fwd.example           anything
alice@fwd.example     alice@mailbox.example
bob@fwd.example       b(b@ext.example
list@fwd.example      bob@fwd.example, a@ext.example
chief@fwd.example     bob@fwd.example
bob@example.org       b(b@ext.example
sa(les@example.org    sales@ext.example
in(fo@any.example     info@ext.example
x(y@catch.example     x@ext.example
exact@catch.example   exact@ext.example
@catch.example        one@ext.example
to@fwd.example        who@catch.example
pair@fwd.example      who@catch.example, a@ext.example
back@fwd.example      {srs}
postmaster@catch.example b(b@ext.example
only@one.example      b(b@ext.example
on(ly@hidden.example  only@ext.example
ghost@fwd.example     gone@fwd.example, b(b@ext.example
boss@fwd.example      ghost@fwd.example
part@fwd.example      a@ext.example, b(b@ext.example
gap@fwd.example       gone@fwd.example
"""
BEHIND_BAD_LINES = [
    ("alice@fwd.example", "alias: alice@mailbox.example"),
    ("nobody@fwd.example", UNKNOWN),
    ("bob@fwd.example", BAD),
    ("bob+tag@fwd.example", BAD),
    ("list@fwd.example", "alias: a@ext.example"),
    ("chief@fwd.example", BAD),
    # beside the bad target one that does not exist, or that gets the mail
    ("ghost@fwd.example", BAD),
    ("ghost+tag@fwd.example", BAD),
    ("boss@fwd.example", BAD),
    ("part@fwd.example", "alias: a@ext.example"),
    ("gap@fwd.example", UNKNOWN),
    # of a domain route: a user that the alias table knows, others who are known, and one who may be in the bad line
    ("bob@example.org", BAD),
    ("postmaster@example.org", "domain: postmaster@example.org plain"),
    ("nobody@example.org", BAD),
    ("eve@asked.example", "domain: eve@asked.example"),
    ("nobody@asked.example", UNKNOWN),
    ("who@any.example", BAD),
    # a catch-all
    ("exact@catch.example", "alias: exact@ext.example"),
    ("who@catch.example", BAD),
    ("to@fwd.example", BAD),
    ("pair@fwd.example", "alias: a@ext.example"),
    ("postmaster@catch.example", BAD),
    ("abuse@catch.example", f"postmaster: {ADMIN}"),
    # on the way home
    (forward("bob@example.org", SCHEME, NOW), BAD),
    ("back@fwd.example", "alias: joe@origin.example"),
    ("someone@elsewhere.example", DENIED),
    # of domains that nothing else is about
    ("only@one.example", BAD),
    ("someone@one.example", DENIED),
    ("only@hidden.example", BAD),
    ("someone@hidden.example", BAD),
]


@pytest.mark.parametrize(("recipient", "expected"), BEHIND_BAD_LINES)
async def test_a_bad_line_costs_whom_it_is_for_and_for_now_only(
    build: BuildRouter, tmp_path: Path, recipient: str, expected: str
) -> None:
    (tmp_path / "aliases").write_text(BAD_TABLE.format(srs=SRS))
    assert await answer(build(), recipient) == expected


async def test_where_not_even_the_domain_can_be_read_no_unknown_user_is_refused_for_good(
    build: BuildRouter, tmp_path: Path
) -> None:
    (tmp_path / "aliases").write_text(ALIASES.format(srs=SRS) + "ad(min root@ext.example\n")
    router = build()
    for recipient in ("nobody@fwd.example", "nobody@example.org", "any@catch.example", "nobody@company.example"):
        assert await answer(router, recipient) == BAD
    for recipient, expected in [
        ("alice@fwd.example", "alias: alice@mailbox.example"),
        ("bob@example.org", "domain: bob@example.org plain"),
        ("who@any.example", "domain: who@any.example"),
        ("someone@elsewhere.example", DENIED),
        (SRS.replace("joe", "jim"), UNKNOWN),
    ]:
        assert await answer(router, recipient) == expected
    assert await answer(router, "nobody@company.example", trusted=True) == "trusted: nobody@company.example"


async def test_the_refusal_for_a_bad_line_shows_no_target(build: BuildRouter, tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text(BAD_TABLE.format(srs=SRS))
    router = build(postmaster="bob@fwd.example")
    for recipient in ("bob@fwd.example", "chief@fwd.example", "to@fwd.example", "abuse@fwd.example"):
        with pytest.raises(Refused) as refused:
            await routed_as(router, RouteRequest(recipient, "", OUTSIDER, NOW))
        text = refused.value.reply.text
        assert refused.value.reply.code == 451
        assert text.startswith(f"<{recipient}>: ") and text.count("@") == 1


async def test_aliases_may_be_toml(build: BuildRouter, tmp_path: Path) -> None:
    replace_aliases(tmp_path, "aliases.toml", '"alice@fwd.example" = ["a@ext.example", "b@ext.example"]\n')
    router = build(aliases="aliases.toml")
    assert await answer(router, "alice@fwd.example") == "alias: a@ext.example, b@ext.example"
    assert await answer(router, "nobody@fwd.example") == UNKNOWN


# REJECT

LEFT = "550 5.1.1 <{}>: she has left, caf?"
CLOSED = """\
alice@fwd.example     REJECT she has left, caf\u00e9
silent@fwd.example    REJECT
old@fwd.example       alice@fwd.example
team@fwd.example      alice@fwd.example, bob@ext.example
gone@fwd.example      nobody@club.example, alice@fwd.example, silent@fwd.example
half@fwd.example      alice@fwd.example, bad@fwd.example
bad@fwd.example
@fwd.example          all@ext.example
@shut.example         REJECT
open@shut.example     open@ext.example
club.example          ours
spam@elsewhere.example REJECT not from here
ann@any.example       REJECT
postmaster@fwd.example REJECT
"""


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("alice@fwd.example", LEFT),
        ("ALICE@fwd.example", LEFT),
        ("alice+tag@fwd.example", LEFT),
        ("silent@fwd.example", "550 5.1.1 <{}>: no such user here"),
        ("other@fwd.example", "alias: all@ext.example"),
        ("old@fwd.example", LEFT),
        ("old+x@fwd.example", LEFT),
        ("team@fwd.example", "alias: bob@ext.example"),
        ("gone@fwd.example", LEFT),
        ("half@fwd.example", "451 4.3.5 <{}>: the table of addresses here has a bad line, try again later"),
        ("anybody@shut.example", "550 5.1.1 <{}>: no such user here"),
        ("open@shut.example", "alias: open@ext.example"),
        ("open+x@shut.example", "alias: open+x@ext.example"),
        ("postmaster@shut.example", f"postmaster: {ADMIN}"),
        ("postmaster@fwd.example", "550 5.1.1 <{}>: no such user here"),
        ("ann@any.example", "550 5.1.1 <{}>: no such user here"),
        ("bob@any.example", "domain: bob@any.example"),
        ("spam@elsewhere.example", "550 5.1.1 <{}>: not from here"),
        (SRS, "srs: joe@origin.example"),
        (forward("ann@any.example", SCHEME, NOW), "550 5.1.1 <ann@any.example>: no such user here"),
        (forward("open@shut.example", SCHEME, NOW), "srs: open@ext.example"),
    ],
)
async def test_reject_closes_one_address(
    build: BuildRouter, tmp_path: Path, recipient: str, expected: str, trusted: bool
) -> None:
    (tmp_path / "closed").write_text(CLOSED, encoding="utf-8")
    request = RouteRequest(recipient, "s@sender.example", TRUSTED if trusted else OUTSIDER, NOW)
    try:
        found = told(await routed_as(build(aliases="closed"), request))
    except Refused as refused:
        found = str(refused.reply)
    assert found == expected.format(recipient)


async def test_a_closed_address_leaves_its_domain_to_others(build: BuildRouter, tmp_path: Path) -> None:
    (tmp_path / "closed").write_text(CLOSED, encoding="utf-8")
    router = build(aliases="closed")
    assert "elsewhere.example" not in router.served_domains
    assert await answer(router, "friend@elsewhere.example") == DENIED
    assert await answer(router, "friend@elsewhere.example", trusted=True) == "trusted: friend@elsewhere.example"


@pytest.mark.parametrize(
    ("recipient", "seen"),
    [
        ("alice@fwd.example", []),
        (SRS, [(SRS, "joe@origin.example")]),
        ("back@fwd.example", [(SRS, "joe@origin.example")]),
        ("Postmaster", [("Postmaster", "Postmaster@mx.fwd.example"), ("Postmaster@mx.fwd.example", ADMIN)]),
        ("helpdesk@fwd.example", [("postmaster@fwd.example", ADMIN)]),
        ("nobody@fwd.example", []),
    ],
)
async def test_a_watch_sees_which_address_takes_the_place_of_another(
    build: BuildRouter, recipient: str, seen: list[tuple[str, str]]
) -> None:
    told_of = list[tuple[str, str]]()
    await answer(build(watch=lambda address, behind: told_of.append((address, behind))), recipient)
    assert told_of == seen
