import io

from rich.console import Console

from sparse_circuits.tasks.doctor import examine
from sparse_circuits.tasks.table import pairs_table, verdict_table
from sparse_circuits.tasks.task import Pair, Task


def rendered(diagnoses):
    stream = io.StringIO()
    Console(file=stream, width=80).print(pairs_table(diagnoses), verdict_table(diagnoses))
    return stream.getvalue()


def test_each_task_has_a_row_with_its_verdict_answers_and_numbers(bracket_task, angle_task, bracket_model, byte_tokenizer):
    text = rendered(examine([bracket_task, angle_task], byte_tokenizer, model=bracket_model, n_pairs=10))
    known = " ".join(line for line in text.splitlines() if "bracket" in line)
    unknown = " ".join(line for line in text.splitlines() if "angle" in line)
    for part in (" known ", "')' | ']'", " 10 ", "0.000", "1.000", "9.00"):
        assert part in known
    for part in (" unknown ", "'>' | '}'", "0.693", "0.000"):
        assert part in unknown
    assert "…" not in text


def test_what_was_not_measured_is_left_empty(bracket_task, byte_tokenizer):
    text = rendered(examine([bracket_task], byte_tokenizer, n_pairs=10))
    assert "unscored" in text
    assert "None" not in text and "nan" not in text


def test_below_the_table_stands_why_a_task_is_invalid(bracket_task, byte_tokenizer):
    task = Task("uneven", "one side is longer", lambda draw: Pair("a", "bc", "1", "2", ()))
    text = rendered(examine([task, bracket_task], byte_tokenizer, n_pairs=10))
    assert "uneven: 200 draws, of which 200 unequal_length" in text
    assert "bracket: " not in text
