"""Every family of Hugging Face's models, small and of random weights: the same logits, true sites, passes from each."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from families import D_VOCAB, made
from torch import Tensor

from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.dense import FAMILIES, HuggingFace, norm_at
from sparse_circuits.model.hugging_face import load_hugging_face, load_tokenizer
from sparse_circuits.model.sites import residual_sites


@pytest.fixture(params=FAMILIES)
def lm(request: pytest.FixtureRequest) -> torch.nn.Module:
    return made(request.param)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(D_VOCAB, (3, 9))


def recorded(model: HuggingFace, tokens: Tensor) -> dict[str, Tensor]:
    values = {}
    taps = {site: lambda value, site=site: values.setdefault(site, value) for site in residual_sites(model.config)}
    model(tokens, taps=taps)
    return values


def test_logits_are_the_librarys(lm: torch.nn.Module, tokens: Tensor) -> None:
    expected = lm(tokens).logits
    model = HuggingFace(lm)
    torch.testing.assert_close(model(tokens), expected)
    torch.testing.assert_close(lm(tokens).logits, expected)  # and its own passes stay what they were
    last = torch.tensor([2, 8, 5])
    torch.testing.assert_close(model(tokens, at=last), expected[torch.arange(3), last])


def test_a_pass_from_any_site_ends_as_the_whole_one(lm: torch.nn.Module, tokens: Tensor) -> None:
    model = HuggingFace(lm)
    whole = model(tokens)
    values = recorded(model, tokens)
    assert list(values) == residual_sites(model.config)
    for site, value in values.items():
        torch.testing.assert_close(model.run_from(site, value, tokens=tokens), whole)
    changed = model.run_from("1.resid_mid", values["1.resid_mid"] + 1, tokens=tokens)
    tapped = model(tokens, taps={"1.resid_mid": lambda value: value + 1})
    torch.testing.assert_close(changed, tapped)
    assert not torch.allclose(changed, whole)


def test_rows_that_join_on_the_way_run_as_if_alone(lm: torch.nn.Module, tokens: Tensor) -> None:
    model = HuggingFace(lm)
    early, late = torch.randn(2, 3, 9, 16)
    taps = {"1.resid_in": lambda x: torch.cat([x, late])}
    joined = model.run_from("0.resid_mid", early, tokens=tokens.repeat(2, 1), taps=taps)
    alone = [model.run_from("0.resid_mid", early, tokens=tokens), model.run_from("1.resid_in", late, tokens=tokens)]
    torch.testing.assert_close(joined, torch.cat(alone))


def test_what_a_sublayer_reads_is_the_normalised_stream(lm: torch.nn.Module, tokens: Tensor) -> None:
    model = HuggingFace(lm)
    values, read = recorded(model, tokens), {}
    model(tokens, taps={"1.mlp.act_in": lambda value: read.setdefault("1.mlp.act_in", value)})
    stream, norm = values["1.resid_mid"], norm_at(model, "1.resid_mid")
    if norm.is_centred:
        stream = stream - stream.mean(-1, keepdim=True)
        offset = model.norm_before("1.resid_mid").bias
    else:
        offset = 0
    by_hand = stream / stream.square().mean(-1, keepdim=True).sqrt() * norm.gain + offset
    torch.testing.assert_close(read["1.mlp.act_in"], by_hand, rtol=1e-3, atol=1e-4)
    without = model(tokens, taps={"1.attn.act_in": torch.zeros_like})
    assert not torch.allclose(without, model(tokens))


def test_weights_are_frozen_and_gradients_pass_through(lm: torch.nn.Module, tokens: Tensor) -> None:
    model = HuggingFace(lm)
    value = torch.randn(3, 9, 16, requires_grad=True)
    model.run_from("0.resid_in", value, tokens=tokens).square().mean().backward()
    assert value.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_padded_logits_are_cut_to_the_tokenizers(tokens: Tensor) -> None:
    assert HuggingFace(made("gpt2"), d_vocab=50)(tokens % 50).shape == (3, 9, 50)


def test_our_own_norms_have_their_gain() -> None:
    model = Transformer(ModelConfig(n_layers=1, d_model=16), d_vocab=20)
    model.layers[0].mlp.reader.norm.gain.data.fill_(3.0)
    assert norm_at(model, "0.resid_mid").gain.eq(3).all()
    assert norm_at(model, "final_resid").gain.eq(1).all()


def test_bad_input(tokens: Tensor, tmp_path: Path) -> None:
    model = HuggingFace(made("gpt2"))
    with pytest.raises(UserError, match=r'cannot start at "0\.resid_min" \(did you mean "0\.resid_in"'):
        model.run_from("0.resid_min", torch.zeros(3, 9, 16), tokens=tokens)
    with pytest.raises(UserError, match=r'no site "0\.attn\.q"'):
        model(tokens, taps={"0.attn.q": torch.zeros_like})
    with pytest.raises(UserError, match="do not fit the model's n_ctx = 24"):
        model(torch.zeros(1, 25, dtype=torch.long))
    with pytest.raises(UserError, match='sublayers of the family "bloom" are not known'):
        HuggingFace(transformers.AutoModelForCausalLM.from_config(transformers.BloomConfig(hidden_size=16, n_head=2)))
    with pytest.raises(UserError, match="could not be loaded"):
        load_hugging_face(str(tmp_path))


def test_a_saved_folder_loads(tmp_path: Path, tokens: Tensor) -> None:
    lm = made("gpt2")
    lm.save_pretrained(tmp_path)
    tokenizer = Tokenizer.train(["def f(x):\n    return x\n"] * 3, d_vocab=257)
    tokenizer.save(tmp_path / "tokenizer.json")
    model, text = load_hugging_face(str(tmp_path))
    torch.testing.assert_close(model(tokens), lm(tokens).logits)
    assert Tokenizer.from_json(text).hash == tokenizer.hash


@pytest.mark.parametrize("load", [load_hugging_face, load_tokenizer])
def test_without_the_library_that_is_all_that_is_said(load: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"^Models of Hugging Face need transformers: pip install sparse-circuits\[hf\]\.$"):
        load("gpt2")
