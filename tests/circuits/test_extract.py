"""Extraction: what is refused before any search, and that a task is described so that its pairs can be drawn again."""

import dataclasses
from importlib import import_module
from pathlib import Path

import pytest
import torch

from experiments.certificate import removable
from sparse_circuits.circuits import Budget, Card, Circuit, ExtractConfig, MaskConfig, TuneConfig, extract
from sparse_circuits.circuits.discovery.search import Found, Search
from sparse_circuits.circuits.extract import draw_splits, prepare_search, refuse_unfit
from sparse_circuits.circuits.margin import score
from sparse_circuits.circuits.spec import task_spec
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.model.store import model_hash
from sparse_circuits.tasks import TASKS, Draw, Pair, Scoring, Task
from tests.circuits.toy import CONFIG, EXTRACT, TASK, Toy, generate

CPU = torch.device("cpu")


def swapped(draw: Draw) -> Pair:
    pair = generate(draw)
    return pair._replace(positive_answer=pair.negative_answer, negative_answer=pair.positive_answer)


def test_refuses_a_task_that_the_model_does_not_know(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"does not know swapped \(loss .*accuracy 0\.0"):
        extract(toy.model, Task("swapped", "", swapped), toy.tokenizer, toy.means, config=EXTRACT)


def test_refuses_a_task_that_the_bigram_table_answers_alone(toy: Toy) -> None:
    model = Transformer(CONFIG, d_vocab=toy.tokenizer.d_vocab)
    model.load_state_dict(toy.model.state_dict())
    last_differs = Task("last", "", lambda draw: Pair('("a b', "('a c", '")\n', "')\n", ()))
    config = dataclasses.replace(EXTRACT, n_train_pairs=1, n_validation_pairs=1, n_held_out_pairs=1)
    pairs = draw_splits(last_differs, toy.tokenizer, config, max_tokens=CONFIG.n_ctx, device=CPU).validation
    (b, c), (double, single) = pairs.tokens[:, pairs.last[0]].tolist(), pairs.answers[0, :, 0].tolist()
    with torch.no_grad():
        model.bigram[b, double] += 9
        model.bigram[c, single] += 9
    with pytest.raises(UserError, match="bigram task"):
        refuse_unfit(model, last_differs, pairs, toy.means, config=config)
    without_gate = dataclasses.replace(config, knowledge_gate=False, masks=MaskConfig(n_steps=2))
    means = toy.means._replace(model_hash=model_hash(model))
    with pytest.raises(UserError, match="last is answered with every node ablated, so there is no circuit"):
        extract(model, last_differs, toy.tokenizer, means, config=without_gate)


def test_refuses_means_and_tokenizers_of_other_models(toy: Toy) -> None:
    with pytest.raises(UserError, match="belong to another model"):
        extract(toy.model, TASK, toy.tokenizer, toy.means._replace(model_hash="0"))
    with pytest.raises(UserError, match="tokenizer has"):
        extract(toy.model, TASK, Tokenizer.train(["ab"], d_vocab=257), toy.means)


def test_without_the_gate_what_the_model_does_not_know_is_searched_for_and_not_found(toy: Toy) -> None:
    config = dataclasses.replace(EXTRACT, knowledge_gate=False, masks=MaskConfig(n_steps=2), n_train_pairs=8)
    with pytest.raises(UserError, match="No set of nodes brings swapped to a loss"):
        extract(toy.model, Task("swapped", "", swapped), toy.tokenizer, toy.means, config=config)


def test_nothing_of_the_toys_circuit_can_go(toy: Toy, circuit: Circuit) -> None:
    """The certificate of the card by brute force: every node and every edge removed, on freshly drawn pairs."""
    search = prepare_search(toy.model, TASK, toy.tokenizer, toy.means, config=EXTRACT)
    subgraph = Subgraph(circuit.nodes, circuit.edges, tuple(circuit.merges))

    def losses(part: Subgraph) -> list[float]:
        return [score(circuit.calibration(margin)).loss for margin in search.margins(part)]

    certified = {**circuit.card.without_nodes, **circuit.card.without_edges}
    assert max(losses(subgraph)) <= EXTRACT.target_loss
    assert list(certified) == [str(piece) for piece in subgraph.pieces()]
    for piece in subgraph.pieces():
        largest = max(losses(subgraph.without(piece)))
        assert EXTRACT.target_loss < certified[str(piece)] <= largest + 1e-4, piece


def test_the_study_of_certificates_says_so_of_the_circuits_file(
    toy: Toy, circuit: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, TASK.name, TASK)
    circuit.save(tmp_path / "circuit.safetensors")
    n_pieces, can_go, least = removable(Circuit.load(tmp_path / "circuit.safetensors"), toy.model)
    assert (n_pieces, can_go) == (circuit.card.n_nodes + circuit.card.n_edges, []) and least > EXTRACT.target_loss


