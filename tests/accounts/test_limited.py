"""Logins within the limits: what counts, what is asked, and that who is over a limit learns nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from relay.accounts import limited
from relay.accounts.failures import OF_CLIENT, OF_USER, LoginFailures
from relay.accounts.limited import LimitedAuthenticator
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.receive.authenticator import Challenge, LoggedIn, Login, LoginFailed

CLIENT = Client("192.0.2.1", 4000, tls="TLSv1.3 x")
RIGHT, WRONG = b"right", b"wrong"


class Judge:
    """Lets `right` in, as joe; a wrong login takes as long as `delay`, a right one `right_delay`."""

    def __init__(self, delay: float = 0.0, right_delay: float = 0.0) -> None:
        self.asked = 0
        self.error = False  # whether it says its errors in a challenge
        self.delay = delay
        self.right_delay = right_delay

    async def run(self) -> None:
        pass

    def mechanisms(self) -> Sequence[str]:
        return ("PLAIN",)

    def login(self, mechanism: str, client: Client) -> Login:
        return self

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        self.asked += 1
        if response is None:
            return Challenge(b"")
        if self.error:
            return Challenge(b"401")
        if response == RIGHT:
            await asyncio.sleep(self.right_delay)
            return LoggedIn("joe")
        await asyncio.sleep(self.delay)
        raise LoginFailed("joe", known=True)

    def close(self) -> None:
        pass


class Gate:
    def __init__(self, *, step: float = 0.0, delay: float = 0.0) -> None:
        self.judge, self.failures, self.metrics = Judge(delay), LoginFailures(step), Metrics()
        self.authenticator = LimitedAuthenticator(self.judge, self.failures, self.metrics)

    async def says(self, response: bytes | None, client: Client = CLIENT) -> str:
        try:
            result = await self.authenticator.login("PLAIN", client).step(response)
        except Refused as refused:
            return str(refused.reply)[:9]
        return f"334 {result.octets!r}" if isinstance(result, Challenge) else f"235 {result.user}"

    def count(self, result: str) -> str:
        text = self.metrics.render().decode()
        return text.partition(f'srs_relay_logins_total{{result="{result}"}} ')[2].partition("\n")[0]


async def test_after_ten_failures_nobody_is_asked_any_more() -> None:
    gate = Gate()
    assert [await gate.says(WRONG) for _ in range(OF_CLIENT + 2)] == ["535 5.7.8"] * OF_CLIENT + ["454 4.7.0"] * 2
    assert gate.judge.asked == OF_CLIENT
    assert await gate.says(RIGHT) == "454 4.7.0" == await gate.says(None)
    assert await gate.says(RIGHT, Client("198.51.100.1", 1)) == "235 joe"
    assert (gate.count("failed"), gate.count("limited"), gate.count("passed")) == ("10.0", "4.0", "1.0")


async def test_a_login_counts_for_nothing_and_forgives_nothing() -> None:
    gate = Gate()
    for _ in range(OF_CLIENT - 1):
        assert await gate.says(WRONG) == "535 5.7.8"
        assert await gate.says(RIGHT) == "235 joe"
    assert await gate.says(None) == "334 b''"
    assert await gate.says(WRONG) == "535 5.7.8"
    assert await gate.says(RIGHT) == "454 4.7.0"


async def test_parallel_tries_get_no_more_verdicts_than_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "TAKES", 0.05)
    gate = Gate(delay=0.01)
    answers = await asyncio.gather(*(gate.says(WRONG) for _ in range(50)))
    assert answers.count("535 5.7.8") == OF_CLIENT and answers.count("454 4.7.0") == 40


async def test_parallel_tries_wait_for_one_another_the_right_one_too() -> None:
    gate = Gate(step=0.05)
    gate.judge.right_delay = 0.02
    loop = asyncio.get_running_loop()
    began, order = loop.time(), list[tuple[str, float]]()

    async def one(response: bytes) -> None:
        order.append((await gate.says(response), loop.time() - began))

    await asyncio.gather(*map(one, (WRONG, WRONG, WRONG, RIGHT)))
    assert sorted(answer for answer, _ in order) == ["235 joe"] + ["535 5.7.8"] * 3
    assert max(at for answer, at in order if answer == "235 joe") >= 0.05 * (1 + 2 + 3) * 0.9


async def test_a_user_over_the_limit_gets_one_answer_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "TAKES", 0.3)
    gate = Gate(delay=0.1)
    for number in range(OF_USER):
        gate.failures.add(f"198.51.{number}.1", ["joe"])
    loop = asyncio.get_running_loop()
    for response in (RIGHT, WRONG):
        began = loop.time()
        assert await gate.says(response) == "454 4.7.0"
        assert loop.time() - began == pytest.approx(0.3, abs=0.09)


@pytest.mark.parametrize(("mechanism", "response"), [("PLAIN", b"\0JOE\0x"), ("LOGIN", b"Joe")])
async def test_a_user_over_the_limit_who_is_named_is_not_looked_at(mechanism: str, response: bytes) -> None:
    gate = Gate()
    for number in range(OF_USER):
        gate.failures.add(f"198.51.{number}.1", ["joe"])
    with pytest.raises(Refused, match=r"454 4\.7\.0"):
        await gate.authenticator.login(mechanism, CLIENT).step(response)
    assert gate.judge.asked == 0


async def test_failures_count_for_the_name_that_was_given_and_for_the_account() -> None:
    gate = Gate()
    for number in range(OF_USER):
        with pytest.raises(LoginFailed):
            await gate.authenticator.login("PLAIN", Client(f"198.51.{number}.1", 1)).step(b"\0j.doe\0x")
    assert gate.failures.user_is_over("j.doe") and gate.failures.user_is_over("joe")


async def test_who_leaves_before_the_verdict_has_failed() -> None:
    """Otherwise nobody who sees that the verdict takes longer than for the right password would be counted."""
    gate = Gate(delay=60)
    for _ in range(OF_CLIENT):
        login = gate.authenticator.login("PLAIN", CLIENT)
        step = asyncio.create_task(login.step(b"\0ann\0x"))
        await asyncio.sleep(0.001)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        login.close()
    assert await gate.says(RIGHT) == "454 4.7.0"
    assert gate.count("failed") == "10.0"


async def test_who_leaves_when_the_mechanism_has_told_its_error_has_failed() -> None:
    """XOAUTH2 says that a token is wrong in a challenge; the refusal comes after the client's answer to it."""
    gate = Gate()
    for _ in range(OF_CLIENT):
        login = gate.authenticator.login("XOAUTH2", CLIENT)
        gate.judge.error = True
        assert await login.step(b"wrong token") == Challenge(b"401")
        login.close()
    gate.judge.error = False
    assert await gate.says(RIGHT) == "454 4.7.0"


