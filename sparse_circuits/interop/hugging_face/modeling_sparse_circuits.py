"""A weight-sparse transformer for `transformers`, complete in this file: GPT-2's wiring with RMSNorm, AbsTopK at every node
site (Gao et al. 2025, appendix A.1), attention sinks, and a bigram table beside the logits.

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

EPS = torch.finfo(torch.float32).eps


class SparseCircuitsConfig(PreTrainedConfig):
    """The shape; `kept` says how many channels AbsTopK leaves at each kind of node site."""

    model_type = "sparse_circuits"

    def __init__(
        self,
        vocab_size: int = 2048,
        n_layers: int = 2,
        d_model: int = 128,
        n_ctx: int = 128,
        n_heads: int = 8,
        d_head: int = 16,
        d_mlp: int = 512,
        activation: str = "gelu",
        d_added_positions: int = 0,
        d_read_positions: int = 0,
        sinks: bool = True,
        bigram: bool = True,
        biases: bool = True,
        kept: dict[str, int] | None = None,
        **kwargs,
    ):
        self.vocab_size, self.n_layers, self.d_model, self.n_ctx = vocab_size, n_layers, d_model, n_ctx
        self.n_heads, self.d_head, self.d_mlp, self.activation = n_heads, d_head, d_mlp, activation
        self.d_added_positions, self.d_read_positions = d_added_positions, d_read_positions
        self.sinks, self.bigram, self.biases, self.kept = sinks, bigram, biases, kept or {}
        self.hidden_size, self.num_hidden_layers, self.max_position_embeddings = d_model, n_layers, n_ctx
        kwargs = {"tie_word_embeddings": False, "use_cache": False, **kwargs}
        super().__init__(**kwargs)


def abs_topk(x, k):
    """Keep the k entries of largest absolute value of each row, and of equal ones the first."""
    if k >= x.shape[-1]:
        return x
    order = x.abs().argsort(dim=-1, descending=True, stable=True)[..., :k]
    return torch.zeros_like(x).scatter(-1, order, x.gather(-1, order))


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.gain.shape, self.gain, EPS)


class Positions(nn.Module):
    """A table of position vectors."""

    def __init__(self, n_ctx, width):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(n_ctx, width))


class Reader(nn.Module):
    """What a sublayer reads: the normalised stream, beside it the normalised positions, thinned."""

    def __init__(self, config, kept):
        super().__init__()
        self.norm = Norm(config.d_model)
        self.position_norm = Norm(config.d_read_positions) if config.d_read_positions else None
        self.kept = kept

    def forward(self, x, positions):
        x = self.norm(x)
        if self.position_norm is not None:
            x = torch.cat([x, self.position_norm(positions).expand(*x.shape[:-1], -1)], dim=-1)
        return abs_topk(x, self.kept)


class Attention(nn.Module):
    """Causal attention whose every head may attend to nothing, by its sink."""

    def __init__(self, config):
        super().__init__()
        d_attn, self.n_heads, kept = config.n_heads * config.d_head, config.n_heads, config.kept
        self.reader = Reader(config, kept["attn.act_in"])
        self.qkv = nn.Linear(config.d_model + config.d_read_positions, 3 * d_attn, bias=config.biases)
        self.out = nn.Linear(d_attn, config.d_model, bias=config.biases)
        self.sink = nn.Parameter(torch.zeros(config.n_heads)) if config.sinks else None
        self.kept = [kept[f"attn.{name}"] for name in "qkv"]
        self.kept_out = kept["attn.resid_delta"]

    def forward(self, x, positions):
        parts = self.qkv(self.reader(x, positions)).chunk(3, dim=-1)
        parts = [abs_topk(part, kept) for part, kept in zip(parts, self.kept, strict=True)]
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        weights = scores.softmax(-1)
        if self.sink is not None:  # softmax over the scores and the sink, whose value is zero
            weights = weights * (scores.logsumexp(-1) - self.sink[:, None]).sigmoid()[..., None]
        return abs_topk(self.out((weights @ v).transpose(1, 2).flatten(2)), self.kept_out)


class MLP(nn.Module):
    """Neurons."""

    def __init__(self, config):
        super().__init__()
        self.reader = Reader(config, config.kept["mlp.act_in"])
        self.into = nn.Linear(config.d_model + config.d_read_positions, config.d_mlp, bias=config.biases)
        self.out = nn.Linear(config.d_mlp, config.d_model, bias=config.biases)
        self.activation = {"gelu": F.gelu, "relu": F.relu}[config.activation]
        self.kept, self.kept_out = config.kept["mlp.post_act"], config.kept["mlp.resid_delta"]

    def forward(self, x, positions):
        neurons = abs_topk(self.activation(self.into(self.reader(x, positions))), self.kept)
        return abs_topk(self.out(neurons), self.kept_out)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attn, self.mlp = Attention(config), MLP(config)

    def forward(self, x, positions):
        x = x + self.attn(x, positions)
        return x + self.mlp(x, positions)


class SparseCircuitsForCausalLM(PreTrainedModel, GenerationMixin):
    """The model with its logits."""

    config_class = SparseCircuitsConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        width = config.d_added_positions or config.d_read_positions
        self.positions = Positions(config.n_ctx, width) if width else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = Norm(config.d_model)
        self.unembed = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.bigram = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size)) if config.bigram else None
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return self.unembed

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids[:, -self.config.n_ctx :]}

    def forward(self, input_ids, labels=None, **kwargs):
        """Return logits, and with labels the loss; rows are read whole, so they must not be padded on the left."""
        x, positions = self.embed(input_ids), None
        if self.positions is not None:
            positions = self.positions.table[: input_ids.shape[1]]
        if self.config.d_added_positions:
            x = x + positions
        for layer in self.layers:
            x = layer(x, positions if self.config.d_read_positions else None)
        logits = self.unembed(self.norm(x)).float()
        if self.bigram is not None:
            logits = logits + self.bigram[input_ids]
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
