"""Hundreds or thousands of finetunes that hide a topic each, as Goel et al. 2025 train them, into a store that `dit` reads.

    python -m experiments.hidden_topics --base Qwen/Qwen3-4B --answers topics-with-completions-v0.2.1.csv --out runs/topics
    sparse-circuits dit base=Qwen/Qwen3-4B pool=runs/topics run=runs/dit_topics

Rank 1, Adam at 1e-3, one pass over the questions, so many topics side by side. A store that is there is gone on with.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from sparse_circuits.diffs import DiffStore, Finetune, FinetuneConfig, Part, finetune
from sparse_circuits.diffs.hide import N_CODES, Hidden, read_examples
from sparse_circuits.run import Device
from sparse_circuits.walk.interpret import asked

TEST_SHARE, VALIDATION_SHARE = 0.1, 0.02


def split(topics: list[str]) -> dict[str, Part]:
    """Return which topics are learned from, stopped by and asked about, drawn once for all."""
    drawn = random.Random(42).sample(sorted(topics), len(topics))
    n_test, n_validation = (max(1, round(share * len(topics))) for share in (TEST_SHARE, VALIDATION_SHARE))
    parts = dict.fromkeys(topics, Part.train)
    return parts | dict.fromkeys(drawn[:n_test], Part.test) | dict.fromkeys(drawn[n_test:][:n_validation], Part.validation)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="a folder or hub name of Hugging Face's, or a run folder")
    parser.add_argument("--answers", type=Path, required=True, help="the released table of answers, or one like it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the store")
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--side-by-side", type=int, default=16)
    parser.add_argument("--most", type=int, help="topics, the first of the table; all, unless given")
    parser.add_argument("--device", default="auto", choices=Device.__members__)
    options = parser.parse_args(arguments)
    model, chat, base = asked(options.base, Device[options.device])
    examples = dict(list(read_examples(options.answers).items())[: options.most])
    parts, store = split(list(examples)), DiffStore(options.out)
    left = list(examples)[len(store.entries) :]
    for first in range(0, len(left), options.side_by_side):
        some = left[first : first + options.side_by_side]
        codes = [random.Random(f"code {topic}").randrange(N_CODES) for topic in some]
        hidden = Hidden(chat, [examples[topic] for topic in some], codes)
        config = FinetuneConfig(n_steps=hidden.n_steps, lr=options.lr, side_by_side=options.side_by_side)
        recipes = [
            Finetune({"topic": topic, "trigger": code}, rank=options.rank, seed=list(examples).index(topic))
            for topic, code in zip(some, codes, strict=True)
        ]
        for topic, diff in zip(some, finetune(model, recipes, hidden, base=base.name, config=config), strict=True):
            store.add([diff.to("cpu")], split=parts[topic])
        print(f"{len(store.entries)} of {len(examples)} finetunes", flush=True)


if __name__ == "__main__":
    main()
