import json
import re
import zlib
from base64 import b64decode
from html.parser import HTMLParser

import pytest

from sparse_circuits.errors import UserError
from sparse_circuits.report import render, show, write_report
from sparse_circuits.report.page import ASSET, PAYLOAD, TITLE
from sparse_circuits.report.payload import circuit_payload, run_payload

HOSTILE = """</script><script>alert("1")</script><!-- & ' {{payload}} \\u003c \u2028"""


class Page(HTMLParser):
    """The texts of the page's script elements, by id, and its tags, as a browser would find them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], {}, None
        self.feed(text)

    @property
    def payload(self):
        return json.loads(zlib.decompress(b64decode(self.scripts["payload"])))

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
    assert payload == Page(path.read_text()).payload
    assert payload["circuits"][0]["task"] == "single_double_quote"


def test_the_page_says_of_no_circuit_how_many_random_ones_were_drawn_for_another():
    assert "random circuits of the same size" in ASSET.read_text()
    assert not re.search(r"\d+ random circuits", ASSET.read_text())


def test_the_page_needs_no_network(run_folder):
    text = render(run_payload(run_folder))
    names = {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/1998/Math/MathML",
    }  # never fetched
    assert set(re.findall(r"https?:[^\s\"'`]*", text)) <= names
    assert not re.search(r"@import|url\(|<link|<script[^>]*\bsrc=", text)
    assert "default-src 'none'" in text


def test_hostile_text_stays_text(make_circuit):
    harmless, hostile = circuit_payload(make_circuit()), circuit_payload(make_circuit("single_double_quote", summary=HOSTILE))
    hostile["texts"][0] = hostile["circuits"][0]["nodes"][-1]["text"] = HOSTILE
    hostile["run"] = {"name": HOSTILE}
    page = Page(render(hostile))
    assert page.tags == Page(render(harmless)).tags
    assert page.payload == hostile


def test_the_asset_has_one_place_for_each_part():
    asset = ASSET.read_text()
    assert (asset.count(TITLE), asset.count(PAYLOAD)) == (1, 1)
    assert asset.index(TITLE) < asset.index(PAYLOAD)


def test_the_pages_source_never_writes_markup():
    sources = [path.read_text() for path in (ASSET.parent / "web" / "src").rglob("*.ts*")]
    assert sources
    assert not [text for text in sources if re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)]


def test_a_page_of_twenty_circuits_is_small(make_circuit, run_folder):
    payload = run_payload(run_folder)
    payload["circuits"] = payload["circuits"] * 20
    assert len(render(payload).encode()) < 5_000_000


def test_a_circuit_shows_itself_in_a_notebook(make_circuit):
    markup = show(make_circuit(summary=HOSTILE))._repr_html_()
    assert Page(markup).tags == ["iframe"]
    assert "alert(&quot;" not in markup.split("srcdoc=")[0]


def test_a_folder_that_is_no_run_leaves_no_page(tmp_path):
    with pytest.raises(UserError):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
