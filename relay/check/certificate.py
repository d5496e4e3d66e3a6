"""The certificates of the listeners: their names, their chains, and how long they are good.

Most hosts that bring mail take any certificate. Those that verify it, as MTA-STS and DANE ask them to, bring none to a
host with a bad one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.check.finding import Finding, Level
from relay.check.here import reached_from_outside
from relay.check.listener_certificates import ListenerCertificates, read_certificates
from relay.check.site import Site
from relay.check.trusted_chain import ChainProblem, chain_problem
from relay.dns import DnsFailure, Resolver
from relay.receive.sni import covers, names_in, normal
from relay.tls import UnusableCertificate

DAYS = 14  # before its end a certificate is to be renewed; of a short-lived one, in the last third of its life
RSA_BITS = 2048  # NIST SP 800-57 part 1, table 2: less has been too weak since 2014
_DOMAINS = 50  # whose MX records are looked up
_DAY = 86400.0


async def check(site: Site) -> list[Finding]:
    """The findings about each certificate."""
    tls = site.config.tls
    if tls is None and not reached_from_outside(site):
        text = "not needed: only this host reaches us, and senders see the certificate of the server in front"
        return [Finding("certificate", site.config.hostname, "ok", text)]
    if tls is None:
        text = "there is no certificate, so mail comes in without encryption (no STARTTLS)"
        hint = "a certificate in [tls] lets other hosts encrypt, from Let's Encrypt for example"
        return [Finding("certificate", site.config.hostname, "ok", text, hint)]
    certificates = await asyncio.to_thread(read_certificates, tls)
    names = await _names_of_this_host(site)
    found = [await _of_certificate(certificates, number, names, site.now) for number in range(len(certificates.all))]
    return [finding for findings in found for finding in findings]


async def _of_certificate(
    certificates: ListenerCertificates, number: int, names: Sequence[str], now: float
) -> list[Finding]:
    """A finding for each fault of one certificate, or one that it is good."""
    certificate = certificates.all[number]
    subject, chain, key = str(certificate.path), certificate.chain, certificate.section.private_key
    if not chain:
        mend = "put a certificate in PEM there, with its chain (fullchain.pem)"
        return [Finding("certificate", subject, "error", f"it cannot be read: {certificate.problem}", mend)]
    try:
        problem = await asyncio.to_thread(chain_problem, certificate.path, key)
    except (OSError, UnusableCertificate) as error:
        reason = str(error.strerror if isinstance(error, OSError) else error)
        text = f"it cannot be used with the key {key}: {reason}"
        mend = "name a certificate and its key; in the file the certificate of this host comes first, its chain below"
        return [Finding("certificate", subject, "error", text, mend)]
    wanted = [name for name in names if certificate in certificates.of(name)]
    wanted += [host for host in map(normal, certificate.section.hosts) if host != "*" and host not in wanted]
    dates = [*_dates(chain[0], now)]
    faults = [*dates, *_names(chain[0], wanted), *_strength(chain[0]), *_hidden(certificates, number)]
    faults += [] if dates and problem[0] == "dates" else _chain(*problem)
    until = f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
    good_for = ", ".join(wanted or certificate.shown.names)
    return [Finding("certificate", subject, *fault) for fault in faults] or [
        Finding("certificate", subject, "ok", f"it is good for {good_for}, until {until}")
    ]


async def _names_of_this_host(site: Site) -> list[str]:
    """The names under which other hosts connect: the host name, and MX names that lead to its addresses."""
    config, aliased = site.config, sorted(site.files.tables.aliases.listed.domains)
    domains = dict.fromkeys([config.srs.domain, *aliased, *config.routes.domains])
    own = {address.ip for address in site.addresses if not address.private}
    own.update(await _addresses(config.hostname, site.resolver))
    answers = await asyncio.gather(*(_records(d, "MX", site.resolver) for d in islice(domains, _DOMAINS)))
    names = dict.fromkeys(name for records in answers for _, name in sorted(records) if name)
    names.pop(config.hostname, None)
    addresses = await asyncio.gather(*(_addresses(name, site.resolver) for name in names))
    return [config.hostname, *(name for name, ips in zip(names, addresses, strict=True) if not own.isdisjoint(ips))]


async def _addresses(name: str, resolver: Resolver) -> list[str]:
    return [ip for rdtype in ("A", "AAAA") for ip in await _records(name, rdtype, resolver)]


async def _records(name: str, rdtype: str, resolver: Resolver) -> tuple[Any, ...]:
    """What DNS has; nothing where it does not answer, which other checks report."""
    try:
        return (await resolver.query(name, rdtype)).records
    except DnsFailure:
        return ()


_Fault = tuple[Level, str, str]


def _dates(leaf: x509.Certificate, now: float) -> Iterator[_Fault]:
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    renew = "renew it; the relay takes over a new file by itself"
    if now < begin:
        text = f"it is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        yield "error", text, "set the clock of this host, or wait until then with the old certificate"
    elif now >= end:
        yield "error", f"it expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", renew
    elif end - now < min(DAYS * _DAY, (end - begin) / 3):
        yield "warning", f"it expires on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", renew


def _names(leaf: x509.Certificate, wanted: Iterable[str]) -> Iterator[_Fault]:
    names = names_in(leaf)
    missing = [name for name in wanted if not any(covers(pattern, name) for pattern in names)]
    if missing:
        text = f"it is not for {', '.join(missing)}, but for {', '.join(names) or 'no DNS name'}"
        yield "error", text, f"get a certificate whose subjectAltName has {' and '.join(missing)}"


def _hidden(certificates: ListenerCertificates, number: int) -> Iterator[_Fault]:
    """Whether there are names for which it is never shown."""
    for name, other in certificates.hidden(number).items():
        text = f"it is never shown for {name}: {other.path} comes first, with a key of the same kind"
        yield "warning", text, "name the hosts of each certificate in `hosts`, or remove one"
    if number > 0 and not certificates.all[number].shown.names:
        yield "warning", "it is never shown: it has no DNS name", "name its hosts in `hosts`"


def _strength(leaf: x509.Certificate) -> Iterator[_Fault]:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS:
        mend = f"make a key of {RSA_BITS} bits, or an elliptic one, and get a certificate for it"
        yield "warning", f"its RSA key has {key.key_size} bits only", mend
    if isinstance(leaf.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        text = f"it is signed with {leaf.signature_hash_algorithm.name}, which verifiers refuse"
        yield "warning", text, "get a new certificate"


def _chain(problem: ChainProblem, said: str) -> Iterator[_Fault]:
    verified = "hosts that verify it (MTA-STS) bring no mail"
    if problem == "self-signed":
        text = f"it is self-signed: enough for encryption, but {verified}"
        yield "warning", text, "get one from a public authority, such as Let's Encrypt"
    elif problem == "unknown root":
        text = f"it leads to a root that this system does not trust: {verified}"
        yield "warning", text, "get one from a public authority, or install the root where it has to be verified"
    elif problem == "incomplete":
        text = f"its chain is incomplete ({said}): {verified}"
        yield "warning", text, "put the intermediate certificates below it in the same file (fullchain.pem)"
    elif problem == "dates":
        text = f"a certificate of its chain is not valid now: {verified}"
        yield "error", text, "put the intermediate certificates of the present chain below it (fullchain.pem)"
    elif problem == "other":
        yield "warning", f"it does not verify: {said}", "get a new certificate"
