"""What the live server refuses, in one sentence that gives nothing away."""

import http.client
import json
import socket
import time

import pytest

from sparse_circuits.errors import UserError
from sparse_circuits.report.server import handler as handling
from sparse_circuits.report.server.api import RunRequest
from sparse_circuits.report.server.change import Change, Intervention
from sparse_circuits.report.server.request import read_request
from sparse_circuits.report.server.serve import MAX_CONNECTIONS, Server
from tests.report.asking import ABLATE, PROMPT, ask


def test_another_token(server):
    for token in ("wrong", server.token[:-1], server.token + "x", "%2e", ""):
        reply = ask(server, "/api/run" if token == "" else "api/run", {"prompt": PROMPT}, token=token)
        assert reply.status == 403 and "token" in reply.error
    assert b" 403 " in dripped(server, f"GET /\xe4/ HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode("latin-1"))
    assert ask(server, f"/{server.token}", token="").status == 404  # without its slash, the page would ask elsewhere


def test_another_host(server):
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", "127.0.0.1:1", "", None):
        for path, body in (("", None), ("api/run", {"prompt": PROMPT})):
            reply = ask(server, path, body, Host=host)
            assert reply.status == 403 and "own address" in reply.error


def test_another_origin(server):
    port = server.server_port
    for origin in (
        "http://evil.example",
        "null",
        f"https://127.0.0.1:{port}",
        f"http://127.0.0.1:{port + 1}",
        "http://127.0.0.1",
        "",
    ):
        reply = ask(server, "api/run", {"circuit": 0, "prompt": PROMPT}, Origin=origin)
        assert reply.status == 403 and "own page" in reply.error


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "NONSENSE"])
def test_another_method(server, method):
    reply = ask(server, "api/run", method=method)
    assert reply.status == 405 and (method == "HEAD" or "GET for its page" in reply.error)


def test_the_wrong_method_of_the_two(server):
    assert ask(server, "api/run").status == 405
    assert ask(server, "", {}).status == 404


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../x",
            "..%2fx",
            "%2e%2e/x",
            "/etc/passwd",
            "//etc/passwd",
            "api/../api/run",
            "api/run/",
            "api%2frun",
            "api/run?x",
            "api/run\\",
        ),
        *("api", "report.json", "circuits/single_double_quote.safetensors", ".", "~", "%00", "api/__class__", "index.html"),
    ],
)
def test_paths_that_are_not_in_the_table(server, path):
    for body in (None, {"circuit": 0, "prompt": PROMPT}):
        reply = ask(server, path, body)
        assert reply.status == 404 and "There is no such" in reply.error


def test_paths_outside_the_token(server):
    for path in (
        "/",
        "/..",
        f"/{server.token}x/",
        f"/x/../{server.token}/",
        f"http://127.0.0.1/{server.token}/",
        "*",
        "/etc/passwd",
    ):
        assert ask(server, path, token="").status == 403


def test_another_content_type(echo):
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        reply = ask(echo, "api/echo", {"a": 1}, Content_Type=kind)
        assert reply.status == 415 and "application/json" in reply.error
    assert ask(echo, "api/echo", {"a": 1}, Content_Type="application/json; charset=utf-8").json == {"a": 1}


def test_a_body_of_unsaid_or_excessive_length(echo):
    for length in (None, "-1", "+2", "1e3", " ", "1_0", "99999999999999999999"):
        reply = ask(echo, "api/echo", b"{}", Content_Length=length)
        assert reply.status in (411, 413) and reply.error
    assert ask(echo, "api/echo", b"{}", Content_Length=None, Transfer_Encoding="chunked").status == 411
    allowed = b'{"a": "' + b"a" * (handling.MAX_BYTES - 9) + b'"}'
    assert ask(echo, "api/echo", allowed).status == 200
    for body in (allowed + b" ", b"a" * 3_000_000):
        reply = ask(echo, "api/echo", body)
        assert reply.status == 413 and "65,536 bytes" in reply.error


