"""The words for a bad configuration: how it is written, what was meant, and where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.file import load
from relay.config.model import ConfigError
from tests.config.loading import MINIMAL, refusal


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        ("wrokers = 2", "wrokers: unknown key; did you mean workers?"),
        ('[quque]\nurl = "x"', "quque: unknown key; did you mean queue?"),
        ('[http]\nadress = "x"', "http.adress: unknown key; did you mean http.address?"),
        ('[receive]\nmax_size = "1MB"', "did you mean receive.max_header_size or receive.max_message_size?"),
        (
            "[routes.domains.'a.example']\nnext_hopp = 'x'\nrecipients = 'any'",
            "routes.domains.a.example.next_hopp: unknown key; did you mean routes.domains.a.example.next_hop?",
        ),
        ('retry_for = "5d"', "retry_for: unknown key; did you mean queue.retry_for in the table [queue]?"),
        (
            '[delivery]\nretry_min = "5m"',
            "delivery.retry_min: unknown key; did you mean queue.retry_min in the table [queue]?",
        ),
        (
            '[smarthost]\nurl = "x"',
            "smarthost: unknown key; did you mean delivery.smarthost in the table [delivery] or ",
        ),
        ("[limits]\nworkers = 2", "limits.workers: unknown key; did you mean workers, above the first table?"),
        ('[queue]\nhostnme = "x"', "queue.hostnme: unknown key; did you mean hostname, above the first table?"),
        ("[routes]\nlocal_domain = []", "did you mean senders.local_domains in the table [senders]?"),
        ('[delivery]\nretry_fro = "5d"', "did you mean queue.retry_for in the table [queue]?"),
        ("unheard_of = 1", "unheard_of: unknown key\n"),
    ],
)
def test_it_is_told_what_an_unknown_key_may_mean(folder: Path, addition: str, said: str) -> None:
    assert said in refusal(folder, MINIMAL + addition) + "\n"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RELAY_WROKERS", "2", "RELAY_WROKERS: wrokers: unknown key; did you mean RELAY_WORKERS?"),
        ("RELAY_SRS_DOMAIN", "x", "RELAY_SRS_DOMAIN: srs_domain: unknown key; did you mean RELAY_SRS__DOMAIN?"),
        ("RELAY_SRS__DOMIAN", "x", "did you mean RELAY_SRS__DOMAIN?"),
        ("RELAY_RETRY_FOR", "5d", "did you mean RELAY_QUEUE__RETRY_FOR?"),
        ("RELAY_LISTEN", '[{"adress": "0.0.0.0:25"}]', "listen.0.adress: unknown key; did you mean listen.0.address?"),
    ],
)
def test_it_is_told_what_an_unknown_variable_may_mean(folder: Path, name: str, value: str, said: str) -> None:
    assert said in refusal(folder, MINIMAL, {name: value})


LISTEN = """RELAY_LISTEN='[{"address": "0.0.0.0:25"}]'"""


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("RELAY_LISTEN", "0.0.0.0:25", LISTEN),
        ("RELAY_LISTEN", "", LISTEN),
        ("RELAY_LISTEN", "[0.0.0.0:25]", LISTEN),
        ("RELAY_LISTEN", '["0.0.0.0:25"]', LISTEN),
        ("RELAY_LISTEN", '{"address": "0.0.0.0:25"}', LISTEN),
        ("RELAY_LISTEN__ADDRESS", "0.0.0.0:25", LISTEN),
        ("RELAY_LISTEN__0__ADDRESS", "0.0.0.0:25", LISTEN),
        ("RELAY_DKIM", "relay1", """RELAY_DKIM='[{"domain": "fwd.example", "selector": "relay1", "private_key": """),
        ("RELAY_SRS", "fwd.example", """RELAY_SRS='{"domain": "fwd.example", "secrets_file": "srs.secret"}'"""),
        ("RELAY_CLIENTS__TRUSTED", "10.0.0.1", """RELAY_CLIENTS__TRUSTED='["192.0.2.10", "2001:db8:7::/48"]'"""),
    ],
)
def test_a_variable_of_another_shape_is_told_its_own(folder: Path, name: str, value: str, shape: str) -> None:
    said = refusal(folder, MINIMAL, {name: value})
    assert name in said and f"it is written {shape}" in said


def test_a_shape_that_is_told_is_one_that_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as caught:
        load(None, {"RELAY_HOSTNAME": "mx.fwd.example"})
    environ = {"RELAY_HOSTNAME": "mx.fwd.example"}
    for line in str(caught.value).splitlines():
        assert "this key is required: " in line
        name, _, value = line.rpartition(": RELAY_")[2].partition("=")
        environ["RELAY_" + name] = value.strip("'")
    assert load(None, environ).listen[0].address == "0.0.0.0:25"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL.replace("[{", "{").replace("}]", "}"), "an array of tables is needed: [[listen]], with two brackets"),
        (MINIMAL.replace('[{address = "127.0.0.1:2525"}]', '"x"'), "each begins with the line [[listen]]"),
    ],
)
def test_a_file_with_one_table_in_place_of_an_array_is_told_the_header(folder: Path, text: str, said: str) -> None:
    assert said in refusal(folder, text)
