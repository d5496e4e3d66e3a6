"""`explain --json`: its keys are a contract, and its values are plain."""

from __future__ import annotations

import json
from dataclasses import replace

from relay.cli.address_seen import AddressSeen
from relay.cli.dry_run import DryRun, Way
from relay.cli.explain_json import as_dict
from relay.cli.next_hop_view import NextHopView
from relay.cli.noting_resolver import Asked
from relay.cli.second_opinion import Difference, SecondOpinion
from relay.mail.envelope import Client
from tests.cli.test_explain_next_hop import AGREED, FAR, VERDICT
from tests.cli.test_explain_view import WAY


def test_the_keys_are_those_of_the_contract() -> None:
    difference = Difference("DKIM", "a.example (s1)", "policy", "pass", "l= leaves a part", "", "dkimpy 1")
    opinion = SecondOpinion(AGREED.dkimpy, AGREED.spf, AGREED.dmarc, (difference,))
    address = AddressSeen("203.0.113.5", "dns", "10.0.0.5", (FAR,))
    view = NextHopView(address, "mx.fwd.example", VERDICT, opinion, (Asked("a", "MX"),))
    result = DryRun(Client("192.0.2.1", 25), verdict=VERDICT, ways=[_with(view)])
    found = json.loads(json.dumps(as_dict(result)))
    assert found.keys() == {
        "client",
        "session",
        "accepted",
        "checks",
        "dmarc_override",
        "unforwardable",
        "forged_results_removed",
        "filter_asked",
        "tables",
        "held",
        "dns",
        "deliveries",
    }
    (delivery,) = found["deliveries"]
    assert delivery.keys() == {
        "recipient",
        "original_recipient",
        "next_hop",
        "doubtful",
        "destination",
        "mail_from",
        "mail_from_reason",
        "from_rewritten",
        "from",
        "added",
        "signatures",
        "dns",
        "tls",
        "address_problem",
        "next_hop_view",
    }
    (shown,) = delivery["next_hop_view"]
    assert shown.keys() == {
        "ip",
        "helo",
        "address_from",
        "behind",
        "address_problem",
        "hosts",
        "checks",
        "second_opinion",
        "dns",
    }
    assert (shown["ip"], shown["address_from"], shown["behind"]) == ("203.0.113.5", "dns", "10.0.0.5")
    assert shown["hosts"] == [{"name": "mx.d.example", "address": "8.8.8.8", "port": 25}]
    assert shown["second_opinion"]["differences"] == [
        {
            "check": "dkim",
            "subject": "a.example (s1)",
            "by": "dkimpy 1",
            "ours": {"result": "policy", "problem": "l= leaves a part"},
            "theirs": {"result": "pass", "problem": ""},
        }
    ]
    assert not shown["second_opinion"]["agrees"] and shown["second_opinion"]["spf"]["result"] == "fail"


def _with(view: NextHopView) -> Way:
    return replace(WAY, views=(view,))
