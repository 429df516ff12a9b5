"""From a model and a task to a circuit (Gao et al. 2025, appendix A.5) with its proof: the whole walk of this room.

1. Draw the task's pairs: train, validation, held-out.
2. Refuse a task that the model does not know, or that its bigram table answers alone.
3. Search (search.py): masks over nodes and edges on train pairs; sizes, calibration and clean-up on validation pairs.
4. On held-out pairs, hold everything against it that is known to fail where a circuit is not what the model uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path

import torch

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.card import Card
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.search import Found, Search, learn_side_by_side
from sparse_circuits.circuits.discovery.tune import EFFORT, TuneConfig, candidates
from sparse_circuits.circuits.evidence.controls import Nonsense, nonsense
from sparse_circuits.circuits.evidence.faithfulness import CardConfig, assess
from sparse_circuits.circuits.evidence.necessity import find_backups
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.means import Means, check_means
from sparse_circuits.circuits.nodes import count_nodes
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.circuits.spec import task_spec
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model import Transformer
from sparse_circuits.plain import to_plain
from sparse_circuits.run import Precision, choose_autocast
from sparse_circuits.tasks import PairBatch, Split, Task, encode_pairs, evaluate
from sparse_circuits.tasks.calibrate import MAX_SCALE, calibrate
from sparse_circuits.tasks.evaluate import KNOWN_ACCURACY, TARGET_LOSS, check_vocabulary


@dataclass(frozen=True)
class ExtractConfig:
    masks: MaskConfig = field(default_factory=MaskConfig)
    """Mask learning."""
    tune: TuneConfig = field(default_factory=TuneConfig)
    """How long to look for better hyper-parameters of mask learning."""
    card: CardConfig = field(default_factory=CardConfig)
    """What is held against the circuit."""
    target_loss: float = 0.1
    """What the calibrated circuit has to reach on validation pairs, in nats (the paper: 0.15; what is chosen on some pairs
    loses some hundredths on others)."""
    max_scale: float = MAX_SCALE
    """How much calibration may enlarge margins at most (the paper has no bound)."""
    knowledge_gate: bool = True
    """Refuse tasks that the model does not know, or that its bigram table answers alone."""
    n_train_pairs: int = 512
    """The pool that mask learning draws from."""
    n_validation_pairs: int | None = None
    """Pairs that choose sizes, calibration and clean-up; None: as many as the budget stands for."""
    n_held_out_pairs: int | None = None
    """Pairs of the card; None: as many as the budget stands for."""
    precision: Precision = Precision.auto
    """Autocast's dtype while masks are learned; everything measured is in the model's own."""
    seed: int = 0
    """Seed of pairs, masks and controls."""

    def __post_init__(self) -> None:
        if not self.target_loss > 0 or not 0 < self.max_scale < float("inf"):
            raise UserError(f"target_loss is {self.target_loss}, max_scale {self.max_scale}: give numbers above 0.")
        check_counts(vars(self), "n_train_pairs", "n_validation_pairs", "n_held_out_pairs")


def extract(
    model: Transformer,
    task: Task,
    tokenizer: Tokenizer,
    means: Means,
    *,
    config: ExtractConfig | None = None,
    storage: Path | None = None,
) -> Circuit:
    """Find the circuit that a model uses for a task: of several searches the fewest edges among those that pass every check.

    Args:
        model: the sparse model, on its device.
        task: the question.
        tokenizer: the model's.
        means: the model's.
        config: how to search; None: the defaults.
        storage: sqlite file of the tuning's trials, which an interrupted tuning goes on with.

    Raises:
        UserError: the means or the tokenizer belong to another model, the model does not know the task, its bigram table
            alone does, no set of nodes reaches the target, or none at all does.
    """
    config = config or ExtractConfig()
    search = prepare_search(model, task, tokenizer, means, config=config)
    attempts = [search.with_masks(masks) for masks in candidates(search, config.tune, storage=storage)]
    circuits = []
    for circuit in _circuits(attempts, task, tokenizer, config):
        circuits.append(circuit)
        if circuit.card.holds:
            break
    if not circuits:
        raise UserError(
            f"No set of nodes brings {task.name} to a loss of {config.target_loss} on validation pairs: raise target_loss."
        )
    best = min(circuits, key=lambda circuit: len(circuit.card.failed))
    return best if best.card["necessity"].passes else _with_backups(best, search.pairs.held_out)


def _circuits(attempts: list[Search], task: Task, tokenizer: Tokenizer, config: ExtractConfig) -> Iterator[Circuit]:
    """Yield what the searches find, with their cards: the fewest edges first, then that search again at half the target."""
    effort = EFFORT[config.tune.budget]
    kinds = effort.controls if config.card.controls is None else config.card.controls
    draws = {name: getattr(config.card, name) or getattr(effort, name) for name in ("n_random", "n_partial")}
    card = replace(config.card, **draws, controls=list(kinds))
    config = replace(config, card=card)

    @cache
    def controls(masks: MaskConfig) -> Nonsense:
        return nonsense(attempts[0].with_masks(masks), tokenizer, kinds=card.controls, n_controls=card.n_controls)

    def must_fail(attempt: Search) -> Iterator[Search]:
        return chain.from_iterable(controls(attempt.config).values())

    # Of several attempts few come to their controls.
    learn_side_by_side([*attempts, *(must_fail(attempts[0]) if len(attempts) == 1 else [])])
    for halvings in range(1 + effort.n_halvings):
        attempts = [attempt.aiming(config.target_loss / 2**halvings) for attempt in attempts]
        runs = [(attempt, found) for attempt in attempts if (found := attempt.run())]
        runs.sort(key=lambda run: len(run[1].subgraph.edges))
        for attempt, found in runs:
            if not found.subgraph.nodes:
                raise UserError(
                    f"{task.name} is answered with every node ablated, so there is no circuit: choose another task."
                )
            learn_side_by_side(must_fail(attempt))
            assessed = assess(attempt, found, controls(attempt.config), config=card)
            yield _circuit(attempt, found, assessed, task, tokenizer, config)
        attempts = [attempt for attempt, _ in runs[:1]]


def _circuit(search: Search, found: Found, card: Card, task: Task, tokenizer: Tokenizer, config: ExtractConfig) -> Circuit:
    # The recipe says what was done, whatever a budget stands for some day.
    counts = {"n_validation_pairs": search.pairs.validation.n_pairs, "n_held_out_pairs": search.pairs.held_out.n_pairs}
    done = {"masks": search.config, "target_loss": search.target_loss, **counts}
    return Circuit(
        model=search.model,
        tokenizer=tokenizer,
        means=search.means,
        nodes=found.subgraph.nodes,
        edges=found.subgraph.edges,
        calibration=found.calibration,
        task=task_spec(task, search.pairs, seed=config.seed),
        card=card,
        recipe=to_plain(replace(config, **done)),
        merges=list(found.subgraph.merges),
    )


def _with_backups(circuit: Circuit, batch: PairBatch) -> Circuit:
    """Name on the card what answers where the circuit does not."""
    backups = [str(node) for node in find_backups(circuit, batch).nodes]
    return replace(circuit, card=replace(circuit.card, backups=backups))


def prepare_search(
    model: Transformer,
    task: Task,
    tokenizer: Tokenizer,
    means: Means,
    *,
    config: ExtractConfig,
) -> Search:
    """Draw a task's pairs and return the search for its circuit; arguments and errors as for `extract`."""
    check_means(means, model)
    device = model.embed.weight.device
    check_vocabulary(model, tokenizer, device=device)
    pairs = draw_splits(task, tokenizer, config, max_tokens=model.config.n_ctx, device=device)
    if config.knowledge_gate:
        refuse_unfit(model, task, pairs.validation, means, config=config)
    return Search(
        model,
        pairs,
        means,
        config.masks,
        target_loss=config.target_loss,
        max_scale=config.max_scale,
        seed=config.seed,
        autocast=choose_autocast(config.precision, device),
    )


