"""What a reply means, case by case."""

from __future__ import annotations

import pytest

from relay.deliver.classify import Phase, Silence, classify, is_negative, refuses_session, silence
from relay.mail.outcome import Outcome, deferral, failure, temporary

BEFORE_MAIL: tuple[Phase, ...] = ("connect", "greeting", "hello", "starttls", "auth")
BEFORE_THE_END: tuple[Phase, ...] = ("mail", "rcpt", "data")
FROM_MAIL_ON: tuple[Phase, ...] = (*BEFORE_THE_END, "message")


@pytest.mark.parametrize("phase", BEFORE_MAIL + FROM_MAIL_ON)
def test_4xx_is_deferred_in_every_phase(phase: Phase) -> None:
    outcome = classify(phase, 451, "4.7.1 Greylisted")
    assert (outcome.status, outcome.code, outcome.enhanced, outcome.text) == ("deferred", 451, "4.7.1", "Greylisted")


@pytest.mark.parametrize("phase", FROM_MAIL_ON)
def test_5xx_is_final_from_mail_on(phase: Phase) -> None:
    assert classify(phase, 550, "5.7.1 No").status == "failed"


@pytest.mark.parametrize("phase", BEFORE_MAIL)
def test_5xx_before_mail_speaks_of_the_host(phase: Phase) -> None:
    outcome = classify(phase, 554, "5.7.1 Not from you")
    assert (outcome.status, outcome.code, outcome.enhanced) == ("deferred", 554, "4.7.1")


@pytest.mark.parametrize("phase", BEFORE_THE_END)
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (530, "5.7.0 Must issue a STARTTLS command first"),
        (530, ""),
        (538, "Encryption required"),
        (503, "5.5.1 nested MAIL"),
        (535, "5.7.8 wrong"),
        (534, "5.7.9 too weak"),
        (550, "5.7.10 encrypt"),
        (554, "5.7.11 encrypt"),
        (550, "5.5.1 no such command"),
        (502, ""),
    ],
)
def test_a_refusal_of_our_session_is_deferred(phase: Phase, code: int, text: str) -> None:
    for fallback in (False, True):
        outcome = classify(phase, code, text, fallback=fallback)
        assert (outcome.status, outcome.code, outcome.enhanced[:2]) == ("deferred", code, "4.")
        assert refuses_session(phase, code, text, fallback=fallback)


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (530, "5.7.0 Must issue a STARTTLS command first", "deferred"),
        (503, "", "deferred"),
        (538, "Encryption required", "deferred"),
        (554, "5.7.1 spam", "failed"),
        (550, "5.7.11 encrypt", "failed"),
        (554, "", "failed"),
    ],
)
def test_at_the_final_dot_our_session_is_refused_by_its_codes_and_behind_a_fallback_only(
    code: int, text: str, status: str
) -> None:
    assert classify("message", code, text, fallback=True).status == status
    assert classify("message", code, text).status == "failed"


@pytest.mark.parametrize("code", [500, 501, 504, 550, 554, 571])
@pytest.mark.parametrize(
    "text", ["5.7.1 blocked", "5.7.0 policy", "5.4.1 denied", "5.0.0 no", "5.5.4 what", "5.3.2 no"]
)
def test_what_names_neither_sender_recipient_nor_content_is_deferred_behind_a_fallback_only(
    code: int, text: str
) -> None:
    for phase in BEFORE_THE_END:
        assert classify(phase, code, text).status == "failed"
        assert classify(phase, code, text, fallback=True).status == "deferred"


def test_552_at_rcpt_means_too_many_recipients() -> None:
    assert classify("rcpt", 552, "Too many recipients").status == "deferred"
    assert classify("rcpt", 552, "Too many recipients").enhanced == "4.5.3"
    assert classify("message", 552, "Too big").status == "failed"


