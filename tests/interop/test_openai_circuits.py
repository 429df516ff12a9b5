"""A published circuit, made here in OpenAI's layout, replays: the report equals a computation in plain taps."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import count_nodes
from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.interop.openai import Replay, load_openai, replay, replay_text
from sparse_circuits.interop.openai.viz_data import read_viz_data
from sparse_circuits.model import Transformer, node_sites, record, site_width
from sparse_circuits.model.store import model_hash
from tests.interop.openai_folder import BASE, made_state, write_folder

PADDED = 3  # tokens behind every prompt


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def f(x):\n    return x\n"] * 3, d_vocab=257)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    config = BASE | {"vocab_size": 257, "sink": True}
    return load_openai(write_folder(tmp_path_factory.mktemp("model"), config, made_state(config))).model


@pytest.fixture(scope="module")
def means(model: Transformer) -> Means:
    values = record(model, torch.randint(257, (20, 10)), node_sites(model.config))
    return Means({site: value.flatten(0, 1).mean(0) for site, value in values.items()}, 200, model_hash(model))


@pytest.fixture(scope="module")
def nodes(model: Transformer) -> dict[str, Tensor]:
    draw = random.Random(1)
    found = {}
    for site in node_sites(model.config):
        width = site_width(model.config, site)
        found[site] = torch.tensor(sorted(draw.sample(range(width), width * 2 // 3)))
    return found | {"1.attn.k": torch.tensor([], dtype=torch.long)}  # empty tensors are kept


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer) -> Tensor:
    torch.manual_seed(5)
    prompts = torch.randint(1, 256, (8, 10))
    prompts[:, -PADDED:] = 0
    return prompts


def losses(model: Transformer, tokens: Tensor, ids: tuple[int, int], nodes: dict[str, Tensor] | None, means: Means) -> float:
    """Return the sum over both sides, as files have it."""

    def ablate(site: str, kept: Tensor) -> Any:
        outside = torch.ones(site_width(model.config, site), dtype=torch.bool)
        outside[kept] = False
        return lambda value: torch.where(outside, means.sites[site], value)

    taps = None if nodes is None else {site: ablate(site, kept) for site, kept in nodes.items()}
    logits = model(tokens[:, :-PADDED], taps=taps)[:, -1]
    margin = logits[:, ids[0]] - logits[:, ids[1]]
    first, second = margin.chunk(2)
    return (torch.nn.functional.softplus(-first).mean() + torch.nn.functional.softplus(second).mean()).item()


@pytest.fixture
def viz(published: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(published)


@pytest.fixture(scope="module")
def published(
    model: Transformer, tokens: Tensor, tokenizer: Tokenizer, nodes: dict[str, Tensor], means: Means
) -> dict[str, Any]:
    ids = (tokenizer.encode("(")[0], tokenizer.encode(")")[0])

    def without(site: str, channel: int) -> float:
        rest = {**nodes, site: nodes[site][nodes[site] != channel]}
        return losses(model, tokens, ids, rest, means)

    return {
        "circuit_data": {**nodes, "prune_config": {"k": 3}},
        "num_total_nodes": count_nodes(model.config),
        "importances": {
            "loss": losses(model, tokens, ids, None, means),
            "interv_loss": losses(model, tokens, ids, nodes, means),
            "ch_interv_losses": {site: torch.tensor([without(site, c) for c in kept.tolist()]) for site, kept in nodes.items()},
            "task_samples": (tokens, {}),
        },
    }


def run(path: Path, model: Transformer, tokenizer: Tokenizer, means: Means) -> tuple[Circuit, Replay]:
    return replay(path, model, tokenizer, means, answers=("(", ")"), name="brackets")


def test_a_published_circuit_replays(
    viz: dict[str, Any], model: Transformer, tokenizer: Tokenizer, means: Means, nodes: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(viz, tmp_path / "viz_data.pt")
    circuit, found = run(tmp_path / "viz_data.pt", model, tokenizer, means)
    assert found.n_pairs == 4 and found.n_nodes == sum(map(len, nodes.values()))
    assert found.our_loss == pytest.approx(found.their_loss, abs=1e-5)
    assert found.our_pruned_loss == pytest.approx(found.their_pruned_loss, abs=1e-5)
    assert found.our_pruned_loss != pytest.approx(found.our_loss, abs=1e-3)
    assert found.our_calibrated_loss < found.our_pruned_loss
    assert found.effects_correlation == pytest.approx(1, abs=1e-4)
    assert len(found.caveats) == 3
    text = replay_text(found)
    assert f"theirs {found.their_loss:.4f}" in text and "mean activations are not published" in text
    assert circuit.nodes == {site: kept.tolist() for site, kept in nodes.items() if len(kept)}
    for edge in circuit.edges[:20]:
        layer, part, kind = edge.target.site.split(".")
        module = getattr(model.layers[int(layer)], part)
        if kind == "post_act":
            assert edge.weight == module.into.weight[edge.target.channel, edge.source.channel].item()
    circuit.save(tmp_path / "circuit.safetensors")
    again = Circuit.load(tmp_path / "circuit.safetensors")
    prompt = "def f(x, y"
    assert again.run(prompt) == circuit.run(prompt)


def test_doubtful_ends_are_said(
    viz: dict[str, Any], model: Transformer, tokenizer: Tokenizer, means: Means, tmp_path: Path
) -> None:
    viz["importances"]["task_samples"][0][0, 6] = 0  # a real token, or one of padding
    torch.save(viz, tmp_path / "viz_data.pt")
    _, found = run(tmp_path / "viz_data.pt", model, tokenizer, means)
    assert found.caveats[-1].startswith("1 pairs end at different places")


CHANGES = {
    "no circuit_data": lambda viz: viz.pop("circuit_data"),
    'location "0.attn.z" \\(did you mean': lambda viz: viz["circuit_data"].update({"0.attn.z": torch.tensor([1])}),
    "twice, or beyond its 8": lambda viz: viz["circuit_data"].update({"0.attn.act_in": torch.tensor([8])}),
    "at 0.attn.act_in twice": lambda viz: viz["circuit_data"].update({"0.attn.act_in": torch.tensor([3, 3])}),
    "no list of channels": lambda viz: viz["circuit_data"].update({"0.attn.act_in": torch.tensor([0.5])}),
    "circuit without nodes": lambda viz: viz.update(circuit_data={}),
    "is of a model of 7 nodes": lambda viz: viz.update(num_total_nodes=7),
    "no task_samples of pairs": lambda viz: viz["importances"].update(task_samples=(torch.zeros(3, 4),)),
    "no interv_loss": lambda viz: viz["importances"].pop("interv_loss"),
    "losses for": lambda viz: viz["importances"]["ch_interv_losses"].update({"0.attn.q": torch.zeros(1)}),
    "no ch_interv_losses at 0.attn.q": lambda viz: viz["importances"]["ch_interv_losses"].pop("0.attn.q"),
    "prompts that this model cannot read": lambda viz: viz["importances"].update(task_samples=(torch.full((4, 5), 300), {})),
}


@pytest.mark.parametrize("says", CHANGES)
def test_files_of_other_models_or_without_a_part_are_refused(
    says: str, viz: dict[str, Any], model: Transformer, tokenizer: Tokenizer, means: Means, tmp_path: Path
) -> None:
    viz["importances"]["task_samples"] = (viz["importances"]["task_samples"][0].clone(), {})
    CHANGES[says](viz)
    torch.save(viz, tmp_path / "viz_data.pt")
    with pytest.raises(UserError, match=says):
        run(tmp_path / "viz_data.pt", model, tokenizer, means)


def test_mutations_of_a_circuit_end_in_refusals(viz: dict[str, Any], model: Transformer, tmp_path: Path) -> None:
    path = tmp_path / "viz_data.pt"
    torch.save(viz, path)
    whole, draw, n_refused = path.read_bytes(), random.Random(0), 0
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(content))
            if draw.random() < 0.5:
                content[place] ^= 1 << draw.randrange(8)
            else:
                del content[place : place + draw.randint(1, 50)]
        path.write_bytes(bytes(content))
        try:
            read_viz_data(path, model.config)
        except UserError:
            n_refused += 1
    print(f"of 500 mutations {n_refused} refused, in the others a number changed at most")
    assert n_refused > 250


def test_answers_of_several_tokens_are_refused(
    viz: dict[str, Any], model: Transformer, tokenizer: Tokenizer, means: Means, tmp_path: Path
) -> None:
    torch.save(viz, tmp_path / "viz_data.pt")
    with pytest.raises(UserError, match="'return x' is"):
        replay(tmp_path / "viz_data.pt", model, tokenizer, means, answers=("return x", ")"), name="brackets")
