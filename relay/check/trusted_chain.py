"""Whether a certificate with its chain leads to a root that this system trusts, as another host would find it.

OpenSSL itself decides: a client and a server shake hands in memory.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Literal

from relay.tls import load_certificate

ChainProblem = Literal["", "self-signed", "unknown root", "incomplete", "dates", "other"]

_FLIGHTS = 4  # of each side; TLS 1.3 needs two

_CODES: dict[int, ChainProblem] = {  # openssl/x509_vfy.h
    9: "dates",
    10: "dates",
    18: "self-signed",
    19: "unknown root",
    20: "incomplete",
    21: "incomplete",
}


def chain_problem(certificate: Path, private_key: Path) -> tuple[ChainProblem, str]:
    """What is wrong with the chain, and what OpenSSL says; empty texts where it is good, or cannot be told.

    Names do not count here.

    Raises:
        OSError, UnusableCertificate: the files cannot be used.
    """
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_certificate(server_context, certificate, private_key)
    client_context = ssl.create_default_context()
    client_context.check_hostname = False
    client_context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a default of Python 3.13 that mail hosts do not share
    if not _has_roots(client_context):
        return "", ""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_FLIGHTS):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            return _CODES.get(error.verify_code, "other"), error.verify_message
        else:
            return "", ""
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
    return "", ""


def _has_roots(context: ssl.SSLContext) -> bool:
    """Whether the system has any root. Those of a folder are not loaded before they are needed."""
    folder = ssl.get_default_verify_paths().capath
    return context.cert_store_stats()["x509_ca"] > 0 or (folder is not None and any(Path(folder).iterdir()))
