"""Mean ablation against the memory and the eager expression.

Roofline, with b bytes an entry: forward reads x and writes the result, 2 b n_rows width; backward reads x and the gradient and
writes one, 3 b, where the eager expression makes some ten passes. 131072 x 2048 in bf16: 1.07 GB forward, 0.25 ms at the
4.3 TB/s that a copy reaches on an H200, and 1.61 GB backward, 0.37 ms. Operations are a handful an entry and do not count.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sparse_circuits.kernels.bench import Bench, Size, name_of
from sparse_circuits.kernels.mean_ablate import reference
from sparse_circuits.kernels.mean_ablate.op import mean_ablate

SHAPES = {
    Size.gpu: [(131072, 2048, torch.bfloat16), (131072, 8192, torch.bfloat16)],
    Size.cpu: [(16384, 128, torch.float32), (16384, 512, torch.float32)],
    Size.dry: [(33, 40, torch.float32), (3, 300, torch.bfloat16)],
}


def benches(device: torch.device, size: Size) -> Iterator[Bench]:
    """Yield forward and backward, with half of the channels ablated."""
    for n_rows, width, dtype in SHAPES[size]:
        x = torch.randn(n_rows, width, device=device, dtype=dtype, requires_grad=True)
        mask, mean = torch.randn(width, device=device, requires_grad=True), torch.randn(width, device=device, dtype=dtype)
        shape, n_bytes = f"{n_rows} x {width}, {name_of(dtype)}", x.numel() * x.element_size()

        def eager(x: Tensor = x, mask: Tensor = mask, mean: Tensor = mean) -> Tensor:
            return reference.mean_ablate(x, mask.to(x.dtype), mean)

        def ours(x: Tensor = x, mask: Tensor = mask, mean: Tensor = mean) -> Tensor:
            return mean_ablate(x, mask, mean)

        def gradient(out: Tensor, x: Tensor = x, mask: Tensor = mask) -> tuple[Tensor, ...]:
            return torch.autograd.grad(out, (x, mask), torch.ones_like(out), retain_graph=True)

        def check(x: Tensor = x, mask: Tensor = mask, mean: Tensor = mean, ours=ours, gradient=gradient) -> None:
            out = ours()
            assert torch.equal(out, reference.mean_ablate_forward(x, mask, mean))
            dx, dmask = gradient(out)
            right_dx, effect = reference.mean_ablate_backward(torch.ones_like(x), x, mask, mean)
            soft = torch.sigmoid(mask)
            assert torch.equal(dx, right_dx)
            torch.testing.assert_close(dmask, soft * (1 - soft) * effect, rtol=1e-3, atol=1e-2)

        yield Bench("mean_ablate", shape, ours, {"eager expression": eager}, check, 2 * n_bytes)
        out, peer = ours(), eager()
        peers = {"eager expression": lambda peer=peer, gradient=gradient: gradient(peer)}
        yield Bench("mean_ablate backward", shape, lambda out=out, gradient=gradient: gradient(out), peers, check, 3 * n_bytes)