@pytest.mark.parametrize("phase", FROM_MAIL_ON)
def test_2xx_is_delivered(phase: Phase) -> None:
    outcome = classify(phase, 250, "2.0.0 Ok: queued as 4XyZ")
    assert (outcome.status, outcome.enhanced, outcome.text) == ("delivered", "2.0.0", "Ok: queued as 4XyZ")


@pytest.mark.parametrize(
    ("phase", "code", "enhanced"),
    [
        ("rcpt", 550, "5.1.1"),
        ("mail", 553, "5.1.7"),
        ("rcpt", 553, "5.1.3"),
        ("rcpt", 452, "4.5.3"),
        ("message", 452, "4.3.1"),
        ("mail", 552, "5.3.4"),
        ("message", 552, "5.3.4"),
        ("message", 554, "5.0.0"),
        ("rcpt", 450, "4.2.0"),
        ("data", 421, "4.3.2"),
        ("auth", 535, "4.7.8"),
        ("greeting", 554, "4.3.2"),
        ("message", 250, "2.0.0"),
        ("rcpt", 556, "5.1.10"),
        ("rcpt", 599, "5.0.0"),
    ],
)
def test_a_reply_without_an_enhanced_code_gets_one(phase: Phase, code: int, enhanced: str) -> None:
    assert classify(phase, code, "words").enhanced == enhanced


@pytest.mark.parametrize(
    ("code", "text", "enhanced", "words"),
    [
        (550, "5.1.1 5.1.2 Twice", "5.1.1", "5.1.2 Twice"),
        (550, "4.2.2 Another class", "5.1.1", "Another class"),
        (550, "5.1.1\n5.1.1 second line", "5.1.1", "second line"),
        (550, "5.1.1 first\n5.1.1 second", "5.1.1", "first second"),
        (550, "Blocked,\n5.7.1 see our page", "5.7.1", "Blocked, see our page"),
        (550, "4.2.2 Another class\n5.7.1 and ours", "5.1.1", "Another class and ours"),
        (550, "5.001.010 zeros", "5.1.10", "zeros"),
        (550, "5.1.1.1 an address, no code", "5.1.1", "5.1.1.1 an address, no code"),
        (550, "5.1", "5.1.1", "5.1"),
        (550, "", "5.1.1", ""),
    ],
)
def test_enhanced_codes_are_told_from_words(code: int, text: str, enhanced: str, words: str) -> None:
    outcome = classify("rcpt", code, text)
    assert (outcome.enhanced, outcome.text) == (enhanced, words)


def test_words_become_one_printable_line() -> None:
    text = classify("rcpt", 550, "5.1.1 Unbekannter Empf\ufffdnger\r\n5.1.1 \x1b[31mred\x00\nüber\udcff").text
    assert text == "Unbekannter Empf?nger ?[31mred? ?ber?"
    assert len(classify("rcpt", 550, "x" * 5000).text) <= 400


@pytest.mark.parametrize("code", [400, 421, 499, 500, 599])
def test_refusals(code: int) -> None:
    assert is_negative(code)


@pytest.mark.parametrize("code", [0, 199, 250, 354, 399, 600])
def test_what_is_no_refusal(code: int) -> None:
    assert not is_negative(code)


@pytest.mark.parametrize("phase", BEFORE_MAIL + FROM_MAIL_ON)
@pytest.mark.parametrize("kind", ["timeout", "lost", "garbage"])
def test_silence_is_a_deferral_of_ours(phase: Phase, kind: Silence) -> None:
    outcome = silence(phase, kind)
    assert (outcome.status, outcome.code, outcome.remote) == ("deferred", 451, False)
    assert outcome.enhanced.startswith("4.") and outcome.text


def test_silence_after_the_final_dot_says_what_may_have_happened() -> None:
    assert "may have arrived" in silence("message", "lost").text
    assert "may have arrived" not in silence("data", "lost").text


def test_only_what_the_server_said_is_remote() -> None:
    assert classify("rcpt", 550, "no").remote
    assert not deferral("4.4.1", "no").remote
    assert not failure(550, "5.4.4", "no").remote


