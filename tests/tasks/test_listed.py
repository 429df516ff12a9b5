import json

import pytest

from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.encode import draw_pairs, encode_pairs
from sparse_circuits.tasks.listed import dealt_split, listed_task, load_pairs, save_pairs
from sparse_circuits.tasks.task import Pair, Scoring


def row(index, **changes):
    return {"pos": f"{index:02}(", "neg": f"{index:02}[", "pos_answer": ")", "neg_answer": "]", **changes}


def write(path, *rows):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return path


def prompts(task, split, n_pairs, tokenizer):
    return {pair.positive for pair in draw_pairs(task, tokenizer, split=split, n_pairs=n_pairs, seed=0).pairs}


def test_a_file_of_pairs_becomes_a_task(tmp_path, byte_tokenizer):
    task = load_pairs(write(tmp_path / "brackets.jsonl", *map(row, range(20))), scoring=Scoring.prefix_set)
    batch = encode_pairs(task, byte_tokenizer, split=Split.train, n_pairs=12, seed=0)
    assert task.name == "brackets"
    assert batch.scoring is Scoring.prefix_set
    assert [byte_tokenizer.decode(side) for side in batch.answers[0].tolist()] == [")", "]"]


def test_pairs_are_dealt_to_splits_that_share_none(tmp_path, byte_tokenizer):
    task = load_pairs(write(tmp_path / "brackets.jsonl", *map(row, range(20))))
    found = {split: prompts(task, split, n, byte_tokenizer) for split, n in zip(Split, (12, 4, 4), strict=True)}
    assert [len(texts) for texts in found.values()] == [12, 4, 4]
    assert len(set.union(*found.values())) == 20


def test_adding_pairs_at_the_end_moves_none(tmp_path, byte_tokenizer):
    short, long = (load_pairs(write(tmp_path / f"{n}.jsonl", *map(row, range(n)))) for n in (10, 20))
    for split in Split:
        assert prompts(short, split, 2, byte_tokenizer) <= prompts(long, split, 12, byte_tokenizer)
    assert [dealt_split(index) for index in (3, 4, 8)] == [Split.validation, Split.held_out, Split.validation]


def test_a_split_named_in_the_file_is_kept(tmp_path, byte_tokenizer):
    rows = [row(index, split="held_out" if index < 3 else "train") for index in range(6)]
    task = load_pairs(write(tmp_path / "brackets.jsonl", *rows))
    assert prompts(task, Split.held_out, 3, byte_tokenizer) == {"00(", "01(", "02("}
    with pytest.raises(UserError, match="no validation pairs"):
        draw_pairs(task, byte_tokenizer, split=Split.validation, n_pairs=1, seed=0)


def test_too_few_pairs_say_how_many_there_are(tmp_path, byte_tokenizer):
    task = load_pairs(write(tmp_path / "brackets.jsonl", *map(row, range(10))))
    with pytest.raises(UserError, match=r'"brackets" gave 6 of 7 train pairs .*duplicate'):
        encode_pairs(task, byte_tokenizer, split=Split.train, n_pairs=7, seed=0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"pos": "a", "neg": "b", "pos_answer": "c"}, "line 3, lacks neg_answer"),
        (row(1, pos=""), "line 3, lacks pos:"),
        (row(1, pos=5, neg=None), "line 3, lacks pos, neg:"),
        ([1], "line 3, is no JSON object"),
        ("{oops", "line 3, is not valid JSON"),
        (row(1, split="validatoin"), 'line 3, has the split "validatoin" .did you mean "validation"'),
    ],
)
def test_a_line_that_is_no_pair_is_named(line, message, tmp_path):
    path = write(tmp_path / "pairs.jsonl", row(0), "", line)
    with pytest.raises(UserError, match=f"pairs.jsonl, {message}"):
        load_pairs(path)


def test_an_empty_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="lists no pairs"):
        load_pairs(write(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match=r"Could not read .*missing.jsonl"):
        load_pairs(tmp_path / "missing.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary.jsonl is not UTF-8 text"):
        load_pairs(tmp_path / "binary.jsonl")


def test_saved_pairs_come_back_in_their_splits(tmp_path, byte_tokenizer):
    pairs = {split: [Pair(f'é\n"{split.name}(', f'é\n"{split.name}[', ")\n", "]", ())] for split in Split}
    save_pairs(tmp_path / "saved.jsonl", pairs)
    for task in (load_pairs(tmp_path / "saved.jsonl"), listed_task("saved", pairs, summary="one each")):
        for split in Split:
            assert draw_pairs(task, byte_tokenizer, split=split, n_pairs=1, seed=0).pairs == pairs[split]
