"""OpenAI's folders: every option set equals an independent evaluation; whatever does not fit is refused, and nothing is run."""

import io
import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers

from sparse_circuits.errors import UserError
from sparse_circuits.interop.openai import load_openai, load_tinypython
from sparse_circuits.model import load_model
from tests.interop.openai_folder import BASE, evaluate, made_state, write_folder

ALL_SITES = "attn_in,attn_q,attn_k,attn_v,attn_out,mlp_in,mlp_neuron,mlp_out"
OPTIONS = {
    "as released": {"sink": True, "enable_bigram_table": True, "afrac": 0.25, "afrac_loctypes": ALL_SITES},
    "plain": {},
    "sink": {"sink": True},
    "bigram": {"enable_bigram_table": True},
    "concatenated positions": {"d_pos_emb": 4},
    "tied": {"tied_unembed": True},
    "no biases": {"bias": False},
    "LayerNorm": {"rms_norm": False},
    "LayerNorm without bias": {"rms_norm": False, "ln_bias": False},
    "LayerNorm and positions": {"rms_norm": False, "d_pos_emb": 4},
    "relu": {"activation_type": "relu"},
    "residual relu": {"residual_activation_type": "relu"},
    "no AbsTopK": {"afrac": None},
    "AbsTopK on the stream": {"afrac_loctypes": "resid_post_attn,resid_post_mlp,mlp_neuron"},
    **{f"AbsTopK at {each}": {"afrac_loctypes": each} for each in ALL_SITES.split(",")},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_logits_are_those_of_the_specification(name: str, tmp_path: Path) -> None:
    config = BASE | OPTIONS[name]
    state = made_state(config)
    imported = load_openai(write_folder(tmp_path / "model", config, state))
    tokens = torch.randint(config["vocab_size"], (4, config["block_size"]))
    torch.testing.assert_close(imported.model(tokens), evaluate(config, state, tokens), rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in imported.model.parameters())


@pytest.mark.parametrize("said", [{"sink": None}, {"sink": True, "flash": False}])
def test_sinks_are_computed_whatever_the_config_says_of_flash(said: dict[str, Any], tmp_path: Path) -> None:
    config = BASE | {"sink": True}
    state = made_state(config)
    tokens = torch.randint(23, (2, 10))
    imported = load_openai(write_folder(tmp_path / "model", config, state, **said))
    torch.testing.assert_close(imported.model(tokens), evaluate(config, state, tokens), rtol=1e-5, atol=1e-5)


def test_a_causal_mask_is_no_weight_and_dropped_keys_are_named(tmp_path: Path) -> None:
    state = made_state(BASE) | {"transformer.h.0.attn.bias": torch.ones(1, 1, 10, 10).tril()}
    folder = write_folder(tmp_path / "model", BASE, state, pfrac=0.1, flash=False, mup=False, unembed_rank=None)
    imported = load_openai(folder)
    assert imported.dropped == {"pfrac": 0.1, "flash": False, "mup": False, "unembed_rank": None}
    said = imported.describe()
    assert "dropped pfrac = 0.1" in said and "layers.1.mlp.into.weight: 96 nonzeros" in said


def test_a_model_becomes_one_of_ours(tmp_path: Path) -> None:
    config = BASE | {"sink": True, "vocab_size": 270}
    folder = write_folder(tmp_path / "model", config, made_state(config))
    write_tokenizer(folder)
    imported = load_openai(folder)
    imported.save(tmp_path / "ours")
    tokens = torch.randint(270, (2, 10))
    torch.testing.assert_close(load_model(tmp_path / "ours").model(tokens), imported.model(tokens))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rms_norm": False}, "has LayerNorm, which our format does not hold"),
        ({"residual_activation_type": "relu"}, "has a residual relu, which our format does not hold"),
        ({}, "put OpenAI's vocab.bpe and encoder.json into the folder"),
    ],
)
def test_what_our_format_does_not_hold_is_not_saved(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    config = BASE | changes
    imported = load_openai(write_folder(tmp_path / "model", config, made_state(config)))
    with pytest.raises(UserError, match=says):
        imported.save(tmp_path / "ours")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"use_tied_aux_matrix": True}, 'sets "use_tied_aux_matrix" to True'),
        ({"n_layers": 3}, r'sets "n_layers" to 3 \(did you mean "n_layer"'),
        ({"n_layer": "two"}, "sets \"n_layer\" to 'two'"),
        ({"bias": 1}, 'sets "bias" to 1'),
        ({"activation_type": "silu"}, 'names "silu"'),
        ({"afrac_loctypes": "attn_in,attn_z"}, 'names "attn_z"'),
        ({"d_model": 16}, "of shape"),
        ({"n_layer": 3}, r"lacks layers\.2"),
        ({"n_layer": 1}, r"has transformer\.h\.1"),
        ({"d_pos_emb": 4}, r"lacks layers\.0"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(more: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        load_openai(write_folder(tmp_path / "model", BASE, made_state(BASE), **more))


class Code:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("content", [pickle.dumps(Code()), pickle.dumps({"a": 1}), b"", b"not a checkpoint"])
def test_files_that_are_no_checkpoint_run_nothing(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / "model", BASE, made_state(BASE))
    (folder / "final_model.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged or holds more than tensors|not a dictionary of tensors by name"):
        load_openai(folder)
    assert not (tmp_path / "ran").exists()


def test_a_state_of_other_things_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", BASE, made_state(BASE))
    stream = io.BytesIO()
    torch.save([torch.zeros(2)], stream)
    (folder / "final_model.pt").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match="not a dictionary of tensors by name"):
        load_openai(folder)
    (folder / "final_model.pt").unlink()
    with pytest.raises(UserError, match=r"final_model\.pt does not exist"):
        load_openai(folder)


def test_a_name_that_promises_other_nonzeros_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"promises 3\.7 million nonzeros"):
        load_openai(write_folder(tmp_path / "csp_sweep1_1x_3.7Mnonzero_afrac0.250", BASE, made_state(BASE)))


