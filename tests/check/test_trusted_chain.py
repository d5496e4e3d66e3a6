"""What OpenSSL says of a chain; tests/check/test_certificate.py has what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.check.trusted_chain import chain_problem
from relay.tls import UnusableCertificate
from tests.check.authority import Authority, Signed, signed, write


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root_file))
    return authority


def problem(folder: Path, *chain: Signed) -> str:
    write(folder, *chain)
    return chain_problem(folder / "cert.pem", folder / "key.pem")[0]


def test_each_kind_of_chain(tmp_path: Path, authority: Authority) -> None:
    leaf = signed("leaf", authority.intermediate, hosts=["mx.test"])
    assert problem(tmp_path, leaf, authority.intermediate) == ""
    assert problem(tmp_path, leaf, authority.intermediate, authority.root) == ""
    assert problem(tmp_path, leaf) == "incomplete"
    assert problem(tmp_path, signed("mx.test", None, hosts=["mx.test"])) == "self-signed"
    stranger = signed("Stranger", None)
    assert problem(tmp_path, signed("leaf", stranger, hosts=["mx.test"]), stranger) == "unknown root"
    late = signed("leaf", authority.intermediate, hosts=["mx.test"], days=(-20, -10))
    assert problem(tmp_path, late, authority.intermediate) == "dates"


def test_a_key_of_another_certificate_is_an_error(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path, signed("leaf", authority.intermediate, hosts=["mx.test"]))
    (tmp_path / "cert.pem").write_bytes(authority.intermediate.pem)
    with pytest.raises(UnusableCertificate):
        chain_problem(tmp_path / "cert.pem", tmp_path / "key.pem")
