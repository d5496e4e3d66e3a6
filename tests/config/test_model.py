"""The configuration as an administrator meets it: the reference file is complete and true, errors name the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from relay.config.file import load, loosely_guarded, open_folders, unread_hosts
from relay.config.model import Config, ConfigError
from relay.config.values import duration, moment, size
from relay.network import Endpoint, endpoint
from relay.srs.configured_scheme import scheme_from_config

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "config/relay.toml").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "config/examples").glob("*.toml"))
OFF = re.compile(r"#(?=\[|[a-z_0-9]+ = )")  # a setting that is off; prose has a space after its "#"

MINIMAL = """
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every file that the reference and the examples name."""
    (tmp_path / "dkim").mkdir()
    (tmp_path / "opendkim").mkdir()
    for name in (
        "srs.secret",
        "dkim/relay1.pem",
        "dkim/arc1.pem",
        "aliases",
        "fullchain.pem",
        "privkey.pem",
        "smarthost.password",
    ):
        (tmp_path / name).write_text("x\n")
    return tmp_path


def loaded(folder: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    (folder / "relay.toml").write_text(text.replace("/etc/opendkim", f"{folder}/opendkim"), encoding="utf-8")
    return load(folder / "relay.toml", environ or {})


def refusal(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, environ)
    return str(caught.value)


# --- the reference ----------------------------------------------------------------------------------------------------


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section behind a field's type, if there is one: `Tls | None`, `tuple[Listen, ...]`, `dict[str, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if annotation is Endpoint else annotation
    return next((model for argument in get_args(annotation) if (model := _model(argument))), None)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _model(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from _keys(section, f"{prefix}{name}.")


def _written(table: Any, prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if prefix + name == "routes.domains":
            inner = next(iter(value.values()))
        if isinstance(inner, dict):
            yield from _written(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_reference_loads_as_it_is(folder: Path) -> None:
    assert loaded(folder, REFERENCE).srs.domain == "fwd.example"


def test_the_reference_loads_with_every_setting_on(folder: Path) -> None:
    config = loaded(folder, OFF.sub("", REFERENCE))
    assert [listener.address for listener in config.listen] == ["0.0.0.0:25", "[::]:25"]
    assert config.delivery.smarthost is not None and config.delivery.smarthost.user == "fwd"


def test_the_reference_has_every_key_and_no_other() -> None:
    assert sorted(_written(tomllib.loads(OFF.sub("", REFERENCE)))) == sorted(_keys(Config))


LINES = REFERENCE.splitlines()
HEADERS = [n for n, line in enumerate(LINES) if re.match(r"#?\[", line)]
OFF_LINES = [n for n, line in enumerate(LINES) if OFF.match(line) and n not in HEADERS]
# What is refused without its other half.
TOGETHER = (
    {"user", "password_file"},
    {"recipients", "next_hop"},
    {"domain", "selector", "private_key"},
    {"framed_since", "hash"},
)


def _name(line: str) -> str:
    return line.removeprefix("#").partition(" ")[0]


def _switched_on(number: int) -> str:
    """The reference with the setting of one line switched on, and with it what it cannot stand without."""
    header = max((n for n in HEADERS if n < number), default=0)
    end = min((n for n in HEADERS if n > number), default=len(LINES))
    wanted = {_name(LINES[number])}
    if LINES[header].startswith("#["):
        wanted |= {name for section in _sections(Config) for name, f in section.model_fields.items() if f.is_required()}
    wanted = wanted.union(*(pair for pair in TOGETHER if pair & wanted))
    lines = list(LINES)
    for n in range(header, end):
        if n in (header, number) or _name(lines[n]) in wanted:
            lines[n] = OFF.sub("", lines[n])
    return "\n".join(lines)


@pytest.mark.parametrize("number", OFF_LINES, ids=lambda n: f"{n + 1}-{_name(LINES[n])}")
def test_each_setting_loads_when_it_is_switched_on_alone(folder: Path, number: int) -> None:
    assert LINES[number].removeprefix("#") in _switched_on(number).splitlines()
    loaded(folder, _switched_on(number))


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if section := _model(field.annotation):
            yield from _sections(section)


# What the reference shows as an example because there is no default, or one that depends on the host or on other keys.
EXAMPLES_NOT_DEFAULTS = {
    "arc.domain",
    "arc.private_key",
    "arc.selector",
    "arc.trusted_sealers",
    "authserv_id",
    "clients.authserv_ids",
    "dkim.active_from",
    "dkim.active_until",
    "dkim.sign",
    "dmarc.skip",
    "routes.domains.unforwardable",
    "workers",
    "listen.tls",
    "dns.nameservers",
    "clients.trusted",
    "senders.local_domains",
    "signing.opendkim",
    "spf.skip",
    "srs.framed_since",
    "srs.hash",
    "routes.aliases",
    "routes.postmaster",
    "routes.domains.next_hop",
    "routes.domains.srs",
    "delivery.source_ipv4",
    "delivery.source_ipv6",
    "delivery.smarthost.user",
    "delivery.smarthost.password_file",
    "delivery.smarthost.tls",
    "delivery.smarthost.null_sender",
}


def test_what_the_reference_shows_as_default_is_the_default(folder: Path) -> None:
    on = loaded(folder, OFF.sub("", REFERENCE))
    shown: dict[str, tuple[object, object]] = {}

    def compare(section: BaseModel, prefix: str) -> None:
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            first = value[0] if isinstance(value, tuple) and value else value
            if prefix + name == "routes.domains":
                first = next(iter(value.values()))
            if isinstance(first, BaseModel) and not isinstance(first, Endpoint):
                compare(first, f"{prefix}{name}.")
            elif not field.is_required():
                shown[prefix + name] = (value, field.get_default(call_default_factory=True))

    compare(on, "")
    shown["queue.url"] = (on.queue.url, f"sqlite:///{folder / 'queue.db'}")
    assert {key for key, (value, default) in shown.items() if value != default} <= EXAMPLES_NOT_DEFAULTS


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_loads(folder: Path, example: Path) -> None:
    loaded(folder, example.read_text(encoding="utf-8"))


def test_there_is_an_example_for_each_of_the_three_uses() -> None:
    assert [path.stem for path in EXAMPLES] == ["forwarding-host", "mailbox-front", "postfix-relayhost"]


# --- what is refused, and in which words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        ("wrokers = 2", "wrokers: unknown key"),
        ("workers = 0", "workers: must be greater than or equal to 1"),
        ("clients = {trusted = ['0.0.0.0/0']}", "clients.trusted: 0.0.0.0/0 would make this an open relay"),
        (
            "clients = {trusted = ['0.0.0.0/1', '128.0.0.0/1']}",
            "clients.trusted: 0.0.0.0/0 would make this an open relay",
        ),
        ("clients = {trusted = ['::/0']}", "clients.trusted: ::/0 would make this an open relay"),
        ("clients = {trusted = '10.0.0.1'}", 'clients.trusted: an array is needed, like ["…"]'),
        ("clients = {trusted = ['mail.example']}", "clients.trusted.0: 'mail.example' is not an address or network"),
        ("dns = {timeout = 5}", "dns.timeout: a duration is written with its unit"),
        ("receive = {max_message_size = 'large'}", 'receive.max_message_size: a size is written like "25MB"'),
        ("receive = {max_message_size = 0}", "receive.max_message_size: must be greater than or equal to 1"),
        ("limits = {recipients = 50}", "limits.recipients: must be greater than or equal to 100"),
        ("spf = {fail = 'bounce'}", "spf.fail: must be 'reject-unless-dkim', 'reject', 'defer' or 'tag'"),
        ("tls = {certificate = 'fullchain.pem'}", "tls.private_key: this key is required"),
        ("http = {address = 'localhost:8025'}", "http.address: 'localhost:8025' is not an address with a port"),
        ("queue = {url = 'sqlite:///:memory:'}", "queue.url: the queue must be a file"),
        ("queue = {url = 'mysql://db/relay'}", "queue.url: sqlite:///FILE or postgresql://"),
        ("routes = 'aliases'", "routes: a table is needed, not one value"),
        ("routes = {aliases = 'missing'}", "missing: No such file or directory"),
        ("routes = {domains = {'a b' = {recipients = 'any'}}}", "routes.domains.a b: 'a b' is not a domain name"),
        (
            "routes = {domains = {'a.example' = {next_hop = 'lmtp://h'}}}",
            "routes.domains.a.example.recipients: this key",
        ),
        ("routes = {postmaster = 'nobody'}", "routes.postmaster: a full address, like admin@mailbox.example"),
        ("routes = {domains = {'a.example' = {recipients = 'callout'}}}", 'recipients = "callout" needs next_hop'),
        ("routes = {domains = {'fwd.example' = {recipients = 'any'}}}", "srs.domain must not be a domain route"),
        (
            "delivery = {smarthost = {url = 'http://h'}}",
            "delivery.smarthost.url: a next hop is written smtp://host:port",
        ),
        ("delivery = {smarthost = {url = 'smtp://h', user = 'u'}}", "user and password_file belong together"),
        ("delivery = {families = []}", 'delivery.families: at least one of "ipv4" and "ipv6"'),
    ],
)
def test_a_bad_setting_is_refused_by_name(folder: Path, addition: str, said: str) -> None:
    assert said in refusal(folder, MINIMAL + addition)


@pytest.mark.parametrize(
    ("srs", "said"),
    [
        ("max_age = '600d'", 'srs.max_age: between "1d" and "512d"'),
        ("hash_length = 3", "srs.hash_length: must be greater than or equal to 4"),
        ("hash_min = 5", "srs: hash_min is larger than hash_length"),
        ("separator = '#'", "srs.separator: must be '=', '+' or '-'"),
        ("hash = 'md5'", "srs.hash: must be 'compatible' or 'framed'"),
        ("framed_since = 2026-12-01", 'srs: framed_since needs hash = "framed"'),
        ("hash = 'framed'\nframed_since = 2026-12-01T12:00:00Z", "srs.framed_since: a day, like 2026-12-01"),
        ("hash = 'framed'\nframed_since = 'soon'", "srs.framed_since: a moment is written like 2026-07-01"),
    ],
)
def test_an_srs_setting_that_other_hosts_could_not_read_is_refused(folder: Path, srs: str, said: str) -> None:
    text = f'listen = [{{address = "127.0.0.1:25"}}]\n[srs]\ndomain = "a.example"\nsecrets_file = "srs.secret"\n{srs}'
    assert said in refusal(folder, text)


def test_the_day_of_a_new_hash_is_one_of_utc(folder: Path) -> None:
    for day in ("2026-12-01", "2026-12-01T00:00:00Z", "2026-12-01T01:00:00+01:00", '"2026-12-01"'):
        srs = f'srs = {{domain = "a.example", secrets_file = "srs.secret", hash = "framed", framed_since = {day}}}\n'
        scheme = scheme_from_config(loaded(folder, f'listen = [{{address = "127.0.0.1:25"}}]\n{srs}'))
        assert scheme.framed and scheme.framed_since == 20788


def test_a_listener_with_tls_needs_a_certificate(folder: Path) -> None:
    text = MINIMAL.replace('"127.0.0.1:2525"', '"127.0.0.1:2525", tls = "implicit"')
    assert 'listen 127.0.0.1:2525: tls = "implicit" needs the section [tls]' in refusal(folder, text)


@pytest.mark.parametrize("networks", ["'0.0.0.0/0'", "'::/0'", "'0.0.0.0/1', '128.0.0.0/1'"])
def test_not_everyone_may_be_a_proxy(folder: Path, networks: str) -> None:
    """Who may say PROXY may claim the address of a trusted client."""
    proxied = f'"127.0.0.1:2525", proxy_protocol = true, proxies = [{networks}]'
    assert "would make this an open relay" in refusal(folder, MINIMAL.replace('"127.0.0.1:2525"', proxied))


def test_every_mistake_is_named_at_once(folder: Path) -> None:
    said = refusal(folder, MINIMAL + "wrokers = 2\nspf = {fail = 'bounce'}").splitlines()
    assert [line.partition("relay.toml: ")[2].partition(":")[0] for line in said] == ["spf.fail", "wrokers"]


def test_a_file_that_is_no_toml_is_refused_with_its_line(folder: Path) -> None:
    assert "line 2" in refusal(folder, 'hostname = "a"\nlisten = ?\n')


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory"):
        load(tmp_path / "nowhere.toml", {})


# --- paths, units, environment ----------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_files_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = loaded(folder, MINIMAL + "routes = {domains = {'a.example' = {recipients = 'aliases'}}}")
    assert config.srs.secrets_file == folder / "srs.secret"
    assert config.queue.url == f"sqlite:///{folder / 'queue.db'}"
    assert config.routes.domains["a.example"].recipients == str(folder / "aliases")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("5min", 300), ("4h", 14400), ("1.5d", 129600), ("2w", 1209600)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "octets"), [("25MB", 25_000_000), ("64KiB", 65536), ("1GB", 10**9), (4096, 4096), ("4096", 4096)]
)
def test_sizes(text: object, octets: int) -> None:
    assert size(text) == octets


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-07-01", 1782864000),
        ("2026-07-01T12:00:00Z", 1782907200),
        ("2026-07-01 14:00:00+02:00", 1782907200),
        ("2026-07-01T12:00:00", 1782907200),
    ],
)
def test_moments_are_in_utc_as_toml_or_as_text(folder: Path, text: str, seconds: int) -> None:
    assert moment(text).timestamp() == moment(tomllib.loads(f"at = {text}")["at"]).timestamp() == seconds


def test_the_environment_says_when_a_key_signs(folder: Path) -> None:
    dkim = '[{"domain": "a.example", "selector": "s", "private_key": "srs.secret", "active_from": "2026-07-01"}]'
    [entry] = loaded(folder, MINIMAL, {"RELAY_DKIM": dkim}).dkim
    assert entry.active_from is not None and entry.active_from.isoformat() == "2026-07-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("active_from = 12:00:00", "dkim.0.active_from: a moment is written like 2026-07-01 or 2026-07-01T12:00:00Z"),
        ("active_from = 1782864000", "dkim.0.active_from: a moment is written like"),
        ("active_until = 'soon'", "dkim.0.active_until: a moment is written like"),
        (
            "active_from = 2026-07-01\nactive_until = 2026-07-01T00:00:00Z",
            "dkim.0: active_until has to be later than active_from",
        ),
        ("sign = ['a b']", "dkim.0.sign.0: 'a b' is not a domain name"),
        ("sign = ['a.*.example']", "dkim.0.sign.0: 'a.*.example' is not a domain name"),
        ("sign = 'a.example'", 'dkim.0.sign: an array is needed, like ["…"]'),
    ],
)
def test_a_key_entry_that_cannot_be_meant_is_refused(folder: Path, line: str, said: str) -> None:
    entry = '[[dkim]]\ndomain = "a.example"\nselector = "s"\nprivate_key = "dkim/relay1.pem"\n'
    assert said in refusal(folder, MINIMAL + entry + line)


def test_half_a_sealing_key_is_refused(folder: Path) -> None:
    said = "arc: domain, selector and private_key belong together"
    assert said in refusal(folder, MINIMAL + '[arc]\nselector = "s"\n')


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("smtp://mail.example", "smtp://mail.example:25"),
        ("smtps://mail.example", "smtps://mail.example:465"),
        ("lmtp://10.0.0.5", "lmtp://10.0.0.5:24"),
        ("smtp://[2001:db8::1]:2525", "smtp://[2001:db8::1]:2525"),
    ],
)
def test_next_hops_have_the_schemes_own_port(url: str, written: str) -> None:
    assert str(endpoint(url)) == written


@pytest.mark.parametrize("url", ["mail.example", "smtp://", "smtp://user:pw@mail.example", "smtp://mail.example/path"])
def test_other_next_hops_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a next hop is written"):
        endpoint(url)


def test_the_environment_alone_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    environ = {
        "RELAY_HOSTNAME": "mx.fwd.example",
        "RELAY_WORKERS": "3",
        "RELAY_LISTEN": '[{"address": "[::]:2525"}]',
        "RELAY_SRS__DOMAIN": "fwd.example",
        "RELAY_SRS__SECRETS_FILE": "srs.secret",
        "RELAY_DELIVERY__SMARTHOST__URL": "smtp://127.0.0.1:2526",
        "HOME": "/root",
    }
    config = load(None, environ)
    assert (config.workers, config.listen[0].address, config.srs.domain) == (3, "[::]:2525", "fwd.example")
    assert config.srs.secrets_file == folder / "srs.secret"
    assert config.delivery.smarthost is not None and config.delivery.smarthost.url.port == 2526


def test_the_environment_wins_over_the_file(folder: Path) -> None:
    config = loaded(folder, MINIMAL, {"RELAY_SRS__DOMAIN": "other.example", "RELAY_SPF__FAIL": "defer"})
    assert (config.srs.domain, config.spf.fail, config.hostname) == ("other.example", "defer", "mx.fwd.example")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RELAY_WROKERS", "2", "RELAY_WROKERS: wrokers: unknown key"),
        ("RELAY_SRS__DOMIAN", "x", "RELAY_SRS__DOMIAN: srs.domian: unknown key"),
        ("RELAY_LISTEN", '[{"address": ', "RELAY_LISTEN: not valid JSON"),
        ("RELAY_LISTEN", '[{"adress": "0.0.0.0:25"}]', "RELAY_LISTEN: listen.0.adress: unknown key"),
    ],
)
def test_a_bad_variable_is_refused_by_name(folder: Path, name: str, value: str, said: str) -> None:
    assert said in refusal(folder, MINIMAL, {name: value})


def test_opendkims_trusted_hosts_become_trusted_clients(folder: Path) -> None:
    (folder / "opendkim" / "TrustedHosts").write_text("127.0.0.1\n192.0.2.0/24\n!192.0.2.128/25\nmail.example\n")
    config = loaded(folder, MINIMAL + 'signing = {opendkim = "opendkim"}\nclients = {trusted = ["10.0.0.1"]}\n')
    assert [str(network) for network in config.clients.trusted] == ["10.0.0.1/32", "192.0.2.0/25", "127.0.0.1/32"]
    assert [entry.key for entry in unread_hosts(config)] == ["mail.example"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0.0.0.0/0", "signing.opendkim: {folder}/opendkim/TrustedHosts:1: 0.0.0.0/0 would make this an open relay"),
        ("\xff", "signing.opendkim: {folder}/opendkim/TrustedHosts: not UTF-8"),
    ],
)
def test_bad_trusted_hosts_are_refused_by_file(folder: Path, content: str, said: str) -> None:
    (folder / "opendkim" / "TrustedHosts").write_text(content, encoding="latin-1")
    assert said.format(folder=folder) in refusal(folder, MINIMAL + 'signing = {opendkim = "opendkim"}\n')


def test_a_folder_that_is_not_there_is_refused(folder: Path) -> None:
    said = f"signing.opendkim: {folder}/gone: no such folder"
    assert said in refusal(folder, MINIMAL + 'signing = {opendkim = "gone"}\n')


EVERY_SECRET = (
    MINIMAL
    + """
