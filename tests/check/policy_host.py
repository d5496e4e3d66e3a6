"""A web server with the MTA-STS policy of a domain, on loopback, with a certificate that this process trusts."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.certificates import write_certificate


@contextmanager
def serving(
    folder: Path, host: str, answers: dict[str, tuple[int, bytes]], address: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[tuple[int, Path]]:
    """Serve these paths over HTTPS; gives the port, and the certificate that clients have to trust.

    Args:
        answers: status and body by path; the body of a redirect is where it leads.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            if status // 100 == 3:
                self.send_header("Location", body.decode())
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    write_certificate(folder, "policies", host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = ThreadingHTTPServer(address, Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1], folder / "cert.pem"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