def dripped(server, data, *, pause=0.0, end=True):
    """Send raw bytes, one at a time if with pauses, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        try:
            for piece in [data] if not pause else [data[i : i + 1] for i in range(len(data))]:
                connection.sendall(piece)
                time.sleep(pause)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return b""


def head(server, path="api/echo", *, length):
    lines = [f"POST /{server.token}/{path} HTTP/1.1", f"Host: 127.0.0.1:{server.server_port}", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def test_a_slow_or_short_body(echo, monkeypatch):
    monkeypatch.setattr(handling, "READ_SECONDS", 0.3)
    slow = dripped(echo, head(echo, length=10) + b"{", end=False)
    assert b" 408 " in slow and b"whole request within" in slow
    assert dripped(echo, head(echo, length=10), pause=0.02) == b""  # a slow head gets no reply at all
    short = dripped(echo, head(echo, length=10) + b"{}")
    assert b" 400 " in short and b"ended early" in short
    assert ask(echo, "api/echo", {"still": "there"}).json == {"still": "there"}


NO_REQUESTS = [
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /" + b"a" * 70_000,
    b"GET / HTTP/9\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
]


@pytest.mark.parametrize("data", NO_REQUESTS, ids=range(6))
def test_what_is_no_request(echo, data):
    reply = dripped(echo, data)
    assert b"Traceback" not in reply and b"<" not in reply and echo.token.encode() not in reply
    assert ask(echo, "api/echo", {}).status == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 60_000, "no JSON"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "no JSON"),
        (b"[]", "the request is a list: give an object"),
        (b"null", "the request is null"),
        ({}, "lacks prompt"),
        ({"prompt": PROMPT, "promt": 1}, 'unknown key (did you mean "prompt"?)'),
        ({"prompt": 3}, "prompt is a number: give text"),
        ({"prompt": None}, "prompt is null: give text"),
        (b'{"prompt": "\\ud800"}', "prompt is text: give text"),
        ({"prompt": PROMPT, "circuit": "0"}, "circuit is text: give a whole number"),
        ({"prompt": PROMPT, "circuit": True}, "circuit is true or false"),
        ({"prompt": PROMPT, "circuit": 0.0}, "circuit is a number: give a whole number"),
        ({"prompt": PROMPT, "circuit": 7}, "The page has 1 circuits"),
        ({"prompt": PROMPT, "circuit": -1}, "there is no -1"),
        ({"prompt": PROMPT, "circuit": None}, "checkpoint="),
        ({"prompt": PROMPT, "interventions": {}}, "interventions is an object: give a list"),
        ({"prompt": PROMPT, "interventions": [[[]]]}, "interventions is a list: give an object"),
        ({"prompt": PROMPT, "interventions": [{**ABLATE, "kind": "explode"}]}, "kind is none of ablate, scale, set"),
        ({"prompt": PROMPT, "interventions": [{**ABLATE, "kind": ["ablate"]}]}, "kind is none of"),
        ({"prompt": PROMPT, "interventions": [{**ABLATE, "kind": "set", "value": float("nan")}]}, "give a finite number"),
        ({"prompt": PROMPT, "interventions": [{**ABLATE, "kind": "set", "value": 10**400}]}, "give a finite number"),
        (b'{"prompt": "a", "interventions": [{"node": "1.attn.v[2]", "kind": "set", "value": 1e999}]}', "give a finite number"),
        ({"prompt": PROMPT, "interventions": [{**ABLATE, "kind": "set", "value": 1e300}]}, "1,000,000"),
        ({"prompt": PROMPT, "interventions": [{**ABLATE, "value": 0}]}, "ablate takes none"),
        ({"prompt": PROMPT, "circuit": 0, "interventions": [{**ABLATE, "node": "1.attn.v"}]}, "is no node"),
        ({"prompt": PROMPT, "circuit": 0, "interventions": [{**ABLATE, "node": "9.attn.v[0]"}]}, "No nodes are at"),
        ({"prompt": PROMPT, "cuts": [["a"]]}, "cuts has 1 entries: give 2"),
        ({"prompt": PROMPT, "circuit": 0, "cuts": [["0.mlp.act_in[5]", "0.mlp.post_act[8]"]]}, "is no edge of this circuit"),
        ({"prompt": "a" * 300, "circuit": 0}, "300 tokens, and the model reads 1 to 256"),
        ({"prompt": "", "circuit": 0}, "0 tokens"),
    ],
    ids=range(33),
)  # fmt: skip
def test_questions_that_make_no_sense(server, body, says):
    reply = ask(server, "api/run", body)
    assert reply.status == 400 and says in reply.error


def test_questions_of_the_other_kinds_that_make_no_sense(server):
    for path, body, says in (
        ("api/pair", {"circuit": 0, "index": 99}, "held-out pairs 0 to 7"),
        ("api/pair", {"circuit": None, "index": 0}, "circuit is null"),
        ("api/steer", {"circuit_node": "0.attn.act_in[0]", "from_prompt": "a", "to_prompt": "b"}, "has no bridge"),
        ("api/cancel", {"what": 1}, "unknown key: give none"),
    ):
        reply = ask(server, path, body)
        assert reply.status == 400 and says in reply.error


def test_a_request_read_has_the_types_it_says():
    body = json.dumps(
        {"prompt": "a", "interventions": [{**ABLATE, "kind": "set", "value": 2}], "cuts": [["a", "b"]], "answers": ["x", "y"]}
    )
    read = read_request(RunRequest, body.encode())
    assert read == RunRequest("a", None, [Intervention("1.attn.v[2]", Change.set, 2.0)], [("a", "b")], ("x", "y"))
    assert isinstance(read.interventions[0].value, float)


def test_a_failure_within_is_a_sentence_outside(start, caplog):
    def fail(body):
        raise RuntimeError("secret")

    reply = ask(start({"api/fail": fail}), "api/fail", {})
    assert reply.status == 500 and "secret" not in reply.error
    assert "secret" in caplog.text  # its own window says it


def test_numbers_that_json_has_not_are_null(start):
    reply = ask(start({"api/odd": lambda body: {"nan": float("nan"), "inf": [float("inf")]}}), "api/odd", {})
    assert reply.json == {"nan": None, "inf": [None]}


def test_only_loopback_hears_it_and_every_server_has_its_own_token(start):
    one, two = start({}), start({})
    assert one.server_address[0] == two.server_address[0] == "127.0.0.1"
    assert one.token != two.token and len(one.token) >= 40
    assert one.address == f"http://127.0.0.1:{one.server_port}/{one.token}/"
    with pytest.raises(UserError, match="choose another"):
        Server(b"", {}, port=one.server_port)
    with pytest.raises(UserError, match="give one from 1 to 65535"):
        Server(b"", {}, port=70_000)


def test_of_too_many_connections_the_last_are_hung_up_and_room_comes_back(echo):
    held = [socket.create_connection(("127.0.0.1", echo.server_port)) for _ in range(MAX_CONNECTIONS)]
    with socket.create_connection(("127.0.0.1", echo.server_port), timeout=10) as one_more:
        assert one_more.recv(1) == b""
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert ask(echo, "api/echo", {}).status == 200
            return
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.05)
    pytest.fail("no room came back")
