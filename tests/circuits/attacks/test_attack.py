"""Attacks: a weakness that circuit and model share is found, chance finds it seldom, and every number can be had again."""

import dataclasses
import json
import random
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sparse_circuits import cli
from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.attacks.attack import Attack, AttackConfig, draw_candidates, prepare_attack, propose, run_attack
from sparse_circuits.circuits.attacks.attempt import Margins, ask_both, make_attempt
from sparse_circuits.circuits.attacks.perturb import Edit, Family
from sparse_circuits.circuits.attacks.reaction import vocabulary
from sparse_circuits.circuits.attacks.report import AttackReport, attack_table, attack_text, tally, wilson
from sparse_circuits.circuits.correlation import correlation
from sparse_circuits.circuits.question import encode_question
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.plain import to_plain
from sparse_circuits.tasks import Pair, Task
from tests.circuits.toy import TASK, generate

DOUBLE, SINGLE = "Q", "Z"
"""Letters that the planted model takes for an opening quote of either kind."""

CONFIG = AttackConfig(
    families=[Family.distractor], n_pairs=12, n_candidates=12, n_proposals=16, max_size=8, n_words=2, n_probes=2, n_examples=2
)


@pytest.fixture(scope="module")
def planted(circuit: Circuit) -> Circuit:
    """The toy with room for a comment, in which one letter looks like each quote and all else that is new like a letter."""
    whole, tokenizer = circuit.model, circuit.tokenizer
    model = Transformer(dataclasses.replace(whole.config, n_ctx=96), d_vocab=whole.d_vocab)
    model.load_state_dict(whole.state_dict())
    known = {token for quote in "\"'" for token in tokenizer.encode(f"({quote}a b c d e f g h{quote})\n")}
    letter, double, single = (tokenizer.encode(text)[0] for text in (" a", '("', "('"))
    with torch.no_grad():
        for token in set(range(model.d_vocab)) - known:
            model.embed.weight[token] = model.embed.weight[letter]
        model.embed.weight[tokenizer.encode(DOUBLE)[0]] = model.embed.weight[double]
        model.embed.weight[tokenizer.encode(SINGLE)[0]] = model.embed.weight[single]
    return dataclasses.replace(circuit, model=model.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def attack(planted: Circuit) -> Attack:
    return prepare_attack(planted, TASK, CONFIG)


@pytest.fixture(scope="module")
def report(planted: Circuit) -> AttackReport:
    return run_attack(planted, TASK, config=CONFIG)


def test_the_circuit_names_the_quotes_and_the_planted_letters(report: AttackReport) -> None:
    assert {reaction.word for reaction in report.towards_positive} == {'("', DOUBLE}
    assert {reaction.word for reaction in report.towards_negative} == {"('", SINGLE}
    assert min(reaction.change for reaction in report.towards_positive) > 1
    assert max(reaction.change for reaction in report.towards_negative) < -1


def test_its_proposals_fool_the_model_and_random_edits_seldom_do(report: AttackReport) -> None:
    (result,) = report.results
    assert report.before.n_hits == 0
    assert result.proposals.n_prompts == result.control.n_prompts == CONFIG.n_proposals
    assert result.proposals.low > result.control.high
    assert result.proposals.loss > 2 * result.control.loss
    assert result.correlation > 0.5 and result.correlation_of_changes > 0.5


def test_the_examples_probabilities_are_those_of_the_circuit_and_the_model(planted: Circuit, report: AttackReport) -> None:
    assert len(report.examples) == CONFIG.n_examples
    for example in report.examples:
        is_negative = example.right == "')\n"
        question = encode_question(example.prompt, ('")\n', "')\n"), planted.tokenizer)
        logits = planted.model(torch.tensor([question.positive]), at=torch.tensor([len(question.positive) - 1]))
        chances = logits[0, [question.positive_answer, question.negative_answer]].softmax(0).tolist()
        assert example.model == pytest.approx(chances[is_negative], abs=1e-5)
        assert example.circuit == pytest.approx(planted.run(example.prompt)[is_negative], abs=1e-5)
        assert example.model < 0.5 < example.before
        assert example.change in example.prompt


def test_the_same_seed_gives_the_same_report_and_another_one_another(planted: Circuit, report: AttackReport) -> None:
    assert run_attack(planted, TASK, config=CONFIG) == report
    assert run_attack(planted, TASK, config=dataclasses.replace(CONFIG, seed=1)) != report


def test_a_report_is_plain_json_and_fits_a_terminal(report: AttackReport) -> None:
    assert json.loads(json.dumps(to_plain(report), allow_nan=False))["results"][0]["family"] == "distractor"
    console = Console(width=80, record=True, file=StringIO())
    console.print(attack_table(report))
    assert "…" not in console.export_text()
    assert report.examples[0].prompt in attack_text(report)


def test_each_prompt_is_attacked_by_its_lowest_edit_and_a_control_of_the_same_size(attack: Attack) -> None:
    rng = random.Random(0)
    candidates = draw_candidates(attack, Family.distractor, config=CONFIG, rng=rng)
    margins = ask_both(attack.circuit, candidates).circuit
    proposals = propose(attack, candidates, margins, n_proposals=100, rng=rng)
    lowest = {}
    for index, attempt in enumerate(candidates):
        for side in (0, 1):
            lowest.setdefault((attempt.target.number, side), []).append(margins[side, index].item())
    assert len(proposals) == 2 * len(attack.targets)
    chosen = [margins[each.side, each.index].item() for each in proposals]
    assert chosen == sorted(min(each) for each in lowest.values())
    for each in proposals:
        attempt = candidates[each.index]
        assert each.control.target is attempt.target and each.control.edit.size == attempt.edit.size


def test_prompts_that_the_model_gets_wrong_are_not_attacked(attack: Attack) -> None:
    before = Margins(attack.before.circuit, attack.before.model.clone())
    before.model[0] = 0.0  # a tie is a miss
    candidates = draw_candidates(attack, Family.distractor, config=CONFIG, rng=random.Random(0))
    predicted = torch.zeros(2, len(candidates))
    proposals = propose(attack._replace(before=before), candidates, predicted, n_proposals=100, rng=random.Random(0))
    assert len(proposals) == len(attack.targets) and {each.side for each in proposals} == {1}


def test_edited_pairs_stay_aligned_and_ask_for_the_same_tokens(attack: Attack) -> None:
    candidates = draw_candidates(attack, Family.distractor, config=CONFIG, rng=random.Random(0))
    assert len(candidates) == CONFIG.n_candidates * len(attack.targets)
    for target, _, encoded in candidates:
        assert len(encoded.positive) == len(encoded.negative) <= attack.circuit.model.config.n_ctx
        assert encoded[2:] == target.encoded[2:]


@pytest.mark.parametrize(
    "pair",
    [
        Pair('("a b', "('a b c d e f g h", '")\n', "')\n", ()),  # not equally long
        Pair('("a b', "('a b", ' c")\n', " d')\n", ()),  # other answers
        Pair(f'{"a " * 99}("a', f"{'a ' * 99}('a", '")\n', "')\n", ()),  # longer than the model reads
    ],
)
def test_an_edit_that_changes_the_question_is_dropped(attack: Attack, pair: Pair) -> None:
    target = attack.targets[0]
    assert make_attempt(attack.circuit, target, Edit(target.pair, Family.distractor, 1, "")) is not None
    assert make_attempt(attack.circuit, target, Edit(pair, Family.distractor, 1, "")) is None


def test_a_circuit_that_sees_nothing_predicts_nothing(planted: Circuit) -> None:
    blind = dataclasses.replace(planted, nodes={}, edges=[])
    (result,) = run_attack(blind, TASK, config=dataclasses.replace(CONFIG, n_pairs=4)).results
    assert result.correlation_of_changes is None


def test_words_can_stand_in_a_line(planted: Circuit) -> None:
    words = vocabulary(planted.tokenizer)
    assert {DOUBLE, SINGLE, '("', "a"} <= set(words)
    assert all(word == word.strip() and word.isprintable() for word in words) and "" not in words


def test_tallies_by_hand() -> None:
    found = tally(torch.tensor([0.0, -1.0, 1.0, 2.0]))
    assert (found.n_prompts, found.n_hits, found.rate) == (4, 2, 0.5)
    assert found.loss == pytest.approx((0.693147 + 1.313262 + 0.313262 + 0.126928) / 4, abs=1e-6)
    assert wilson(0, 10) == pytest.approx((0, 0.27754), abs=1e-5)
    assert wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson(10, 10) == pytest.approx((0.72246, 1), abs=1e-5)
    assert correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 3.0])) == pytest.approx(0.5)
    assert correlation(torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 5.0]])) is None


