"""One request and its reply: who asks is checked, then what; all that is refused is refused in a sentence.

The page is at the token's own path, questions below it by POST. Nothing of a request reaches the disk, and what fails within
keeps its traceback here.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, NamedTuple

from sparse_circuits.errors import UserError
from sparse_circuits.report.payload import to_json
from sparse_circuits.report.server.worker import Busy, Cancelled, OutOfTime

if TYPE_CHECKING:
    from sparse_circuits.report.server.serve import Server

log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024
"""Of a request's body."""
READ_SECONDS = 10.0
"""In which a whole request has to arrive."""
LINGER_SECONDS, LINGER_BYTES = 1.0, 4 << 20
"""How long, and how much of a refused request is still read: who is cut off while sending may not see the reply."""

POLICY = {
    "default-src": "'none'",
    "script-src": "'unsafe-inline'",
    "style-src": "'unsafe-inline'",
    "img-src": "data: blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STATUS = {Busy: HTTPStatus.TOO_MANY_REQUESTS, Cancelled: HTTPStatus.CONFLICT, OutOfTime: HTTPStatus.SERVICE_UNAVAILABLE}
JSON, HTML = "application/json", "text/html; charset=utf-8"


class Reply(NamedTuple):
    """What is sent back."""

    status: HTTPStatus
    kind: str
    body: bytes


class Refused(Exception):
    """A request that is not answered, with the status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Timely(io.RawIOBase):
    """What a connection sends, all of which has to arrive in a certain time, however it is dripped."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._until = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """One request and its reply; the connection ends behind it."""

    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(Timely(self.connection, READ_SECONDS))

    def do_GET(self) -> None:
        self._send(self._reply(self._page))

    def do_POST(self) -> None:
        self._send(self._reply(self._answer))

    def _reply(self, respond: Callable[[str], Reply]) -> Reply:
        try:
            self._check_host()
            return respond(self._path_below_token())
        except Refused as refused:
            return failure(refused.status, str(refused))
        except UserError as error:
            return failure(STATUS.get(type(error), HTTPStatus.BAD_REQUEST), str(error))
        except Exception:
            log.exception("a request failed")
            return failure(HTTPStatus.INTERNAL_SERVER_ERROR, "This failed within the server: its own window says why.")

    def _page(self, path: str) -> Reply:
        if path in self.server.answers:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "This is asked by POST.")
        if path.partition("?")[0]:  # a page keeps its state behind a question mark, or a hash that is not sent
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such page: open the address that was printed.")
        return Reply(HTTPStatus.OK, HTML, self.server.page)

    def _answer(self, path: str) -> Reply:
        if path not in self.server.answers:
            raise Refused(HTTPStatus.NOT_FOUND, f"There is no such question: ask {', '.join(self.server.answers)}.")
        self._check_origin()
        return Reply(HTTPStatus.OK, JSON, to_json(self.server.answers[path](self._body())).encode())

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "This server answers to its own address only: open the one that was printed.")

    def _check_origin(self) -> None:
        own = {f"http://{host}" for host in self.server.hosts}
        if not own.issuperset(self.headers.get_all("Origin", [])):
            raise Refused(HTTPStatus.FORBIDDEN, "Only this server's own page may ask it: open the address that was printed.")

    def _path_below_token(self) -> str:
        token, slash, path = self.path.removeprefix("/").partition("/")
        if not compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "The address lacks this server's token: open the one that was printed.")
        if not slash:  # what the page asks is relative to its folder
            raise Refused(HTTPStatus.NOT_FOUND, "The address ends in a slash: open it as it was printed.")
        return path

    def _body(self) -> bytes:
        if self.headers.get_content_type() != JSON:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send {JSON}.")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Say in Content-Length how many bytes the body has.")
        if int(length) > MAX_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Send at most {MAX_BYTES:,} bytes.")
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"Send the whole request within {READ_SECONDS:g} seconds.") from None
        if len(body) != int(length):
            raise Refused(HTTPStatus.BAD_REQUEST, "The body ended early: send as many bytes as Content-Length says.")
        return body

    def _send(self, reply: Reply) -> None:
        self.connection.settimeout(READ_SECONDS)
        with suppress(OSError):  # who does not listen any more misses nothing
            self.send_response(reply.status)
            for name, value in {**HEADERS, "Content-Type": reply.kind, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)
            self._linger()

    def _linger(self) -> None:
        self.connection.shutdown(socket.SHUT_WR)
        rest = Timely(self.connection, LINGER_SECONDS)
        n_read, buffer = 0, bytearray(1 << 16)
        while n_read < LINGER_BYTES and (n_more := rest.readinto(buffer)):
            n_read += n_more

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request, or one by another method, like everything else."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._send(failure(status, f"{status.phrase}: this server takes GET for its page and POST for its questions."))

    def version_string(self) -> str:
        return "sparse_circuits"

    def log_message(self, *_: Any) -> None:
        """Log nothing: lines would hold the token."""


def failure(status: HTTPStatus, sentence: str) -> Reply:
    """Return the reply that says what went wrong."""
    return Reply(status, JSON, to_json({"error": sentence}).encode())
