"""The client's side of SASL mechanisms: each takes the server's challenges in turn and gives the responses.

The first challenge is None, and a first response of None means that AUTH has no initial response.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Generator

from scramp import ScramClient

Exchange = Generator[bytes | None, bytes | None, None]


def plain(user: str, password: str) -> Exchange:
    """RFC 4616."""
    yield f"\0{user}\0{password}".encode()


def plain_when_asked(user: str, password: str) -> Exchange:
    """PLAIN as a client does it that sends no initial response."""
    assert (yield None) == b""
    yield f"\0{user}\0{password}".encode()


def login(user: str, password: str) -> Exchange:
    """draft-murchison-sasl-login."""
    yield None
    yield user.encode()
    yield password.encode()


def cram_md5(user: str, password: str) -> Exchange:
    """RFC 2195."""
    challenge = yield None
    assert challenge is not None
    yield f"{user} {hmac.new(password.encode(), challenge, 'md5').hexdigest()}".encode()


def digest_md5(user: str, password: str) -> Exchange:
    """RFC 2831, the quality of protection `auth`; the server proves itself in its last challenge."""
    challenge = yield None
    assert challenge is not None
    found = re.search(rb'nonce="([^"]+)"', challenge)
    assert found is not None
    nonce, cnonce, uri = found[1].decode(), "OA6MHXh6VqTrRk", "smtp/mx.test"
    secret = hashlib.md5(f"{user}::{password}".encode()).digest()
    a1 = hashlib.md5(secret + f":{nonce}:{cnonce}".encode()).hexdigest()

    def proof(a2: str) -> str:
        return hashlib.md5(f"{a1}:{nonce}:00000001:{cnonce}:auth:{_hex(a2)}".encode()).hexdigest()

    last = yield (
        f'username="{user}",realm="",nonce="{nonce}",cnonce="{cnonce}",nc=00000001,qop=auth,'
        f'digest-uri="{uri}",response={proof(f"AUTHENTICATE:{uri}")},charset=utf-8'
    ).encode()
    assert last == f"rspauth={proof(f':{uri}')}".encode()
    yield b""


def _hex(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def scram(mechanism: str, user: str, password: str) -> Exchange:
    """RFC 5802 and RFC 7677."""
    client = ScramClient([mechanism], user, password)
    first = yield client.get_client_first().encode()
    assert first is not None
    client.set_server_first(first.decode())
    last = yield client.get_client_final().encode()
    assert last is not None
    client.set_server_final(last.decode())
    yield b""


def oauthbearer(user: str, token: str) -> Exchange:
    """RFC 7628; an error of the server is answered with one octet."""
    yield f"n,a={user},\x01host=mx.test\x01port=587\x01auth=Bearer {token}\x01\x01".encode()
    yield b"\x01"


def xoauth2(user: str, token: str) -> Exchange:
    """Google's predecessor of OAUTHBEARER; an error of the server is answered with nothing."""
    yield f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
    yield b""
