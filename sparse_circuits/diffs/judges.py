"""Which judge grades answers, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch

from sparse_circuits.diffs.judge import Endpoint, Judge, by_encoder, by_words
from sparse_circuits.errors import UserError
from sparse_circuits.model.hugging_face import load_encoder

KEY_VARIABLE = "JUDGE_API_KEY"


class JudgeKind(Enum):
    """words: what two texts share of their letters; encoder: a sentence encoder of this machine; endpoint: any model."""

    words = "words"
    encoder = "encoder"
    endpoint = "endpoint"


@dataclass(frozen=True)
class JudgeConfig:
    kind: JudgeKind = JudgeKind.words
    """Who grades answers from 1 to 5; exact matches stand beside that in any case."""
    encoder: Path | None = None
    """Folder of a sentence encoder that transformers loads."""
    url: str | None = None
    """Address that speaks OpenAI's chat completions, up to /chat/completions; its key is read from JUDGE_API_KEY."""
    model: str = ""
    """The model there."""

    def __post_init__(self) -> None:
        needs = {JudgeKind.encoder: ("encoder", self.encoder), JudgeKind.endpoint: ("url", self.url)}
        name, value = needs.get(self.kind, ("", "given"))
        if not value:
            raise UserError(f"judge.kind={self.kind.name} needs judge.{name}: give it, or judge.kind=words.")


def judge_of(config: JudgeConfig, *, kept: Path) -> Judge:
    """Return a judge.

    Args:
        config: which.
        kept: file of what an endpoint has said, so that it is not asked again.

    Raises:
        UserError: there is no such encoder.
    """
    if config.kind is JudgeKind.encoder:
        encode = load_encoder(config.encoder)
        return by_encoder(lambda texts: torch.stack([encode(text) for text in texts]).numpy())
    if config.kind is JudgeKind.endpoint:
        return Endpoint(config.url, config.model, kept, key=os.environ.get(KEY_VARIABLE))
    return by_words
