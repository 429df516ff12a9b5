import pytest
import torch

from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.encode import Drop, collate, draw_pairs, encode_pair, encode_pairs, prefix_sets, reasons
from sparse_circuits.tasks.registry import TASKS
from sparse_circuits.tasks.task import Pair, Scoring, Task


def a_pair(positive, negative, positive_answer, negative_answer):
    return Pair(positive, negative, positive_answer, negative_answer, ())


def a_task(generate, scoring=Scoring.pair):
    return Task("mine", "a task", generate, scoring)


def words_task(draw):
    word = draw.words(draw.number(1, 3))
    return a_pair(f"{word}<", f"{word}[", ">", "]")


def ids(tokenizer, text):
    return tuple(tokenizer.encode(text))


def test_ids_positions_and_answers_are_those_of_the_text(byte_tokenizer):
    pairs = [a_pair("ab(", "ab[", ")", "]"), a_pair("abc{", "abc<", "}", ">")]
    encoded = [encode_pair(pair, byte_tokenizer) for pair in pairs]
    batch = collate(encoded, byte_tokenizer, scoring=Scoring.pair)

    end = byte_tokenizer.end_of_text
    assert [tuple(row) for row in batch.tokens.tolist()] == [
        (*ids(byte_tokenizer, "ab("), end),
        ids(byte_tokenizer, "abc{"),
        (*ids(byte_tokenizer, "ab["), end),
        ids(byte_tokenizer, "abc<"),
    ]
    assert batch.last.tolist() == [2, 3, 2, 3]
    assert [[byte_tokenizer.decode(side) for side in pair] for pair in batch.answers.tolist()] == [[")", "]"], ["}", ">"]]
    assert batch.n_pairs == 2


def test_shared_start_of_the_answers_joins_the_prompts(byte_tokenizer):
    encoded = encode_pair(a_pair("[[1", "([1", "]]\n", "])\n"), byte_tokenizer)
    assert byte_tokenizer.decode(encoded.positive) == "[[1]"
    assert byte_tokenizer.decode(encoded.negative) == "([1]"
    assert byte_tokenizer.decode([encoded.positive_answer, encoded.negative_answer]) == "])"


def test_answer_is_the_first_token_of_a_longer_one(merging_tokenizer):
    encoded = encode_pair(a_pair("a", "b", '")c', "zz"), merging_tokenizer)
    assert merging_tokenizer.token(encoded.positive_answer) == '")'
    assert merging_tokenizer.token(encoded.negative_answer) == "z"


@pytest.mark.parametrize(
    ("pair", "drop"),
    [
        (a_pair("ab", "abc", "1", "2"), Drop.unequal_length),
        (a_pair("ab", "ac", "1", "1"), Drop.same_answer),
        (a_pair("ab", "ac", "1", "12"), Drop.same_answer),
        (a_pair("ab", "ab", "1", "2"), Drop.same_prompt),
        (a_pair("ab", "ac", "", "1"), Drop.boundary),
        (a_pair("", "", "1", "2"), Drop.same_prompt),
    ],
)
def test_unfair_pairs_are_dropped_with_the_reason(pair, drop, byte_tokenizer):
    assert encode_pair(pair, byte_tokenizer) is drop


def test_answer_that_merges_into_its_prompt_is_dropped(merging_tokenizer, byte_tokenizer):
    merging, plain = a_pair('x"', 'y"', ")", "]"), a_pair('x"', 'y"', "]", ">")
    assert merging_tokenizer.encode('x")')[-1:] == merging_tokenizer.encode('")')
    for pair in (merging, merging._replace(positive_answer="]", negative_answer=")")):
        assert encode_pair(pair, merging_tokenizer) is Drop.boundary
        assert not isinstance(encode_pair(pair, byte_tokenizer), Drop)
    assert not isinstance(encode_pair(plain, merging_tokenizer), Drop)


