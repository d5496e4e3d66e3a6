from __future__ import annotations

import pytest

from relay.mail.envelope import MailFrom, RcptTo
from relay.mail.reply import Refused
from relay.receive.command import Command, beginning_of, parse_line, parse_mail, parse_rcpt


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<>", MailFrom("")),
        ("FROM:<a@b.example>", MailFrom("a@b.example")),
        ("from: <a@b.example>", MailFrom("a@b.example")),
        ('FROM:<"a b>c@d"@e.example>', MailFrom('"a b>c@d"@e.example')),
        ("FROM:<@x.example,@y.example:a@b.example>", MailFrom("a@b.example")),
        ("FROM:<a@[192.0.2.1]>", MailFrom("a@[192.0.2.1]")),
        ("FROM:<a@b.example> SIZE=1000 BODY=8BITMIME", MailFrom("a@b.example", 1000, "8BITMIME")),
        ("FROM:<jörg@bücher.example> smtputf8", MailFrom("jörg@bücher.example", smtputf8=True)),
        ("FROM:<taro..y.@docomo.example>", MailFrom('"taro..y."@docomo.example')),
        ("FROM:<.taro@docomo.example>", MailFrom('".taro"@docomo.example')),
        ("FROM:<ta...ro@docomo.example>", MailFrom('"ta...ro"@docomo.example')),
        (r'FROM:<"joe\.user"@b.example>', MailFrom("joe.user@b.example")),
        ('FROM:<""@b.example>', MailFrom('""@b.example')),
        (r'FROM:<"\a b\"\\"@b.example>', MailFrom(r'"a b\"\\"@b.example')),
        ("FROM:<joe@b.example.> SIZE=1", MailFrom("joe@b.example", 1)),
        ("FROM:<joe@[192.0.2.1].>", MailFrom("joe@[192.0.2.1]")),
        ("FROM:<@x.example:taro.@docomo.example.>", MailFrom('"taro."@docomo.example')),
        ("FROM:<jörg..@bücher.example.> smtputf8", MailFrom('"jörg.."@bücher.example', smtputf8=True)),
        ("FROM:<a@b.example> RET=hdrs ENVID=x+2B1", MailFrom("a@b.example", ret="HDRS", envid="x+2B1")),
    ],
)
def test_mail(argument: str, expected: MailFrom) -> None:
    assert parse_mail(argument) == expected