def test_what_cannot_be_attacked_is_refused(planted: Circuit) -> None:
    other = Task("other", "", generate)
    text = " ".join(["a"] * 93)
    long = Task(TASK.name, "", lambda draw: Pair(f'("{text}', f"('{text}", '")\n', "')\n", ()))
    unscored = dataclasses.replace(planted, task=dataclasses.replace(planted.task, answer_ids=[0]))
    for circuit, task, config, says in [
        (planted, None, CONFIG, "none of the twenty tasks"),
        (planted, other, CONFIG, 'answers "toy_quote", not "other"'),
        (unscored, TASK, CONFIG, "no held_out pair that the circuit can score"),
        (planted, long, CONFIG, "No word fits in front of the prompts of toy_quote in 96 tokens"),
        (planted, TASK, dataclasses.replace(CONFIG, families=[Family.replace]), "replace fits no pair of toy_quote"),
    ]:
        with pytest.raises(UserError, match=says):
            run_attack(circuit, task, config=config)
    for setting, says in [({"families": []}, "families is empty"), ({"n_pairs": 0}, "n_pairs is 0")]:
        with pytest.raises(UserError, match=says):
            AttackConfig(**setting)


def test_the_verb_attacks_with_a_runs_circuits(
    planted: Circuit, report: AttackReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.save(tmp_path / "circuits" / "toy_quote.safetensors")
    settings = [f"attack.{name}={value}" for name, value in to_plain(CONFIG).items() if name != "families"]
    settings += [f"run={tmp_path}", "attack.families=[distractor]"]
    assert cli.main(["attack", "tasks=['tests.circuits.toy:TASK']", *settings]) == 0
    assert "toy_quote" in capsys.readouterr().out
    kept = json.loads((tmp_path / "attacks" / "toy_quote.json").read_text())
    assert kept["results"][0]["proposals"]["n_hits"] == report.results[0].proposals.n_hits
    assert [each["prompt"] for each in kept["examples"]] == [each.prompt for each in report.examples]
    assert cli.main(["attack", *settings]) == 2
    assert "holds no circuit of the twenty tasks" in capsys.readouterr().err
