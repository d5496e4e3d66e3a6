"""The lines of Dovecot's authentication protocol: what is written, what is read, and what is not believed."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.accounts.dovecot_protocol import (
    Accepted,
    BadLine,
    Continued,
    Failed,
    Handshake,
    auth_line,
    cancel_line,
    cont_line,
    escape,
    greeting,
    parse_answer,
    unescape,
)
from tests.accounts.scripted_dovecot import CLIENT, GREETING

# what Dovecot's generic escaping is: the name of each escape
ESCAPED = {b"\x00": b"\x010", b"\x01": b"\x011", b"\t": b"\x01t", b"\r": b"\x01r", b"\n": b"\x01n"}


def shake(*lines: str) -> Handshake:
    """A handshake that ends with the last line and not before."""
    handshake = Handshake()
    assert [handshake.take(line.encode()) for line in lines] == [False] * (len(lines) - 1) + [True]
    return handshake


def handshake_error(*lines: str) -> str:
    with pytest.raises(BadLine) as caught:
        shake(*lines)
    return str(caught.value)


# the handshake


def test_the_mechanisms_are_those_that_dovecot_lists() -> None:
    assert shake(*GREETING).mechanisms == ["PLAIN", "LOGIN", "XOAUTH2", "SCRAM-SHA-256"]


@pytest.mark.parametrize("minor", ["0", "1", "2", "3", "4", "17"])
def test_every_minor_version_is_understood(minor: str) -> None:
    assert shake(f"VERSION\t1\t{minor}", "MECH\tPLAIN", "DONE").mechanisms == ["PLAIN"]


def test_the_lines_come_in_any_order() -> None:
    """As in 1.0, where VERSION comes late, and as the protocol's page has it, where MECH comes last."""
    cookie = "COOKIE\t00"
    assert shake("MECH\tPLAIN", "VERSION\t1\t0", "SPID\t1", "CUID\t1", cookie, "DONE").mechanisms == ["PLAIN"]
    assert shake("VERSION\t1\t3", "SPID\t1", "CUID\t1", cookie, "MECH\tPLAIN", "DONE").mechanisms == ["PLAIN"]


@pytest.mark.parametrize(
    "line",
    [
        "MECH\tANONYMOUS\tanonymous",
        "MECH\tANONYMOUS",
        "MECH\tanonymous",
        "MECH\tEXTERNAL",
        "MECH\tGUEST\tanonymous",
        "MECH\tGUEST\tAnonymous",
        "MECH\tAPOP\tprivate\tdictionary\tactive",
        "MECH\tSCRAM-SHA-256-PLUS\tmutual-auth\tchannel-binding",
        "MECH\tSCRAM-SHA-1-PLUS",
        "MECH\tHTTP\tchannel-binding",
        "MECH\tPLAIN LOGIN",
        "MECH\tX\x01n250 OK",
        "MECH\tTWENTY-ONE-CHARACTERS",
        "MECH\tÖ",
        "MECH\t",
        "MECH",
    ],
)
def test_a_mechanism_that_may_not_be_offered_is_left_out(line: str) -> None:
    assert shake("VERSION\t1\t2", line, "MECH\tPLAIN", "DONE").mechanisms == ["PLAIN"]


def test_the_list_fits_into_the_reply_to_ehlo() -> None:
    lines = [f"MECH\tMECHANISM-NUMBER-{number:03}" for number in range(100)]
    mechanisms = shake("VERSION\t1\t2", *lines, "DONE").mechanisms
    assert len(f"250-AUTH {' '.join(mechanisms)}\r\n") <= 512
    assert shake("VERSION\t1\t2", "MECH\tPLAIN", "MECH\tplain", "DONE").mechanisms == ["PLAIN"]


@pytest.mark.parametrize("version", ["VERSION\t2\t0", "VERSION\t11\t2", "VERSION\t", "VERSION", "VERSION\tx\t1"])
def test_another_major_version_is_refused(version: str) -> None:
    assert "major version" in handshake_error(version, "MECH\tPLAIN", "DONE")


def test_what_is_no_dovecot_is_refused() -> None:
    assert handshake_error("220 mx.example ESMTP", "DONE") == "it does not greet as Dovecot does"
    assert handshake_error("MECH\tPLAIN", "DONE") == "it did not say its protocol version"
    assert handshake_error("", "DONE") == "it does not greet as Dovecot does"


def test_a_word_of_a_later_version_is_passed_over() -> None:
    assert shake("VERSION\t1\t9", "NEWS\tx", "MECH\tPLAIN", "DONE").mechanisms == ["PLAIN"]


