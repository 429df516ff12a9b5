"""Clean-up: whatever the loss, it ends in a circuit in which every piece is needed, and says what each is worth."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.circuits.discovery.clean_up import Cleaned, Losses, Piece, clean_up, from_the_answer_back
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node

SITES = ("0.attn.act_in", "0.attn.v", "0.attn.resid_delta")
N_CHANNELS = 3
WHOLE = Subgraph(
    {site: list(range(N_CHANNELS)) for site in SITES},
    [
        Edge(Node(source, i), Node(target, j), 1.0)
        for source, target in pairwise(SITES)
        for i in range(N_CHANNELS)
        for j in range(N_CHANNELS)
        if (i + j) % 3
    ],
)
PIECES = list(WHOLE.pieces())
LossOfPieces = Callable[[frozenset], float]


def begun_ahead(windows: Iterable[Sequence[Subgraph]], n_ahead: int = 3) -> Iterator[Sequence[Subgraph]]:
    """Yield windows, later ones asked for before what was found in earlier ones is known."""
    windows, begun = iter(windows), deque()
    begun.extend(islice(windows, n_ahead))
    while begun:
        yield begun.popleft()
        begun.extend(islice(windows, 1))


def cleaned(
    loss_of: LossOfPieces, target_loss: float, subgraph: Subgraph = WHOLE, glance: LossOfPieces | None = None
) -> Cleaned:
    def near(base: Subgraph) -> Losses:
        def losses(windows: Iterable[Sequence[Subgraph]], *, proven: bool = True) -> Iterator[list[float | None]]:
            for parts in begun_ahead(windows):
                assert all(set(part.pieces()) < set(base.pieces()) for part in parts)
                found = [(loss_of if proven or glance is None else glance)(frozenset(part.pieces())) for part in parts]
                first = next((place for place, loss in enumerate(found) if loss <= target_loss), len(found))
                yield [loss if place <= first or loss > target_loss else None for place, loss in enumerate(found)]

        return losses

    return clean_up(subgraph, near, target_loss=target_loss)


def site_of(piece: Piece) -> str:
    return piece.target.site if isinstance(piece, Edge) else piece.site


def erratic(seed: int) -> LossOfPieces:
    """Return a loss that knows no order: of every set another number, of the whole 0."""
    return lambda pieces: (
        0.0 if len(pieces) == len(PIECES) else crc32(f"{seed} {sorted(map(str, pieces))}".encode()) % 1000 / 1000
    )


def check_certificate(found: Cleaned, loss_of: LossOfPieces, target_loss: float) -> None:
    left = set(found.subgraph.pieces())
    assert loss_of(frozenset(left)) <= target_loss
    assert list(found.without) == list(found.subgraph.pieces())
    for piece, loss in found.without.items():
        assert loss == loss_of(frozenset(found.subgraph.without(piece).pieces())) > target_loss
    assert left <= set(PIECES) and all({edge.source, edge.target} <= left for edge in found.subgraph.edges)


@given(st.lists(st.floats(0, 1), min_size=len(PIECES), max_size=len(PIECES)), st.floats(0, 3))
def test_where_losses_add_up_every_piece_left_is_needed(weights: list[float], target: float) -> None:
    worth = dict(zip(PIECES, weights, strict=True))

    def loss_of(pieces: frozenset) -> float:
        return sum(worth[piece] for piece in PIECES if piece not in pieces)

    check_certificate(cleaned(loss_of, target), loss_of, target)


@given(st.integers(0, 10_000), st.floats(0, 0.9))
def test_so_it_is_where_the_loss_goes_up_and_down_and_what_is_clean_stays(seed: int, target: float) -> None:
    found = cleaned(erratic(seed), target)
    check_certificate(found, erratic(seed), target)
    assert cleaned(erratic(seed), target, found.subgraph) == found


@given(st.integers(0, 10_000))
def test_what_a_glance_wrongly_keeps_goes_in_earnest(seed: int) -> None:
    """At a glance some pieces are said to be needed; what is measured decides, and the certificate says what was measured."""
    worth = {piece: float(place) for place, piece in enumerate(PIECES)}

    def loss_of(pieces: frozenset) -> float:
        return sum(worth[piece] for piece in PIECES if piece not in pieces)

    found = cleaned(loss_of, 12.0, glance=lambda pieces: max(100 * erratic(seed)(pieces), loss_of(pieces)))
    check_certificate(found, loss_of, 12)


def test_what_is_needed_stays_and_all_else_goes() -> None:
    """One way through: its three nodes and two edges, each of which the answer needs."""
    way = {Node(SITES[0], 0), Node(SITES[1], 1), Node(SITES[2], 0)}
    way |= {edge for edge in WHOLE.edges if {edge.source, edge.target} <= way}
    assert len(way) == 5
    found = cleaned(lambda pieces: 0.1 if way <= pieces else 1.0, 0.2)
    assert set(found.subgraph.pieces()) == way and set(found.without.values()) == {1.0}


def test_of_two_that_stand_in_for_each_other_one_stays() -> None:
    """Removing either is harmless, removing both is not: what each is worth alone says nothing about both."""
    twins = [Node(SITES[1], 0), Node(SITES[1], 1)]
    found = cleaned(lambda pieces: 0.1 if pieces & set(twins) else 1.0, 0.2, Subgraph(WHOLE.nodes, []))
    assert found == Cleaned(Subgraph({SITES[1]: [1]}, []), {twins[1]: 1.0})


def test_a_piece_that_can_go_only_behind_an_earlier_one_goes_in_a_later_round() -> None:
    """While the first is there the second cannot go, and the second is tried before."""
    first, second = Node(SITES[0], 2), Node(SITES[2], 2)
    found = cleaned(lambda pieces: 1.0 if first in pieces and second not in pieces else 0.1, 0.2)
    assert found == Cleaned(Subgraph({}, []), {})


def test_from_the_answer_back_every_piece_comes_once_and_a_node_before_its_edges() -> None:
    pieces = from_the_answer_back(WHOLE)
    assert sorted(map(str, pieces)) == sorted(map(str, PIECES))
    places = [SITES.index(site_of(piece)) for piece in pieces]
    assert places == sorted(places, reverse=True)
    for site in SITES:
        kinds = [isinstance(piece, Edge) for piece in pieces if site_of(piece) == site]
        assert kinds == sorted(kinds)