def test_a_failure_taken_as_temporary_keeps_its_code_and_words() -> None:
    taken = temporary(classify("mail", 550, "5.7.1 No probes"))
    assert taken == Outcome("deferred", 550, "4.7.1", "No probes", remote=True)
    delivered = classify("rcpt", 250, "Ok")
    assert temporary(delivered) is delivered


@pytest.mark.parametrize("phase", BEFORE_MAIL + FROM_MAIL_ON)
def test_a_4xx_is_an_outcome_of_the_mail_and_no_refusal_of_our_session(phase: Phase) -> None:
    assert not refuses_session(phase, 454, "4.7.8 login failed", fallback=True)
    assert classify(phase, 400, "later").status == classify(phase, 454, "").status == "deferred"


@pytest.mark.parametrize("phase", BEFORE_MAIL)
def test_a_5xx_before_mail_is_no_refusal_of_a_session_that_has_begun(phase: Phase) -> None:
    assert not refuses_session(phase, 530, "5.7.0 log in first", fallback=True)


@pytest.mark.parametrize(
    ("phase", "code", "text"),
    [
        ("mail", 552, ""),
        ("mail", 552, "5.7.1 too large for you"),
        ("mail", 554, "5.3.4 too large"),
        ("mail", 553, ""),
        ("rcpt", 550, ""),
        ("rcpt", 556, ""),
        ("data", 552, ""),
        ("data", 554, "5.6.0 bad content"),
    ],
)
def test_behind_a_fallback_a_refusal_of_the_sender_recipient_or_content_is_final(
    phase: Phase, code: int, text: str
) -> None:
    assert not refuses_session(phase, code, text, fallback=True)
    assert classify(phase, code, text, fallback=True).status == "failed"


@pytest.mark.parametrize(("phase", "code"), [("mail", 550), ("mail", 554), ("rcpt", 554), ("data", 550), ("data", 554)])
def test_behind_a_fallback_any_other_refusal_without_a_status_is_about_the_session(phase: Phase, code: int) -> None:
    assert refuses_session(phase, code, "no", fallback=True)
    assert not refuses_session(phase, code, "no")


@pytest.mark.parametrize(
    ("phase", "kind", "enhanced", "text"),
    [
        ("connect", "timeout", "4.4.1", "connection timed out"),
        ("connect", "lost", "4.4.1", "connection failed"),
        ("greeting", "timeout", "4.4.2", "no answer to the greeting in time"),
        ("rcpt", "lost", "4.4.2", "connection lost at RCPT"),
        ("hello", "garbage", "4.5.0", "unintelligible answer to EHLO"),
        (
            "message",
            "timeout",
            "4.4.2",
            "no answer to the end of the message in time; the message may have arrived all the same",
        ),
        (
            "message",
            "lost",
            "4.4.2",
            "connection lost at the end of the message; the message may have arrived all the same",
        ),
    ],
)
def test_silence_in_words(phase: Phase, kind: Silence, enhanced: str, text: str) -> None:
    assert silence(phase, kind) == deferral(enhanced, text)


def test_a_connection_that_failed_says_why_where_the_system_does() -> None:
    assert silence("connect", "lost", "connection refused").text == "connection refused"


def test_an_enhanced_code_may_stand_behind_blanks() -> None:
    outcome = classify("rcpt", 550, "Blocked\n  5.7.1 see our page")
    assert (outcome.enhanced, outcome.text) == ("5.7.1", "Blocked see our page")


def test_the_words_of_a_server_are_its_own_and_what_it_says_of_our_login_is_for_us() -> None:
    assert classify("rcpt", 550, "5.1.1 gr\u00fc\u00df\x1b[2J\nnobody").words == "gr?? [2J nobody".replace(" [", "?[")
    assert classify("auth", 535, "5.7.8 wrong password of relay@x.example").words == ""
    assert silence("rcpt", "timeout").words == ""
