"""The cases of postfix-mta-sts-resolver (release 1.5.0, as Debian has its sources), on servers that this test starts.

Its suite needs nginx and dnsmasq on fixed ports of the machine. Here their configuration is read, and served by a DNS
and an HTTPS server on loopback. 63 rows say what Postfix gets for a next hop, 25 what looking for a policy finds.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay import https
from relay.dns import CachingResolver
from relay.metrics import Metrics
from relay.queue.connect import connect
from relay.queue.store import Store
from relay.transport_security.mta_sts import MtaStsPolicies
from relay.transport_security.policy_host import PolicyHosts
from tests.debian_sources import debian_source
from tests.https_server import Answer, Authority, HttpsServer, plain
from tests.journeys.world import Nameserver, Zone
from tests.peers import needs

pytestmark = [needs("apt-get"), pytest.mark.slow]

FILES = {
    "refdata.tsv": "1483b197eaa0d68faa7fcc563bea446e452a225162dcb42aea2ec32a4f4f87fd",
    "refdata_nosni.tsv": "5d3e14b44b01bce7781519a9ef20d5a8df810e502eada55b3f8dca71ef7d3eb2",
    "refdata_strict.tsv": "1e093cd7337569c961b3e47f05575f511d349cb5eaa6a7b06e46385066e3cc5d",
    "nginx.conf": "541c6a21c1aad66abc2a29abbb3723d41a02859662bba58b1dd1094ac131ce62",
    "dnsmasq.conf.appendix": "ebcfde282ce8130e9926850e66a2c9c4c5433250964c756f57b2460126f37dcf",
    "test_resolver.py": "0d2e73e43ac5b2160a127c6a8686f19e9f0c734e21bd8c127764d1dd8545d3a8",
    "install.debian.sh": "bd2ca57362f5dd45a7b72fec8d1a73c8fa6f7fa17491a56002c2145d1bb54ca9",
}

NOT_BY_MX = "a next hop in brackets or with a port is not found by MX, so no policy applies to it (RFC 8461 section 3)"
DEVIATIONS = dict.fromkeys(["[good.loc]", "[good.loc]:123", "good.loc:123"], NOT_BY_MX)
"""What Postfix may have as a next hop, where we find no policy and they do."""


def source(name: str) -> str:
    return debian_source("postfix-mta-sts-resolver", f"tests/{name}", FILES[name], release="trixie").decode()


def zone() -> Zone:
    """What their dnsmasq answers."""
    config = source("dnsmasq.conf.appendix")
    records: Zone = {(name, "A"): [ip] for name, ip in re.findall(r"^address=/([^/]+)/(\S+)$", config, re.MULTILINE)}
    return records | {
        (name, "TXT"): [text] for name, text in re.findall(r"^txt-record=([^,]+),(\".*\")$", config, re.MULTILINE)
    }


def answers() -> dict[str, Answer]:
    """What their nginx answers, by host."""
    found: dict[str, Answer] = {}
    for block in source("nginx.conf").split("    server {\n")[1:]:
        host = re.findall(r"server_name (\S+);", block)[0]
        media_type = "text/html" if "text/html" in block else "text/plain"
        policy = re.search(r'return (\d+) "(.*)";', block)
        if policy:
            found[host] = plain(policy[2].replace("\\n", "\n"), f"{policy[1]} x", media_type)
        else:  # a block of Lua, which writes a policy that is far too long
            lines = re.findall(r'ngx\.say\("(.*)"\)', block)
            text = "\n".join([*lines, "a" * 64 * 2049]).encode()
            is_static = "content-length" in block
            found[host] = plain(text) if is_static else _chunked(text)
    return found


def _chunked(text: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [text[start : start + 64] for start in range(0, len(text), 64)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def certificates(folder: Path) -> tuple[Path, dict[str, Path]]:
    """What clients trust, and the certificate of each host of their nginx, as their script makes it."""
    script, authorities, files = source("install.debian.sh"), dict[str, Authority](), dict[str, Path]()
    for target, rest in re.findall(r"mkcerts\.py -o (\S+)((?:[^\n]*\\\n)*[^\n]*)", script):
        (folder / Path(target).name).mkdir()
        authority = authorities[target] = Authority(folder / Path(target).name)
        for names in re.findall(r"-D ([^\\\n]+)", rest):
            hosts = [name.strip("'") for name in names.split()]
            files[f"{target}/{hosts[0]}.pem"] = authority.issue(*hosts)
    wanted = re.findall(r"server_name (\S+);.*?ssl_certificate (\S+);", source("nginx.conf"), re.DOTALL)
    return authorities["/tmp/certs"].file, {host: files[path] for host, path in wanted}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Path]]:
    """The DNS, the port of the web server, and the authority."""
    authority, files = certificates(tmp_path_factory.mktemp("hosts"))
    web = HttpsServer(files, answers()).start()
    dns = Nameserver(zone(), {})
    dns.start()
    yield dns.endpoint, web.port, authority
    dns.stop()
    web.stop()


@pytest.fixture
async def policies(
    hosts: tuple[str, int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MtaStsPolicies]:
    nameserver, port, authority = hosts
    monkeypatch.setattr(https, "PORT", port)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    store = Store(await connect(f"sqlite:///{tmp_path / 'queue.db'}"), "worker/")
    resolver = CachingResolver([nameserver])
    found = MtaStsPolicies(resolver, PolicyHosts(resolver), store.mta_sts, Metrics())
    yield found
    await found.close()
    await resolver.close()
    await store.close()


@pytest.mark.parametrize("file", ["refdata.tsv", "refdata_nosni.tsv", "refdata_strict.tsv"])
async def test_what_postfix_would_get(policies: MtaStsPolicies, file: str) -> None:
    rows = [line.split("\t") for line in source(file).splitlines()]
    enforced = ("enforce", "testing") if "strict" in file else ("enforce",)
    differing = {}
    for request, expected in rows:
        domain = request.partition(" ")[2]
        policy = await policies.policy(domain)
        match = re.search(r"match=(\S+)", expected)
        hosts = tuple(match[1].split(":")) if match else None
        if (policy.patterns if policy is not None and policy.mode in enforced else None) != hosts:
            differing[domain] = policy
    assert len(rows) == 21
    assert differing == dict.fromkeys(DEVIATIONS)


async def test_what_looking_for_a_policy_finds(policies: MtaStsPolicies) -> None:
    text = source("test_resolver.py")
    rows = re.findall(r'\("([^"]+)", FR\.([A-Z_]+)\)', text)
    rows += [(name, "VALID") for name in re.findall(r"'([^']+)'", re.findall(r'"domain", \[(.*?)\]\)', text)[0])]
    assert len(rows) == 25
    for domain, expected in rows:
        policy, problem = await policies.policy(domain), policies.problem(domain)
        found = "VALID" if policy is not None else "FETCH_ERROR" if problem is not None else "NONE"
        assert found == expected, (domain, policy, problem)
