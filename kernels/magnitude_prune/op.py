"""Magnitude pruning to an exact number of nonzeros (Gao et al. 2025, appendix A.2), fast enough to follow every step.

Of every neuron the `floor` largest entries are kept first, inside the budget. Backends: `triton` (gpu.py) and `cpu` (cpu.py,
float64 through the reference) have implementations of their own; `compiled` runs the reference, since a sort is a library
call either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, library

from sparse_circuits.kernels.backend import Backend, backend_of, implementation
from sparse_circuits.kernels.magnitude_prune import reference

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def magnitude_prune_(weight: Float[Tensor, "*shape"], l0: int, *, floor: int = 0, neuron_axis: int = 0) -> None:
    """Zero, in place, all but the l0 entries of largest magnitude.

    Exactly min(l0, number of nonzeros) entries stay, of equal magnitudes those of lower flat index. NaN is the largest.

    Args:
        weight: a matrix, or a tensor of any shape when there is no floor.
        l0: how many entries to keep; from the tensor's size on, nothing is done.
        floor: how many nonzero entries every neuron keeps at least, as far as it has them.
        neuron_axis: 0 when a neuron is a row of the matrix, 1 when it is a column.

    Raises:
        ValueError: l0 is negative or smaller than what the floor alone needs.
    """
    magnitude_prune_many_([weight], [l0], floors=[floor], neuron_axes=[neuron_axis])


def magnitude_prune_many_(
    weights: Sequence[Float[Tensor, ...]], l0s: Sequence[int], *, floors: Sequence[int], neuron_axes: Sequence[int]
) -> None:
    """Prune every tensor as `magnitude_prune_` does; with the `triton` backend in a few launches for all of them.

    Args:
        weights: the tensors, all on one device.
        l0s: how many entries each keeps.
        floors: how many nonzero entries every neuron of each keeps at least.
        neuron_axes: where the neurons of each are, 0 or 1.

    Raises:
        ValueError: a budget is negative or smaller than its floor needs, or the lists do not fit each other.
    """
    _check(weights, l0s, floors, neuron_axes)
    if weights:
        _magnitude_prune_many([weight.detach() for weight in weights], list(l0s), list(floors), list(neuron_axes))


def adamw_prune_many_(
    weights: Sequence[Float[Tensor, ...]],
    gradients: Sequence[Float[Tensor, ...]],
    exp_avgs: Sequence[Float[Tensor, ...]],
    exp_avg_sqs: Sequence[Float[Tensor, ...]],
    l0s: Sequence[int],
    *,
    floors: Sequence[int],
    neuron_axes: Sequence[int],
    weight_decays: Sequence[float],
    lr: float | Float[Tensor, ""],
    betas: tuple[float | Float[Tensor, ""], float | Float[Tensor, ""]],
    eps: float | Float[Tensor, ""],
    step: int | Float[Tensor, ""],
    grad_scale: Float[Tensor, ""] | None = None,
) -> None:
    """Take a step of AdamW as `torch.optim.AdamW(fused=True)` does, then prune every tensor, all in place.

    With the `triton` backend the update counts magnitudes on its way: weights, gradients and moments are read once, and the
    weights again only to be pruned. The other backends run torch's fused AdamW and then `magnitude_prune_many_`.

    Args:
        weights: the tensors, all on one device; each other list has one entry for each.
        gradients: their gradients. What they hold afterwards is undefined: torch's kernel divides them in place.
        exp_avgs: running means of the gradient.
        exp_avg_sqs: running means of its square.
        l0s: how many entries each keeps; a tensor whose size is no more than that is updated and not pruned.
        floors: how many nonzero entries every neuron of each keeps at least.
        neuron_axes: where the neurons of each are, 0 or 1.
        weight_decays: share of the learning rate by which each shrinks.
        lr: learning rate.
        betas: what the two means keep of themselves at each step.
        eps: added to the denominator.
        step: the number of this step, from 1.
        grad_scale: what every gradient is divided by first.

    Raises:
        ValueError: a budget is negative or smaller than its floor needs, or the lists do not fit each other.

    Source: Loshchilov and Hutter 2019, algorithm 2; Gao et al. 2025, appendix A.2.
    """
    _check(weights, l0s, floors, neuron_axes)
    for name, others in (("gradients", gradients), ("exp_avgs", exp_avgs), ("exp_avg_sqs", exp_avg_sqs)):
        _check_companions(weights, name, others)
    if len(weight_decays) != len(weights):
        raise ValueError(f"{len(weights)} tensors came with {len(weight_decays)} weight decays: give one for each.")
    if not weights:
        return
    tensors = ([tensor.detach() for tensor in group] for group in (weights, gradients, exp_avgs, exp_avg_sqs))
    numbers = [_number(value) for value in (lr, *betas, eps, step)]
    _adamw_prune_many(*tensors, list(l0s), list(floors), list(neuron_axes), list(weight_decays), numbers, grad_scale)


def _number(value: int | float | Tensor) -> Tensor:
    """A number of the host stays there; one on the device is not waited for."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _check(weights: Sequence[Tensor], l0s: Sequence[int], floors: Sequence[int], neuron_axes: Sequence[int]) -> None:
    for name, values in (("l0s", l0s), ("floors", floors), ("neuron_axes", neuron_axes)):
        if len(values) != len(weights):
            raise ValueError(f"{len(weights)} tensors came with {len(values)} {name}: give one for each.")
    for weight, l0, floor, neuron_axis in zip(weights, l0s, floors, neuron_axes, strict=True):
        if weight.dtype not in DTYPES or weight.device != weights[0].device:
            raise ValueError(
                f"Cannot prune a {weight.dtype} tensor on {weight.device} with others on {weights[0].device}: "
                "give real floating-point tensors on one device."
            )
        if floor and (weight.ndim != 2 or neuron_axis not in (0, 1)):
            raise ValueError(
                f"A floor of {floor} along axis {neuron_axis} of shape {tuple(weight.shape)} means nothing: "
                "only matrices have neurons, along axis 0 or 1."
            )
        n_neurons = weight.shape[neuron_axis] if floor else 0
        if l0 < floor * n_neurons or l0 < 0:
            raise ValueError(f"A budget of {l0} nonzeros cannot hold a floor of {floor} in {n_neurons} neurons: raise l0.")


