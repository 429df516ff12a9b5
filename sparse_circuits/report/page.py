"""From payload to page: a template, a style sheet and five scripts, put into one file that needs nothing else."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_circuits.circuits import Circuit
from sparse_circuits.report.payload import circuit_payload, run_payload, to_json
from sparse_circuits.run import replacing

SCRIPTS = ("dom.js", "curves.js", "layout.js", "graph.js", "page.js")


def render(payload: dict[str, Any]) -> str:
    """Return the self-contained HTML page of a payload."""
    run, circuits = payload["run"], payload["circuits"]
    title = run["name"] if run else ", ".join(circuit["task"] for circuit in circuits)
    parts = {
        "title": html.escape(f"{title} · sparse_circuits"),
        "style": _asset("page.css"),
        # Nothing in a JSON script element can end it once no "<" is left.
        "payload": to_json(payload).replace("<", "\\u003c"),
        "script": "\n".join(_asset(name) for name in SCRIPTS),
    }
    return re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], _asset("page.html"))


def write_report(run_folder: Path) -> Path:
    """Write a run folder's report.json and report.html, and return the path of the page.

    Raises:
        UserError: the folder holds no run, one of its files is damaged, or the disk is full.
    """
    payload = run_payload(run_folder)
    page = Path(run_folder) / "report.html"
    _write(page.with_suffix(".json"), to_json(payload))
    _write(page, render(payload))
    return page


@dataclass(frozen=True)
class Page:
    """A page that a notebook shows in a frame of its own."""

    html: str

    def _repr_html_(self) -> str:
        source = html.escape(self.html)
        return f'<iframe srcdoc="{source}" sandbox="allow-scripts" style="width:100%;height:900px;border:0"></iframe>'


def show(circuit: Circuit) -> Page:
    """Return a circuit's page, which a notebook displays."""
    return Page(render(circuit_payload(circuit)))


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