def test_requiretls_is_for_sessions_with_tls() -> None:
    for argument in ("FROM:<a@b.example> requiretls SIZE=7", "FROM:<a@b.example> SIZE=7 REQUIRETLS"):
        assert parse_mail(argument, encrypted=True) == MailFrom("a@b.example", 7, require_tls=True)
    assert parse_mail("FROM:<> REQUIRETLS", encrypted=True) == MailFrom("", require_tls=True)
    with pytest.raises(Refused, match=r"^501 5\.5\.4 "):
        parse_mail("FROM:<a@b.example> REQUIRETLS=1", encrypted=True)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4"),
        ("FROM", "501 5.5.4"),
        ("FROM:a@b.example", "501 5.5.4"),
        ("FROM:<a@b.example", "501 5.5.4"),
        ("FROM:<a@b.example>SIZE=1", "501 5.5.4"),
        ("TO:<a@b.example>", "501 5.5.4"),
        ("FROM:<a>", "501 5.1.7"),
        ("FROM:<a@>", "553 5.1.7"),
        ("FROM:<@b.example>", "553 5.1.7"),
        ("FROM:<a@b@c.example>", "553 5.1.7"),
        ("FROM:<a b@c.example>", "553 5.1.7"),
        ("FROM:<a@b.example..>", "553 5.1.7"),
        ("FROM:<a@.>", "553 5.1.7"),
        ("FROM:<a@.b.example>", "553 5.1.7"),
        ('FROM:<"a"..b@c.example>', "553 5.1.7"),
        (f"FROM:<{'a' * 641}@c.example>", "553 5.1.7"),
        ("FROM:<jörg@b.example>", "553 5.6.7"),
        ("FROM:<a@b.example> SIZE=x", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=1 SIZE=2", "501 5.5.4"),
        ("FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@b.example> FOO=1", "555 5.5.4"),
        ("FROM:<a@b.example> AUTH=<>", "555 5.5.4"),
        ("FROM:<a@b.example> RET=ALL", "501 5.5.4"),
        ("FROM:<a@b.example> RET", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=\u0661", "501 5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8=yes", "501 5.5.4"),
        ("FROM:<a@b.example> REQUIRETLS", "530 5.7.10"),
        ("FROM:<a@b.example> REQUIRETLS=yes", "501 5.5.4"),
        ("FROM:<a@b.example> REQUIRETLS REQUIRETLS", "501 5.5.4"),
        ("FROM:<a@b.example> ENVID=a+2", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=1\u00a0RET=HDRS", "501 5.5.4"),
        ("FROM:<@a.example:>", "553 5.1.7"),
        ("FROM:<@a.example,@b.example:> SMTPUTF8", "553 5.1.7"),
        ("FROM:<a@\u2603.example> SMTPUTF8", "553 5.1.7"),
        ("FROM:<a@xn--.example> SIZE", "501 5.5.4"),
        (f"FROM:<a@{'b.' * 127}example>", "553 5.1.7"),
        (f"FROM:<a@b.example> ENVID={'x' * 101}", "501 5.5.4"),
    ],
)
def test_bad_mail(argument: str, reply: str) -> None:
    with pytest.raises(Refused, match=f"^{reply} ") as refused:
        parse_mail(argument)
    assert str(refused.value).isascii()


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("TO:<a@b.example>", RcptTo("a@b.example")),
        ("TO:<Postmaster>", RcptTo("Postmaster")),
        (
            "TO:<a@b.example> NOTIFY=success,delay ORCPT=rfc822;a+2Bb@c.example",
            RcptTo("a@b.example", "SUCCESS,DELAY", "rfc822;a+2Bb@c.example"),
        ),
        ("TO:<a@b.example> NOTIFY=NEVER", RcptTo("a@b.example", "NEVER")),
        ("TO:<alice@fwd.example.>", RcptTo("alice@fwd.example")),
        (r'TO:<"SRS0\=x=y=z=\joe"@fwd.example.>', RcptTo("SRS0=x=y=z=joe@fwd.example")),
        ("TO:<..taro@fwd.example> NOTIFY=NEVER", RcptTo('"..taro"@fwd.example', "NEVER")),
        (f"TO:<{'a' * 640}@b.example>", RcptTo(f"{'a' * 640}@b.example")),
    ],
)
def test_rcpt(argument: str, expected: RcptTo) -> None:
    given = "" if argument == "TO:<Postmaster>" else argument[len("TO:<") : argument.index(">")]
    assert parse_rcpt(argument, smtputf8=False) == expected._replace(given=given)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("TO:<>", "501 5.1.3"),
        ("TO:<a>", "501 5.1.3"),
        ("TO:<a@b..>", "553 5.1.3"),
        ("TO:<a@b..example>", "553 5.1.3"),
        ("TO:<a@b.example> NOTIFY=", "501 5.5.4"),
        ("TO:<a@b.example> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        ("TO:<a@b.example> NOTIFY", "501 5.5.4"),
        ("TO:<a@b.example> NOTIFY=DELAY,,FAILURE", "501 5.5.4"),
        ("TO:<a@b.example> ORCPT", "501 5.5.4"),
        ("TO:<a@b.example> ORCPT=a@b", "501 5.5.4"),
        ("TO:<a@b.example> ORCPT=;a@b", "501 5.5.4"),
        ("TO:<a@b.example> ORCPT=rfc(822;a@b", "501 5.5.4"),
        ("TO:<a@b.example> ORCPT=utf-8;j\u00f6rg@b", "501 5.5.4"),
        ("TO:<a@b.example> SIZE=1", "555 5.5.4"),
    ],
)
def test_bad_rcpt(argument: str, reply: str) -> None:
    with pytest.raises(Refused, match=f"^{reply} "):
        parse_rcpt(argument, smtputf8=False)


@pytest.mark.parametrize(
    "line",
    [
        *(b"NOOP\n", b"NOOP", b"NO\x00OP\r\n", b"NOOP\x7f\r\n", b"NOOP \xff\xfe\r\n", b"NO\rOP\r\n"),
        *("NOOP \u0085\r\n".encode(), "NOOP \u2028\r\n".encode()),
    ],
)
def test_bad_lines(line: bytes) -> None:
    with pytest.raises(Refused, match=r"^500 5\.5\.2 "):
        parse_line(line)


def test_lines() -> None:
    assert parse_line(b"mail FROM:<a@b>  \r\n") == Command("MAIL", "FROM:<a@b>")
    assert parse_line(b" \tmail\t FROM:<a@b>\t\r\n") == Command("MAIL", "FROM:<a@b>")
    assert parse_line(b"\r\n") == Command("", "")


def test_the_verb_of_a_bad_line_is_told_as_far_as_it_can_be() -> None:
    assert beginning_of(b"auth PLAIN \0joe\0\xff\n") == Command("AUTH", "PLAIN \0joe\0\ufffd")
    assert beginning_of(b"\xffAUTH PLAIN x\r\n").verb == "\ufffdAUTH"
    assert beginning_of(b"") == Command("", "")


@pytest.mark.parametrize("line", ["R\u017fET", "ma\u0131l", "\u017f"])
def test_no_letter_beyond_ascii_makes_a_command(line: str) -> None:
    assert parse_line(f"{line}\r\n".encode()).verb == line


def test_smtputf8_lets_the_original_recipient_be_utf8() -> None:
    """RFC 6533 section 3."""
    assert parse_rcpt("TO:<a@b.example> ORCPT=utf-8;j\u00f6rg@b", smtputf8=True).orcpt == "utf-8;j\u00f6rg@b"