def _check_companions(weights: Sequence[Tensor], name: str, others: Sequence[Tensor]) -> None:
    expected, found = ([(t.shape, t.dtype, t.device) for t in group] for group in (weights, others))
    if expected != found:
        raise ValueError(f"The {name} differ from the weights in number, shape, dtype or device: give one like each weight.")


def _on(device: torch.device) -> ModuleType:
    return implementation("magnitude_prune", device, by_reference={Backend.compiled})


@library.custom_op(
    "sparse_circuits::magnitude_prune_many",
    mutates_args=("weights",),
    schema="(Tensor(a!)[] weights, SymInt[] l0s, SymInt[] floors, int[] neuron_axes) -> ()",
)
def _magnitude_prune_many(
    weights: Sequence[Tensor], l0s: Sequence[int], floors: Sequence[int], neuron_axes: Sequence[int]
) -> None:
    _on(weights[0].device).prune_many_(weights, l0s, floors, neuron_axes)


@library.custom_op(
    "sparse_circuits::adamw_prune_many",
    mutates_args=("weights", "gradients", "exp_avgs", "exp_avg_sqs"),
    schema="(Tensor(a!)[] weights, Tensor(b!)[] gradients, Tensor(c!)[] exp_avgs, Tensor(d!)[] exp_avg_sqs, SymInt[] l0s, "
    "SymInt[] floors, int[] neuron_axes, float[] weight_decays, Tensor[] numbers, Tensor? grad_scale) -> ()",
)
def _adamw_prune_many(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    l0s: Sequence[int],
    floors: Sequence[int],
    neuron_axes: Sequence[int],
    weight_decays: Sequence[float],
    numbers: Sequence[Tensor],
    grad_scale: Tensor | None,
) -> None:
    backend = _on(weights[0].device)
    state = (weights, gradients, exp_avgs, exp_avg_sqs)
    if backend_of("magnitude_prune", weights[0].device) is Backend.triton:
        backend.adamw_prune_many_(*state, l0s, floors, neuron_axes, weight_decays, numbers, grad_scale)
    else:
        reference.adamw_(*state, weight_decays, numbers, grad_scale)
        backend.prune_many_(weights, l0s, floors, neuron_axes)


_magnitude_prune_many.register_fake(lambda weights, l0s, floors, neuron_axes: None)
_adamw_prune_many.register_fake(lambda *arguments: None)