def test_a_greeting_ends() -> None:
    assert handshake_error("VERSION\t1\t2", *["MECH\tPLAIN"] * 100_000, "DONE") == "its greeting has no end"


def test_the_relay_says_version_and_process() -> None:
    assert greeting(4711) == b"VERSION\t1\t2\nCPID\t4711\n"


# what is asked


def test_a_login_tells_who_asks() -> None:
    assert auth_line(7, "PLAIN", CLIENT, b"\0joe\0secret") == (
        b"AUTH\t7\tPLAIN\tservice=smtp\tfinal-resp-ok\tsecured=tls\tlip=192.0.2.1\tlport=587\trip=192.0.2.7\trport=40123"
        b"\tresp=" + base64.b64encode(b"\0joe\0secret") + b"\n"
    )


def test_no_response_is_not_an_empty_one() -> None:
    assert b"\tresp=" not in auth_line(1, "LOGIN", CLIENT, None)
    assert auth_line(1, "LOGIN", CLIENT, b"").endswith(b"\tresp=\n")


def test_a_client_that_is_not_known_is_not_named() -> None:
    line = auth_line(1, "PLAIN", CLIENT._replace(known=False), None)
    assert b"rip=" not in line and b"rport=" not in line


def test_without_tls_nothing_is_said_of_it() -> None:
    assert b"secured" not in auth_line(1, "PLAIN", CLIENT._replace(tls=""), None)


def test_an_address_of_version_6_stands_as_it_is() -> None:
    assert b"\trip=2001:db8::7\t" in auth_line(1, "PLAIN", CLIENT._replace(ip="2001:db8::7"), None)


def test_a_response_is_one_parameter() -> None:
    assert cont_line(3, b"") == b"CONT\t3\t\n"
    assert cont_line(3, b"a\tb\n") == b"CONT\t3\tYQliCg==\n"
    assert cancel_line(3) == b"CANCEL\t3\n"


@given(st.binary(), st.text(max_size=20))
def test_nobody_adds_a_parameter_to_the_request(response: bytes, odd: str) -> None:
    line = auth_line(1, "PLAIN", CLIENT._replace(ip=odd, local=odd), response)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert line.count(b"\t") == 8 + 2 * bool(odd)


# what is answered


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("CONT\t4\t", Continued(4, b"")),
        ("CONT\t4\tVXNlcm5hbWU6", Continued(4, b"Username:")),
        ("CONT\t4\tVXNlcm5hbWU6\tchannel_binding=none", Continued(4, b"Username:")),
        ("OK\t4\tuser=joe@example.org", Accepted(4, "joe@example.org")),
        ("OK\t4\tuser=Joe\toriginal_user=JOE\tsomething\tmore=1", Accepted(4, "Joe")),
        ("OK\t4\tuser=joe\tresp=dj1zaWc=", Accepted(4, "joe", b"v=sig")),
        ("OK\t4\tresp=dj1zaWc=\tuser=jörg", Accepted(4, "jörg", b"v=sig")),
        ("OK\t4\tuser=joe\tresp=", Accepted(4, "joe")),
        ("FAIL\t4", Failed(4)),
        ("FAIL\t4\tuser=joe", Failed(4, "joe")),
        ("FAIL\t4\tuser=j\x01no", Failed(4)),
        ("FAIL\t4\tuser=joe\treason=come\x01tback", Failed(4, "joe", reason="come\tback")),
        ("FAIL\t4\ttemp", Failed(4, temporary=True)),
        ("FAIL\t4\tuser=joe\tcode=temp_fail", Failed(4, "joe", temporary=True)),
        ("FAIL\t4\tcode=temp_fail\treason=no database", Failed(4, temporary=True, reason="no database")),
        ("FAIL\t4\tcode=authz_fail", Failed(4, reason="not allowed to act for that user")),
        ("FAIL\t4\tauthz", Failed(4, reason="not allowed to act for that user")),
        ("FAIL\t4\tcode=user_disabled", Failed(4, reason="the account is disabled")),
        ("FAIL\t4\tuser_disabled", Failed(4, reason="the account is disabled")),
        ("FAIL\t4\tcode=pass_expired", Failed(4, reason="the password has expired")),
        ("FAIL\t4\tpass_expired\treason=renew it at …", Failed(4, reason="renew it at …")),
        ("FAIL\t4\tcode=invalid_base64", Failed(4)),
        ("FAIL\t4\tcode=", Failed(4)),
        ("FAIL\t4\tresp=eyJzdGF0dXMiOiI0MDEifQ==", Failed(4, last=b'{"status":"401"}')),
        ("CANCELLED\t4", None),
    ],
)
def test_an_answer_is_read(line: str, answer: object) -> None:
    assert parse_answer(line.encode()) == answer


