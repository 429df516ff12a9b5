"""Asking the live server as the page would, or as it never would."""

import http.client
import json
import time
from dataclasses import dataclass

import pytest

PROMPT = "x = 'a"
ABLATE = {"node": "1.attn.v[2]", "kind": "ablate", "value": None}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body, parse_constant=pytest.fail)

    @property
    def error(self):
        """The one sentence that a refusal is."""
        assert list(self.json) == ["error"]
        sentence = self.json["error"]
        assert sentence and "\n" not in sentence and "Traceback" not in sentence and 'File "' not in sentence
        return sentence


def ask(server, path="", body=None, *, method=None, token=None, **headers):
    """Send one request as the page would, but for what is said otherwise; a header of None is left out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    body = json.dumps(body).encode() if isinstance(body, dict | list) else body
    defaults = {"Host": f"127.0.0.1:{server.server_port}"}
    if body is not None:
        defaults |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    sent = defaults | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(
        method or ("GET" if body is None else "POST"),
        path if token == "" else f"/{token or server.token}/{path}",
        skip_host=True,
        skip_accept_encoding=True,
    )
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    reply = Reply(response.status, dict(response.getheaders()), response.read())
    connection.close()
    return reply


def until(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