def test_mutations_of_a_valid_file_end_in_refusals_or_change_numbers_alone(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", BASE, made_state(BASE))
    whole = (folder / "final_model.pt").read_bytes()
    shapes = {name: p.shape for name, p in load_openai(folder).model.named_parameters()}
    draw, n_refused = random.Random(0), 0
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            place = draw.randrange(len(content))
            match draw.randrange(3):
                case 0:
                    content[place] ^= 1 << draw.randrange(8)
                case 1:
                    del content[place : place + draw.randint(1, 50)]
                case 2:
                    content[place:place] = draw.randbytes(draw.randint(1, 20))
        (folder / "final_model.pt").write_bytes(bytes(content))
        try:
            imported = load_openai(folder)
        except UserError:
            n_refused += 1
        else:  # a flipped bit of a number, or of what the archive's reader does not look at
            assert {name: p.shape for name, p in imported.model.named_parameters()} == shapes
    print(f"of 500 mutations {n_refused} refused, in the others a number changed at most")
    assert n_refused > 400


def write_tokenizer(folder: Path) -> None:
    """Write GPT-2's pair of files over the bytes: a few merges, ids that no token has, and the special one."""
    merged = ["re", "ret", "retu", "rn", "return", ")Ċ"]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *merged]
    encoder = {token: number for number, token in enumerate(tokens)} | {"<|endoftext|>": 269}
    (folder / "encoder.json").write_text(json.dumps(encoder))
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", "r e", "re t", "ret u", "r n", "retu rn", ") Ċ", ""]))


def test_the_tokenizer_of_two_files(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = load_tinypython(tmp_path, d_vocab=270)
    text = "return f(x)\n# déjà <|endoftext|>"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert (tokenizer.end_of_text, tokenizer.d_vocab) == (269, 270)
    assert max(ids) < 262  # neither the special token nor an id that no token has
    assert [tokenizer.token(each) for each in tokenizer.encode("return")] == ["return"]
    assert tokenizer.encode("(x)\n")[-1] == 261
    for content, says in (("{}", "do not fit"), ("[1]", "is no vocabulary"), ('{"a": 300}', "too many for a model")):
        (tmp_path / "encoder.json").write_text(content)
        with pytest.raises(UserError, match=says):
            load_tinypython(tmp_path, d_vocab=270)
