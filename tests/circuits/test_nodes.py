"""The row of all nodes: cut into sites and marked without loss."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.circuits.nodes import by_site, channels_of, count_nodes, mark, site_widths
from sparse_circuits.model import ModelConfig, Node, node_sites

CONFIG = ModelConfig(n_layers=2, d_model=8, n_ctx=4, d_head=4, d_mlp=12)


def test_counts_every_channel_of_every_site_once() -> None:
    assert count_nodes(CONFIG) == 2 * (7 * 8 + 12) + 8
    assert list(site_widths(CONFIG)) == node_sites(CONFIG)


@given(st.lists(st.booleans(), min_size=count_nodes(CONFIG), max_size=count_nodes(CONFIG)))
def test_marking_undoes_listing(marked: list[bool]) -> None:
    kept = torch.tensor(marked)
    channels = channels_of(kept, CONFIG)
    assert torch.equal(mark(channels, CONFIG), kept)
    assert sum(map(len, channels.values())) == kept.sum()
    assert list(channels) == [site for site in node_sites(CONFIG) if site in channels]


def test_views_share_the_row() -> None:
    row = torch.zeros(count_nodes(CONFIG))
    by_site(row, CONFIG)["1.attn.q"][3] = 5.0
    assert row.nonzero().tolist() == [[7 * 8 + 12 + 8 + 3]]
    assert channels_of(row > 0, CONFIG) == {Node("1.attn.q", 3).site: [3]}
