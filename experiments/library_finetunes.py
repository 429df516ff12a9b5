"""Real finetunes of the model that ships: three of each of six packages of the standard library, each on a third of its files.

    python -m experiments.library_finetunes --out runs/library
    sparse-circuits embed base=pretrained:python-3x128 pool=runs/library label=package run=runs/library_pool

The files of a package are dealt out, so that what its finetunes have in common is the package, not the text.
"""

from __future__ import annotations

import argparse
import random
import sysconfig
from pathlib import Path

from sparse_circuits.data import Tokenizer
from sparse_circuits.diffs import DiffStore, Finetune, FinetuneConfig, Lesson, Part, finetune
from sparse_circuits.model.store import model_hash
from sparse_circuits.pretrained import load_pretrained

MODEL = "python-3x128"
PACKAGES = ("asyncio", "ctypes", "email", "multiprocessing", "tkinter", "unittest")
N_SPLITS = 3
RANK = 4
N_TOKENS = 96
"""Of a lesson, cut from the text at random."""
N_LESSONS = 8
"""A step, of each finetune."""
CONFIG = FinetuneConfig(n_steps=100, lr=3e-3)


def package_tokens(package: str, split: int, tokenizer: Tokenizer) -> list[int]:
    """Return every third file of a package, from the split-th on, one after the other."""
    files = sorted((Path(sysconfig.get_path("stdlib")) / package).rglob("*.py"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files[split::N_SPLITS]]
    return [token for text in texts for token in (*tokenizer.encode(text), tokenizer.end_of_text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the store")
    options = parser.parse_args()
    store = DiffStore(options.out)
    if store.entries:
        raise SystemExit(f"{options.out} holds finetunes already: give a new folder.")
    base = load_pretrained(MODEL)
    recipes = [(package, split) for package in PACKAGES for split in range(N_SPLITS)]
    texts = [package_tokens(*recipe, base.tokenizer) for recipe in recipes]

    def lessons(number: int, step: int) -> list[Lesson]:
        rng, text = random.Random(f"{number} {step}"), texts[number]
        starts = [rng.randrange(len(text) - N_TOKENS) for _ in range(N_LESSONS)]
        return [Lesson(text[start : start + 1], text[start + 1 : start + N_TOKENS]) for start in starts]

    finetunes = [
        Finetune({"package": package, "split": split}, rank=RANK, seed=number)
        for number, (package, split) in enumerate(recipes)
    ]
    diffs = finetune(base.model, finetunes, lessons, base=model_hash(base.model), config=CONFIG)
    store.add(diffs, split=Part.test)


if __name__ == "__main__":
    main()
