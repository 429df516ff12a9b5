"""Frozen norms: nothing changes where nothing is ablated, and elsewhere denominators are those of the unpruned run."""

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.margin import PAIRS_AT_ONCE, answer_margins, chunks, record_chunk
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import by_site, count_nodes
from sparse_circuits.circuits.norms import FrozenNorms
from sparse_circuits.model import ModelConfig, Transformer, node_sites, site_width
from sparse_circuits.model.layout import laid_out
from sparse_circuits.model.norm import EPS
from sparse_circuits.model.sites import rms_sites
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch
from tests.circuits.random_pairs import random_pairs

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=12, d_head=4, abs_topk=1.0)
N_PAIRS = 2 * PAIRS_AT_ONCE + 3


@pytest.fixture
def model() -> Transformer:
    model = Transformer(CONFIG, d_vocab=30).double().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("gain"):
            weight.uniform_(0.5, 2)
    return model


@pytest.fixture
def batch() -> PairBatch:
    return random_pairs(N_PAIRS, n_pos=12, d_vocab=30)


@pytest.fixture
def kept() -> Tensor:
    return torch.rand(count_nodes(CONFIG)) < 0.5


@pytest.fixture
def ablated(kept: Tensor) -> Taps:
    means = Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")
    return ablation_taps(kept, means, CONFIG)


def test_change_nothing_where_nothing_is_ablated(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    norms = FrozenNorms(model, batch)
    torch.testing.assert_close(answer_margins(model, batch, taps=norms.under({})), answer_margins(model, batch))
    free, frozen = (answer_margins(model, batch, taps=taps) for taps in (ablated, norms.under(ablated)))
    assert (free - frozen).abs().max() > 0.1


def test_divide_by_what_the_unpruned_run_divides_by(model: Transformer, batch: PairBatch, ablated: Taps, kept: Tensor) -> None:
    norms, is_kept = FrozenNorms(model, batch), by_site(kept, CONFIG)
    for chunk in chunks(batch):
        tokens, last, each = chunk.rows.tokens, chunk.rows.ends, torch.arange(len(chunk.numbers)).unsqueeze(1)
        taps = norms.under(ablated)(chunk.numbers)
        assert taps.keys() == ablated.keys() | set(rms_sites(CONFIG))
        pruned, whole = (record_chunk(model, chunk, ["*"], taps=some, at_ends=True) for some in (taps, {}))
        for layer in range(2):
            for sublayer, before in (("attn", "resid_in"), ("mlp", "resid_mid")):
                streams = [values[f"{layer}.{before}"] for values in (pruned, whole)]
                gain = getattr(model.layers[layer], sublayer).reader.norm.gain
                expected = streams[0] / (streams[1].square().mean(-1, keepdim=True) + EPS).sqrt() * gain
                site = f"{layer}.{sublayer}.act_in"
                torch.testing.assert_close(pruned[site][..., is_kept[site]], expected[..., is_kept[site]])
        size = (whole["final_resid"].square().mean(-1, keepdim=True) + EPS).sqrt()
        logits = (pruned["final_resid"] / size * model.norm.gain) @ model.unembed.weight.T
        with laid_out(chunk.rows.layout):
            torch.testing.assert_close(model(tokens, taps=taps, at=last), logits + model.bigram[tokens[each, last]])


def test_taps_may_differ_from_pair_to_pair(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    norms, seen = FrozenNorms(model, batch), []

    def taps_of(pairs: Tensor) -> Taps:
        seen.extend(pairs.tolist())
        return ablated if len(seen) > PAIRS_AT_ONCE else {}

    first, *_, last = (chunk.numbers for chunk in chunks(batch))
    frozen = norms.under(taps_of)
    assert frozen(first).keys() == set(rms_sites(CONFIG))
    assert frozen(last).keys() == ablated.keys() | set(rms_sites(CONFIG))
    assert seen == [*first.tolist(), *last.tolist()]


def test_of_some_pairs_are_those_of_a_run_of_these_alone(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    numbers = torch.tensor([3, 0, batch.n_pairs - 1])
    some = batch.select(numbers)
    ours, theirs = (norms.under(ablated) for norms in (FrozenNorms(model, batch).of(numbers), FrozenNorms(model, some)))
    torch.testing.assert_close(answer_margins(model, some, taps=ours), answer_margins(model, some, taps=theirs))
    wrong = FrozenNorms(model, batch).of(numbers.flip(0)).under(ablated)
    assert (answer_margins(model, some, taps=ours) - answer_margins(model, some, taps=wrong)).abs().max() > 1e-3
