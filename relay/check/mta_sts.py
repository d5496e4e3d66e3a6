"""MTA-STS (RFC 8461): the record and the policy of each domain that we receive for, against its mail hosts."""

from __future__ import annotations

from relay.check.domains import receiving_domains
from relay.check.finding import Finding, Level
from relay.check.look_ups import addresses, for_each, malformed, texts
from relay.check.site import Site
from relay.mail.reply import printable
from relay.sign.keys import zone_line
from relay.transport_security.mta_sts_policy import BadPolicy, Policy, parse
from relay.transport_security.mta_sts_record import BadRecord, policy_id
from relay.transport_security.policy_host import PATH, NotFetched, fetch, host_of

SHORT = 86400  # seconds of max_age; RFC 8461 section 3.2 expects weeks


async def check(site: Site) -> list[Finding]:
    """Whether senders that follow MTA-STS can deliver to us."""

    async def look(domain: str) -> list[Finding]:
        return await _findings(site, domain)

    return await for_each("mta-sts", receiving_domains(site), look)


async def _findings(site: Site, domain: str) -> list[Finding]:
    name, host = f"_mta-sts.{domain}", host_of(domain)
    records = await texts(site.resolver, name, "v=STSv1")
    fault = _fault_of(records)
    if not records and (record := await malformed(site.resolver, name, "v=STSv1")):
        fault = f"the record does not begin with v=STSv1: {printable(record, 80)}"
    if not records and not fault:
        hint = "with a policy senders verify our certificate: RFC 8461 says how to publish one"
        return [Finding("mta-sts", domain, "ok", "no policy", hint)]
    if fault:
        line = zone_line(name, "v=STSv1; id=1")
        mend = f"publish one record, with another id after each change of the policy, such as\n{line}"
        return [Finding("mta-sts", domain, "warning", f"{fault}, so that senders ignore the policy", mend)]
    try:
        policy = parse(await fetch(host, await addresses(site.resolver, host)))
    except NotFetched as error:
        text = f"the record is there, and the policy cannot be fetched: {error}"
        mend = f"serve it at https://{host}{PATH}, without a redirect, or remove the record {name}"
        return [Finding("mta-sts", domain, "warning", text, mend)]
    except BadPolicy as error:
        mend = f"mend https://{host}{PATH}, such as\n{_example(site)}"
        text = f"the policy cannot be read, so that senders ignore it: {error}"
        return [Finding("mta-sts", domain, "warning", text, mend)]
    return await _judged(site, domain, policy)


async def _judged(site: Site, domain: str, policy: Policy) -> list[Finding]:
    """What is wrong with a policy that can be read."""
    if policy.mode == "none":
        hint = "mode: none takes the policy back; once senders have forgotten the old one, record and file may go"
        return [Finding("mta-sts", domain, "ok", "the policy says that there is none", hint)]
    answer = await site.resolver.query(domain, "MX")
    hosts = [name for _, name in sorted(answer.records) if name] or [domain]
    shut_out = [host for host in hosts if not policy.allows(host)]
    found = []
    if shut_out:
        level: Level = "error" if policy.mode == "enforce" else "warning"
        effect = "deliver nothing there" if policy.mode == "enforce" else "would deliver nothing there under enforce"
        lines = "\n".join(f"mx: {host}" for host in shut_out)
        mend = f"add to the policy, and give the record another id\n{lines}"
        text = f"the policy ({policy.mode}) does not name {', '.join(shut_out)}: senders that follow it {effect}"
        found.append(Finding("mta-sts", domain, level, text, mend))
    if policy.max_age < SHORT:
        text = f"max_age is {policy.max_age} seconds, so that an attacker has to wait no longer than that"
        found.append(Finding("mta-sts", domain, "warning", text, "max_age: 604800"))
    if found:
        return found
    hint = "mode: enforce makes senders follow it" if policy.mode == "testing" else ""
    return [Finding("mta-sts", domain, "ok", f"the policy ({policy.mode}) names {', '.join(hosts)}", hint)]


def _fault_of(records: list[str]) -> str:
    """What is wrong with records that begin like one of MTA-STS."""
    if not records:
        return ""
    try:
        return "" if policy_id(records) else "the record does not begin with v=STSv1;"
    except BadRecord as error:
        return str(error)


def _example(site: Site) -> str:
    return f"version: STSv1\nmode: testing\nmx: {site.mail_host}\nmax_age: 604800"