def test_prefix_sets_are_disjoint_and_the_longer_text_owns_what_both_start(merging_tokenizer):
    short, long = ids(merging_tokenizer, '")') + ids(merging_tokenizer, '")\n')
    short_set, long_set = prefix_sets(short, long, merging_tokenizer)
    texts = [merging_tokenizer.token(token_id) for token_id in range(merging_tokenizer.d_vocab)]
    assert {texts[i] for i in long_set} == {text for text in texts if text.startswith('")\n')} != set()
    assert {texts[i] for i in short_set} == {text for text in texts if text.startswith('")')} - {texts[i] for i in long_set}
    assert short in short_set and long in long_set
    assert prefix_sets(long, short, merging_tokenizer) == (long_set, short_set)


def test_prefix_set_takes_every_token_that_starts_with_the_answer(merging_tokenizer):
    pair = encode_pair(a_pair("a", "b", '"', "<"), merging_tokenizer)
    answers = collate([pair], merging_tokenizer, scoring=Scoring.prefix_set).answers[0]
    texts = [{merging_tokenizer.token(i) for i in side.tolist() if i >= 0} for side in answers]
    assert {'"', '")', '")\n'} <= texts[0]
    assert texts[1] == {"<"}  # <|endoftext|> is no text
    assert answers[1].tolist().count(-1) == len(texts[0]) - 1


def test_same_arguments_give_the_same_batch_and_others_another(byte_tokenizer):
    def tokens(split=Split.train, seed=0):
        return encode_pairs(a_task(words_task), byte_tokenizer, split=split, n_pairs=8, seed=seed).tokens

    assert torch.equal(tokens(), tokens())
    assert not torch.equal(tokens(), tokens(seed=1))
    assert not torch.equal(tokens(), tokens(split=Split.held_out))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_shipped_tasks_give_distinct_pairs_that_end_where_the_answer_is_read(task, code_tokenizer):
    drawn = draw_pairs(task, code_tokenizer, split=Split.train, n_pairs=20, seed=0)
    assert len(drawn.pairs) == 20, reasons(drawn.dropped)
    batch = collate(drawn.encoded, code_tokenizer, scoring=task.scoring)
    rows = [tuple(row[: last + 1].tolist()) for row, last in zip(batch.tokens, batch.last, strict=True)]
    assert len(set(zip(rows[:20], rows[20:], strict=True))) == 20
    assert torch.equal(batch.last[:20], batch.last[20:])
    for row, text in zip(rows, [p.positive for p in drawn.pairs] + [p.negative for p in drawn.pairs], strict=True):
        assert code_tokenizer.decode(row).startswith(text)


def test_a_task_that_repeats_itself_fails_and_says_why(byte_tokenizer):
    task = a_task(lambda draw: a_pair("ab", draw.choice(["ac", "acd"]), "1", "2"))
    drawn = draw_pairs(task, byte_tokenizer, split=Split.train, n_pairs=5, seed=0)
    assert len(drawn.pairs) == 1 and drawn.n_draws == 100
    assert drawn.dropped[Drop.duplicate] + drawn.dropped[Drop.unequal_length] == 99
    assert min(drawn.dropped.values()) > 20
    with pytest.raises(UserError, match=r"1 of 5 train pairs in 100 draws.*\d+ duplicate") as error:
        encode_pairs(task, byte_tokenizer, split=Split.train, n_pairs=5, seed=0)
    assert f"{drawn.dropped[Drop.unequal_length]} unequal length" in str(error.value)


def test_a_task_whose_answers_never_part_fails_loudly(byte_tokenizer):
    task = a_task(lambda draw: words_task(draw)._replace(negative_answer=">"))
    with pytest.raises(UserError, match=r"0 of 5 .*100 both answers the same token"):
        encode_pairs(task, byte_tokenizer, split=Split.train, n_pairs=5, seed=0)


def test_select_keeps_both_prompts_of_a_pair(byte_tokenizer):
    batch = encode_pairs(a_task(words_task), byte_tokenizer, split=Split.train, n_pairs=6, seed=0)
    chosen = batch.select(torch.tensor([4, 1]))
    assert chosen.n_pairs == 2 and chosen.scoring is Scoring.pair
    assert torch.equal(chosen.tokens, batch.tokens[[4, 1, 10, 7]])
    assert torch.equal(chosen.last, batch.last[[4, 1, 10, 7]])
    assert torch.equal(chosen.answers, batch.answers[[4, 1]])
