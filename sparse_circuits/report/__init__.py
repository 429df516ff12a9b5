"""The report of a run: one JSON payload, and one self-contained HTML page drawn from it."""

from sparse_circuits.report.page import render, show, write_report
from sparse_circuits.report.payload import run_payload

__all__ = ["render", "run_payload", "show", "write_report"]