def draw_splits(task: Task, tokenizer: Tokenizer, config: ExtractConfig, *, max_tokens: int, device: torch.device) -> TaskPairs:
    """Draw the task's pairs of every split, their prompts no longer than the model reads."""

    effort = EFFORT[config.tune.budget]

    def draw(split: Split, n_pairs: int) -> PairBatch:
        pairs = encode_pairs(task, tokenizer, split=split, n_pairs=n_pairs, seed=config.seed, max_tokens=max_tokens)
        return pairs.to(device)

    return TaskPairs(
        train=draw(Split.train, config.n_train_pairs),
        validation=draw(Split.validation, config.n_validation_pairs or effort.n_validation_pairs),
        held_out=draw(Split.held_out, config.n_held_out_pairs or effort.n_held_out_pairs),
    )


@torch.no_grad()
def refuse_unfit(model: Transformer, task: Task, validation: PairBatch, means: Means, *, config: ExtractConfig) -> None:
    """Refuse a task in which there is no circuit to find.

    Raises:
        UserError: the bigram table, with every node ablated, reaches the target; or the model does not know the task.
    """
    no_node = torch.zeros(count_nodes(model.config), dtype=torch.bool)
    margin = answer_margins(model, validation, taps=ablation_taps(no_node, means, model.config))
    alone = score(calibrate(margin, max_scale=config.max_scale)(margin))
    if alone.loss <= config.target_loss:
        raise UserError(
            f"{task.name} is a bigram task: with every node ablated the bigram table alone reaches a loss of {alone.loss:.3f} "
            "once calibrated, so there is no circuit to find; choose another task."
        )
    whole = evaluate(model, validation)
    if not whole.known:
        raise UserError(
            f"The model does not know {task.name} (loss {whole.loss:.3f}, accuracy {whole.accuracy:.3f} on validation pairs; "
            f"known: under {TARGET_LOSS} and at least {KNOWN_ACCURACY}): train it longer, or choose another task."
        )
