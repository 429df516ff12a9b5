"""Byte-level BPE: text to token ids and back, without loss.

The split pattern is GPT-4's, as in the released `tinypython` vocabulary. It decides which merges can exist at all, and
several tasks read their answer from such a merge (`")\\n`, `]]\\n`, `=None`). One deviation: GPT-4's rule for English
contractions is left out; a word takes the sign before it anyhow (`n't` = `n`, `'t`), and in code the rule would cut
`f'data'` after its `'d`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from sparse_circuits.errors import UserError
from sparse_circuits.run import replacing

END_OF_TEXT = "<|endoftext|>"
ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")
"""What separates documents in the vocabularies of ours, GPT-2 and Qwen; of Llama 3; of Llama 2 and Mistral; of Gemma."""
MIN_D_VOCAB = 257  # the 256 bytes and end_of_text

SPLIT_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word with the space or sign before it
        r"\p{N}{1,3}",  # digits by threes, without their space
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # punctuation, which swallows the newlines after it
        r"\s*[\r\n]+",  # blank lines
        r"\s+(?!\S)",  # an indent, less its last space, which goes to the next word
        r"\s+",
    ]
)


class Tokenizer:
    """A trained vocabulary; in ours end_of_text is the last id, and no text ever encodes to it."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.encode_special_tokens = True  # read "<|endoftext|>" in a document as ordinary text
        self._backend = backend

    @classmethod
    def train(cls, texts: Iterable[str], *, d_vocab: int = 2048) -> Tokenizer:
        """Learn a vocabulary of `d_vocab` ids; fewer, when `texts` hold too few pairs to merge.

        Raises:
            UserError: `d_vocab` has no room for the 256 bytes and end_of_text.
        """
        check_d_vocab(d_vocab)
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(SPLIT_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=d_vocab - 1,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        backend.add_special_tokens([END_OF_TEXT])
        return cls(backend)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read what `to_json` wrote.

        Raises:
            UserError: `text` is no tokenizer, or one without an end_of_text token.
        """
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing more precise
            raise UserError(f"This is no tokenizer that `tokenizers` can read ({error}): train it again.") from error
        if all(backend.token_to_id(end) is None for end in ENDS_OF_TEXT):
            raise UserError(
                f"This tokenizer has no token that ends a text ({', '.join(ENDS_OF_TEXT)}): use one trained by this project."
            )
        return cls(backend)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            UserError: the file is missing or broken.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"Could not load the tokenizer {path}: {error}") from error

    def to_json(self) -> str:
        """Return the whole tokenizer as one JSON text, for a model or circuit file to carry."""
        return self._backend.to_str()

    def save(self, path: Path) -> None:
        """Write `tokenizer.json` atomically."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, with nothing added."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, encoded on all cores."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; bytes that are no UTF-8 become the replacement character."""
        return self._backend.decode(list(ids), skip_special_tokens=False)

    def token(self, token_id: int) -> str:
        """Return the text of one token."""
        return self.decode([token_id])

    @cached_property
    def d_vocab(self) -> int:
        """Rows an embedding needs: the largest id and one."""
        return max(self._backend.get_vocab().values()) + 1

    @cached_property
    def end_of_text(self) -> int:
        """Id that separates documents."""
        ids = map(self._backend.token_to_id, ENDS_OF_TEXT)
        return next(token_id for token_id in ids if token_id is not None)

    @cached_property
    def hash(self) -> str:
        """Hex SHA-256 of the vocabulary in order of id, which is the same whichever library version wrote the file."""
        vocabulary = sorted(self._backend.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()


def check_d_vocab(d_vocab: int) -> None:
    """Refuse a vocabulary without room for every byte."""
    if d_vocab < MIN_D_VOCAB:
        raise UserError(f"d_vocab is {d_vocab}, but 256 bytes and end_of_text need {MIN_D_VOCAB}: raise d_vocab.")
