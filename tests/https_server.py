"""An HTTPS server on loopback that answers what a test says, well or badly, and the authority that signs for it."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer = bytes | Callable[[ssl.SSLSocket], object]


def plain(text: str | bytes, status: str = "200 OK", media_type: str = "text/plain", more: str = "") -> bytes:
    """An answer over HTTP, with the length of its body."""
    body = text.encode() if isinstance(text, str) else text
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class Authority:
    """A test CA. `file` is its certificate, for SSL_CERT_FILE."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Test CA of {folder.name}")])
        self._certificate = self._sign(self._name, self._key, None, 1)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts: str, days: float = 1.0) -> Path:
        """Key and certificate for these hosts, in one file. With negative `days` the certificate has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
        certificate = self._sign(name, key, hosts, days)
        encoding, no_encryption = serialization.Encoding.PEM, serialization.NoEncryption()
        path = self._folder / f"{hosts[0]}-{certificate.serial_number}.pem"
        pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_encryption)
        path.write_bytes(pem + certificate.public_bytes(encoding))
        return path

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: tuple[str, ...] | None, days: float
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts is None:
            usage = dict.fromkeys(
                ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                False,
            )
            builder = builder.add_extension(
                x509.KeyUsage(key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False, **usage),
                True,
            )
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), False)
        return builder.sign(self._key, hashes.SHA256())


class HttpsServer:
    """Answers requests by the name that SNI has; an unknown one gets no handshake.

    Args:
        certificates: by host: files as `Authority.issue` writes them.
        answers: by host. They may change at any time. A function gets the connection after the request was read.
        address: where it listens.

    Attributes:
        requests: host and head of each request so far.
        names: all that SNI has named, in this order, empty where a client sends none.
    """

    def __init__(
        self,
        certificates: Mapping[str, Path],
        answers: Mapping[str, Answer],
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.requests: list[tuple[str, str]] = []
        self.names: list[str] = []
        self._answers = answers
        self._contexts = {host: _context(path) for host, path in certificates.items()}
        self._wanted = address
        self._sockets: list[socket.socket] = []

    def start(self) -> HttpsServer:
        self._socket = socket.create_server(self._wanted)
        self.port: int = self._socket.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def stop(self) -> None:
        """End it as a host does that goes away: connections break, and nothing listens any more."""
        with suppress(OSError):  # it was stopped before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._accepting.join(10)
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._sockets.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        named: list[str] = []

        def choose(handshake: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            self.names.append(name or "")
            if name not in self._contexts:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            named.append(name)
            handshake.context = self._contexts[name]
            return None

        chooser = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chooser.sni_callback = choose
        connection.settimeout(30)
        try:
            with chooser.wrap_socket(connection, server_side=True) as secure:
                self._sockets.append(secure)
                head = b""
                while b"\r\n\r\n" not in head:
                    octets = secure.recv(4096)
                    if not octets:
                        return
                    head += octets
                self.requests.append((named[0], head.decode("latin-1")))
                answer = self._answers.get(named[0], plain("", "404 Not Found"))
                if isinstance(answer, bytes):
                    secure.sendall(answer)
                else:
                    answer(secure)
        except OSError:
            pass
        finally:
            connection.close()


def drip(answer: bytes, pause: float = 0.05) -> Answer:
    """Sends an answer octet by octet."""

    def send(connection: ssl.SSLSocket) -> None:
        for octet in answer:
            connection.sendall(bytes([octet]))
            time.sleep(pause)

    return send


def _context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
