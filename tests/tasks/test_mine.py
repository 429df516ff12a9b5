import pytest

from sparse_circuits.data.idioms import idiom_documents
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.encode import Drop, draw_pairs, encode_pairs
from sparse_circuits.tasks.listed import load_pairs, save_pairs
from sparse_circuits.tasks.mine import PATTERNS, Pattern, mine_pairs, mined_task
from sparse_circuits.tasks.task import Pair

QUOTE, ELSE, FOR = PATTERNS


def a_document(index):
    return f'x = 1\nif x:\n    print("total {index:03}")\nelse:\n    pass\n'


def every_pair(mined):
    return [pair for split in Split for pair in mined.pairs[split]]


def test_the_prompt_is_cut_before_the_answer_and_edited_where_it_is_decided(byte_tokenizer):
    mined = mine_pairs(QUOTE, [a_document(7)], byte_tokenizer)
    assert every_pair(mined) == [
        Pair(
            positive='x = 1\nif x:\n    print("total 007',
            negative="x = 1\nif x:\n    print('total 007",
            positive_answer='")\n',
            negative_answer="')\n",
            fillers=(),
        )
    ]
    assert not mined.dropped


def test_the_window_is_bounded_and_starts_at_a_line(byte_tokenizer):
    document = "".join(f"line_{n} = {n}\n" for n in range(100)) + 'print("total")\n'
    (pair,) = every_pair(mine_pairs(QUOTE, [document], byte_tokenizer, n_characters=60))
    assert pair.positive == 'line_97 = 97\nline_98 = 98\nline_99 = 99\nprint("total'
    (pair,) = every_pair(mine_pairs(QUOTE, [document], byte_tokenizer, n_characters=3))
    assert pair.positive == 'print("total'  # never less than the line that decides


def test_a_window_that_would_start_right_at_a_line_keeps_that_line(byte_tokenizer):
    document = 'first\nsecond\nprint("total")\n'
    n_characters = len('second\nprint("total')
    (pair,) = every_pair(mine_pairs(QUOTE, [document], byte_tokenizer, n_characters=n_characters))
    assert pair.positive == 'second\nprint("total'


def test_matches_that_make_no_fair_pair_are_dropped_with_the_reason(byte_tokenizer):
    longer = Pattern("longer", "the edit is longer", regex=r"(?P<edit>for) x(?P<answer> in)", edit="while", answer=":")
    same = Pattern("same", "the answers agree", regex=r"(?P<edit>a)b(?P<answer>c)", edit="x", answer="c")
    assert mine_pairs(longer, ["for x in y"], byte_tokenizer).dropped == {Drop.unequal_length: 1}
    assert mine_pairs(same, ["abc"], byte_tokenizer).dropped == {Drop.same_answer: 1}
    assert mine_pairs(QUOTE, [a_document(1)] * 3, byte_tokenizer).dropped == {Drop.duplicate: 2}


def test_the_edit_may_refer_to_groups(byte_tokenizer):
    swap = Pattern(
        "swap",
        "the two names of a swap",
        regex=r"(?P<edit>(?P<a>\w+), (?P<b>\w+)) = (?P=b), (?P<answer>(?P=a))",
        edit=r"\g<b>, \g<a>",
        answer=r"\g<b>",
    )
    (pair,) = every_pair(mine_pairs(swap, ["up, to = to, up"], byte_tokenizer))
    assert pair[:4] == ("up, to = to, ", "to, up = to, ", "up", "to")


def test_a_mined_task_keeps_documents_apart_by_split(byte_tokenizer):
    documents = ["nothing here\n", *(a_document(index) for index in range(50))]
    task = mined_task(QUOTE, documents, byte_tokenizer)
    found = {
        split: {pair.positive for pair in draw_pairs(task, byte_tokenizer, split=split, n_pairs=n, seed=0).pairs}
        for split, n in zip(Split, (30, 10, 10), strict=True)
    }
    assert [len(texts) for texts in found.values()] == [30, 10, 10]
    assert len(set.union(*found.values())) == 50


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_shipped_patterns_find_pairs_in_simple_python(pattern, code_tokenizer):
    task = mined_task(pattern, idiom_documents(n_documents=300, seed=1), code_tokenizer)
    batch = encode_pairs(task, code_tokenizer, split=Split.train, n_pairs=30, seed=0)
    assert batch.scoring is pattern.scoring


def test_mined_pairs_can_be_kept_in_a_file(tmp_path, byte_tokenizer):
    pairs = mine_pairs(QUOTE, map(a_document, range(10)), byte_tokenizer).pairs
    save_pairs(tmp_path / "mined.jsonl", pairs)
    task = load_pairs(tmp_path / "mined.jsonl")
    drawn = draw_pairs(task, byte_tokenizer, split=Split.held_out, n_pairs=2, seed=0)
    assert sorted(drawn.pairs) == sorted(pairs[Split.held_out])


def test_a_corpus_without_the_pattern_is_refused_with_the_reason(byte_tokenizer):
    with pytest.raises(UserError, match=r'"mined_quote" found no valid pair \(dropped: none\)'):
        mined_task(QUOTE, ["nothing here\n"], byte_tokenizer)
    same = Pattern("same", "the answers agree", regex=r"(?P<edit>a)b(?P<answer>c)", edit="x", answer="c")
    with pytest.raises(UserError, match="1 both answers the same token"):
        mined_task(same, ["abc"], byte_tokenizer)


@pytest.mark.parametrize(
    ("regex", "message"),
    [("(", "is no regular expression"), ("(?P<edit>a)b", "needs the groups"), ("(?P<answer>a)b", "needs the groups")],
)
def test_a_pattern_that_cannot_work_is_refused(regex, message):
    with pytest.raises(UserError, match=message):
        Pattern("mine", "a pattern", regex=regex, edit="x", answer="y")