async def test_a_failure_is_counted_once_and_who_has_said_nothing_has_not_failed() -> None:
    gate = Gate()
    for response in (WRONG, None, RIGHT):
        login = gate.authenticator.login("PLAIN", CLIENT)
        with contextlib.suppress(Refused):
            await login.step(response)
        login.close()
    assert (gate.count("failed"), gate.count("passed")) == ("1.0", "1.0")


async def test_a_failure_of_nobody_in_particular_counts_for_the_client() -> None:
    gate = Gate()

    async def wrong(response: bytes | None) -> LoggedIn:
        raise Refused(535, "5.7.8", "the password has expired")

    gate.judge.step = wrong  # type: ignore[method-assign]
    assert [await gate.says(WRONG) for _ in range(OF_CLIENT + 1)] == ["535 5.7.8"] * OF_CLIENT + ["454 4.7.0"]


async def test_what_cannot_be_checked_does_not_count() -> None:
    gate = Gate()

    async def away(response: bytes | None) -> LoggedIn:
        raise Refused(454, "4.7.0", "Dovecot is away")

    gate.judge.step = away  # type: ignore[method-assign]
    assert [await gate.says(WRONG) for _ in range(2 * OF_CLIENT)] == ["454 4.7.0"] * 2 * OF_CLIENT
    assert not gate.failures.client_is_over(CLIENT.ip)
    assert gate.count("unchecked") == "20.0"
