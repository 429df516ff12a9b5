"""Magnitude pruning on every backend: equal to a stable sort, exact counts, floors, ties; and right after AdamW."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.kernels.backend import Backend, use_backend
from sparse_circuits.kernels.bench import Size
from sparse_circuits.kernels.magnitude_prune import adamw_prune_many_, cpu, magnitude_prune_, magnitude_prune_many_, reference
from sparse_circuits.kernels.magnitude_prune.benchmark import benches

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BACKENDS = [Backend.cpu, Backend.triton]
needs_interpreter = pytest.mark.skipif(torch.cuda.is_available(), reason="the tensors of this test are on the CPU")


class Case(NamedTuple):
    """A tensor and what is asked of it."""

    weight: Tensor
    l0: int
    floor: int = 0
    neuron_axis: int = 0


def assert_equal_to_the_stable_sort(backend: Backend, cases: list[Case]) -> list[Tensor]:
    """Prune all in one call, compare each with the reference, and return them."""
    weights, l0s, floors, neuron_axes = zip(*cases, strict=True)
    found, expected = ([weight.clone() for weight in weights] for _ in range(2))
    with use_backend(backend, ops=("magnitude_prune",)):
        magnitude_prune_many_(found, l0s, floors=floors, neuron_axes=neuron_axes)
    reference.prune_many_(expected, l0s, floors, neuron_axes)
    for mine, theirs, l0 in zip(found, expected, l0s, strict=True):
        assert torch.equal(mine.nan_to_num(nan=9.0), theirs.nan_to_num(nan=9.0))
        assert mine.count_nonzero() <= l0 or l0 >= mine.numel()
    return found


def both(weight: Tensor, l0: int, **options: int) -> tuple[Tensor, Tensor]:
    ours, expected = weight.clone(), weight.clone()
    magnitude_prune_(ours, l0, **options)
    reference.magnitude_prune_(expected, l0, **options)
    return ours, expected


@pytest.mark.parametrize("shape", [(40, 30), (700, 300), (257, 1024)])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.99])
@pytest.mark.parametrize(("floor", "neuron_axis"), [(0, 0), (1, 0), (4, 0), (4, 1)])
def test_equals_the_stable_sort(shape: tuple[int, int], density: float, floor: int, neuron_axis: int) -> None:
    weight = torch.randn(shape) * torch.rand(shape[0], 1)
    l0 = max(int(density * weight.numel()), floor * shape[neuron_axis])
    ours, expected = both(weight, l0, floor=floor, neuron_axis=neuron_axis)
    assert torch.equal(ours, expected)
    assert ours.count_nonzero() == l0
    assert ((ours != 0).sum(1 - neuron_axis) >= floor).all()


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.0]), min_size=24, max_size=24),
    l0=st.integers(8, 24),
    floor=st.integers(0, 2),
    neuron_axis=st.integers(0, 1),
)
def test_ties_and_zeros(values: list[float], l0: int, floor: int, neuron_axis: int) -> None:
    l0 = max(l0, floor * (4, 6)[neuron_axis])
    weight = torch.tensor(values).view(4, 6)
    ours, expected = both(weight, l0, floor=floor, neuron_axis=neuron_axis)
    assert torch.equal(ours, expected)
    assert ours.count_nonzero() == min(l0, weight.count_nonzero())


@needs_interpreter
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_tensors_of_a_model_in_one_call(backend: Backend, dtype: torch.dtype) -> None:
    uneven = torch.randn(25, 70) * torch.rand(25, 1) ** 4
    cases = [
        Case(uneven, 300, 4, 0),
        Case(uneven, 300, 4, 1),
        Case(uneven, 100, 4, 0),  # the floor takes the whole budget
        Case(torch.randn(36, 132), 1188, 3, 1),
        Case(torch.randn(9, 2), 17, 1, 0),
        Case(torch.randn(3000), 77),
        Case(torch.randn(5), 0),
        Case(torch.randn(2, 3, 4), 23),
        Case(torch.empty(0), 0),
        Case(torch.randn(4, 4), 16, 1, 0),
    ]
    found = assert_equal_to_the_stable_sort(backend, [case._replace(weight=case.weight.to(dtype)) for case in cases])
    assert [int(weight.count_nonzero()) for weight in found] == [300, 300, 100, 1188, 17, 77, 0, 23, 0, 16]


@needs_interpreter
@pytest.mark.parametrize("backend", BACKENDS)
def test_many_small_matrices_full_of_ties(backend: Backend) -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, 3.0])
    cases = []
    for _, floor, neuron_axis in product(range(4), range(3), range(2)):
        l0 = int(torch.randint(floor * (4, 6)[neuron_axis], 24, ()))
        cases.append(Case(values[torch.randint(6, (4, 6))], l0, floor, neuron_axis))
    assert_equal_to_the_stable_sort(backend, cases)


@needs_interpreter
@pytest.mark.parametrize("backend", BACKENDS)
def test_hard_tensors(backend: Backend) -> None:
    constant, few, special = torch.ones(24, 80), torch.zeros(24, 80), torch.randn(24, 80)
    few[::3, ::9] = torch.randn(8, 9)
    special[3], special[5, 5], special[9, :7] = torch.inf, torch.nan, -torch.inf
    denormal = torch.full((24, 80), 1e-45)
    pruned = torch.randn(24, 80)
    reference.magnitude_prune_(pruned, 500)
    cases = [
        *(Case(constant, l0, floor, axis) for l0, floor, axis in ((1, 0, 0), (1200, 0, 0), (777, 4, 0), (777, 4, 1))),
        *(Case(few, l0, floor, 1) for l0, floor in ((1900, 0), (320, 4), (30, 0))),
        *(Case(special, l0, floor, 0) for l0, floor in ((1, 0), (50, 0), (400, 4))),
        *(Case(pruned, l0) for l0 in (499, 500, 501)),
        Case(torch.zeros(24, 80), 400, 4, 0),
        Case(denormal, 1000, 2, 1),
    ]
    found = assert_equal_to_the_stable_sort(backend, cases)
    assert found[7].isnan().sum() == 1  # NaN is the largest


def test_a_misleading_sample_costs_time_only() -> None:
    stride = 700 * 300 // cpu.SAMPLE_SIZE
    weight = torch.rand(700 * 300) + 1
    weight[::stride] *= 1e-3
    ours, expected = both(weight.view(700, 300), 100_000)
    assert torch.equal(ours, expected)


@needs_interpreter
def test_a_misleading_sample_costs_the_gpu_time_only() -> None:
    # The entries that `guess_kernel` looks at, one of every 4: tiny, so that its guess is too low; then huge.
    number = np.arange(4096, dtype=np.uint64)
    sampled = torch.from_numpy((number * 4 + (((number * 2654435761) % 2**32) >> np.uint64(11)) % 4).astype(np.int64))
    weight = torch.rand(128 * 128) + 1
    low, high = weight.clone(), weight.clone()
    low[sampled] *= 1e-3
    high[sampled] *= 1e3
    cases = [Case(low.view(128, 128), 2000, 2, 0), Case(high.view(128, 128), 6000, 2, 1)]
    assert_equal_to_the_stable_sort(Backend.triton, cases)


@needs_interpreter
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_that_is_not_laid_out_in_order(backend: Backend) -> None:
    held = torch.randn(2, 41 * 29 + 1)
    ours, expected = held.clone(), held.clone()
    views = [[base[0, 1:].view(29, 41).T, base[1, 1:].view(41, 29)] for base in (ours, expected)]
    with use_backend(backend, ops=("magnitude_prune",)):
        magnitude_prune_many_(views[0], [200, 200], floors=[4, 4], neuron_axes=[0, 1])
    reference.prune_many_(views[1], [200, 200], [4, 4], [0, 1])
    assert torch.equal(ours, expected)


@needs_interpreter
@pytest.mark.parametrize("backend", BACKENDS)
def test_pruning_again_changes_nothing_and_leaves_clean_zeros(backend: Backend) -> None:
    weight = -torch.rand(30, 20)
    with use_backend(backend, ops=("magnitude_prune",)):
        magnitude_prune_(weight, 120, floor=2)
        again = weight.clone()
        magnitude_prune_(again, 120, floor=2)
    assert torch.equal(weight, again)
    assert not np.signbit(weight[weight == 0].numpy()).any()


def test_float64_goes_through_the_reference() -> None:
    ours, expected = both(torch.randn(20, 30, dtype=torch.float64), 90, floor=2)
    assert torch.equal(ours, expected)


def test_vectors_have_no_floor() -> None:
    ours, expected = both(torch.randn(500), 37)
    assert torch.equal(ours, expected)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Types are checked by drawing an element of a list at random, which no graph can hold."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@needs_interpreter
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("backend", BACKENDS)
def test_prunes_inside_a_compiled_graph(backend: Backend) -> None:
    def step(weight: Tensor, vector: Tensor) -> Tensor:
        magnitude_prune_many_([weight, vector], [24, 3], floors=[2, 0], neuron_axes=[1, 0])
        return weight.sum() + vector.sum()

    weight, vector = torch.randn(8, 12), torch.randn(7)
    expected = [weight.clone(), vector.clone()]
    reference.prune_many_(expected, [24, 3], [2, 0], [1, 0])
    with use_backend(backend, ops=("magnitude_prune",)):
        total = torch.compile(step, backend="aot_eager", fullgraph=True)(weight, vector)
    assert torch.equal(weight, expected[0])
    assert torch.equal(vector, expected[1])
    assert total == expected[0].sum() + expected[1].sum()


def test_a_parameter_knows_that_it_was_changed() -> None:
    parameter = torch.nn.Parameter(torch.randn(6, 6))
    loss = parameter.square().sum()
    with use_backend(Backend.cpu, ops=("magnitude_prune",)):
        magnitude_prune_(parameter, 9)
    assert parameter.count_nonzero() == 9
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


SHAPES = [(40, 30), (24, 36), (33,), (20, 100), (5, 7), (12, 12)]
BUDGETS = {"l0s": [200, 216, 7, 400, 35, 144], "floors": [4, 4, 0, 2, 0, 3], "neuron_axes": [0, 1, 0, 0, 0, 1]}
DECAYS = [0.1, 0.1, 0.0, 0.1, 0.0, 0.1]


@needs_interpreter
@pytest.mark.parametrize(
    ("backend", "as_tensors"),
    [(Backend.triton, True), (Backend.cpu, False), (Backend.reference, True)],
)
def test_equals_torchs_adamw_followed_by_the_reference(backend: Backend, as_tensors: bool) -> None:
    lr, beta1, beta2, eps = (torch.tensor(value) if as_tensors else value for value in (1e-2, 0.9, 0.95, 0.1))
    parameters = [torch.nn.Parameter(0.1 * torch.randn(shape)) for shape in SHAPES]
    groups = [{"params": [p], "weight_decay": decay} for p, decay in zip(parameters, DECAYS, strict=True)]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=0.1, fused=True)
    weights = [p.detach().clone() for p in parameters]
    moments = [[torch.zeros_like(weight) for weight in weights] for _ in range(2)]
    for step in range(1, 4):
        gradients = [3 * torch.randn(shape) for shape in SHAPES]
        grad_scale = torch.tensor(1.7) if step % 2 else None
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient.clone()
        optimizer.grad_scale = grad_scale
        optimizer.step()
        reference.prune_many_(parameters, BUDGETS["l0s"], BUDGETS["floors"], BUDGETS["neuron_axes"])
        with use_backend(backend, ops=("magnitude_prune",)):
            adamw_prune_many_(
                weights,
                gradients,
                *moments,
                **BUDGETS,
                weight_decays=DECAYS,
                lr=lr,
                betas=(beta1, beta2),
                eps=eps,
                step=torch.tensor(float(step)) if as_tensors else step,
                grad_scale=grad_scale,
            )
        for index, p in enumerate(parameters):
            state = optimizer.state[p]
            assert torch.equal(weights[index] != 0, p != 0)
            torch.testing.assert_close(weights[index], p.detach(), rtol=1e-6, atol=2e-7)
            torch.testing.assert_close(moments[0][index], state["exp_avg"], rtol=1e-6, atol=2e-7)
            torch.testing.assert_close(moments[1][index], state["exp_avg_sq"], rtol=1e-6, atol=2e-7)


@needs_interpreter
def test_where_the_fused_adamw_ignores_its_scale_gradients_are_divided_first(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [[scale * torch.rand(24, 36), scale * torch.rand(7)] for scale in (0.1, 3.0, 0.0, 0.0)]
    options = {"floors": [4, 0], "neuron_axes": [1, 0], "lr": 1e-2, "betas": (0.9, 0.95), "eps": 0.1, "step": 1}
    scaling, ignoring = ([[tensor.clone() for tensor in group] for group in groups] for _ in range(2))
    fused = torch._fused_adamw_
    for state, devices in ((scaling, ()), (ignoring, ("cpu",))):
        if devices:
            monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, grad_scale, **more: fused(*a, grad_scale=None, **more))
        monkeypatch.setattr(reference, "WITHOUT_SCALE", devices)
        with use_backend(Backend.reference, ops=("magnitude_prune",)):
            adamw_prune_many_(*state, [200, 7], **options, weight_decays=[0.1, 0.0], grad_scale=torch.tensor(1.7))
    torch.testing.assert_close(ignoring, scaling)


@needs_interpreter
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adamw_in_16_bits_prunes_what_it_rounded(dtype: torch.dtype) -> None:
    groups = [[(scale * torch.rand(24, 36)).to(dtype)] for scale in (0.1, 1.0, 0.0, 0.0)]
    options = {"floors": [4], "neuron_axes": [1], "weight_decays": [0.1], "lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-3}
    dense, pruned = ([[tensor.clone() for tensor in group] for group in groups] for _ in range(2))
    with use_backend(Backend.triton, ops=("magnitude_prune",)):
        adamw_prune_many_(*dense, [24 * 36], **options, step=1)
        adamw_prune_many_(*pruned, [200], **options, step=1)
    reference.magnitude_prune_(dense[0][0], 200, floor=4, neuron_axis=1)
    for mine, theirs in zip(pruned, dense, strict=True):
        assert torch.equal(mine[0], theirs[0])


@needs_interpreter
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("backend", BACKENDS)
def test_adamw_inside_a_compiled_graph(backend: Backend) -> None:
    groups = [[torch.rand(8, 12)] for _ in range(4)]
    options = {"floors": [2], "neuron_axes": [1], "weight_decays": [0.1], "lr": 1e-2, "betas": (0.9, 0.95), "eps": 0.1}
    eager, graph = ([[tensor.clone() for tensor in group] for group in groups] for _ in range(2))

    def step(*groups: list[Tensor]) -> Tensor:
        adamw_prune_many_(*groups, [30], **options, step=3, grad_scale=groups[0][0].new_tensor(2.0))
        return groups[0][0].sum()

    with use_backend(backend, ops=("magnitude_prune",)):
        total = step(*eager)
        assert torch.compile(step, backend="aot_eager", fullgraph=True)(*graph) == total
    assert torch.equal(eager[0][0], graph[0][0])
    assert eager[0][0].count_nonzero() == 30


def test_nothing_to_prune() -> None:
    magnitude_prune_many_([], [], floors=[], neuron_axes=[])


def test_refuses_a_budget_below_the_floor() -> None:
    with pytest.raises(ValueError, match="cannot hold a floor of 4 in 10 neurons"):
        magnitude_prune_(torch.randn(10, 8), 39, floor=4)
    with pytest.raises(ValueError, match="A budget of -1 nonzeros"):
        magnitude_prune_(torch.randn(10, 8), -1)


def test_refuses_a_floor_where_there_are_no_neurons() -> None:
    with pytest.raises(ValueError, match="only matrices have neurons"):
        magnitude_prune_(torch.randn(10), 5, floor=1)
    with pytest.raises(ValueError, match="along axis 2 of"):
        magnitude_prune_(torch.randn(10, 8), 70, floor=1, neuron_axis=2)


def test_refuses_lists_that_do_not_fit() -> None:
    weight = torch.randn(4, 4)
    with pytest.raises(ValueError, match="2 tensors came with 1 floors"):
        magnitude_prune_many_([weight, weight], [3, 3], floors=[0], neuron_axes=[0, 0])
    options = {"floors": [0], "neuron_axes": [0], "lr": 1e-2, "betas": (0.9, 0.95), "eps": 0.1, "step": 1}
    with pytest.raises(ValueError, match="exp_avgs differ from the weights"):
        adamw_prune_many_([weight], [weight], [weight.T[:3]], [weight], [3], weight_decays=[0.1], **options)
    with pytest.raises(ValueError, match="1 tensors came with 0 weight decays"):
        adamw_prune_many_([weight], [weight], [weight], [weight], [3], weight_decays=[], **options)


@needs_interpreter
def test_the_kernels_refuse_float64() -> None:
    with use_backend(Backend.triton, ops=("magnitude_prune",)), pytest.raises(ValueError, match="choose backend=reference"):
        magnitude_prune_(torch.randn(4, 4, dtype=torch.float64), 3)


def test_every_field_of_the_table_has_its_row() -> None:
    table = pytest.importorskip("sparse_circuits.kernels.magnitude_prune.table")
    assert [getattr(table, name.upper()).value for name in table.FIELDS] == list(range(len(table.FIELDS)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_benchmark_is_right(backend: Backend) -> None:
    with use_backend(backend, ops=("magnitude_prune",)):
        for bench in benches(torch.device("cpu"), Size.dry):
            bench.check()
            for call in bench.peers.values():
                call()
