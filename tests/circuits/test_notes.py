import json

import pytest

from sparse_circuits.circuits import Circuit, Group, Notes
from sparse_circuits.errors import UserError
from sparse_circuits.model.store import read_tensors, write_tensors
from tests.report.small import small_circuit, small_model, small_tokenizer

NOTES = Notes({"1.attn.q[3]": "opens a string"}, [Group("quotes", ["1.attn.q[3]", "1.attn.k[3]"])])


@pytest.fixture(scope="module")
def circuit():
    tokenizer = small_tokenizer()
    return small_circuit(small_model(tokenizer), tokenizer)


def test_notes_travel_in_the_circuits_file(circuit, tmp_path):
    circuit.with_notes(NOTES).save(tmp_path / "noted.safetensors")
    assert Circuit.load(tmp_path / "noted.safetensors").notes == NOTES


def test_a_file_from_before_has_no_notes(circuit, tmp_path):
    path = tmp_path / "old.safetensors"
    circuit.save(path)
    tensors, metadata = read_tensors(path, kind="circuit")
    del metadata["notes"]
    write_tensors(path, tensors, kind="circuit", metadata=metadata)
    assert Circuit.load(path).notes == Notes()


def test_what_the_page_downloads_is_read(tmp_path):
    path = tmp_path / "with_open.notes.json"
    groups = [{"name": "quotes", "nodes": ["1.attn.q[3]", "1.attn.k[3]"]}]
    path.write_text(json.dumps({"task": "with_open", "labels": NOTES.labels, "groups": groups}))
    assert Notes.load(path) == NOTES


def test_notes_on_another_circuits_nodes_are_refused(circuit):
    with pytest.raises(UserError, match=r'no node "1.attn.q\[4\]"'):
        circuit.with_notes(Notes({"1.attn.q[4]": "x"}))


@pytest.mark.parametrize(
    "values",
    [[], "x", {"labels": []}, {"labels": {"a": 1}}, {"groups": [{"name": "a"}]}, {"groups": {"a": 1}}, {"groups": [1]}],
)
def test_other_values_are_no_notes(values):
    with pytest.raises(UserError, match=r"give labels|another version"):
        Notes.from_plain(values)
