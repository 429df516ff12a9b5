"""A tiny model in OpenAI's layout, and an evaluation of its specification in plain tensors, independent of the importer."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BASE = {
    "block_size": 10,
    "vocab_size": 23,
    "n_layer": 2,
    "n_head": 2,
    "d_head": 3,
    "d_model": 8,
    "d_mlp": 12,
    "bias": True,
    "ln_bias": True,
    "rms_norm": True,
    "residual_activation_type": "identity",
    "activation_type": "gelu",
    "afrac": 0.5,
    "afrac_loctypes": "attn_in,attn_out,mlp_in,mlp_out",
    "tied_unembed": False,
    "enable_bigram_table": False,
    "d_pos_emb": None,
    "sink": False,
}


def made_state(config: dict[str, Any], *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def add(name: str, *shape: int, near: float = 0.0) -> None:
        state[name] = near + 0.5 * torch.randn(shape, generator=generator)

    d, d_pos, heads = config["d_model"], config["d_pos_emb"], config["n_head"] * config["d_head"]
    width = d + (d_pos or 0)
    add("transformer.wte.weight", config["vocab_size"], d)
    add("transformer.wpe.weight", config["block_size"], d_pos or d)
    norms = ["transformer.ln_f"]
    for i in range(config["n_layer"]):
        layer = f"transformer.h.{i}"
        norms += [f"{layer}.ln_1", f"{layer}.ln_2"]
        if d_pos:
            norms += [f"{layer}.ln_p1", f"{layer}.ln_p2"]
        for name, n_out, n_in in (
            ("attn.c_attn", 3 * heads, width),
            ("attn.c_proj", d, heads),
            ("mlp.c_fc", config["d_mlp"], width),
            ("mlp.c_proj", d, config["d_mlp"]),
        ):
            add(f"{layer}.{name}.weight", n_out, n_in)
            if config["bias"]:
                add(f"{layer}.{name}.bias", n_out)
        if config["sink"]:
            add(f"{layer}.attn.attn_imp.sink_logit", config["n_head"])
    for name in norms:
        size = d_pos if name.endswith(("ln_p1", "ln_p2")) else d
        add(f"{name}.weight", size, near=1.0)
        if config["ln_bias"] and not config["rms_norm"]:
            add(f"{name}.bias", size)
    add("lm_head.weight", config["vocab_size"], d)
    if config["tied_unembed"]:
        state["lm_head.weight"] = state["transformer.wte.weight"]
    if config["enable_bigram_table"]:
        add("bigram_table", config["vocab_size"], config["vocab_size"])
    add("final_logits_bias", config["vocab_size"])
    return state


def write_folder(folder: Path, config: dict[str, Any], state: dict[str, Tensor], **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "beeg_config.json").write_text(json.dumps({**config, **more}))
    torch.save(state, folder / "final_model.pt")
    return folder


def evaluate(config: dict[str, Any], state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Return the logits that the specification gives."""

    def thin(x: Tensor, location: str) -> Tensor:
        if config["afrac"] is None or location not in config["afrac_loctypes"].split(","):
            return x
        k = int(config["afrac"] * x.shape[-1])
        order = x.abs().sort(dim=-1, descending=True, stable=True).indices
        return x * torch.zeros_like(x).scatter(-1, order[..., :k], 1.0)

    def norm(x: Tensor, name: str) -> Tensor:
        gain = state[f"{name}.weight"]
        if config["rms_norm"]:
            return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt() * gain
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain
        return x + state[f"{name}.bias"] if config["ln_bias"] else x

    def linear(x: Tensor, name: str) -> Tensor:
        y = x @ state[f"{name}.weight"].T
        return y + state[f"{name}.bias"] if config["bias"] else y

    def read(x: Tensor, layer: str, number: int) -> Tensor:
        own = norm(x, f"{layer}.ln_{number}")
        if not config["d_pos_emb"]:
            return own
        return torch.cat([own, norm(positions, f"{layer}.ln_p{number}").expand(*x.shape[:-1], -1)], dim=-1)

    def behind(x: Tensor, location: str) -> Tensor:
        return thin(x.relu() if config["residual_activation_type"] == "relu" else x, location)

    n_pos, n_head, d_head = tokens.shape[1], config["n_head"], config["d_head"]
    positions = state["transformer.wpe.weight"][:n_pos]
    x = state["transformer.wte.weight"][tokens]
    x = x if config["d_pos_emb"] else x + positions
    for i in range(config["n_layer"]):
        layer = f"transformer.h.{i}"
        projected = linear(thin(read(x, layer, 1), "attn_in"), f"{layer}.attn.c_attn")
        q, k, v = (thin(part, f"attn_{name}") for name, part in zip("qkv", projected.chunk(3, dim=-1), strict=True))
        heads = []
        for head in range(n_head):
            own = slice(head * d_head, (head + 1) * d_head)
            scores = q[..., own] @ k[..., own].transpose(1, 2) / math.sqrt(d_head)
            weights = scores.masked_fill(torch.ones(n_pos, n_pos).triu(1).bool(), -torch.inf).exp()
            total = weights.sum(-1, keepdim=True)
            if config["sink"]:
                total = total + state[f"{layer}.attn.attn_imp.sink_logit"][head].exp()
            heads.append(weights / total @ v[..., own])
        written = thin(linear(torch.cat(heads, dim=-1), f"{layer}.attn.c_proj"), "attn_out")
        x = behind(x + written, "resid_post_attn")
        inner = linear(thin(read(x, layer, 2), "mlp_in"), f"{layer}.mlp.c_fc")
        inner = inner.relu() if config["activation_type"] == "relu" else 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))
        written = thin(linear(thin(inner, "mlp_neuron"), f"{layer}.mlp.c_proj"), "mlp_out")
        x = behind(x + written, "resid_post_mlp")
    logits = norm(x, "transformer.ln_f") @ state["lm_head.weight"].T + state["final_logits_bias"]
    return logits + state["bigram_table"][tokens] if config["enable_bigram_table"] else logits
