"""Records as a zone file and as JSON."""

from __future__ import annotations

import dns.rdatatype
import dns.zone
from dns.rdtypes.txtbase import TXTBase

from relay.cli.record_view import objects, zone
from relay.cli.records import Group, Record
from relay.sign.keys import zone_line
from tests import corpus

TEXT = corpus.RSA.public_record() + "; t=s; n=" + "x" * 300
GROUPS = [
    Group(
        "address",
        ("Why.",),
        (
            Record("mx.fwd.example", "A", "198.51.100.4"),
            Record("4.100.51.198.in-addr.arpa", "PTR", "mx.fwd.example.", elsewhere=True),
        ),
        ("An address is missing.",),
        ("mx.fwd.example. 3600 IN AAAA 2001:db8::1",),
    ),
    Group("dkim", (), (Record("relay1._domainkey.fwd.example", "TXT", TEXT, comment="In use."),)),
]


def test_a_zone_file_has_what_is_ours_and_the_rest_as_comments() -> None:
    lines = list(zone(GROUPS))
    assert lines[:5] == [
        "; Why.",
        "mx.fwd.example. 3600 IN A 198.51.100.4",
        ";4.100.51.198.in-addr.arpa. 3600 IN PTR mx.fwd.example.",
        "; An address is missing.",
        ";mx.fwd.example. 3600 IN AAAA 2001:db8::1",
    ]
    published = dns.zone.from_text("\n".join(lines), origin="fwd.example", relativize=False, check_origin=False)
    assert [str(name) for name in published] == ["mx.fwd.example.", "relay1._domainkey.fwd.example."]


def test_a_long_text_is_split_in_the_zone_file_and_whole_in_json() -> None:
    published = dns.zone.from_text("\n".join(zone(GROUPS)), origin="fwd.example", relativize=False, check_origin=False)
    (record,) = published.find_rdataset("relay1._domainkey.fwd.example.", dns.rdatatype.TXT)
    assert isinstance(record, TXTBase)
    assert [len(string) for string in record.strings][:-1] == [255] * (len(TEXT) // 255)
    assert b"".join(record.strings).decode() == TEXT
    assert objects(GROUPS)[-1]["value"] == TEXT


def test_an_object_has_what_a_program_needs() -> None:
    assert objects(GROUPS)[1] == {
        "name": "4.100.51.198.in-addr.arpa",
        "type": "PTR",
        "value": "mx.fwd.example.",
        "ttl": 3600,
        "purpose": "address",
        "elsewhere": True,
        "comment": "",
    }


def test_comments_fit_into_a_terminal_and_records_are_whole_lines() -> None:
    words = "word " * 40
    lines = list(zone([Group("dkim", (words,), (Record("a.example", "TXT", TEXT, comment=words),), (words,))]))
    (record,) = (line for line in lines if not line.startswith("; "))
    assert record == zone_line("a.example", TEXT)
    assert max(len(line) for line in lines if line != record) < 80
    assert " ".join(line.removeprefix("; ") for line in lines if line != record).split() == words.split() * 3
