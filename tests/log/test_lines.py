"""Lines as an administrator reads them and as a collector parses them, with bad data in them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
import structlog

from tests.log.reading import objects, written

LOGGER = structlog.get_logger()
HOSTILE = 'x\r\n{"event":"forged"}\x1b[2J\x7f\x9b31m\u2028\u202e end'


def test_a_step_on_the_terminal_is_one_line() -> None:
    stream = written("console")
    LOGGER.info("queued", id="4F7K2Q", sender="a@b.example", recipient=["c@d.example", "e@f.example"], size=123)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d 4F7K2Q +queued +from=<a@b.example> to=<c@d.example>,<e@f.example> size=123\n",
        stream.getvalue(),
    )


def test_the_terminal_marks_what_is_not_ordinary_and_quotes_what_holds_spaces() -> None:
    stream = written("console")
    LOGGER.warning("deferred", sender="", reply='450 4.2.0 "later"', tls=None)
    assert stream.getvalue()[9:] == f'{"":12} {"deferred":13} warning from=<> reply="450 4.2.0 \\"later\\""\n'


def test_the_terminal_leaves_out_what_is_empty_and_shows_no_python() -> None:
    stream = written("console")
    LOGGER.info("deferred", sender="", host="", dkim=[], tls=None, from_rewritten=True, signed=False, code=0)
    assert stream.getvalue()[9:] == f"{'':12} {'deferred':13} from=<> from_rewritten=true signed=false code=0\n"


def test_json_keeps_the_types() -> None:
    stream = written("json")
    LOGGER.info("deferred", host="", dkim=[], from_rewritten=True, code=0)
    [line] = objects(stream)
    assert (line["host"], line["dkim"], line["from_rewritten"], line["code"]) == ("", [], True, 0)


@pytest.mark.parametrize("name", ["to", "recipient"])
@pytest.mark.parametrize("value", ["c@d.example", ["c@d.example"]])
def test_recipients_are_always_a_list(name: str, value: str | list[str]) -> None:
    stream = written("json")
    LOGGER.info("delivered", **{name: value})
    assert objects(stream)[0]["to"] == ["c@d.example"]
    stream = written("console")
    LOGGER.info("delivered", **{name: value})
    assert stream.getvalue().endswith(" to=<c@d.example>\n")


FORGERIES = [
    ("helo", "x reply=550", 'helo="x reply=550"'),
    ("helo", "x=y", 'helo="x=y"'),
    ("helo", 'x" reply="550', r'helo="x\" reply=\"550"'),
    ("helo", 'x\\" reply=550 "', r'helo="x\\\" reply=550 \""'),
    ("helo", "x\\", r'helo="x\\"'),
    ("helo", "x\u202ey", r'helo="x\u202ey"'),
    ("helo", r"x\u202ey", r'helo="x\\u202ey"'),
    ("helo", "x\u00a0reply", r'helo="x\xa0reply"'),
    ("helo", "<x>", 'helo="<x>"'),
    ("helo", "b\u00fccher.example", "helo=b\u00fccher.example"),
    ("message_id", "<a=b@c.example>", "message_id=<a=b@c.example>"),
    ("message_id", "a@c.example", "message_id=a@c.example"),
    ("message_id", "<a@c> ip=<b@d>", 'message_id="<a@c> ip=<b@d>"'),
    ("message_id", '<a"b@c>', r'message_id="<a\"b@c>"'),
    ("message_id", "<a\\b@c>", r'message_id="<a\\b@c>"'),
    ("message_id", "<a><b>", 'message_id="<a><b>"'),
    ("sender", "a@b> to=<c@d", 'from="a@b> to=<c@d"'),
    ("sender", "a@b>\u2003to=<c@d", r'from="a@b>\u2003to=<c@d"'),
    ("sender", '"a b"@c.example', r'from="\"a b\"@c.example"'),
    ("sender", r'"a\.b"@c.example', r'from="\"a\\.b\"@c.example"'),
    ("sender", "SRS0=HHHH=TT=c.example=a@b.example", "from=<SRS0=HHHH=TT=c.example=a@b.example>"),
    ("to", ["a@b.example", "c@d>,<e@f"], 'to=<a@b.example>,"c@d>,<e@f"'),
    ("to", ["a,b@c.example"], "to=<a,b@c.example>"),
    ("hosts", ["a", "b,c", "d e"], 'hosts=a,"b,c","d e"'),
]


@pytest.mark.parametrize(("name", "value", "shown"), FORGERIES)
def test_no_value_passes_for_another_field(name: str, value: object, shown: str) -> None:
    stream = written("console")
    LOGGER.info("mail", **{name: value})
    assert stream.getvalue()[9:] == f"{'':12} {'mail':13} {shown}\n"


def test_a_step_in_json_is_one_object() -> None:
    stream = written("json")
    LOGGER.bind(id="4F7K2Q").info("queued", sender="ä@b.example", recipient="c@d.example", size=123, tls=None)
    [line] = objects(stream)
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    del line["time"]
    assert line == {
        "level": "info",
        "event": "queued",
        "id": "4F7K2Q",
        "from": "ä@b.example",
        "to": ["c@d.example"],
        "size": 123,
    }


@pytest.mark.parametrize("style", ["console", "json"])
def test_control_characters_never_reach_the_reader(style: Literal["console", "json"]) -> None:
    stream = written(style)
    LOGGER.info("mail", id=HOSTILE, sender=HOSTILE, helo=HOSTILE, surrogate="\udc80", many=[HOSTILE])
    text = stream.getvalue()
    assert text.endswith("\n") and text[:-1].isprintable()
    if style == "json":
        assert objects(stream)[0]["helo"] == HOSTILE


@pytest.mark.parametrize("style", ["console", "json"])
def test_secrets_and_content_stay_out(style: Literal["console", "json"]) -> None:
    stream = written(style)
    password = "hunter" + "2"  # in two parts: a traceback shows the lines of its source
    try:
        raise ValueError(f"no answer from postgresql://relay:{password}@db/queue")
    except ValueError:
        LOGGER.exception("queue", password=password, url=f"smtp://me:{password}@host:587", body=password.encode())
    text = stream.getvalue()
    assert password not in text
    assert "postgresql://relay:***@db/queue" in text
    assert "[7 octets]" in text


def test_an_address_after_a_url_is_not_taken_for_a_password() -> None:
    stream = written("json")
    LOGGER.info("attempt", hop="smtp://host:25", recipient="c@d.example")
    assert objects(stream)[0]["hop"] == "smtp://host:25"


def test_what_json_has_no_form_for_does_not_raise() -> None:
    stream = written("json")
    LOGGER.info("x", path=Path("/a"), names={"b", "a"}, error=OSError(5, "oh"), odd={(1, 2): 3})
    [line] = objects(stream)
    assert (line["path"], line["names"], line["error"]) == ("/a", ["a", "b"], "[Errno 5] oh")


def test_an_exception_is_a_field() -> None:
    stream = written("json")
    try:
        raise KeyError("missing")
    except KeyError:
        LOGGER.exception("session")
    [line] = objects(stream)
    assert line["level"] == "error"
    assert line["exception"][0]["exc_type"] == "KeyError"
    assert line["exception"][0]["frames"][0]["name"] == "test_an_exception_is_a_field"
