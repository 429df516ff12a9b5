"""Make the model of a run one that comes with the package, and say what rounding its bigram table costs.

    python -m experiments.ship RUN NAME --step 1600

Of a run, or of the step whose checkpoint it kept: what knows most tasks need not be the end (experiments/README.md).
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from experiments.at_step import at_step
from sparse_circuits.circuits import measure_means
from sparse_circuits.data import DataConfig, Loader, prepare, validation_batches
from sparse_circuits.plain import from_plain
from sparse_circuits.pretrained import FOLDER, Pretrained, halve_bigram_, write_pretrained
from sparse_circuits.run import read_json
from sparse_circuits.subject import MEANS_TOKENS
from sparse_circuits.training.evaluate import validation_loss
from sparse_circuits.training.export import load_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--step", type=int, help="of the checkpoint to take; the end, unless given")
    options = parser.parse_args()
    config = read_json(options.run / "run.json")["config"]
    dataset = prepare(from_plain(DataConfig, config["data"]))
    tokenizer = dataset.tokenizer
    model = load_trained(options.run).model if options.step is None else at_step(options.run, options.step, tokenizer)
    batches = list(validation_batches(dataset.validation, batch_size=32, n_ctx=model.config.n_ctx))
    before = validation_loss(model, batches, autocast=nullcontext)
    halve_bigram_(model)
    after = validation_loss(model, batches, autocast=nullcontext)
    means = measure_means(model, Loader(dataset.train, batch_size=32, n_ctx=model.config.n_ctx, seed=0), n_tokens=MEANS_TOKENS)
    tokenizer_file = config["data"]["tokenizer"]
    # Of files only the names: where they were kept is nobody's business.
    config["data"] |= {"folder": DataConfig().folder.name, "tokenizer": tokenizer_file and Path(tokenizer_file).name}
    about = {"config": config, "step": options.step, "validation_loss": after, "validation_loss_float32": before}
    path = FOLDER / f"{options.name}.safetensors"
    write_pretrained(Pretrained(model, tokenizer, means, about), path)
    n_nonzero = sum(int(w.count_nonzero()) for name, w in model.named_parameters() if name != "bigram")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {n_nonzero:,} nonzero weights beside the bigram table")
    print(f"validation loss {before:.5f} with the bigram table in float32, {after:.5f} in float16")


if __name__ == "__main__":
    main()
