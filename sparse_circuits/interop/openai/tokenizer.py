"""The `tinypython` vocabulary, from GPT-2's pair of files: encoder.json (token to id) and vocab.bpe (merges, in order)."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from sparse_circuits.data import Tokenizer
from sparse_circuits.data.tokenizer import END_OF_TEXT
from sparse_circuits.errors import UserError
from sparse_circuits.run import read_json

PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
"""How text is cut before merges."""
UNUSED = "<|unused {}|>"


def load_tinypython(folder: Path, *, d_vocab: int) -> Tokenizer:
    """Load OpenAI's tokenizer from a folder with vocab.bpe and encoder.json.

    The last id is end_of_text; an id below it that no token has is filled with one that no text ever encodes to.

    Args:
        d_vocab: ids of the model.

    Raises:
        UserError: a file is missing or damaged, or there are more tokens than ids.
    """
    folder = Path(folder)
    encoder = read_json(folder / "encoder.json")
    if not isinstance(encoder, dict) or not all(isinstance(each, int) for each in encoder.values()):
        raise UserError(f"{folder / 'encoder.json'} is no vocabulary (token to id): download it again.")
    try:
        lines = (folder / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'vocab.bpe'} could not be read ({error}): download it again.") from error
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    if any(len(merge) != 2 for merge in merges):
        raise UserError(f"{folder / 'vocab.bpe'} holds a line that is no pair: download it again.")
    vocabulary = {token: each for token, each in encoder.items() if token != END_OF_TEXT}
    if len(vocabulary) >= d_vocab or max(vocabulary.values(), default=0) >= d_vocab - 1:
        raise UserError(f"{folder / 'encoder.json'} has {len(vocabulary):,} tokens, too many for a model of {d_vocab:,} ids.")
    taken = set(vocabulary.values())
    vocabulary |= {UNUSED.format(each): each for each in range(d_vocab - 1) if each not in taken}
    try:
        backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    except Exception as error:  # the library raises nothing more precise
        raise UserError(f"The merges of {folder} do not fit its vocabulary ({error}): download both again.") from error
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer.from_json(json.dumps(json.loads(backend.to_str())))
