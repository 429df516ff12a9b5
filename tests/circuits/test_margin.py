"""Margins: those of one plain pass, whatever the lengths and the order of the prompts, each prompt under its own taps."""

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.margin import (
    PROMPTS_AT_ONCE,
    answer_margins,
    frozen_norms,
    pooled,
    residual_streams,
    score,
    worst_loss,
)
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import by_site, count_nodes
from sparse_circuits.model import ModelConfig, Transformer, node_sites, record, site_width
from sparse_circuits.model.norm import EPS
from sparse_circuits.model.sites import rms_sites
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch, Scoring, answer_difference, task_losses

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=12, d_head=4, abs_topk=1.0)


@pytest.fixture
def model() -> Transformer:
    model = Transformer(CONFIG, d_vocab=30).double().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("gain"):
            weight.uniform_(0.5, 2)
    return model


@pytest.fixture
def batch() -> PairBatch:
    last = torch.randint(12, (100,)).repeat(2)
    return PairBatch(torch.randint(30, (200, 12)), last, torch.randint(30, (100, 2, 3)), Scoring.prefix_set)


@pytest.fixture
def ablated() -> Taps:
    means = Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")
    return ablation_taps(kept_nodes(), means, CONFIG)


def kept_nodes() -> Tensor:
    return torch.rand(count_nodes(CONFIG), generator=torch.Generator().manual_seed(0)) < 0.5


def test_grouping_by_length_changes_nothing(model: Transformer, batch: PairBatch) -> None:
    torch.testing.assert_close(answer_margins(model, batch), answer_difference(model(batch.tokens, at=batch.last), batch))


def test_every_prompt_runs_under_the_taps_made_for_it(model: Transformer, batch: PairBatch) -> None:
    factor = torch.rand(200, 1, 1, dtype=torch.float64)
    seen: list[int] = []

    def taps_of(rows: Tensor, tokens: Tensor) -> Taps:
        seen.extend(rows.tolist())
        assert len(rows) <= PROMPTS_AT_ONCE and torch.equal(tokens, batch.tokens[rows, : tokens.shape[1]])
        return {"0.mlp.post_act": lambda value: factor[rows] * value}

    found = answer_margins(model, batch, taps=taps_of)
    assert sorted(seen) == list(range(200))
    logits = model(batch.tokens, taps={"0.mlp.post_act": lambda value: factor * value}, at=batch.last)
    torch.testing.assert_close(found, answer_difference(logits, batch))


def test_score_by_hand() -> None:
    found = score(torch.tensor([2.0, -1.0, -3.0, 0.5]))  # positives 2, -1; negatives right where below 0
    expected = torch.nn.functional.softplus(torch.tensor([-2.0, 1.0, -3.0, 0.5])).mean().item()
    assert abs(found.loss - expected) < 1e-6
    assert found.accuracy == 0.5


def test_runs_are_pooled_as_one_batch_of_pairs_and_the_worst_one_counts() -> None:
    runs = torch.tensor([[2.0, -1.0, -3.0, 0.5], [4.0, 5.0, -6.0, -7.0]])  # of two pairs each
    assert pooled(runs).tolist() == [2.0, -1.0, 4.0, 5.0, -3.0, 0.5, -6.0, -7.0]
    torch.testing.assert_close(task_losses(pooled(runs)).mean(), torch.stack([task_losses(run) for run in runs]).mean())
    assert worst_loss(runs) == worst_loss(runs.flip(0)) == score(runs[0]).loss > score(runs[1]).loss


def test_a_run_is_taken_up_at_any_sublayer(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    expected = answer_margins(model, batch, taps=ablated)
    streams = residual_streams(model, batch, taps=lambda rows, tokens: ablated)
    assert list(streams) == ["0.resid_in", "0.resid_mid", "1.resid_in", "1.resid_mid"]
    for start in streams.values():
        torch.testing.assert_close(answer_margins(model, batch, taps=ablated, start=start), expected)
    blocked = {**ablated, "0.attn.resid_delta": torch.zeros_like}
    torch.testing.assert_close(answer_margins(model, batch, taps=blocked, start=streams["0.resid_mid"]), expected)
    assert (answer_margins(model, batch, taps=blocked, start=streams["0.resid_in"]) - expected).abs().max() > 1e-3


def test_frozen_norms_change_nothing_where_nothing_is_ablated(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    torch.testing.assert_close(answer_margins(model, batch, taps=frozen_norms(model, batch, {})), answer_margins(model, batch))
    free, frozen = (answer_margins(model, batch, taps=taps) for taps in (ablated, frozen_norms(model, batch, ablated)))
    assert (free - frozen).abs().max() > 0.1


def test_frozen_norms_divide_by_what_the_unpruned_run_divides_by(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    rows, kept = torch.tensor([3, 7, 1, 99, 150]), by_site(kept_nodes(), CONFIG)
    tokens, last = batch.tokens[rows], batch.last[rows]
    taps = frozen_norms(model, batch, ablated)(rows, tokens)
    assert taps.keys() == ablated.keys() | set(rms_sites(CONFIG))
    pruned, whole = record(model, tokens, "*", taps=taps, at=last), record(model, tokens, "*", at=last)
    for layer in range(2):
        for sublayer in ("attn", "mlp"):
            size, gain = whole[f"{layer}.{sublayer}.rms"], getattr(model.layers[layer], sublayer).reader.norm.gain
            stream = pruned[f"{layer}.resid_in" if sublayer == "attn" else f"{layer}.resid_mid"]
            if size.shape[1] == 1:  # the last MLP reads the last position only
                stream = stream[torch.arange(5), last].unsqueeze(1)
            site = f"{layer}.{sublayer}.act_in"
            torch.testing.assert_close(pruned[site][..., kept[site]], (stream / size * gain)[..., kept[site]])
    size = (whole["final_resid"].square().mean(-1, keepdim=True) + EPS).sqrt()
    logits = (pruned["final_resid"] / size * model.norm.gain)[:, 0] @ model.unembed.weight.T
    expected = logits + model.bigram[tokens[torch.arange(5), last]]
    torch.testing.assert_close(model(tokens, taps=taps, at=last), expected)


def test_frozen_norms_of_taps_that_differ_from_prompt_to_prompt(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    odd = frozen_norms(model, batch, lambda rows, tokens: ablated if rows[0] % 2 else {})
    tokens = batch.tokens[:1]
    assert odd(torch.tensor([2]), tokens).keys() == set(rms_sites(CONFIG))
    assert odd(torch.tensor([3]), tokens).keys() == ablated.keys() | set(rms_sites(CONFIG))
