"""Reads the answer of rspamd to `/checkv2`: its action, the score, and the names of the rules that matched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson

from relay.content_filter.scanned import NoOpinion

SYMBOLS = 5  # that the log names, those that weigh most first
NAME = 64  # characters of an action or a symbol that are kept; real names are shorter


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
        # rspamd copies octets of the message into fields that its modules add (`milter`): they may be no UTF-8, and
        # must not keep its opinion from us.
        found = orjson.loads(body.decode("utf-8", "replace"))
    except ValueError:
        raise NoOpinion("the answer is no JSON") from None
    action = found.get("action") if isinstance(found, dict) else None
    if not isinstance(action, str) or not action:
        error = found.get("error", "") if isinstance(found, dict) else ""
        raise NoOpinion(f"the answer has no action: {error!s:.200}")
    action = action.lower()[:NAME]
    score = found.get("score")
    if score is not None and _number(score) is None:
        raise NoOpinion("the score in the answer is no number")
    # Test messages (GTUBE) count as skipped, too, but have another action.
    was_read = found.get("is_skipped") is not True or action != "no action"
    messages = found.get("messages")
    text = messages.get("smtp_message") if isinstance(messages, dict) else None
    return Opinion(
        action=action,
        score=_number(score) if was_read else None,
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
    return tuple(name[:NAME] for name in sorted(weights, key=lambda name: -weights[name])[:SYMBOLS])


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)
