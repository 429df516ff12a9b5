"""Model work in one row: cancelled, bounded in time and number."""

import threading
import time

import pytest

from sparse_circuits.errors import UserError
from sparse_circuits.report.server.worker import Busy, Cancelled, OutOfTime, Worker
from tests.report.asking import ask, until


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