@pytest.mark.parametrize("why", ["nologin", "nologin=", "nologin=Y", "proxy", "proxy=y\thost=192.0.2.9", "anonymous"])
def test_an_ok_that_lets_nobody_in_is_a_failure(why: str) -> None:
    answer = parse_answer(f"OK\t4\tuser=joe\t{why}\tpass=secret".encode())
    assert isinstance(answer, Failed) and not answer.temporary
    assert "secret" not in repr(answer)


def test_the_reason_of_such_an_ok_is_passed_on() -> None:
    assert parse_answer(b"OK\t4\tuser=joe\tnologin\treason=move on") == Failed(4, "joe", reason="move on")


@pytest.mark.parametrize("user", [b"jo\x01te", b"jo\x01ne", b"jo\xffe", b"jo\x7fe", b"j" * 256, "jo\u2028e".encode()])
def test_a_name_that_cannot_be_written_lets_nobody_in(user: bytes) -> None:
    assert isinstance(parse_answer(b"OK\t4\tuser=" + user), Failed)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"OK", b"OK\t", b"OK\tx\tuser=joe", b"OK\t-1\tuser=joe", b"OK\t+1\tuser=joe", b"OK\t 1\tuser=joe"),
        *(b"OK\t" + "\N{ARABIC-INDIC DIGIT ONE}".encode() + b"\tuser=joe", b"OK\t99999999999\tuser=joe"),
        *(b"OK\t1", b"OK\t1\tuser=", b"OK\t1\tuser", b"ok\t1\tuser=joe", b"OK 1 user=joe", b"OK\t1\tuser=j\tresp=%"),
        *(b"CONT\t1", b"CONT\t1\t#", b"CONT\t1\tYQ", b"CONT\t1\tY Q=", b"CONT\t1\t\xff", b"CONT"),
        *(b"FAIL", b"FAIL\tx", b"FAIL\t1\tresp=?", b"OTHER", b"NOTFOUND\t1", b"USER\t1\tjoe", b"VERSION\t1\t2"),
    ],
)
def test_a_line_that_is_no_answer_is_named_without_being_quoted(line: bytes) -> None:
    with pytest.raises(BadLine) as caught:
        parse_answer(line + b"\tpass=secret" if line.count(b"\t") > 1 else line)
    assert "secret" not in str(caught.value) and "joe" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_octets_are_an_answer_or_a_bad_line(line: bytes) -> None:
    try:
        answer = parse_answer(line)
    except BadLine as bad:
        assert str(bad).isascii()
    else:
        assert answer is None or answer.id >= 0


words = st.sampled_from(
    ["OK", "FAIL", "CONT", "1", "2", "user=a", "resp=YQ==", "resp=", "temp", "nologin", "code=x", ""]
)


@given(st.lists(words | st.text(max_size=5), max_size=6))
def test_only_an_ok_with_a_user_lets_somebody_in(parameters: list[str]) -> None:
    line = "\t".join(parameters).encode("utf-8", "surrogatepass")
    try:
        answer = parse_answer(line)
    except BadLine:
        return
    if isinstance(answer, Accepted):
        assert parameters[0] == "OK" and any(parameter.startswith("user=") for parameter in parameters[2:])
        assert not {"nologin", "proxy", "anonymous"} & set(parameters)


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_octets_are_a_handshake_or_a_bad_line(lines: list[bytes]) -> None:
    handshake = Handshake()
    try:
        for line in (b"VERSION\t1\t2", *lines, *(b"MECH\t" + line for line in lines)):
            handshake.take(line)
    except BadLine:
        pass
    assert all(re.fullmatch(r"[A-Z0-9_-]{1,20}", name) for name in handshake.mechanisms)


# escapes


@pytest.mark.parametrize(("octet", "escaped"), ESCAPED.items())
def test_an_octet_is_escaped_as_dovecot_does(octet: bytes, escaped: bytes) -> None:
    assert escape(b"a" + octet + b"b") == b"a" + escaped + b"b"
    assert unescape(b"a" + escaped + b"b") == b"a" + octet + b"b"


def test_an_unknown_escape_is_the_octet_and_a_cut_one_is_nothing() -> None:
    assert unescape(b"a\x01xb\x01") == b"axb"
    assert unescape(b"\x01\x01\x01\nb") == b"\x01\nb"


@given(st.binary())
def test_what_was_escaped_comes_back(octets: bytes) -> None:
    escaped = escape(octets)
    assert unescape(escaped) == octets
    assert not re.search(rb"[\x00\t\r\n]", escaped)


@given(st.binary())
def test_anything_can_be_unescaped(octets: bytes) -> None:
    assert len(unescape(octets)) <= len(octets)
