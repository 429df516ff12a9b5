"""From payload to page: `page.html`, which web/ is built into, with the title and the deflated payload put in."""

from __future__ import annotations

import html
import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_circuits.circuits import Circuit
from sparse_circuits.report.payload import circuit_payload, run_payload, to_json
from sparse_circuits.report.samples import Sample
from sparse_circuits.run import replacing

ASSET = Path(__file__).parent / "page.html"
TITLE, PAYLOAD = "{{title}}", "{{payload}}"
"""What stands in the asset in the place of the two; the payload comes last."""


def render(payload: dict[str, Any]) -> str:
    """Return the self-contained HTML page of a payload."""
    run, circuits = payload["run"], payload["circuits"]
    title = run["name"] if run else ", ".join(circuit["task"] for circuit in circuits) or "finetunes"
    before, rest = ASSET.read_text(encoding="utf-8").split(TITLE)
    between, after = rest.split(PAYLOAD)
    return "".join([before, html.escape(f"{title} · sparse_circuits"), between, deflated(to_json(payload)), after])


def deflated(text: str) -> str:
    """Return a text as zlib makes it small, in base64: letters and digits that no HTML parser minds."""
    return b64encode(zlib.compress(text.encode(), level=9)).decode()


def write_report(run_folder: Path, *, samples: Mapping[str, Sample] | None = None) -> Path:
    """Write a run folder's report.json and report.html, and return the path of the page.

    Args:
        run_folder: of the run.
        samples: tokens that models were trained on, as for `run_payload`.

    Raises:
        UserError: the folder holds no run, one of its files is damaged, or the disk is full.
    """
    payload = run_payload(run_folder, samples=samples)
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
        allowed = "allow-scripts allow-downloads"
        return f'<iframe srcdoc="{source}" sandbox="{allowed}" style="width:100%;height:900px;border:0"></iframe>'


def show(circuit: Circuit, *, sample: Sample | None = None) -> Page:
    """Return a circuit's page, which a notebook displays.

    Args:
        circuit: the one.
        sample: tokens that its model was trained on, such as `means.sample`, for examples and histograms.
    """
    return Page(render(circuit_payload(circuit, sample=sample)))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
