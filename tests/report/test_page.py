import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from sparse_circuits.errors import UserError
from sparse_circuits.report import render, show, write_report
from sparse_circuits.report.page import SCRIPTS
from sparse_circuits.report.payload import circuit_payload, run_payload

HOSTILE = """</script><script>alert("1")</script><!-- & ' {{style}} \\u003c \u2028"""


class Page(HTMLParser):
    """The texts of the page's script elements, by id, and its tags, as a browser would find them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = dict(attributes).get("id", "code") if tag == "script" else None

    def handle_data(self, data):
        if self.inside:
            self.scripts[self.inside] = data

    def handle_endtag(self, tag):
        self.inside = None


def test_write_report_writes_the_page_and_its_payload(run_folder):
    path = write_report(run_folder)
    assert path == run_folder / "report.html"
    payload = json.loads((run_folder / "report.json").read_text())
    assert payload == json.loads(Page(path.read_text()).scripts["payload"])
    assert payload["circuits"][0]["task"] == "single_double_quote"


def test_the_page_needs_no_network(run_folder):
    text = render(run_payload(run_folder))
    assert set(re.findall(r"https?:[^\s\"']*", text)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.search(r"@import|url\(|\bsrc=|\bimport\b|\bfetch\(", text)
    assert "default-src 'none'" in text


def test_hostile_text_stays_text(make_circuit):
    harmless, hostile = circuit_payload(make_circuit()), circuit_payload(make_circuit("single_double_quote", summary=HOSTILE))
    hostile["circuits"][0]["examples"][0]["prompt"] = HOSTILE
    hostile["run"] = {"name": HOSTILE}
    page = Page(render(hostile))
    assert page.tags == Page(render(harmless)).tags
    assert json.loads(page.scripts["payload"]) == hostile


def test_scripts_never_write_markup():
    code = Page(render({"run": {"name": "x"}, "circuits": []})).scripts["code"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", code)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_scripts_parse_together(tmp_path):
    script = tmp_path / "page.js"
    script.write_text(Page(render({"run": {"name": "x"}, "circuits": []})).scripts["code"])
    assert subprocess.run(["node", "--check", script], capture_output=True, text=True).stderr == ""
    assert len(SCRIPTS) == 5


def test_a_report_is_small(make_circuit, run_folder):
    payload = run_payload(run_folder)
    (circuit,) = payload["circuits"]
    circuit["edges"] = circuit["edges"] * 20
    payload["circuits"] = [circuit] * 20
    assert len(circuit["edges"]) == 200
    assert len(render(payload).encode()) < 1_000_000


def test_a_circuit_shows_itself_in_a_notebook(make_circuit):
    markup = show(make_circuit(summary=HOSTILE))._repr_html_()
    assert Page(markup).tags == ["iframe"]
    assert "alert(&quot;" not in markup.split("srcdoc=")[0]


def test_a_folder_that_is_no_run_leaves_no_page(tmp_path):
    with pytest.raises(UserError):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
