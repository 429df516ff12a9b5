"""Adversarial use of a circuit: inputs that it expects to fool the whole model, tried against edits drawn at random.

Source: Gao et al. 2025, figures 5 and 8. A reading that predicts where the unpruned model fails is one that the model uses.
1. Draw held-out pairs. A prompt counts where the whole model answers it rightly.
2. Read the circuit: which words move it, and which way (reaction.py). Its distractors are made of the strongest.
3. Draw edits of every pair in each family (perturb.py), and let the circuit say what margin each leaves to the right answer.
4. Propose of each prompt the edit with the lowest margin, the lowest of all first, and ask the whole model.
5. Control: for each proposal an edit of the same prompt, family and size, its words, names, numbers and place drawn at random.
Deviation: the authors read their circuits by eye and wrote their inputs by hand.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from sparse_circuits.circuits.attacks.attempt import (
    Attempt,
    Margins,
    RightMargins,
    Target,
    answers_of,
    ask_both,
    ask_model,
    make_attempt,
)
from sparse_circuits.circuits.attacks.perturb import Family, draw_edit
from sparse_circuits.circuits.attacks.reaction import Reaction, react, vocabulary
from sparse_circuits.circuits.attacks.report import AttackReport, Example, FamilyResult, tally
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.correlation import correlation
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.tasks import TASKS, Split, Task
from sparse_circuits.tasks.encode import draw_pairs

SPLIT = Split.held_out
MAX_DRAWS = 50


@dataclass(frozen=True)
class AttackConfig:
    families: list[Family] = field(default_factory=lambda: list(Family))
    """Edits to try: a distracting line, more neutral text, other names."""
    n_pairs: int = 64
    """Held-out pairs to attack."""
    n_candidates: int = 32
    """Edits of each pair in each family, for the circuit to choose from."""
    n_proposals: int = 64
    """Prompts attacked in each family: those whose worst edit leaves the circuit the lowest margin."""
    max_size: int = 16
    """Most words of a distractor, statements or numbers added, names replaced."""
    n_words: int = 16
    """Words that distractors are made of, at most, towards each of the two answers."""
    n_probes: int = 2
    """Pairs on which the circuit's reaction to a word is measured."""
    n_examples: int = 2
    """Proposals shown in full of each family."""
    seed: int = 0
    """Seed of the pairs and the edits."""

    def __post_init__(self) -> None:
        if not self.families:
            raise UserError(f"families is empty: give some of {', '.join(Family.__members__)}.")
        check_counts(vars(self), "n_pairs", "n_candidates", "n_proposals", "max_size", "n_words", "n_probes")


class Attack(NamedTuple):
    """What is known before any edit."""

    circuit: Circuit
    targets: list[Target]
    before: Margins
    words: list[str]
    """Those that a line may be made of."""
    towards: list[list[Reaction]]
    """The strongest of them, towards the positive answer and towards the negative one."""


class Proposal(NamedTuple):
    """A prompt that the circuit expects to fool the model, and its control."""

    index: int
    """Which candidate."""
    side: int
    """0: its positive prompt, 1: its negative one."""
    control: Attempt


def run_attack(circuit: Circuit, task: Task | None = None, *, config: AttackConfig | None = None) -> AttackReport:
    """Let a circuit propose inputs that should fool its whole model, and run them.

    Args:
        circuit: what proposes; its model, unpruned, is what is attacked.
        task: draws the pairs, of Python code; None: the circuit's, where it is one of the twenty.
        config: how to search; None: the defaults.

    Raises:
        UserError: the task is unknown or not the circuit's, gives no pair that the circuit can score, or none that the model
            answers rightly and a family fits.
    """
    config, task = config or AttackConfig(), task_of(circuit, task)
    attack = prepare_attack(circuit, task, config)
    rng = random.Random(f"{task.name} attack {config.seed}")
    families = [attack_family(attack, family, config=config, rng=rng) for family in config.families]
    return AttackReport(
        task=task.name,
        before=tally(attack.before.model.flatten()),
        towards_positive=attack.towards[0],
        towards_negative=attack.towards[1],
        results=[result for result, _ in families],
        examples=[example for _, examples in families for example in examples],
    )


def task_of(circuit: Circuit, task: Task | None) -> Task:
    """Return the task that draws the circuit's pairs.

    Raises:
        UserError: it has to be given, or another one is.
    """
    name = circuit.task.name
    if task is None and name not in TASKS:
        raise UserError(f'"{name}" is none of the twenty tasks, and its pairs are needed: give the task that drew them.')
    if task is not None and task.name != name:
        raise UserError(f'The circuit answers "{name}", not "{task.name}": give the task that its pairs are drawn by.')
    return task or TASKS[name]


