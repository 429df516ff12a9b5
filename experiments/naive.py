"""The baseline of the speed benchmark: the same model and step in plain PyTorch, written as the released code writes them.

torch.topk and scatter for AbsTopK, the sink as a concatenated key under an explicit additive mask, all logits at once,
unfused AdamW, torch.topk per matrix for the projection. A test loads our weights into it and asserts equal logits, so that it
is no straw man; it lives here because the library has exactly one transformer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def abs_topk(x: Tensor, k: int) -> Tensor:
    kept = x.abs().topk(k, dim=-1).indices
    return torch.zeros_like(x).scatter(-1, kept, x.gather(-1, kept))


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.gain.shape, self.gain, torch.finfo(torch.float32).eps)


class Attention(nn.Module):
    def __init__(self, d_model: int, d_head: int, n_ctx: int, fraction: float) -> None:
        super().__init__()
        self.d_head, self.n_heads, self.kept = d_head, d_model // d_head, int(fraction * d_model)
        self.norm = RMSNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.sink = nn.Parameter(torch.zeros(self.n_heads))
        self.register_buffer("mask", torch.full((n_ctx, n_ctx), -math.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n_batch, n_pos, d_model = x.shape
        q, k, v = self.qkv(abs_topk(self.norm(x), self.kept)).chunk(3, dim=-1)
        q, k, v = (abs_topk(y, self.kept).view(n_batch, n_pos, self.n_heads, self.d_head).transpose(1, 2) for y in (q, k, v))
        zero = torch.zeros_like(k[:, :, :1])
        sink = self.sink.view(1, -1, 1, 1).expand(n_batch, -1, n_pos, 1)
        mask = self.mask[:n_pos, :n_pos].expand(n_batch, self.n_heads, -1, -1)
        y = F.scaled_dot_product_attention(
            q, torch.cat([zero, k], 2), torch.cat([zero, v], 2), attn_mask=torch.cat([sink, mask], -1).to(q.dtype)
        )
        return abs_topk(self.out(y.transpose(1, 2).reshape(n_batch, n_pos, d_model)), self.kept)


class MLP(nn.Module):
    def __init__(self, d_model: int, fraction: float) -> None:
        super().__init__()
        self.kept, self.kept_neurons = int(fraction * d_model), int(fraction * 4 * d_model)
        self.norm = RMSNorm(d_model)
        self.into = nn.Linear(d_model, 4 * d_model)
        self.out = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        neurons = abs_topk(F.gelu(self.into(abs_topk(self.norm(x), self.kept))), self.kept_neurons)
        return abs_topk(self.out(neurons), self.kept)


class NaiveTransformer(nn.Module):
    """The benchmark's options only: sinks, bigram table, biases, no positions, one AbsTopK share everywhere."""

    def __init__(self, *, n_layers: int, d_model: int, d_head: int, n_ctx: int, d_vocab: int, fraction: float = 0.25) -> None:
        super().__init__()
        self.embed = nn.Embedding(d_vocab, d_model)
        self.attention = nn.ModuleList(Attention(d_model, d_head, n_ctx, fraction) for _ in range(n_layers))
        self.mlp = nn.ModuleList(MLP(d_model, fraction) for _ in range(n_layers))
        self.norm = RMSNorm(d_model)
        self.unembed = nn.Linear(d_model, d_vocab, bias=False)
        self.bigram = nn.Parameter(torch.zeros(d_vocab, d_vocab))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
        return self.unembed(self.norm(x)) + self.bigram[tokens]

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over the weights of the library's transformer."""
        renamed = {}
        for name, tensor in weights.items():
            parts = name.replace("reader.norm", "norm").split(".")
            if parts[0] == "layers":
                _, layer, kind, *rest = parts
                parts = ["attention" if kind == "attn" else "mlp", layer, *rest]
            renamed[".".join(parts)] = tensor
        self.load_state_dict(renamed)


class NaiveStep:
    """Forward, backward, gradient over its RMS, AdamW, projection: each tensor by its own top-k, floor by another."""

    def __init__(self, model: NaiveTransformer, *, l0_fraction: float, floor: int, lr: float, autocast: bool) -> None:
        self.model, self.l0_fraction, self.floor, self.autocast = model, l0_fraction, floor, autocast
        decayed = [p for name, p in model.named_parameters() if name.endswith("weight")]
        others = [p for name, p in model.named_parameters() if not name.endswith("weight")]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=0.1)

    def __call__(self, batch: Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            logits = self.model(batch[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        with torch.no_grad():
            gradients = [p.grad for p in self.model.parameters()]
            n_entries = sum(g.numel() for g in gradients)
            rms = (sum(g.pow(2).sum() for g in gradients) / n_entries).sqrt()
            for gradient in gradients:
                gradient.div_(rms + 1e-5)
            self.optimizer.step()
            self.project()
        return loss.item()

    def project(self) -> None:
        for name, p in self.model.named_parameters():
            if not name.endswith(("weight", "bias")):
                continue
            rank = p.abs()
            if self.floor and name.startswith(("attention", "mlp")) and p.ndim == 2:
                axis = 0 if name.endswith("out.weight") else 1
                protected = rank.topk(self.floor, dim=axis).indices
                rank = rank.scatter(axis, protected, math.inf)
            kept = rank.flatten().topk(round(self.l0_fraction * p.numel())).indices
            mask = p.new_zeros(p.numel()).scatter_(0, kept, 1.0)
            p.mul_(mask.view_as(p))
