"""Fetches one small file over HTTPS as MTA-STS demands it: a valid certificate, no redirects, a bounded size."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import time
from collections.abc import Sequence

PORT = 443
SECONDS = 20.0  # for the whole of it; RFC 8461 section 3.3 suggests a minute
OCTETS = 64 * 2**10  # RFC 8461 section 3.3 suggests this limit


class NotFetched(Exception):
    """There is no usable answer; the text says why."""


async def get(host: str, addresses: Sequence[str], path: str) -> str:
    """The text of `https://HOST/PATH`, from the first of these addresses that takes a connection.

    The certificate has to be good for the host and signed by an authority that this machine trusts (`SSL_CERT_FILE`
    names others).

    Raises:
        NotFetched: there is no such file, it is longer than `OCTETS`, the certificate is not good, or time is up.
    """
    problem = f"{host} has no address"
    for address in addresses:
        try:
            return await asyncio.to_thread(_get, host, address, path)
        except ssl.SSLCertVerificationError as error:
            raise NotFetched(f"the certificate of {host} is not good: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) else ""
            problem = f"{host} ({address}): {reason or error or type(error).__name__}"
    raise NotFetched(problem)


def _get(host: str, address: str, path: str) -> str:
    deadline = time.monotonic() + SECONDS
    with socket.create_connection((address, PORT), SECONDS / 2) as plain:
        context = ssl.create_default_context()
        with context.wrap_socket(plain, server_hostname=host) as secure:
            connection = http.client.HTTPConnection(host, PORT)
            connection.sock = secure
            connection.request("GET", path, headers={"Host": host, "User-Agent": "srs-relay", "Connection": "close"})
            response = connection.getresponse()
            if response.status != 200:
                raise NotFetched(f"https://{host}{path} gives {response.status} {response.reason}")
            body = b""
            while chunk := response.read1(OCTETS):
                body += chunk
                if len(body) > OCTETS:
                    raise NotFetched(f"https://{host}{path} has more than {OCTETS} octets")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not finished within {SECONDS:g} s")
    return body.decode("utf-8", "replace")