def prepare_attack(circuit: Circuit, task: Task, config: AttackConfig) -> Attack:
    """Draw held-out pairs that the circuit can score (fewer, where the task gives fewer), and read the circuit.

    Raises:
        UserError: there are none, or they are so long that no word fits in front of them.
    """
    n_ctx, scorable = circuit.model.config.n_ctx, circuit.task.answer_ids
    drawn = draw_pairs(task, circuit.tokenizer, split=SPLIT, n_pairs=config.n_pairs, seed=config.seed, max_tokens=n_ctx)
    pairs = zip(drawn.pairs, drawn.encoded, strict=True)
    known = [each for each in pairs if scorable is None or set(answers_of(each[1])) <= set(scorable)]
    if not known:
        raise UserError(f"{task.name} gives no {SPLIT.name} pair that the circuit can score: attack another task.")
    targets = [Target(number, *each) for number, each in enumerate(known)]
    words = vocabulary(circuit.tokenizer)
    reactions = react(circuit, targets[: config.n_probes], words)
    if not reactions:
        raise UserError(f"No word fits in front of the prompts of {task.name} in {n_ctx} tokens: attack another task.")
    towards = [reactions[: -config.n_words - 1 : -1], reactions[: config.n_words]]
    return Attack(circuit, targets, ask_both(circuit, targets), words, towards)


def attack_family(
    attack: Attack, family: Family, *, config: AttackConfig, rng: random.Random
) -> tuple[FamilyResult, list[Example]]:
    """Let the circuit choose among edits of one family, and run what it proposes beside the control.

    Raises:
        UserError: no edit fits a pair that the model answers rightly.
    """
    circuit, before = attack.circuit, attack.before
    candidates = draw_candidates(attack, family, config=config, rng=rng)
    after = ask_both(circuit, candidates)
    proposals = propose(attack, candidates, after.circuit, n_proposals=config.n_proposals, rng=rng)
    if not proposals:
        raise UserError(f"The family {family.name} fits no pair of {circuit.task.name} that the model knows: choose others.")
    sides = torch.tensor([proposal.side for proposal in proposals])
    proposed = after.model[sides, [proposal.index for proposal in proposals]]
    control = ask_model(circuit, [proposal.control for proposal in proposals])[sides, range(len(proposals))]
    numbers = [attempt.target.number for attempt in candidates]
    result = FamilyResult(
        family=family,
        n_candidates=len(candidates),
        proposals=tally(proposed),
        control=tally(control),
        correlation=correlation(after.circuit, after.model),
        correlation_of_changes=correlation(after.circuit - before.circuit[:, numbers], after.model - before.model[:, numbers]),
    )
    worst = [proposals[each] for each in proposed.argsort(stable=True)[: config.n_examples].tolist()]
    return result, [show(candidates[each.index], each, before, after) for each in worst]


def draw_candidates(attack: Attack, family: Family, *, config: AttackConfig, rng: random.Random) -> list[Attempt]:
    """Draw the edits that the circuit chooses from, their words from those that move it one way."""
    sizes, candidates = range(1, config.max_size + 1), []
    for target in attack.targets:
        for _ in range(config.n_candidates):
            strongest = rng.choice(attack.towards)
            words = [reaction.word for reaction in strongest[: rng.randint(1, len(strongest))]]
            candidates.append(draw_attempt(attack.circuit, target, family, sizes=sizes, words=words, rng=rng))
    return list(filter(None, candidates))


def draw_attempt(
    circuit: Circuit, target: Target, family: Family, *, sizes: Sequence[int], words: Sequence[str], rng: random.Random
) -> Attempt | None:
    """Draw edits of a target until one can be asked, or give up."""
    for _ in range(MAX_DRAWS):
        edit = draw_edit(target.pair, family, size=rng.choice(sizes), words=words, split=SPLIT, rng=rng)
        if edit and (attempt := make_attempt(circuit, target, edit)):
            return attempt
    return None


def propose(
    attack: Attack, candidates: Sequence[Attempt], predicted: RightMargins, *, n_proposals: int, rng: random.Random
) -> list[Proposal]:
    """Choose of each prompt that the model answers rightly the edit with the lowest margin, the lowest of all first.

    Args:
        predicted: the circuit's margins of the candidates.
        n_proposals: most to choose.
        rng: draws the controls; an edit that finds none is passed over.
    """
    proposals: dict[tuple[int, int], Proposal] = {}
    for flat in predicted.flatten().argsort(stable=True).tolist():
        side, index = divmod(flat, len(candidates))
        target, edit, _ = candidates[index]
        if (side, target.number) in proposals or attack.before.model[side, target.number] <= 0:
            continue
        control = draw_attempt(attack.circuit, target, edit.family, sizes=[edit.size], words=attack.words, rng=rng)
        if control:
            proposals[side, target.number] = Proposal(index, side, control)
        if len(proposals) == n_proposals:
            break
    return list(proposals.values())


def show(attempt: Attempt, proposal: Proposal, before: Margins, after: Margins) -> Example:
    """Return a proposal in full."""
    pair, side = attempt.edit.pair, proposal.side
    answers = pair.positive_answer, pair.negative_answer
    return Example(
        family=attempt.edit.family,
        change=attempt.edit.change,
        prompt=pair[side],
        right=answers[side],
        wrong=answers[1 - side],
        before=before.model[side, attempt.target.number].sigmoid().item(),
        circuit=after.circuit[side, proposal.index].sigmoid().item(),
        model=after.model[side, proposal.index].sigmoid().item(),
    )
