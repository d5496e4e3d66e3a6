"""PostSRSd beside our tables, with the same secret: the same answers, and each reads what the other wrote."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from relay.mail.address import LOCAL_PART_OCTETS, split
from tests.peers import free_port, needs, program, wait_for
from tests.postfix_tables.conftest import Serve
from tests.postfix_tables.served import Client, config_of

pytestmark = needs("postsrsd")

SENDERS = [
    "test@otherdomain.com",
    "Test@OtherDomain.COM",
    "a=b+c-d@x-y.example.org",
    "o'brien@otherdomain.com",
    "jörg@otherdomain.com",
    "SRS0=opaque+string@otherdomain.com",
    "srs0-aaaa=2W=orig.net=joe@Fwd.Example.Net",
    "SRS1=X=thirddomain.com==opaque+string@otherdomain.com",
    "100%@otherdomain.com",
]
UNCHANGED = ["joe@example.com", "joe@EXAMPLE.com", "joe@local.example", "joe", "SRS0=a=b=c=d@example.com"]
NOT_OURS = ["joe@example.com", "SRS0=FAKE=2V=a.com=b@example.com", "SRS0=@example.com", "SRS1=a=b@example.com", "joe"]


@dataclass
class Tables:
    """The two tcp_tables of a program."""

    forward: Client
    reverse: Client

    async def close(self) -> None:
        await self.forward.close()
        await self.reverse.close()


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """PostSRSd's own ports."""
    (tmp_path / "secret").write_text("tops3cr3t\n")
    forward, reverse = free_port(), free_port()
    options = [f"-s{tmp_path}/secret", "-dexample.com", "-Xlocal.example", f"-f{forward}", f"-r{reverse}", "-4"]
    with subprocess.Popen([program("postsrsd"), *options]) as daemon:
        yield forward, reverse
        daemon.terminate()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
async def theirs(ports: tuple[int, int], tmp_path: Path) -> AsyncIterator[Tables]:
    places = [config_of(tmp_path, {"address": f"127.0.0.1:{port}"}).tables[0] for port in ports]
    await wait_for(lambda: all(map(listens, ports)), "PostSRSd")
    tables = Tables(*[await Client.connect(place) for place in places])
    yield tables
    await tables.close()


@pytest.fixture
async def ours(serve: Serve) -> Tables:
    local = {"local_domains": ["local.example"]}
    forward = await serve(protocol="tcp", direction="forward", senders=local)
    reverse = await serve(protocol="tcp", direction="reverse", senders=local)
    return Tables(await forward.client(), await reverse.client())


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_sender_gets_the_same_address(theirs: Tables, ours: Tables, sender: str) -> None:
    address = await theirs.forward.get(sender)
    assert address.startswith("200 SRS")
    assert await ours.forward.get(sender) == address
    for written in (address, address.lower(), address.replace("example.com", "before.example")):
        back = await theirs.reverse.get(written.removeprefix("200 "))
        assert back.startswith("200 ") and await ours.reverse.get(written.removeprefix("200 ")) == back


@pytest.mark.parametrize("sender", UNCHANGED)
async def test_the_same_senders_stay_as_they_are(theirs: Tables, ours: Tables, sender: str) -> None:
    """Of its own domain PostSRSd 1.10 answers the sender itself, which changes nothing."""
    assert (await theirs.forward.get(sender)) == f"200 {sender}" or (await theirs.forward.get(sender))[:4] == "500 "
    assert (await ours.forward.get(sender))[:4] == "500 "


@pytest.mark.parametrize("address", NOT_OURS)
async def test_the_same_recipients_are_not_found(theirs: Tables, ours: Tables, address: str) -> None:
    assert (await theirs.reverse.get(address))[:4] == (await ours.reverse.get(address))[:4] == "500 "


LOCAL_PARTS = st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]{1,24}", fullmatch=True)
DOMAINS = st.from_regex(r"[a-zA-Z0-9]{1,8}(-[a-zA-Z0-9]{1,4})?\.(com|Example|co\.uk)", fullmatch=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(local=LOCAL_PARTS, domain=DOMAINS)
async def test_any_sender_gets_the_same_address_and_comes_back(
    theirs: Tables, ours: Tables, local: str, domain: str
) -> None:
    """But for local parts that RFC 5321 wants between quotes, and for addresses that are too long for it."""
    assume(".." not in f".{local}." and domain.lower() != "example.com")
    sender = f"{local}@{domain}"
    address = (await theirs.forward.get(sender)).removeprefix("200 ")
    found = await ours.forward.get(sender)
    if len(split(address).local) > LOCAL_PART_OCTETS:
        assert found[:4] == "500 "
    else:
        assert found == f"200 {address}"
    back = await theirs.reverse.get(address)
    assert await ours.reverse.get(address) == back
