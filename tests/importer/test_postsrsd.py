"""Which version of PostSRSd a file is for, and what the imported configurations do once they are filled in."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from relay.importer import postsrsd
from relay.importer.draft import ImportFailed
from relay.importer.text import config_text
from relay.srs import address as srs
from relay.srs.configured_scheme import scheme_from_config
from tests.importer.loading import loaded

FIRST = "SRS_DOMAIN=srs.example\nSRS_SECRET={secret}\n"
SECOND = 'srs-domain = "srs.example"\nsecrets-file = "{secret}"\n'


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("tops3cr3t\nolder\n")
    return path


@pytest.mark.parametrize(("text", "program"), [(FIRST, "PostSRSd 1"), (SECOND, "PostSRSd 2")])
def test_the_version_is_seen_and_addresses_that_it_sent_are_answered(
    tmp_path: Path, secret: Path, text: str, program: str
) -> None:
    (tmp_path / "conf").write_text(text.format(secret=secret))
    draft = postsrsd.read(tmp_path / "conf")
    assert draft.program == program
    assert draft.value(("srs",), "hash") == "compatible"
    scheme = scheme_from_config(loaded(tmp_path, draft))
    now = 1577836860  # 2020-01-01, as in PostSRSd's own tests
    assert srs.forward("test@otherdomain.com", scheme, now) == "SRS0=vmyz=2W=otherdomain.com=test@srs.example"
    assert srs.reverse("SRS0=vmyz=2W=otherdomain.com=test@srs.example", scheme, now) == "test@otherdomain.com"
    assert time.time() > now


@pytest.mark.parametrize(
    ("name", "text"),
    [("postsrsd.conf", SECOND), ("postsrsd", FIRST), ("default/postsrsd", FIRST), ("override.conf", "[Service]\n")],
)
def test_the_usual_files_of_a_folder_are_found(tmp_path: Path, secret: Path, name: str, text: str) -> None:
    folder = tmp_path / "etc"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(text.format(secret=secret))
    assert postsrsd.read(folder).source == str(folder / name)


@pytest.mark.parametrize("text", ["", "root:x:0:0::/root:/bin/sh\n", "myhostname = mx.example\n", "Socket x\n"])
def test_anything_else_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "conf").write_text(text)
    with pytest.raises(ImportFailed, match=f"^{tmp_path}/conf: this is neither .* PostSRSd 1 .* PostSRSd 2 .*$"):
        postsrsd.read(tmp_path / "conf")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="there is none of"):
        postsrsd.read(tmp_path)


@pytest.mark.parametrize("wanted", [False, True])
def test_what_it_does_not_know_can_be_filled_in(tmp_path: Path, secret: Path, wanted: bool) -> None:
    (tmp_path / "conf").write_text(f"SRS_SECRET={secret}\n")
    draft = postsrsd.read(tmp_path / "conf")
    assert "srs.domain" in draft.to_fill_in()
    text = config_text(draft)
    assert re.search(r"^# To fill in: .*\n#domain = ", text, re.MULTILINE)
    assert re.search(r"^#hostname = ", text, re.MULTILINE)
    assert re.search(r"^#\[\[listen\]\]\n#address = ", text, re.MULTILINE)
    assert loaded(tmp_path, draft, wanted=wanted).srs.domain == "example.org"


def test_the_host_name_may_be_filled_in_for_mail(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "conf").write_text(FIRST.format(secret=secret))
    draft = postsrsd.read(tmp_path / "conf")
    assert draft.to_fill_in() == []
    assert re.search(r"^# If wanted: .*\n#hostname = ", config_text(draft), re.MULTILINE)
