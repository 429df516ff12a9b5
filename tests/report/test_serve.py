"""The live server: answers that equal Python's, and refusals in one sentence that give nothing away."""

import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

from sparse_circuits import cli
from sparse_circuits.circuits import Circuit
from sparse_circuits.errors import UserError
from sparse_circuits.plain import to_plain
from sparse_circuits.report import handler as handling
from sparse_circuits.report.api import RunRequest, answers
from sparse_circuits.report.change import Change, Intervention
from sparse_circuits.report.live import run_prompt
from sparse_circuits.report.page import render
from sparse_circuits.report.pair import show_pair
from sparse_circuits.report.payload import circuit_payload
from sparse_circuits.report.request import read_request
from sparse_circuits.report.serve import MAX_CONNECTIONS, Server, page_of, with_policy_of_headers
from sparse_circuits.report.session import Session
from sparse_circuits.report.worker import Busy, Cancelled, OutOfTime, Worker
from tests.report.small import payload_of

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


@pytest.fixture
def worker():
    worker = Worker(n_waiting=2)
    yield worker
    worker.close()


@pytest.fixture
def session(place):
    return Session(None, [place], None, "The run has no bridge: train one.")


@pytest.fixture
def start():
    """Start a server with some answers, and end it behind the test."""
    running = []

    def start(answers, page=b"<p>a page</p>"):
        server = Server(page, answers)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(start, session, worker, place):
    return start(answers(session, worker, keep_notes=pytest.fail), page_of(circuit_payload(place.circuit)))


@pytest.fixture
def echo(start):
    return start({"api/echo": lambda body: json.loads(body)})


# What it answers


def test_the_page_comes_with_a_policy_that_lets_it_ask_this_server_and_nobody_else(server, place):
    reply = ask(server)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    written = render(circuit_payload(place.circuit))
    assert 'http-equiv="Content-Security-Policy"' in written  # of a file, which asks nobody
    assert reply.body.decode() == with_policy_of_headers(written) != written
    assert b"http-equiv" not in reply.body
    assert ask(server, "?state=1").body == reply.body


