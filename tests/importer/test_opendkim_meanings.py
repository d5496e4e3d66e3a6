"""What settings of OpenDKIM mean: every one of them is known."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from relay.importer import opendkim
from relay.importer.opendkim_meanings import MEANINGS
from tests.peers import needs


@pytest.mark.parametrize("name", MEANINGS)
def test_each_meaning_is_a_sentence(name: str) -> None:
    assert MEANINGS[name].text.endswith(".")
    assert all(value == value.lower() for value in MEANINGS[name].usual)


@needs("opendkim")
def test_every_setting_of_the_manual_is_known() -> None:
    manual = Path("/usr/share/man/man5/opendkim.conf.5.gz")
    if not manual.exists():
        pytest.skip("this system has no manual pages")
    names = re.findall(r"^\.I ([A-Z][\w-]+) \(", gzip.decompress(manual.read_bytes()).decode(), re.MULTILINE)
    known = {name.lower() for name in opendkim.KNOWN}
    assert len(names) > 100
    assert [name for name in names if name.lower() not in known] == []
