"""Bridge training from config to files, through the one training loop."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

import torch
from rich.console import Console

from sparse_circuits.bridges.bigram import BigramCounts
from sparse_circuits.bridges.bridge import BRIDGE_FILE, Bridge, pair_sites, save_bridge
from sparse_circuits.bridges.evaluate import BridgeScores, evaluate_bridge
from sparse_circuits.bridges.load import Bridged, check_tokenizers, load_dense
from sparse_circuits.bridges.losses import BridgeConfig
from sparse_circuits.bridges.step import BridgeStep
from sparse_circuits.data import DataConfig, Dataset, Loader, Tokenizer, prepare, validation_batches
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense
from sparse_circuits.model.store import model_hash
from sparse_circuits.plain import to_plain
from sparse_circuits.run import choose_autocast, rank, write_json
from sparse_circuits.sparsity import Anneal, l0_counts, sparse_budgets
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.export import Trained
from sparse_circuits.training.pretrain import pretrain

SCORES_FILE = "bridge.json"
BIGRAM_TOKENS = 5_000_000


def train_bridge(
    config: TrainConfig,
    folder: Path,
    *,
    dense: str,
    bridge: BridgeConfig,
    start: Trained | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> tuple[Bridged, BridgeScores]:
    """Train a sparse model together with a bridge to a dense one, and measure it.

    Args:
        config: as for pretraining; the corpus is read with the dense model's tokenizer.
        folder: the run folder; beside what pretraining leaves it will hold bridge.safetensors and bridge.json.
        dense: the dense model: a run folder, or a folder or hub name of Hugging Face's.
        bridge: weights of the losses, and what is joined.
        start: a trained sparse model to go on with, sparse from the first step; None: a fresh one.
        resume: go on with the run that the folder holds.
        console: where the progress line goes; None: nowhere.

    Returns:
        Both models with the bridge, and the scores on validation text.

    Raises:
        UserError: the models cannot be joined, the start has more nonzeros than the budget, a fixed support was asked for,
            or what pretraining refuses; before any work.
        Interrupted: after Ctrl-C or SIGTERM, when the run has been saved.

    Source: Gao et al. 2025, section 2.3 and appendix A.3.
    """
    if config.sparsity.support_every != 1:
        raise UserError(
            f"sparsity.support_every is {config.sparsity.support_every}, but beside a bridge nonzeros are chosen at every step:"
            " leave it at 1."
        )
    theirs = load_dense(dense)
    if start is not None:
        check_tokenizers(start.tokenizer, theirs.tokenizer)
        config = replace(config, model=start.model.config, sparsity=replace(config.sparsity, anneal=Anneal.none))
        check_start(start.model, config)
    check_models(config, theirs.model, theirs.tokenizer, bridge)
    config = replace(config, data=with_tokenizer(config.data, theirs.tokenizer, folder))
    steps: list[BridgeStep] = []

    def begin(config: TrainConfig, d_vocab: int, device: torch.device) -> BridgeStep:
        sparse = Transformer(config.model, d_vocab=d_vocab).to(device)
        if start is not None:
            sparse.load_state_dict(start.model.state_dict())
        between = new_bridge(sparse, theirs.model.to(device), bridge).to(device)
        autocast = choose_autocast(config.precision, device)
        steps.append(BridgeStep(sparse, theirs.model, between, config, bridge, autocast=autocast))
        return steps[0]

    checkpoint = None if start is None else model_hash(start.model)
    begun_with = {"dense": dense, "bridge": bridge, "checkpoint": checkpoint}
    trained = pretrain(config, folder, resume=resume, begin=begin, begun_with=begun_with, console=console)
    (step,) = steps
    between = step.bridge.eval().requires_grad_(False)
    scores = measure(trained.model, theirs.model, between, prepare(config.data), config)
    if rank() == 0:
        save_bridge(between, folder / BRIDGE_FILE, sparse_hash=model_hash(trained.model), dense=dense)
        write_json(folder / SCORES_FILE, to_plain(scores))
    return Bridged(trained.model, theirs.model, between, trained.tokenizer), scores


def check_start(model: Transformer, config: TrainConfig) -> None:
    """Refuse a model to go on with that the first step would prune.

    Raises:
        UserError: it has more nonzeros than the budget.
    """
    budgets = sparse_budgets(model, config.sparsity).values()
    own, kept = sum(l0_counts(model).values()), sum(budget.target for budget in budgets)
    if own > kept:
        share = ceil(1e4 * own / sum(budget.size for budget in budgets)) / 1e4
        raise UserError(
            f"The model to go on with has {own:,} nonzeros, and the budget is {kept:,}: raise l0_fraction to {share:.4g}."
        )


def check_models(config: TrainConfig, dense: Dense, tokenizer: Tokenizer, bridge: BridgeConfig) -> None:
    """Refuse models that cannot be joined, on a sparse one without storage.

    Raises:
        UserError: layers do not match, or the sparse model reads more tokens than the dense one.
    """
    with torch.device("meta"):
        pair_sites(Transformer(config.model, d_vocab=tokenizer.d_vocab), dense, bridge.site_map)
    if config.model.n_ctx > dense.config.n_ctx:
        raise UserError(
            f"The sparse model reads {config.model.n_ctx} tokens and the dense one {dense.config.n_ctx}: set model.n_ctx to"
            f" {dense.config.n_ctx} or less."
        )


def with_tokenizer(config: DataConfig, tokenizer: Tokenizer, folder: Path) -> DataConfig:
    """Return the corpus as read with this tokenizer, which is kept in the run folder.

    Raises:
        UserError: the corpus was to be read with another, or the folder holds another.
    """
    if config.tokenizer is not None:
        check_tokenizers(Tokenizer.load(config.tokenizer), tokenizer)
    path = folder / "tokenizer.json"
    if path.exists():
        if Tokenizer.load(path).hash != tokenizer.hash:
            raise UserError(f"{path} is another dense model's: choose another run folder, or remove it.")
    elif rank() == 0:
        tokenizer.save(path)
    return replace(config, tokenizer=path, d_vocab=tokenizer.d_vocab)


def new_bridge(sparse: Transformer, dense: Dense, config: BridgeConfig) -> Bridge:
    """Return a bridge that says next to nothing yet."""
    return Bridge(
        pair_sites(sparse, dense, config.site_map),
        d_sparse=sparse.config.d_model,
        d_dense=dense.config.d_model,
        encoder_fraction=config.encoder_fraction,
    )


def measure(sparse: Transformer, dense: Dense, bridge: Bridge, dataset: Dataset, config: TrainConfig) -> BridgeScores:
    """Return what a bridge reaches on validation text."""
    size = {"batch_size": config.batch_size, "n_ctx": config.model.n_ctx}
    loader = Loader(dataset.train, **size, seed=0)
    n_batches = -(-min(BIGRAM_TOKENS, len(dataset.train)) // config.tokens_per_step)
    rows = torch.cat([loader.next_batch() for _ in range(n_batches)])
    batches = list(validation_batches(dataset.validation, **size, n_batches=config.evaluation_batches))
    counts = BigramCounts(rows, d_vocab=dataset.tokenizer.d_vocab)
    autocast = choose_autocast(config.precision, sparse.embed.weight.device)
    return evaluate_bridge(sparse, dense, bridge, batches, bigram_loss=counts.loss(batches), autocast=autocast)
