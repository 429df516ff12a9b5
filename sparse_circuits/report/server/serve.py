"""A run's page with its models behind it, served to one reader on this machine.

Bound to loopback. A random token stands in the address; requests have to name this host, so that no other site's name can be
made to lead here. Connections are bounded in number, requests in size and time (handler.py), work in length (worker.py).
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
import socketserver
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from sparse_circuits.circuits import Circuit, Notes
from sparse_circuits.errors import UserError
from sparse_circuits.plain import to_plain
from sparse_circuits.report.page import render
from sparse_circuits.report.server.api import Answer, answers
from sparse_circuits.report.server.handler import MAX_BYTES, Handler
from sparse_circuits.report.server.session import Session
from sparse_circuits.report.server.worker import Worker

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 32


def serve(
    payload: dict[str, Any], session: Session, files: Sequence[Path], *, port: int, ready: Callable[[str], object]
) -> None:
    """Serve a run's page until interrupted.

    Args:
        payload: of the run.
        session: what answers.
        files: of the circuits, in the page's order; notes are written into them.
        port: 0: any free one.
        ready: called with the page's address.

    Raises:
        UserError: the port is not to be had.
    """
    worker = Worker()
    limits = {"n_bytes": MAX_BYTES, "seconds": worker.seconds}
    payload = {**payload, "live": {**session.describe(), "limits": limits}}

    def keep_notes(circuit: int, notes: Notes) -> None:
        Circuit.load(files[circuit]).with_notes(notes).save(files[circuit])
        payload["circuits"][circuit]["notes"] = to_plain(notes)
        server.page = page_of(payload)

    asked = answers(session, worker, keep_notes=keep_notes)
    with Server(page_of(payload), asked, port=port) as server, closing(worker), suppress(KeyboardInterrupt):
        ready(server.address)
        server.serve_forever()


def page_of(payload: dict[str, Any]) -> bytes:
    """Return the page as it is sent."""
    return with_policy_of_headers(render(payload)).encode()


class Server(ThreadingHTTPServer):
    """Serves one page and the answers below it, at `address`.

    Args:
        page: HTML, in UTF-8.
        answers: what answers the questions, by path.
        port: 0: any free one.

    Raises:
        UserError: the port is not to be had.
    """

    daemon_threads = True

    def __init__(self, page: bytes, answers: Mapping[str, Answer], *, port: int = 0) -> None:
        if not 0 <= port < 1 << 16:
            raise UserError(f"port is {port}: give one from 1 to 65535, or 0 for any free one.")
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            raise UserError(
                f"Port {port} is not to be had ({error.strerror}): choose another, or 0 for any free one."
            ) from error
        self.token = secrets.token_urlsafe(32)
        self.page, self.answers = page, dict(answers)
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}
        self._free = BoundedSemaphore(MAX_CONNECTIONS)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind without looking this machine's name up, which may ask the network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Answer in a thread of its own, or hang up where there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket.socket, client_address: Any) -> None:
        """Answer, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note that a connection broke; its other end knows."""
        log.debug("a connection broke", exc_info=True)


def with_policy_of_headers(page: str) -> str:
    """Drop a page's own content policy, which forbids a file every connection: here the headers say what it may."""
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n?', "", page, count=1)
