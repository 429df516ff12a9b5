"""The live server: what it answers equals what Python returns, a thousand times without growing, and a verb starts it."""

import gc
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from sparse_circuits import cli
from sparse_circuits.circuits import Circuit
from sparse_circuits.plain import to_plain
from sparse_circuits.report.page import render
from sparse_circuits.report.payload import circuit_payload
from sparse_circuits.report.server.change import Change, Intervention
from sparse_circuits.report.server.live import run_prompt
from sparse_circuits.report.server.pair import show_pair
from sparse_circuits.report.server.serve import with_policy_of_headers
from tests.report.asking import ABLATE, PROMPT, ask, until
from tests.report.small import payload_of


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
