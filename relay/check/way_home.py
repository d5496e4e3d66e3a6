"""The way home: whether bounces to SRS addresses of ours arrive, and forged ones do not.

A bounce goes to the MX of the SRS domain, as any mail does. Each of these hosts is asked (MAIL FROM:<>, RCPT, RSET;
nothing is sent) about an SRS address as we write it, about the same with another hash, and about an address of a
stranger: a host that would take that one from us trusts us, and its answers are not those that others get.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from relay.check.bounce_hosts import BounceHost, NoBounceHost, bounce_hosts
from relay.check.finding import Finding, Level
from relay.check.refusals import denies_relaying, is_about_the_client, refuses_strangers, wants_login
from relay.check.return_addresses import ReturnTrial, return_trial
from relay.check.site import Site
from relay.check.smtp_probe import Reply, Unreachable, recipient_probe
from relay.deliver.classify import CLOSING
from relay.deliver.mx import HOSTS, Host
from relay.dns import DnsFailure
from relay.sending_addresses import kernel_choice

SECONDS = 60.0  # for one address of a host


@dataclass(frozen=True, slots=True)
class Proof:
    """What one address of a mail host has shown.

    Attributes:
        level: "ok" if it is the way home, "error" if it is not, "warning" if that cannot be told from here.
        routed: whether this host has a route to the address at all.
    """

    level: Level
    text: str
    mend: str = ""
    routed: bool = True


async def check(site: Site) -> list[Finding]:
    """A finding for each mail host of the SRS domain."""
    domain = site.config.srs.domain
    try:
        hosts = await bounce_hosts(domain, site.resolver)
    except NoBounceHost as error:
        mend = f"publish the way to this relay:\n{domain}. 3600 IN MX 10 {site.mail_host}."
        return [Finding("way-home", domain, "error", f"bounces cannot come home: {error}", mend)]
    except DnsFailure as error:
        mend = "`srs-relay check --only resolver` says whether the resolver works"
        return [Finding("way-home", domain, "warning", f"not provable now: {error}", mend)]
    trial = return_trial(site)
    asked: dict[str, asyncio.Task[Proof]] = {}  # hosts may share an address, and forged addresses are counted there
    async with asyncio.TaskGroup() as tasks:
        for host in hosts[:HOSTS]:
            for address in _usable(host, site):
                if address not in asked:
                    server = Host(host.name, address, site.config.delivery.port)
                    asked[address] = tasks.create_task(_prove(server, trial, site))
    findings = []
    for host in hosts[:HOSTS]:
        proofs = [asked[address].result() for address in _usable(host, site)]
        worst = _worst(proofs) or _unusable(host, trial, site)
        findings.append(Finding("way-home", domain, worst.level, worst.text, worst.mend))
    return findings


def _usable(host: BounceHost, site: Site) -> list[str]:
    """The addresses of a host in families that we send with."""
    return [
        ip for ip in host.addresses if ("ipv6" if ":" in ip else "ipv4") in site.config.destinations.leaving.families
    ]


def _worst(proofs: Sequence[Proof]) -> Proof | None:
    """The one that counts for a host. An address without a route from here tells nothing if another one is the way."""
    if any(proof.level == "ok" for proof in proofs):
        proofs = [proof for proof in proofs if proof.routed]
    return max(proofs, key=lambda proof: ("ok", "warning", "error").index(proof.level), default=None)


def _unusable(host: BounceHost, trial: ReturnTrial, site: Site) -> Proof:
    if host.problem:
        return Proof("warning", f"not provable now: {host.problem}")
    if not host.addresses:
        mend = f"publish its address, or remove it from the MX records of {site.config.srs.domain}"
        return Proof("warning", f"the mail host {host.name} has no address", mend)
    return _unproven(host.name, "it has no address of a family in delivery.families", trial, site)


async def _prove(host: Host, trial: ReturnTrial, site: Site) -> Proof:
    where = f"{host.name} [{host.address}]"
    own = kernel_choice(host.address, site.config.destinations.leaving.source(host.address) or "")
    if own is None:
        unproven = _unproven(where, "there is no route to it", trial, site)
        return Proof(unproven.level, unproven.text, unproven.mend, routed=False)
    try:
        async with asyncio.timeout(SECONDS), recipient_probe(host, site.config) as probe:
            good = await probe.ask(trial.good)
            if not good.accepted:
                return _good_refused(where, good, own, trial, site)
            forged = await probe.ask(trial.forged)
            stranger = await probe.ask(trial.stranger)  # the last one: some hosts hang up on who wants to relay
    except Unreachable as error:
        return _unproven(where, str(error), trial, site)
    except TimeoutError:
        return _unproven(where, f"not finished within {SECONDS:g} s", trial, site)
    return _judged(where, stranger, forged, trial, site)


def _good_refused(where: str, reply: Reply, own: str, trial: ReturnTrial, site: Site) -> Proof:
    domain = site.config.srs.domain
    denied = denies_relaying(reply)
    if wants_login(reply):
        text = f"{where} takes no bounces, because it wants a login: {reply}"
        mend = f"let it take mail for {domain} from everyone, and hand it to this relay, or change the MX"
        return Proof("error", text, mend)
    if not (reply.final or denied):
        return _unproven(where, f"it defers the SRS address: {reply}", trial, site)
    if not denied and is_about_the_client(reply, own):
        return _unproven(where, f"it refuses this host, not the SRS address: {reply}", trial, site)
    if reply.command == "MAIL":
        text = f"{where} refuses the null sender, from which all bounces are: {reply}"
        return Proof("error", text, "let it take mail from the null sender (RFC 5321 section 4.5.5)")
    text = f"{where} refuses an SRS address of ours, so bounces do not come home: {reply}"
    if denied or reply.detail == "7.1":
        mend = f"let it take mail for {domain} and hand it to this relay (relay_domains of Postfix), or change the MX"
    else:
        mend = (
            f"let it hand mail for {domain} to this relay, or use the same secret there (srs.secrets_file): "
            "it does not know the hash"
        )
    return Proof("error", text, f"{mend}; see docs/postfix-relayhost.md")


def _judged(where: str, stranger: Reply, forged: Reply, trial: ReturnTrial, site: Site) -> Proof:
    """The proof of a host that takes the good address, by its replies to the others."""
    domain = site.config.srs.domain
    if stranger.accepted:
        seen = "accepts" if forged.accepted else "refuses"
        why = f"it trusts this host (it would relay to strangers), accepts the SRS address and {seen} a forged one"
        return _unproven(where, why, trial, site)
    if forged.command == "MAIL":
        why = f"it accepts the SRS address, and then takes no other mail from this host: {forged}"
        return _unproven(where, why, trial, site)
    if forged.accepted:
        if not refuses_strangers(stranger):
            return _unproven(where, f"it accepts a forged address, but may trust this host: {stranger}", trial, site)
        text = f"{where} accepts a forged SRS address, so anyone can send bounces through {domain} to people elsewhere"
        mend = (
            f"let it ask this relay before it accepts a recipient at {domain} (reject_unverified_recipient of Postfix, "
            "see docs/postfix-relayhost.md)"
        )
        return Proof("error", text, mend)
    if forged.final:
        return Proof("ok", f"an SRS address arrives at {where}, and a forged one is refused")
    if forged.detail.startswith("7.") or forged.code == CLOSING:
        return _unproven(where, f"the SRS address is accepted, but a forged one deferred: {forged}", trial, site)
    text = f"{where} accepts the SRS address, and refuses a forged one for now only: {forged}"
    return Proof("warning", text, "let it refuse for good (unverified_recipient_reject_code = 550 in Postfix)")


def _unproven(where: str, why: str, trial: ReturnTrial, site: Site) -> Proof:
    """What another host can prove. With the commands in the mend: they stop before DATA, so nothing is sent."""
    server = shlex.quote(where.partition(" ")[0])
    port = site.config.delivery.port
    ask = f"swaks --server {server} {f'--port {port} ' if port != 25 else ''}--quit-after RCPT --from '<>' --to"
    mend = (
        f"try it from another host, which this one does not trust: `{ask} {shlex.quote(trial.good)}` has to be "
        f"accepted (250), `{ask} {shlex.quote(trial.forged)}` refused (550)"
    )
    return Proof("warning", f"not provable from here: {where}: {why}", mend)
