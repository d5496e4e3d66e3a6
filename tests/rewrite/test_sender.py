"""The sender that a delivery leaves with: who is rewritten, who stays, who needs a stored token."""

from __future__ import annotations

import pytest

from relay.rewrite.sender import Decision, leaving_sender
from relay.srs.address import BadSyntax, Scheme

NOW = 1577836860
SCHEME = Scheme("fwd.example", (b"tops3cr3t",))
LONG = "x" * 50 + "@otherdomain.com"


def decide(
    sender: str,
    *,
    authorised: bool = False,
    srs_wanted: bool = True,
    srs_needed: bool = True,
    smtputf8: bool = True,
    scheme: Scheme = SCHEME,
) -> Decision:
    return leaving_sender(
        sender,
        authorised=authorised,
        srs_wanted=srs_wanted,
        srs_needed=srs_needed,
        smtputf8=smtputf8,
        local_domains=("ours.example", "xn--mller-kva.example"),
        scheme=scheme,
        now=NOW,
    )


@pytest.mark.parametrize("authorised", [True, False])
@pytest.mark.parametrize("srs_wanted", [True, False])
def test_the_null_sender_stays_null(authorised: bool, srs_wanted: bool) -> None:
    assert decide("", authorised=authorised, srs_wanted=srs_wanted) == Decision("", "null")


@pytest.mark.parametrize("sender", ["joe@ours.example", "joe@OURS.Example", "joe@müller.example"])
def test_a_local_domain_stays_where_its_use_is_authorised(sender: str) -> None:
    assert decide(sender, authorised=True) == Decision(sender, "local")


def test_a_local_domain_that_anyone_may_have_written_is_rewritten() -> None:
    assert decide("joe@ours.example").address.endswith("=ours.example=joe@fwd.example")


def test_a_subdomain_of_a_local_domain_is_not_local() -> None:
    assert decide("joe@sub.ours.example", authorised=True).reason == "srs"


@pytest.mark.parametrize("authorised", [True, False])
def test_a_foreign_sender_is_rewritten_whoever_sends(authorised: bool) -> None:
    assert decide("test@otherdomain.com", authorised=authorised) == Decision(
        "SRS0=vmyz=2W=otherdomain.com=test@fwd.example", "srs"
    )


def test_another_forwarders_address_becomes_srs1() -> None:
    assert decide("SRS0=opaque+string@otherdomain.com") == Decision(
        "SRS1=chaI=otherdomain.com==opaque+string@fwd.example", "srs"
    )


@pytest.mark.parametrize("sender", ["test@otherdomain.com", LONG, "jörg@otherdomain.com"])
def test_a_route_without_srs_keeps_every_sender(sender: str) -> None:
    assert decide(sender, srs_wanted=False, smtputf8=False) == Decision(sender, "unwanted")


def test_a_sender_of_the_srs_domain_stays() -> None:
    assert decide("alice@FWD.example") == Decision("alice@FWD.example", "own")
    assert decide("alice@fwd.example", scheme=Scheme("Fwd.Example", (b"s",))).reason == "own"


def test_a_local_part_past_64_octets_needs_a_token() -> None:
    assert decide(LONG) == Decision("", "too-long", token_for=LONG)


@pytest.mark.parametrize("sender", ["jörg@otherdomain.com", "joe@müller.com"])
def test_a_non_ascii_sender_needs_a_token_only_where_the_next_hop_cannot_take_it(sender: str) -> None:
    assert decide(sender, smtputf8=False) == Decision("", "non-ascii", token_for=sender)
    assert decide(sender, smtputf8=True).reason == "srs"
    assert sender.partition("@")[0] in decide(sender, smtputf8=True).address


@pytest.mark.parametrize("sender", ["test@otherdomain.com", LONG, "SRS0=opaque+string@otherdomain.com"])
def test_a_sender_for_whom_spf_passes_anyway_stays(sender: str) -> None:
    assert decide(sender, srs_needed=False) == Decision(sender, "unneeded")


def test_a_sender_that_the_next_hop_cannot_take_is_stored_although_spf_passes() -> None:
    sender = "jörg@otherdomain.com"
    assert decide(sender, srs_needed=False, smtputf8=True) == Decision(sender, "unneeded")
    assert decide(sender, srs_needed=False, smtputf8=False) == Decision("", "non-ascii", token_for=sender)


def test_a_next_hop_without_smtputf8_changes_nothing_for_ascii() -> None:
    assert decide("test@otherdomain.com", smtputf8=False) == decide("test@otherdomain.com")


def test_a_sender_that_is_no_mailbox_is_an_error() -> None:
    with pytest.raises(BadSyntax):
        decide("nobody")
