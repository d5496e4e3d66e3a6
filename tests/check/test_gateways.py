"""The default gateways, from the kernel's own lists and from those of a network with both families."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relay.check import gateways
from relay.check.gateways import default_gateways
from tests.journeys.relay_process import ROOT
from tests.peers import needs

_HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
_LAN = "eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
_DEVICE = "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
_DEFAULT = "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (_HEAD + _LAN + _DEFAULT + _DEFAULT, ["172.17.0.1"]),
        (_HEAD + _LAN + _DEVICE, []),
        (_HEAD, []),
        ("", []),
    ],
)
@pytest.mark.skipif(sys.byteorder == "big", reason="the kernel writes addresses as the host orders octets")
def test_the_gateways_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, found: list[str]) -> None:
    (tmp_path / "route").write_text(table)
    monkeypatch.setattr(gateways, "IPV4_ROUTES", tmp_path / "route")
    monkeypatch.setattr(gateways, "IPV6_ROUTES", tmp_path / "absent")
    assert default_gateways() == found


@needs("ip", "unshare", root=True)
def test_the_gateways_of_a_network_with_both_families() -> None:
    setup = (
        "ip link set lo up && ip link add eth0 type veth peer name eth1 && ip link set eth0 up && ip link set eth1 up "
        "&& ip address add 172.17.0.2/16 dev eth0 && ip -6 address add fd00:17::2/64 dev eth0 nodad "
        "&& ip route add default via 172.17.0.1 && ip -6 route add default via fd00:17::1"
    )
    code = "from relay.check.gateways import default_gateways; print(*default_gateways())"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stdout.split() == ["172.17.0.1", "fd00:17::1"], done.stderr
