"""Pairs as rows: their shared start once, and at every position what the prompts hold when they run by themselves."""

import pytest
import torch

from sparse_circuits.circuits.branch import branched, row_lengths
from sparse_circuits.model import ModelConfig, Positions, Transformer, record
from sparse_circuits.model.layout import current_layout, laid_out, only
from sparse_circuits.tasks import PairBatch
from tests.circuits.random_pairs import random_pairs

N_PAIRS = 40


@pytest.mark.parametrize("positions", Positions)
def test_every_position_holds_what_it_holds_in_its_prompt_alone(positions: Positions) -> None:
    config = ModelConfig(n_layers=2, d_model=16, n_ctx=8, d_head=4, positions=positions)
    model, batch = Transformer(config, d_vocab=20).double().requires_grad_(False), random_pairs(N_PAIRS, n_pos=8, d_vocab=20)
    rows = branched(batch)
    with laid_out(rows.layout):
        found, logits = record(model, rows.tokens, "*"), model(rows.tokens, at=rows.ends)
        at_ends = record(model, rows.tokens, "*", at=rows.ends)
    torch.testing.assert_close(logits.transpose(0, 1).flatten(0, 1), model(batch.tokens, at=batch.last))
    narrow = {site for site, value in at_ends.items() if value.shape[1] == 2}
    assert narrow == {site for site in found if site.startswith(("1.attn.y", "1.attn.resid", "1.resid_mid", "1.mlp", "final"))}
    for site, value in at_ends.items():
        torch.testing.assert_close(value, only(found[site], rows.ends) if site in narrow else found[site])
    alone, covered = record(model, batch.tokens, "*"), 0
    for number in range(N_PAIRS):
        n_tokens, end = int(batch.last[number]) + 1, rows.ends[number].tolist()
        n_own = end[1] - end[0]
        places = [*range(n_tokens), *range(n_tokens - n_own, n_tokens)]
        assert rows.layout.places[number, : len(places)].tolist() == places
        prompts = [number] * n_tokens + [number + N_PAIRS] * n_own
        for site, value in found.items():
            torch.testing.assert_close(value[number, : len(places)], alone[site][prompts, places])
        covered += n_own < n_tokens
    assert covered > N_PAIRS / 4


def test_what_is_shared_runs_once() -> None:
    batch = random_pairs(N_PAIRS, n_pos=8, d_vocab=20)
    rows, lengths = branched(batch), row_lengths(batch)
    assert torch.equal(lengths, rows.ends[:, 1] + 1) and rows.tokens.shape == (N_PAIRS, lengths.max())
    for number, (positive, negative) in enumerate(zip(*batch.tokens.view(2, N_PAIRS, -1).tolist(), strict=True)):
        n_tokens = int(batch.last[number]) + 1
        differ = [place for place in range(n_tokens) if positive[place] != negative[place]]
        n_shared = min([*differ, n_tokens - 1])
        assert lengths[number] == 2 * n_tokens - n_shared
        assert rows.tokens[number, : lengths[number]].tolist() == [*positive[:n_tokens], *negative[n_shared:n_tokens]]


def test_swapping_gives_each_position_what_its_place_holds_in_the_other_prompt() -> None:
    batch = random_pairs(N_PAIRS, n_pos=8, d_vocab=20)
    rows, other = branched(batch), branched(PairBatch(batch.tokens.roll(N_PAIRS, 0), batch.last, batch.answers, batch.scoring))
    real = torch.arange(rows.tokens.shape[1]) < row_lengths(batch).unsqueeze(1)
    swapped = rows.swapped(rows.tokens.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(swapped[real], other.tokens[real])
    ends = rows.ends.unsqueeze(-1)
    assert torch.equal(rows.swapped(ends), ends.flip(1))


def test_a_layout_ends_where_its_stretch_of_code_does() -> None:
    layout = branched(random_pairs(N_PAIRS, n_pos=8, d_vocab=20)).layout
    with pytest.raises(KeyError), laid_out(layout):
        assert current_layout() is layout
        raise KeyError
    assert current_layout() is None
