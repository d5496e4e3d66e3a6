"""The status and the codes that a notification gives for a recipient."""

from __future__ import annotations

import pytest

from relay.bounce.dsn import build
from relay.bounce.report import RecipientReport
from tests.bounce.notifications import fields, report


@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        (RecipientReport("a@b", "failed", 550, "5.7.1"), "5.7.1"),
        (RecipientReport("a@b", "failed", 554), "5.0.0"),
        (RecipientReport("a@b", "failed", 550, "2.0.0"), "5.0.0"),
        (RecipientReport("a@b", "failed", 0, "", expired=True), "4.4.7"),
        (RecipientReport("a@b", "failed", 452, "4.2.2", expired=True), "4.2.2"),
        (RecipientReport("a@b", "delayed", 0, "4.4.1"), "4.4.1"),
        (RecipientReport("a@b", "delayed", 550, "5.1.1"), "4.0.0"),
        (RecipientReport("a@b", "delivered", 250, "2.1.5"), "2.1.5"),
        (RecipientReport("a@b", "expanded"), "2.0.0"),
    ],
)
def test_status(recipient: RecipientReport, status: str) -> None:
    assert fields(build(report(recipient)))[1]["Status"] == status


def test_no_diagnostic_code_without_a_reply() -> None:
    [_, recipient] = fields(build(report(RecipientReport("a@b.example", "failed", 0, "4.4.1", expired=True))))
    assert recipient["Diagnostic-Code"] is None


def test_the_diagnostic_code_holds_only_codes_of_the_reply_itself() -> None:
    [_, recipient] = fields(build(report(RecipientReport("a@b.example", "failed", 550, "4.3.2", expired=True))))
    assert recipient["Diagnostic-Code"] == "smtp; 550"
