"""Magnitude pruning of a whole model against the memory and its peers, alone and right after AdamW.

Roofline, in bytes a float32 weight:
    alone   8: read it, write what stays. Ours: 4 for the first count, less than 1 for the second (few tiles), 8 for the mask.
    fused   28: read weight, gradient and two moments, write weight and moments, as AdamW does. Ours: 28 and, to look again
            and to mask, less than 9.
The paper's model (8 layers of width 2048) has 402.7 M weights in 32 matrices: at the 4.3 TB/s that a copy reaches on an H200
the floors are 0.75 ms alone (3.22 GB) and 2.62 ms fused (11.27 GB). Operations: some 70 an entry for the first count, most of
them for the floor, 28 G in all: about as long as the memory needs for it, and hidden behind AdamW's reads and writes.

Pruning destroys what it is timed on, so the weights are put back before every call, untimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_circuits.kernels.bench import Bench, Size
from sparse_circuits.kernels.magnitude_prune import reference
from sparse_circuits.kernels.magnitude_prune.op import adamw_prune_many_, magnitude_prune_many_

# Shape, and where its neurons are: q, k and v together, attention out, MLP in, MLP out.
LAYER = [((6144, 2048), 0), ((2048, 2048), 1), ((8192, 2048), 0), ((2048, 8192), 1)]
MODELS = {
    Size.gpu: ("8 layers of width 2048", 8 * LAYER),
    Size.cpu: ("512 x 2048", [((512, 2048), 0)]),
    Size.dry: ("tiny", [((40, 30), 0), ((24, 36), 1), ((50,), 0)]),
}
FRACTIONS = {Size.gpu: [1 / 256], Size.cpu: [1 / 16, 1 / 256], Size.dry: [1 / 4]}
FLOORS = (0, 4)
"""Smallest number of nonzeros a neuron may keep; the peers know none."""
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 0.1}
WEIGHT_DECAY = 0.1


class Budgets(NamedTuple):
    """What each tensor keeps, as the op takes it."""

    l0s: list[int]
    floors: list[int]
    neuron_axes: list[int]


def benches(device: torch.device, size: Size) -> Iterator[Bench]:
    """Yield pruning alone and fused with AdamW at every density."""
    name, tensors = MODELS[size]
    for fraction, floor in product(FRACTIONS[size], FLOORS):
        floors = [floor if len(shape) == 2 else 0 for shape, _ in tensors]
        weights = [torch.randn(shape, device=device) for shape, _ in tensors]
        l0s = [round(fraction * weight.numel()) for weight in weights]
        budgets = Budgets(l0s, floors, [axis for _, axis in tensors])
        shape = f"{name}, l0 1/{round(1 / fraction)}, floor {floor}, float32"
        yield _alone(weights, budgets, shape)
        yield _fused(weights, budgets, shape)


def _alone(weights: list[Tensor], budgets: Budgets, shape: str) -> Bench:
    pruned = [torch.empty_like(weight) for weight in weights]

    def restore() -> None:
        torch._foreach_copy_(pruned, weights)

    def check() -> None:
        restore()
        prune_(pruned, budgets)
        expected = [weight.clone() for weight in weights]
        reference.prune_many_(expected, *budgets)
        for mine, theirs in zip(pruned, expected, strict=True):
            assert torch.equal(mine, theirs)

    peers: dict[str, Callable[[], object]] = {
        "torch.topk per matrix": lambda: topk_(pruned, budgets),
        "torch.kthvalue per matrix": lambda: kthvalue_(pruned, budgets),
    }
    n_bytes = 8 * sum(weight.numel() for weight in weights)
    return Bench("magnitude_prune", shape, lambda: prune_(pruned, budgets), peers, check, n_bytes, before=restore)


def _fused(weights: list[Tensor], budgets: Budgets, shape: str) -> Bench:
    weights = [0.02 * weight for weight in weights]
    state = weights, *([scale * torch.rand_like(weight) for weight in weights] for scale in (1.0, 0.1, 0.1))
    decays, step = [WEIGHT_DECAY] * len(weights), 100

    def ours_on(state: Sequence[list[Tensor]]) -> None:
        options = {"floors": budgets.floors, "neuron_axes": budgets.neuron_axes, "weight_decays": decays, "step": step}
        adamw_prune_many_(*state, budgets.l0s, **options, **ADAMW)

    parameters = [weight.clone().requires_grad_() for weight in weights]
    for parameter, gradient in zip(parameters, state[1], strict=True):
        parameter.grad = gradient.clone()
    optimizer = torch.optim.AdamW(parameters, **ADAMW, weight_decay=WEIGHT_DECAY, fused=True)

    def adamw_then(prune: Callable[[list[Tensor], Budgets], None]) -> Callable[[], object]:
        return lambda: (optimizer.step(), prune([parameter.detach() for parameter in parameters], budgets))

    def check() -> None:
        found, expected = ([[tensor.clone() for tensor in group] for group in state] for _ in range(2))
        ours_on(found)
        numbers = [torch.tensor(number) for number in (ADAMW["lr"], *ADAMW["betas"], ADAMW["eps"], step)]
        reference.adamw_(*expected, decays, numbers, None)
        reference.prune_many_(expected[0], *budgets)
        n_shared = 0
        for index, l0 in enumerate(budgets.l0s):
            for moment in (2, 3):
                torch.testing.assert_close(found[moment][index], expected[moment][index], rtol=1e-6, atol=1e-7)
            mine, theirs = found[0][index], expected[0][index]
            shared = (mine != 0) & (theirs != 0)
            torch.testing.assert_close(mine[shared], theirs[shared], rtol=1e-6, atol=1e-7)
            assert mine.count_nonzero() == l0
            n_shared += int(shared.sum())
        # The last bit of an update may tip which of two nearly equal weights stays.
        assert n_shared >= (1 - 1e-4) * sum(budgets.l0s)

    peers = {
        "torch fused AdamW alone": optimizer.step,
        "torch fused AdamW, then ours": adamw_then(prune_),
        "torch fused AdamW, then torch.topk": adamw_then(topk_),
        "torch fused AdamW, then torch.kthvalue": adamw_then(kthvalue_),
    }
    n_bytes = 28 * sum(weight.numel() for weight in weights)
    return Bench("magnitude_prune after AdamW", shape, lambda: ours_on(state), peers, check, n_bytes)


def prune_(weights: list[Tensor], budgets: Budgets) -> None:
    """Prune by our op."""
    magnitude_prune_many_(weights, budgets.l0s, floors=budgets.floors, neuron_axes=budgets.neuron_axes)


def topk_(weights: list[Tensor], budgets: Budgets) -> None:
    """Prune as it is mostly written, one matrix after the other: the indices of torch.topk, and zero elsewhere."""
    for weight, l0 in zip(weights, budgets.l0s, strict=True):
        flat = weight.view(-1)
        kept = flat.abs().topk(l0, sorted=False).indices
        values = flat[kept]
        flat.zero_()[kept] = values


def kthvalue_(weights: list[Tensor], budgets: Budgets) -> None:
    """Prune below the threshold that torch.kthvalue finds; entries equal to it all stay."""
    for weight, l0 in zip(weights, budgets.l0s, strict=True):
        magnitude = weight.abs()
        threshold = magnitude.view(-1).kthvalue(weight.numel() - l0 + 1).values
        weight.masked_fill_(magnitude < threshold, 0)
