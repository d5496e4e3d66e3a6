"""What `srs-relay check` says of rspamd and clamd."""

from __future__ import annotations

from pathlib import Path

from relay.check import content_filter
from tests.check.local_site import local_site
from tests.content_filter.answering import http, is_silent, rspamd, sends


async def test_without_a_filter_there_is_nothing_to_find(tmp_path: Path) -> None:
    assert await content_filter.check(local_site(tmp_path, {})) == []


async def test_an_rspamd_that_answers(tmp_path: Path) -> None:
    async with rspamd(sends(http(b"pong\r\n"))) as server:
        site = local_site(tmp_path, {}, filter={"rspamd": server.url})
        [finding] = await content_filter.check(site)
    assert (finding.level, finding.subject) == ("ok", f"127.0.0.1:{server.port}")


async def test_filters_that_are_away_or_silent(tmp_path: Path) -> None:
    missing = str(tmp_path / "clamd.ctl")
    async with rspamd(is_silent) as server:
        site = local_site(tmp_path, {}, filter={"rspamd": server.url, "clamav": missing, "timeout": "200ms"})
        silent, away = await content_filter.check(site)
    assert silent.level == away.level == "error"
    assert silent.text == "rspamd does not answer: mail passes unfiltered" and "11333" in silent.mend
    assert away.text == "clamd does not answer (No such file or directory): mail passes unfiltered"
    assert away.subject == missing and "LocalSocket" in away.mend
