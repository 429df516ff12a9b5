"""The whole model is one graph to torch.compile, and gives the same loss and gradients through it."""

import subprocess
import sys

CODE = """
import torch
from sparse_circuits.kernels.backend import Backend, use_backend
from sparse_circuits.model import ModelConfig, Positions, Transformer

for backend in (Backend.cpu, Backend.reference):
    for positions in Positions:
        torch.manual_seed(0)
        model = Transformer(ModelConfig(n_layers=1, d_model=16, d_head=8, n_ctx=8, positions=positions), d_vocab=30)
        tokens = torch.randint(30, (2, 9))
        with use_backend(backend):
            losses = []
            for loss in (model.loss, torch.compile(model.loss, backend="aot_eager", fullgraph=True)):
                model.zero_grad()
                losses.append(loss(tokens[:, :-1], tokens[:, 1:]))
                losses[-1].backward()
                losses += [p.grad.clone() for p in model.parameters()]
            torch.compiler.reset()
        half = len(losses) // 2
        torch.testing.assert_close(losses[half:], losses[:half])
print("same")
"""


def test_a_compiled_model_gives_the_same_loss_and_gradients() -> None:
    # In a process of its own, without the shape checker, which torch.compile cannot look through.
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout.endswith("same\n"), done.stderr
