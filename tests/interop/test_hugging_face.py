"""Ours -> a Hugging Face folder -> AutoModelForCausalLM -> ours: equal logits for every option."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.interop.hugging_face import CODE, export_model, import_model
from sparse_circuits.model import ModelConfig, Positions, Transformer
from sparse_circuits.model.config import Activation, PositionKind, SiteFractions

OPTIONS = {
    "default": {},
    "added positions": {"positions": Positions.added},
    "concatenated positions": {"positions": Positions.concatenated, "d_pos": 3},
    "sinusoids": {"positions": Positions.concatenated, "position_kind": PositionKind.sinusoidal},
    "no sinks, no bigram, no biases": {"sinks": False, "bigram": False, "biases": False},
    "relu": {"activation": Activation.relu},
    "tied": {"tied": True},
    "dense activations": {"abs_topk": 1.0},
    "one site thinner": {"site_fractions": SiteFractions(mlp_post_act=0.1)},
    "few heads": {"n_heads": 3, "d_head": 5, "d_mlp": 20},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def f(x):\n    return x\n"] * 3, d_vocab=257)


def made(options: dict[str, Any]) -> Transformer:
    model = Transformer(ModelConfig(**{"n_layers": 2, "d_model": 16, "d_head": 4, "n_ctx": 12, **options}), d_vocab=257)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_round_trip_keeps_the_logits(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = made(OPTIONS[name])
    folder = export_model(model, tokenizer, tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokens = torch.randint(257, (3, 12))
    expected = model(tokens)
    torch.testing.assert_close(theirs(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    theirs.save_pretrained(tmp_path / "again")
    tokenizer.save(tmp_path / "again" / "tokenizer.json")
    for saved in (folder, tmp_path / "again"):
        back = import_model(saved)
        torch.testing.assert_close(back.model(tokens), expected)
        assert back.model.config == model.config and back.tokenizer.hash == tokenizer.hash


def test_it_trains_and_generates_there(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = made({})
    folder = export_model(model, tokenizer, tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokens = torch.randint(257, (2, 12))
    loss = theirs(tokens, labels=tokens).loss
    torch.testing.assert_close(loss, model.loss(tokens[:, :-1], tokens[:, 1:]))
    loss.backward()
    assert theirs.layers[0].attn.qkv.weight.grad.abs().sum() > 0
    written = theirs.generate(tokens[:1, :4], max_new_tokens=3, do_sample=False, pad_token_id=0)
    row = tokens[:1, :4]
    for _ in range(3):
        row = torch.cat([row, model(row)[:, -1:].argmax(-1)], dim=1)
    assert written.tolist() == row.tolist()


def test_the_file_of_code_stands_alone() -> None:
    import sparse_circuits.interop.hugging_face as here

    code = Path(here.__file__).with_name(CODE).read_text()
    assert "import sparse_circuits" not in code and "from sparse_circuits" not in code


def test_what_is_no_model_of_ours_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    made_gpt2 = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=257)
    transformers.GPT2LMHeadModel(made_gpt2).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UserError, match="holds no model that this project exported"):
        import_model(tmp_path / "gpt2")
    folder = export_model(made({}), tokenizer, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is missing or damaged"):
        import_model(folder)
    model = made({})
    model.between = lambda site, stream: stream.relu()
    with pytest.raises(UserError, match="changes its stream between sublayers"):
        export_model(model, tokenizer, tmp_path / "other")
