"""What a configuration may say: wrong settings are refused by name, and what depends on several keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.srs.configured_scheme import scheme_from_config
from tests.config.loading import MINIMAL, loaded, refusal


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
        ("tls = {certificate = 'fullchain.pem'}", "tls: certificate and private_key belong together"),
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


def test_a_message_of_the_largest_size_has_to_fit_into_memory(folder: Path) -> None:
    said = "limits.message_memory has no room for one message of receive.max_message_size"
    assert said in refusal(folder, MINIMAL + "limits = {message_memory = '40MB'}")
    smaller = "limits = {message_memory = '40MB'}\nreceive = {max_message_size = '40MB'}"
    assert loaded(folder, MINIMAL + smaller).receive.max_message_size == 40_000_000
    assert loaded(folder, MINIMAL).receive.max_message_size == 50_000_000


def test_the_day_of_a_new_hash_is_one_of_utc(folder: Path) -> None:
    for day in ("2026-12-01", "2026-12-01T00:00:00Z", "2026-12-01T01:00:00+01:00", '"2026-12-01"'):
        srs = f'srs = {{domain = "a.example", secrets_file = "srs.secret", hash = "framed", framed_since = {day}}}\n'
        scheme = scheme_from_config(
            loaded(folder, f'hostname = "a.example"\nlisten = [{{address = "127.0.0.1:25"}}]\n{srs}')
        )
        assert scheme.framed and scheme.framed_since == 20788


def test_a_listener_with_tls_needs_a_certificate(folder: Path) -> None:
    text = MINIMAL.replace('"127.0.0.1:2525"', '"127.0.0.1:2525", tls = "implicit"')
    assert 'listen 127.0.0.1:2525: tls = "implicit" needs the section [tls]' in refusal(folder, text)


@pytest.mark.parametrize("networks", ["'0.0.0.0/0'", "'::/0'", "'0.0.0.0/1', '128.0.0.0/1'"])
def test_not_everyone_may_be_a_proxy(folder: Path, networks: str) -> None:
    """Who may say PROXY may claim the address of a trusted client."""
    proxied = f'"127.0.0.1:2525", proxy_protocol = true, proxies = [{networks}]'
    assert "would make this an open relay" in refusal(folder, MINIMAL.replace('"127.0.0.1:2525"', proxied))


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
        ('[delivery]\nmode = "direct"', "delivery.mode: must be 'queue', 'in-session' or 'auto'"),
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


# --- what depends on several keys -------------------------------------------------------------------------------------

ROUTED = (
    MINIMAL
    + """
senders = {local_domains = ["example.com"]}
dkim = [{domain = "example.net", selector = "relay1", private_key = "dkim/relay1.pem"}]
dmarc = {unforwardable = "reject"}

[routes.domains."plain.example"]
recipients = "any"
next_hop = "lmtp://10.0.0.5"

[routes.domains."trusting.example"]
recipients = "any"
srs = false

[routes.domains."careful.example"]
recipients = "any"
srs = "when-needed"
unforwardable = "rewrite-from"
"""
)


@pytest.mark.parametrize(
    ("domain", "next_hop", "srs_mode", "unforwardable"),
    [
        ("elsewhere.example", None, "always", "reject"),
        ("plain.example", "lmtp://10.0.0.5:24", "always", "reject"),
        ("trusting.example", None, False, "pass"),
        ("careful.example", None, "when-needed", "rewrite-from"),
    ],
)
def test_a_route_decides_for_its_domain(
    folder: Path, domain: str, next_hop: str | None, srs_mode: object, unforwardable: str
) -> None:
    config = loaded(folder, ROUTED)
    assert str(config.next_hop(domain)) == str(next_hop)
    assert (config.srs_mode(domain), config.unforwardable(domain)) == (srs_mode, unforwardable)


def test_own_domains_are_those_that_we_send_and_sign_for(folder: Path) -> None:
    assert loaded(folder, ROUTED).own_domains == {"example.com", "example.net", "fwd.example"}


def test_listeners_offer_tls_if_there_is_a_certificate(folder: Path) -> None:
    plain = loaded(folder, MINIMAL)
    assert plain.listener_tls(plain.listen[0]) == "none"
    tls = loaded(folder, MINIMAL + 'tls = {certificate = "fullchain.pem", private_key = "privkey.pem"}\n')
    assert tls.listener_tls(tls.listen[0]) == "starttls"


def test_results_are_under_the_host_name_unless_an_authserv_id_is_set(folder: Path) -> None:
    assert loaded(folder, MINIMAL).authserv == "mx.fwd.example"
    assert loaded(folder, 'authserv_id = "auth.example"\n' + MINIMAL).authserv == "auth.example"
