"""Reads the answer of rspamd to `/checkv2`: its action, the score, and the names of the rules that matched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson

from relay.content_filter.scanned import NoOpinion

SYMBOLS = 5  # that the log names, those that weigh most first


@dataclass(frozen=True, slots=True)
class Opinion:
    """What rspamd thinks of a message.

    Attributes:
        action: as rspamd names it, like "add header".
        score: None where it was not looked at (a rule of rspamd skips it).
        required: the score from which on rspamd refuses.
        symbols: names of rules that matched.
        text: what the client is to hear; empty where rspamd leaves that to us. It may be anything.
    """

    action: str
    score: float | None = None
    required: float | None = None
    symbols: tuple[str, ...] = ()
    text: str = ""


def read_answer(body: bytes) -> Opinion:
    """The opinion in the body of an answer. Raises NoOpinion: it is no such answer."""
    try:
        found = orjson.loads(body)
    except ValueError:
        raise NoOpinion("the answer is no JSON") from None
    if not isinstance(found, dict):
        raise NoOpinion("the answer is no JSON object")
    action, score = found.get("action"), _number(found.get("score"))
    if not isinstance(action, str) or not action:
        error = found.get("error")
        raise NoOpinion(f"the answer has no action{f': {error}' if isinstance(error, str) else ''}")
    is_skipped = found.get("is_skipped") is True
    if score is None and not is_skipped:
        raise NoOpinion("the answer has no score")
    messages = found.get("messages")
    text = messages.get("smtp_message") if isinstance(messages, dict) else None
    return Opinion(
        action=action.lower(),
        score=None if is_skipped else score,
        required=_number(found.get("required_score")),
        symbols=_heaviest(found.get("symbols")),
        text=text if isinstance(text, str) else "",
    )


def _heaviest(symbols: Any) -> tuple[str, ...]:
    if not isinstance(symbols, dict):
        return ()
    weights = {
        name: abs(_number(symbol.get("score")) or 0.0) for name, symbol in symbols.items() if isinstance(symbol, dict)
    }
    return tuple(sorted(weights, key=lambda name: -weights[name])[:SYMBOLS])


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)