def test_every_reply_carries_the_headers(server):
    replies = [ask(server), ask(server, "api/run", {}), ask(server, token="wrong"), ask(server, method="DELETE")]
    for reply in replies:
        policy = dict(rule.split(" ", 1) for rule in reply.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'" and policy["connect-src"] == "'self'"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert "Python" not in reply.headers["Server"] and server.token not in str(reply.headers)


def test_a_run_is_what_python_returns(server, place):
    cuts = [("0.mlp.act_in[5]", "0.mlp.post_act[7]")]
    asked = [
        ABLATE,
        {"node": "1.attn.q[3]", "kind": "scale", "value": 2.0},
        {"node": "0.mlp.post_act[7]", "kind": "set", "value": -1.5},
    ]
    reply = ask(server, "api/run", {"circuit": 0, "prompt": PROMPT, "interventions": asked, "cuts": cuts})
    interventions = [Intervention(each["node"], Change[each["kind"]], each["value"]) for each in asked]
    expected = asdict(run_prompt(place, PROMPT, interventions=interventions, cuts=cuts))
    assert reply.status == 200 and reply.json == {**expected, "why": None}
    plain = ask(server, "api/run", {"circuit": 0, "prompt": PROMPT}).json
    change = reply.json["answers"]["model"][0] - plain["answers"]["model"][0]
    assert change == expected["answers"]["model"][0] - asdict(run_prompt(place, PROMPT))["answers"]["model"][0] != 0


def test_a_pair_is_what_python_returns(server, place):
    assert ask(server, "api/pair", {"circuit": 0, "index": 3}).json == asdict(show_pair(place, 3))


def test_the_page_asks_from_its_own_origin_under_either_name(server):
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{server.server_port}"
        assert ask(server, "api/cancel", {}, Host=host, Origin=f"http://{host}").json == {"cancelled": 0}


# What it refuses


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


# The worker


class Gate:
    """Work that says when it began and goes on when it is let."""

    def __init__(self):
        self.began, self.opened, self.n_passes = threading.Event(), threading.Event(), 0

    def __call__(self, proceed):
        self.began.set()
        assert self.opened.wait(10)
        proceed()
        self.n_passes += 1
        return {"done": True}


def in_threads(*calls):
    """Start calls, each in a thread, and return what waits for their results or errors."""
    results = [None] * len(calls)

    def call(place):
        try:
            results[place] = calls[place]()
        except UserError as error:
            results[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()

    def wait():
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        return results

    return wait


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_cancel_ends_what_is_in_progress_before_its_next_pass_and_what_waits(start, worker):
    gate, later = Gate(), Gate()
    server = start(
        {
            "api/work": lambda body: worker.do(gate),
            "api/later": lambda body: worker.do(later),
            "api/cancel": lambda body: {"cancelled": worker.cancel()},
        }
    )
    wait = in_threads(lambda: ask(server, "api/work", {}), lambda: gate.began.wait(10) and ask(server, "api/later", {}))
    until(lambda: len(worker._asked) == 2)
    assert ask(server, "api/cancel", {}).json == {"cancelled": 2}
    gate.opened.set()
    for reply in wait():
        assert reply.status == 409 and "Cancelled" in reply.error
    assert gate.n_passes == 0 and not later.began.is_set()
    assert ask(server, "api/cancel", {}).json == {"cancelled": 0}
    assert worker.do(lambda proceed: proceed() or "still at work") == "still at work"


def test_a_full_row_says_so(start, worker):
    gate = Gate()
    server = start({"api/work": lambda body: worker.do(gate)})
    wait = in_threads(*[lambda: ask(server, "api/work", {})] * 3)
    until(lambda: len(worker._asked) == 3)
    reply = ask(server, "api/work", {})
    assert reply.status == 429 and "2 requests are waiting" in reply.error
    gate.opened.set()
    assert [reply.json for reply in wait()] == [{"done": True}] * 3


def test_work_is_bounded_in_time_and_one_piece_follows_the_other():
    worker, order = Worker(seconds=0.05), []

    def too_long(proceed):
        order.append("begun")
        time.sleep(0.2)
        proceed()
        order.append("never")

    with pytest.raises(OutOfTime, match=r"longer than 0\.05 seconds"):
        worker.do(too_long)
    worker.do(lambda proceed: order.append("next"))
    assert order == ["begun", "next"]
    worker.close()


def test_closing_cancels_and_waits():
    worker, gate = Worker(), Gate()
    wait = in_threads(lambda: worker.do(gate))
    assert gate.began.wait(10)
    closing = in_threads(worker.close)
    until(lambda: worker._asked[0].unwanted.is_set())
    gate.opened.set()
    closing()
    assert isinstance(wait()[0], Cancelled) and not isinstance(wait()[0], Busy)


# Many requests


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_a_thousand_requests_leave_memory_flat(server):
    question = {"circuit": 0, "prompt": PROMPT, "interventions": [ABLATE]}

    def rounds(n_rounds):
        for _ in range(n_rounds):
            assert ask(server, "api/run", question).status == 200
            for _ in range(3):
                assert ask(server).status == 200
                assert ask(server, "api/run", {"prompt": 1}).status == 400
                assert ask(server, "../x").status == 404
        until(lambda: threading.active_count() <= n_threads)
        gc.collect()
        return len(gc.get_objects()), resident()

    n_threads = threading.active_count() + 1  # the worker begins with the first question
    n_before, before = rounds(20)
    n_after, after = rounds(100)
    assert n_after - n_before < 100  # a tenth of an object a request
    assert after - before < 4_000_000  # the 300 pages alone, were they kept, would take 20 MB


# The verb


def test_view_serves_a_folder_of_circuits_until_ctrl_c(place, tmp_path):
    place.circuit.save(tmp_path / "run" / "circuits" / "quote.safetensors")
    # A shell may start what runs in its background deaf to Ctrl-C.
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from sparse_circuits import cli\n"
        "sys.exit(cli.main())\n"
    )
    command = [sys.executable, "-c", code, "view", "run=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:") and address.endswith("/")
        assert "Ctrl-C" in process.stdout.readline()
        _, _, host, token, _ = address.split("/")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("GET", f"/{token}/")
        payload = payload_of(connection.getresponse().read().decode())
        assert payload["live"]["circuits"][0]["model"] is False and "checkpoint=" in payload["live"]["circuits"][0]["why"]
        assert payload["live"]["limits"] == {"n_bytes": 65536, "seconds": 30.0}
        connection.request(
            "POST", f"/{token}/api/run", json.dumps({"circuit": 0, "prompt": PROMPT}), {"Content-Type": "application/json"}
        )
        found = json.loads(connection.getresponse().read())
        assert found["model"] is None and found["why"] == payload["live"]["circuits"][0]["why"]
        assert found["answers"]["circuit"] == pytest.approx(list(place.circuit.run(PROMPT)), abs=1e-6)
        notes = {"labels": {"1.attn.q[3]": "asks <b>"}, "groups": [{"name": "both", "nodes": ["final_resid[9]"]}]}
        connection.request(
            "POST", f"/{token}/api/labels", json.dumps({"circuit": 0, **notes}), {"Content-Type": "application/json"}
        )
        assert json.loads(connection.getresponse().read()) == {}
        connection.request("GET", f"/{token}/")
        assert payload_of(connection.getresponse().read().decode())["circuits"][0]["notes"] == notes
        kept = Circuit.load(tmp_path / "run" / "circuits" / "quote.safetensors")
        assert to_plain(kept.notes) == notes and torch.equal(kept.model.embed.weight, place.model.embed.weight)
        connection.close()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
    finally:
        process.kill()
        process.wait()


def test_view_of_no_run_is_one_sentence(tmp_path, capsys):
    assert cli.main(["view", f"run={tmp_path}"]) == 2
    assert "holds neither run.json nor circuits" in capsys.readouterr().err
