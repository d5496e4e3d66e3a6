"""MAIL and RCPT: parameters only where they are offered, and addresses that stay inside their brackets."""

from __future__ import annotations

import pytest

from relay.deliver.envelope_commands import is_safe, mail_command, needs_smtputf8, rcpt_command
from relay.mail.envelope import Recipient
from tests.deliver.sending import job

FROM_BOB = "MAIL FROM:<bob@origin.test>"


def mail(*offers: str, utf8: bool = False, **fields: object) -> str:
    return mail_command(job(**{"size": 0, **fields}), offers.__contains__, utf8=utf8).decode()


def rcpt(recipient: Recipient, *offers: str, utf8: bool = False) -> str:
    return rcpt_command(recipient, offers.__contains__, utf8=utf8).decode()


def test_size_is_announced_only_where_it_is_offered() -> None:
    assert mail("size", size=1000) == f"{FROM_BOB} SIZE=1000"
    assert mail("size", size=0) == FROM_BOB
    assert mail(size=1000) == FROM_BOB


def test_8bitmime_only_where_it_is_needed_and_offered() -> None:
    assert mail("8bitmime", is_8bit=True) == f"{FROM_BOB} BODY=8BITMIME"
    assert mail("8bitmime") == mail(is_8bit=True) == FROM_BOB


def test_dsn_parameters_only_where_they_are_offered() -> None:
    carol = Recipient("carol@d.test", "SUCCESS,FAILURE", "rfc822;c+40d.test")
    assert mail("dsn", ret="HDRS", envid="QQ314159") == f"{FROM_BOB} RET=HDRS ENVID=QQ314159"
    assert mail(ret="HDRS", envid="QQ314159") == FROM_BOB
    assert rcpt(carol, "dsn") == "RCPT TO:<carol@d.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c+40d.test"
    assert rcpt(carol) == "RCPT TO:<carol@d.test>"


@pytest.mark.parametrize("value", ["a b", "a\r\nRSET", "ä", ""])
def test_a_dsn_parameter_never_leaves_its_place(value: str) -> None:
    assert mail("dsn", envid=value) == FROM_BOB
    assert rcpt(Recipient("carol@d.test", "NEVER", value), "dsn") == "RCPT TO:<carol@d.test> NOTIFY=NEVER"


def test_smtputf8_carries_addresses_as_they_are() -> None:
    assert mail("smtputf8", utf8=True, sender="jörg@ü.test") == "MAIL FROM:<jörg@ü.test> SMTPUTF8"
    assert rcpt(Recipient("jörg@ü.test"), utf8=True) == "RCPT TO:<jörg@ü.test>"


def test_a_domain_alone_goes_out_in_a_labels() -> None:
    assert mail(sender="bob@BÜCHER.test") == "MAIL FROM:<bob@xn--bcher-kva.test>"
    assert rcpt(Recipient("carol@bücher.test")) == "RCPT TO:<carol@xn--bcher-kva.test>"
    assert not needs_smtputf8("carol@bücher.test")
    assert needs_smtputf8("jörg@d.test")


@pytest.mark.parametrize("address", ['"a b"@d.test', '"a>\\"b"@d.test', "a+b=c@[192.0.2.1]", "postmaster", '""@d.test'])
def test_unusual_addresses_go_out_as_they_are(address: str) -> None:
    assert is_safe(address)
    assert mail(sender=address) == f"MAIL FROM:<{address}>"
    assert rcpt(Recipient(address)) == f"RCPT TO:<{address}>"


@pytest.mark.parametrize("address", ["a@d.test> SIZE=1", "a\r\nRSET", "a>b@d.test", "a b@d.test", '"a"b"@d.test', ""])
def test_an_address_that_would_leave_its_brackets_is_not_safe(address: str) -> None:
    assert not is_safe(address)
