"""The DMARC record to publish in the place of bad ones."""

from __future__ import annotations

import pytest

from relay.check.dmarc_mend import mended, resembles_dmarc


@pytest.mark.parametrize(
    ("records", "record"),
    [
        (["v=DMARC1; rua=mailto:a@x.example"], "v=DMARC1; p=none; rua=mailto:a@x.example"),
        (["v=dmarc1; p=Reject; adkim=s"], "v=DMARC1; p=reject; adkim=s"),
        (["v=DMARC1, p=quarantine"], "v=DMARC1; p=quarantine"),
        (["v=DMARC1; p=nix; sp=reject"], "v=DMARC1; p=none; sp=reject"),
        (
            ["v=DMARC1; p=none; rua=mailto:a@x.example", "v=DMARC1; p=reject; rua=mailto:b@x.example,nobody"],
            "v=DMARC1; p=none; rua=mailto:a@x.example,mailto:b@x.example",
        ),
    ],
)
def test_what_receivers_understand_is_kept(records: list[str], record: str) -> None:
    assert mended(records) == record


def test_which_records_were_meant() -> None:
    records = ("v=DMARC1; p=none", "p=none; V = dmarc1", "v=spf1 -all", "dmarc")
    assert [resembles_dmarc(record) for record in records] == [True, True, False, False]
