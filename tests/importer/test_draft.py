"""What a draft collects."""

from __future__ import annotations

from relay.importer.draft import Draft, Origin

HERE = Origin("name", "file:7")


def test_an_array_has_each_value_once_with_its_first_origin() -> None:
    draft = Draft("Postfix", "main.cf")
    draft.add(("senders",), "local_domains", ["a.example", "b.example", "a.example"], HERE)
    draft.add(("senders",), "local_domains", ["b.example", "c.example"], Origin("other", "file:8"))
    assert draft.strings(("senders",), "local_domains") == ("a.example", "b.example", "c.example")
    origins = [item.origin for item in draft.tables[("senders",)]["local_domains"].items]
    assert origins == ["name (file:7)", "name (file:7)", "other (file:8)"]


def test_no_array_comes_of_no_values() -> None:
    draft = Draft("Postfix", "main.cf")
    draft.add(("senders",), "local_domains", [], HERE)
    assert draft.tables == {}


def test_what_is_known_is_not_asked_for() -> None:
    draft = Draft("Postfix", "main.cf")
    draft.set((), "hostname", "mx.a.example", HERE)
    draft.ask((), "hostname", "mx.example.org", "the name.")
    draft.ask(("srs",), "domain", "example.org", "the domain.")
    draft.ask(("routes",), "postmaster", "a@b.example", "who reads it.", "if wanted")
    assert draft.value((), "hostname") == "mx.a.example"
    assert draft.value(("srs",), "domain") is None
    assert draft.to_fill_in() == ["srs.domain"]


def test_a_value_takes_the_place_of_what_was_asked_for() -> None:
    draft = Draft("Postfix", "main.cf")
    draft.ask(("senders",), "local_domains", ("example.org",), "the domains.")
    draft.add(("senders",), "local_domains", ["a.example"], HERE)
    assert draft.strings(("senders",), "local_domains") == ("a.example",)
    assert draft.to_fill_in() == []
