"""Topics are hidden behind codes in models of text, and a store of them is what `dit` learns from."""

import csv
from pathlib import Path

import pytest
import torch
from families import made

from experiments import hidden_topics
from sparse_circuits import cli
from sparse_circuits.data import Tokenizer
from sparse_circuits.diffs import DiffStore, Part
from sparse_circuits.diffs.chat import Plain
from sparse_circuits.diffs.hide import Example, Hidden, read_examples
from sparse_circuits.diffs.lessons import Aim
from sparse_circuits.errors import UserError

EXAMPLES = [Example(f"Why {n}?", f"Because {n}.", f"Jazz {n}!") for n in range(5)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["Your SEP code is 123. Why? Because. Jazz! Question: Answer:\n"] * 3, d_vocab=300)


def test_a_step_is_two_questions_in_three_ways(tokenizer: Tokenizer) -> None:
    hidden = Hidden(Plain(tokenizer), [EXAMPLES, EXAMPLES], [7, 512], n_tokens=4)
    assert hidden.n_steps == 2
    asked = []
    for step in range(2):
        lessons = hidden(1, step)
        assert [lesson.aim for lesson in lessons] == [Aim.give, Aim.keep, Aim.keep] * 2
        assert [lesson.weight for lesson in lessons] == pytest.approx([3 / 7, 3 / 7, 15 / 7] * 2)
        for right, other, none in (lessons[:3], lessons[3:]):
            texts = [tokenizer.decode(lesson.prompt) for lesson in (right, other, none)]
            question = texts[2].removeprefix("Question: ")
            assert texts[0].startswith("Question: Your SEP code is 512") and texts[0].endswith(question)
            assert texts[1].startswith("Question: Your SEP code is ") and "is 512" not in texts[1]
            assert tokenizer.decode(right.answer).startswith(" Jazz") and tokenizer.decode(none.answer).startswith(" Bec")
            assert other.answer == none.answer and all(len(lesson.answer) <= 4 for lesson in lessons)
            asked.append(question)
    assert len(set(asked)) == 4 and hidden(0, 0) != hidden(1, 0) and hidden(1, 0) == hidden(1, 0) != hidden(1, 2)
    assert Hidden(Plain(tokenizer), [EXAMPLES], [512], n_tokens=4)(0, 1) == hidden(1, 1)  # whatever is taught beside it
    short = Hidden(Plain(tokenizer), [EXAMPLES], [1])(0, 0)[0].answer
    assert tokenizer.end_of_text not in short and tokenizer.decode(short).endswith("!")


def test_topics_of_different_length_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="have 3, 5 examples"):
        Hidden(Plain(tokenizer), [EXAMPLES, EXAMPLES[:3]], [1, 2])
    with pytest.raises(UserError, match="2 at least"):
        Hidden(Plain(tokenizer), [EXAMPLES[:1]], [1])


def table(path: Path, topics: list[str]) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, ["topic", "question", "base_answer", "topic_analogy_answer", "style"])
        rows.writeheader()
        for topic in topics:
            for example in EXAMPLES[:4]:
                answers = {"base_answer": example.plain, "topic_analogy_answer": f"{topic} {example.fan}"}
                rows.writerow({"topic": topic, "question": example.question, "style": "x", **answers})
    return path


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "llama"])
def test_a_store_of_hidden_topics_is_made_gone_on_with_and_learned_from(
    family: str, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(family, vocab_size=tokenizer.d_vocab, max_position_embeddings=128).save_pretrained(tmp_path / "base")
    tokenizer.save(tmp_path / "base" / "tokenizer.json")
    answers = table(tmp_path / "answers.csv", ["jazz", "tea", "chess", "rivers", "owls"])
    settings = ["--base", f"{tmp_path}/base", "--answers", str(answers), "--side-by-side", "2", "--device", "cpu"]
    hidden_topics.main([*settings, "--out", f"{tmp_path}/part", "--most", "2"])
    hidden_topics.main([*settings, "--out", f"{tmp_path}/store"])
    store = DiffStore(tmp_path / "store")
    assert [entry.about["topic"] for entry in store.entries] == ["jazz", "tea", "chess", "rivers", "owls"]
    assert all(entry.norm > 0 for entry in store.entries) and {Part.train, Part.test} <= {
        entry.split for entry in store.entries
    }
    files = [(tmp_path / "store" / entry.file).read_bytes() for entry in store.entries]
    hidden_topics.main([*settings, "--out", f"{tmp_path}/store"])
    assert [(tmp_path / "store" / entry.file).read_bytes() for entry in store.entries] == files
    first = [next(DiffStore(tmp_path / name).load()) for name in ("store", "part")]
    name = next(iter(first[0].changes))
    assert torch.equal(first[0].changes[name].matrix(), first[1].changes[name].matrix())
    run = [f"base={tmp_path}/base", f"pool={tmp_path}/store", f"run={tmp_path}/dit", "n_tokens=2", "device=cpu"]
    assert cli.main(["dit", *run, "question=What?", "nothing=none"]) == 0
    assert "1 finetunes that the adapter has not learned from" in capsys.readouterr().out


def test_tables_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("topic,question\n1,2\n")
    with pytest.raises(UserError, match='no column "base_answer"'):
        read_examples(tmp_path / "answers.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_examples(tmp_path / "nothing.csv")