def test_of_several_searches_the_fewest_edges_that_pass_every_check(
    toy: Toy, circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches end with 5 edges and a failed check, nothing, 9 edges, 8 edges, and 10; all but the first pass."""
    ends = {1: (5, ["coin"]), 2: None, 3: (9, []), 4: (8, []), 5: (10, [])}
    assessed = []

    def run(search: Search) -> Found | None:
        if end := ends[search.config.n_steps]:
            return Found(Subgraph(circuit.nodes, circuit.edges[:1] * end[0]), circuit.calibration, {}, n_ranked=1)
        return None

    def card(search: Search, *_, **__) -> Card:
        n_edges, failed = ends[search.config.n_steps]
        assessed.append(n_edges)
        passed = dataclasses.replace(circuit.card["circuit"], name="necessity", at_most=None)
        checks = [dataclasses.replace(passed, name=name, at_most=0.0) for name in failed]
        return dataclasses.replace(circuit.card, n_edges=n_edges, checks=[passed, *checks])

    monkeypatch.setattr(Search, "run", run)
    module = import_module("sparse_circuits.circuits.extract")
    monkeypatch.setattr(module, "assess", card)
    monkeypatch.setattr(module, "candidates", lambda *_, **__: (MaskConfig(n_steps=n) for n in ends))
    best = extract(toy.model, TASK, toy.tokenizer, toy.means, config=EXTRACT)
    assert best.card.n_edges == 8 and best.recipe["masks"]["n_steps"] == 4
    assert assessed == [5, 8]  # what is larger than one that holds is not looked at
    for number in (3, 4, 5):
        monkeypatch.setitem(ends, number, None)
    assert extract(toy.model, TASK, toy.tokenizer, toy.means, config=EXTRACT).card.failed == ["coin"]


@pytest.mark.parametrize(
    ("budget", "searches"), [(Budget.quick, [(1, 0.1)]), (Budget.standard, [(1, 0.1), (2, 0.1), (1, 0.05)])]
)
def test_where_no_circuit_holds_the_target_is_halved(
    toy: Toy, circuit: Circuit, monkeypatch: pytest.MonkeyPatch, budget: Budget, searches: list[tuple[int, float]]
) -> None:
    """Two searches, or the quick budget's one; what the smaller finds holds under a target of 0.06 only."""
    assessed = []

    def card(search: Search, *_, **__) -> Card:
        assessed.append((search.config.n_steps, search.target_loss))
        check = dataclasses.replace(circuit.card["circuit"], loss=search.target_loss, at_most=0.06)
        necessity = dataclasses.replace(check, name="necessity", at_most=None)
        return dataclasses.replace(circuit.card, checks=[check, necessity], target_loss=search.target_loss)

    def run(search: Search) -> Found:
        edges = circuit.edges[:1] * search.config.n_steps
        return Found(Subgraph(circuit.nodes, edges), circuit.calibration, {}, n_ranked=1)

    monkeypatch.setattr(Search, "run", run)
    module = import_module("sparse_circuits.circuits.extract")
    monkeypatch.setattr(module, "assess", card)
    n_attempts = 2 if budget is Budget.standard else 1
    monkeypatch.setattr(module, "candidates", lambda *_, **__: (MaskConfig(n_steps=n) for n in range(n_attempts, 0, -1)))
    card_config = dataclasses.replace(EXTRACT.card, n_random=None, n_partial=None)
    tune = TuneConfig(budget=budget)
    counts = {"n_validation_pairs": None, "n_held_out_pairs": None}
    config = dataclasses.replace(EXTRACT, target_loss=0.1, tune=tune, card=card_config, **counts)
    best = extract(toy.model, TASK, toy.tokenizer, toy.means, config=config)
    assert assessed == searches
    assert best.card.holds == (budget is Budget.standard)
    assert best.recipe["n_validation_pairs"] == (128 if budget is Budget.standard else 32)
    assert best.recipe["n_held_out_pairs"] == best.task.n_held_out_pairs == (64 if budget is Budget.standard else 32)
    kinds = ["swapped", "coin", "random_weights"] if budget is Budget.standard else ["coin"]
    assert best.recipe["card"]["controls"] == kinds
    draws = [best.recipe["card"][name] for name in ("n_random", "n_partial")]
    assert draws == ([50, 32] if budget is Budget.standard else [20, 8])
    assert best.recipe["target_loss"] == best.card.target_loss == searches[-1][1]


def test_spec_holds_answers_where_they_are_always_the_same(toy: Toy) -> None:
    pairs = draw_splits(TASK, toy.tokenizer, EXTRACT, max_tokens=CONFIG.n_ctx, device=CPU)
    spec = task_spec(TASK, pairs, seed=0)
    assert spec.answers == ('")\n', "')\n")
    assert [toy.tokenizer.token(each) for each in spec.answer_ids] == sorted(spec.answers, key=toy.tokenizer.encode)
    mixed = Task("mixed", "", lambda draw: draw.choice((generate, swapped))(draw), Scoring.complement)
    spec = task_spec(mixed, pairs, seed=0)
    assert (spec.answers, spec.answer_ids) == (None, None)


@pytest.mark.parametrize("wrong", [{"target_loss": 0.0}, {"max_scale": float("inf")}, {"n_held_out_pairs": -3}])
def test_refuses_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        ExtractConfig(**wrong)
