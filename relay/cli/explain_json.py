"""What `srs-relay explain` found, as one JSON object. Its keys are a contract: they are added to, and not renamed."""

from __future__ import annotations

from typing import Any

from relay.authenticate.verdict import Verdict
from relay.cli import dkimpy_opinion, pyspf_opinion
from relay.cli.dry_run import DryRun, Way
from relay.cli.next_hop_view import NextHopView
from relay.cli.noting_resolver import Asked
from relay.cli.second_opinion import SecondOpinion
from relay.mail.message import Message
from relay.queue.hop_keys import is_doubtful_hop, shown_hop


def as_dict(result: DryRun) -> dict[str, Any]:
    """The whole result in plain values."""
    return {
        "client": {
            "ip": result.client.ip,
            "helo": result.client.helo,
            "trusted": result.client.trusted,
            "user": result.client.user,
        },
        "session": [{"command": step.command, "reply": step.reply} for step in result.steps],
        "accepted": result.accepted,
        "checks": _checks(result.verdict) if result.verdict is not None else None,
        "dmarc_override": result.override,
        "unforwardable": result.unforwardable,
        "forged_results_removed": result.forged,
        "filter_asked": result.filter_asked,
        "tables": list(result.looked_up),
        "held": result.held,
        "dns": _dns(result.asked),
        "deliveries": [_way(way) for way in result.ways],
    }


def _checks(verdict: Verdict) -> dict[str, Any]:
    spf, dmarc, iprev = verdict.spf, verdict.dmarc, verdict.iprev
    return {
        "spf": None
        if spf is None
        else {"result": spf.result, "identity": spf.identity, "domain": spf.domain, "problem": spf.problem},
        "dkim": [
            {
                "result": signature.result,
                "domain": signature.domain,
                "selector": signature.selector,
                "algorithm": signature.algorithm,
                "problem": signature.problem,
            }
            for signature in verdict.dkim
        ],
        "arc": {
            "result": verdict.arc.result,
            "sealers": [link.domain for link in verdict.arc.sets],
            "problem": verdict.arc.problem,
        },
        "dmarc": None
        if dmarc is None
        else {
            "result": dmarc.result,
            "domain": dmarc.domain,
            "organizational_domain": dmarc.organizational,
            "policy": dmarc.policy,
            "disposition": dmarc.disposition,
            "record_domain": dmarc.record_domain,
            "aligned": list(dmarc.aligned),
            "problem": dmarc.problem,
        },
        "iprev": None if iprev is None else {"result": iprev.result, "name": iprev.name, "problem": iprev.problem},
        "vouched_by": verdict.trusted_results.authserv_id if verdict.trusted_results is not None else "",
    }


def _dns(asked: tuple[Asked, ...]) -> list[dict[str, Any]]:
    return [{"name": q.name, "type": q.rdtype, "records": list(q.records), "problem": q.problem} for q in asked]


def _way(way: Way) -> dict[str, Any]:
    return {
        "recipient": way.recipient,
        "original_recipient": way.original,
        "next_hop": shown_hop(way.hop),
        "doubtful": is_doubtful_hop(way.hop),
        "destination": way.destination,
        "mail_from": way.sender,
        "mail_from_reason": way.sender_reason,
        "from_rewritten": way.from_rewritten,
        "from": [field.value.decode("utf-8", "replace") for field in way.message.all("from")],
        "added": [field.raw.decode("utf-8", "replace") for field in Message(way.on_top).fields],
        "signatures": [
            {
                "field": signature.field,
                "domain": signature.domain,
                "selector": signature.selector,
                "algorithm": signature.algorithm,
            }
            for signature in way.signatures
        ],
        "dns": _dns(way.asked),
        "tls": [
            {"host": each.host.name, "address": each.host.address, "policy": each.policy, "problem": each.problem}
            for each in way.tls
        ],
        "address_problem": way.address_problem,
        "next_hop_view": [_view(view) for view in way.views],
    }


def _view(view: NextHopView) -> dict[str, Any]:
    address = view.address
    return {
        "ip": view.ip,
        "helo": view.helo,
        "address_from": address.origin,
        "behind": address.behind,
        "address_problem": address.problem,
        "hosts": [{"name": host.name, "address": host.address, "port": host.port} for host in address.hosts],
        "checks": _checks(view.verdict),
        "second_opinion": _second_opinion(view.opinion),
        "dns": _dns(view.asked),
    }


def _second_opinion(opinion: SecondOpinion) -> dict[str, Any]:
    dkim = opinion.dkimpy
    return {
        "by": [dkimpy_opinion.NAME, pyspf_opinion.NAME],
        "problems": list(opinion.problems),
        "spf": {"result": opinion.spf.result, "problem": opinion.spf.problem},
        "dkim": [
            {
                "result": signature.result,
                "domain": signature.domain,
                "selector": signature.selector,
                "algorithm": signature.algorithm,
                "problem": signature.problem,
            }
            for signature in dkim.signatures
        ],
        "arc": {"result": dkim.arc, "problem": dkim.arc_problem},
        "dmarc": {"result": opinion.dmarc.result, "aligned": list(opinion.dmarc.aligned)},
        "agrees": not (opinion.problems or opinion.differences),
        "differences": [
            {
                "check": difference.check.lower(),
                "subject": difference.subject,
                "by": difference.by,
                "ours": {"result": difference.ours, "problem": difference.why_ours},
                "theirs": {"result": difference.theirs, "problem": difference.why_theirs},
            }
            for difference in opinion.differences
        ],
    }