tls = {certificate = "fullchain.pem", private_key = "privkey.pem"}
arc = {domain = "fwd.example", selector = "arc1", private_key = "dkim/arc1.pem"}
dkim = [{domain = "fwd.example", selector = "relay1", private_key = "dkim/relay1.pem"}]
signing = {opendkim = "opendkim"}
delivery = {smarthost = {url = "smtp://s.example", user = "u", password_file = "smarthost.password"}}
queue = {url = "sqlite:///queue.db"}
"""
)
SECRETS = [
    *("srs.secret", "privkey.pem", "dkim/arc1.pem", "dkim/relay1.pem", "smarthost.password"),
    *("opendkim/old.private", "queue.db", "queue.db-wal"),
]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_what_others_can_read_or_write_is_named(folder: Path, name: str, mode: int) -> None:
    (folder / "opendkim" / "KeyTable").write_text("old fwd.example:old:./old.private\n")
    (folder / "opendkim" / "SigningTable").write_text("fwd.example old\n")
    for one in SECRETS:
        (folder / one).touch()
        (folder / one).chmod(0o600)
    config = loaded(folder, EVERY_SECRET)
    assert loosely_guarded(config) == []
    (folder / name).chmod(mode)
    assert loosely_guarded(config) == [folder / name]


@pytest.mark.parametrize(("password", "named"), [(":hunter2", True), ("", False)])
def test_a_configuration_with_a_password_in_it_is_a_secret(folder: Path, password: str, named: bool) -> None:
    config = loaded(folder, MINIMAL + f'queue = {{url = "postgresql://relay{password}@db.example/queue"}}\n')
    (folder / "srs.secret").chmod(0o600)
    (folder / "relay.toml").chmod(0o644)
    assert loosely_guarded(config, folder / "relay.toml") == [folder / "relay.toml"] * named


@pytest.mark.parametrize(("mode", "named"), [(0o755, False), (0o777, True), (0o1777, False), (0o775, False)])
def test_a_folder_in_which_everybody_may_replace_a_secret_is_named(folder: Path, mode: int, named: bool) -> None:
    config = loaded(folder, MINIMAL)
    folder.chmod(mode)
    assert open_folders(config) == [folder] * named


# --- what a slip leads to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[dns]\ntimeout = "0s"', "dns.timeout: must be greater than 0"),
        ('[queue]\nlease = "0s"', "queue.lease: must be greater than 0"),
        ("[receive]\nmax_message_size = 0", "receive.max_message_size: must be greater than or equal to 1"),
        (
            '[routes.domains."a.example"]\nrecipients = "any"\nsrs = "maybe"',
            'routes.domains.a.example.srs: false, "when-needed" or "always"',
        ),
        ('[dmarc]\nskip = ["0.0.0.0/0"]', "dmarc.skip: 0.0.0.0/0 would turn DMARC off"),
        ('[clients]\nauthserv_ids = ["a b"]', "clients.authserv_ids.0: 'a b' is no authserv-id"),
        ('[delivery]\nmode = "in-session"', "delivery.mode: must be 'queue'"),
        (
            '[[dkim]]\ndomain = "a.example"\nselector = "s"\nprivate_key = "x"\n' * 2,
            "two keys for s._domainkey.a.example",
        ),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_line_that_names_its_key(folder: Path, text: str, said: str) -> None:
    [line] = refusal(folder, MINIMAL + text).splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ('{address = "localhost:25"}', "listen.0.address: "),
        ('{address = "127.0.0.1:25", tls = "maybe"}', "listen.0.tls: "),
        ("", "listen: one at least is needed"),
        ('{address = "127.0.0.1:25"}, {address = "127.0.0.1:25"}', "listen: 127.0.0.1:25 stands there twice"),
    ],
)
def test_a_bad_listener_is_one_line(folder: Path, listen: str, said: str) -> None:
    text = MINIMAL.replace('{address = "127.0.0.1:2525"}', listen)
    [line] = refusal(folder, text).splitlines()
    assert said in line


def test_a_smarthost_without_credentials_may_say_so(folder: Path) -> None:
    text = MINIMAL + '[delivery.smarthost]\nurl = "smtp://hub.example:587"\nuser = ""\npassword_file = ""\n'
    smarthost = loaded(folder, text).delivery.smarthost
    assert smarthost is not None and smarthost.password_file is None and smarthost.tls_level == "may"
