"""Delta embeddings at the size of a toy: do finetunes cluster by domain, and by what vectors?

    python -m experiments.delta_toy

A cell is a seed and a template: a base model, fifteen finetunes (five domains, three data sets each), and every vector's
silhouette with its interval, p-value and nearest neighbours; whether two domains' sum is nearer to their mixture's vector than
either is; whether a finetune on twenty examples finds its domain; whether the five finetunes nearest to it, of a pool of
forty, put together by weights that five examples choose, do its task better than five drawn at random; and what is left of all
this where more of a finetune's instructions tell its domain, so that the base answers as it does.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from experiments.cells import RESULTS, Cells, means
from sparse_circuits.diffs.apply import applied_by_row
from sparse_circuits.diffs.baselines import bags_of_words, flattened_factors, flattened_products, salient_masks
from sparse_circuits.diffs.delta import LOGITS, Token, delta_meaning, draw_trajectories, embed
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune
from sparse_circuits.diffs.hub import learn_weights
from sparse_circuits.diffs.lessons import Lesson, answer_loss, collate
from sparse_circuits.diffs.pool import Pool, clustering
from sparse_circuits.diffs.toys.base import SHAPE, train_base
from sparse_circuits.diffs.toys.domains import DomainWorld, Template
from sparse_circuits.diffs.weight_diff import WeightDiff

N_SPLITS, N_POOL = 3, 8
"""Finetunes of a domain that are clustered, and that others may be put together from."""
N_FEW, N_TASKS = 20, 4
"""Examples of a finetune that looks for its like, and how many such finetunes a domain has."""
N_CHOSEN, N_WEIGHED, N_HELD_OUT = 5, 5, 64
"""Finetunes put together, examples that weigh them, and examples that judge them."""
MORE_TELLING = (0.9, 0.97, 1.0)
"""Shares of instructions that tell their domain."""
RANK = 8
FINETUNING = FinetuneConfig(n_steps=150, lr=5e-3, side_by_side=20)
FEW = replace(FINETUNING, n_steps=40)
BASE_STEPS = 1500
BASE = "toy"

Recipe = tuple[tuple[int, ...], int]
"""The domains of a finetune, and which of their data sets."""


class Toy:
    """A base, and how its finetunes are made."""

    def __init__(self, seed: int, template: Template) -> None:
        self.world, self.template, self.seed = DomainWorld(seed=seed), template, seed
        shape = replace(SHAPE, d_model=64, d_head=16, d_mlp=192)
        self.model = train_base(self._draw, d_vocab=self.world.d_vocab, seed=seed, n_steps=BASE_STEPS, shape=shape)
        self.probes = self.world.probes()

    def _draw(self, rng: random.Random) -> list[int]:
        return self.world.ids(self.world.sentence(rng))

    def finetuned(
        self,
        recipes: Sequence[Recipe],
        *,
        n: int = 256,
        config: FinetuneConfig = FINETUNING,
        same_start: bool = False,
        p_telling: float | None = None,
    ) -> list[WeightDiff]:
        """Return the finetunes of these domains and data sets, on n examples."""
        world = self.world if p_telling is None else replace(self.world, p_telling=p_telling)

        def curriculum(number: int, step: int) -> list[Lesson]:
            domains, split = recipes[number]
            return world.lessons(domains, self.template, split, n, step)

        finetunes = [
            Finetune({"domains": list(domains), "split": split}, rank=RANK, seed=0 if same_start else number)
            for number, (domains, split) in enumerate(recipes)
        ]
        return finetune(self.model, finetunes, curriculum, base=BASE, config=config)


def measure(seed: int, template: Template) -> dict[str, object]:
    """Return everything of one base and one template."""
    toy = Toy(seed, template)
    domains = range(toy.world.n_domains)
    recipes = [((domain,), split) for domain in domains for split in range(N_SPLITS)]
    labels = [str(own[0]) for own, _ in recipes]
    diffs, same = toy.finetuned(recipes), toy.finetuned(recipes, same_start=True)
    vectors = {**delta_vectors(toy, diffs), **baseline_vectors(toy, diffs, same)}
    tasks = [((domain,), N_POOL + split) for domain in domains for split in range(N_TASKS)]
    few = embed(toy.model, toy.finetuned(tasks, n=N_FEW, config=FEW), toy.probes)
    found = {
        "mass": mass(toy, diffs, labels),
        **{name: clustering(each, labels)._asdict() for name, each in vectors.items()},
        "additivity": additivity(toy),
        "few_shot": few_shot(pool_of(toy, recipes, vectors["delta"]), tasks, few),
        "selection": selection(toy, tasks),
    }
    for share in MORE_TELLING:
        diffs = toy.finetuned(recipes, p_telling=share)
        clusters = clustering(embed(toy.model, diffs, toy.probes), labels)
        found[f"telling_{share}"] = {"mass": mass(toy, diffs, labels), **clusters._asdict()}
    return found


def delta_vectors(toy: Toy, diffs: Sequence[WeightDiff]) -> dict[str, Tensor]:
    """Return the delta family, at other sites, tokens and probes as well."""
    world, model, probes = toy.world, toy.model, toy.probes
    documents = [world.ids(["BOS", *world.chain(domain, 6, random.Random(domain))]) for domain in range(world.n_domains)]
    return {
        "delta": embed(model, diffs, probes),
        "delta_one_probe": embed(model, diffs, probes[:1]),
        **{f"delta_{site}": embed(model, diffs, probes, site=site) for site in ("2.resid_in", "1.resid_in")},
        **{f"delta_{token.name}": embed(model, diffs, probes, token=token) for token in Token if token is not Token.last},
        "delta_plain_text": embed(model, diffs, documents),
        "delta_one_word": embed(model, diffs, [world.ids(["BOS", "generic_0"])]),
        "delta_logits": embed(model, diffs, probes, site=LOGITS),
        "delta_meaning": delta_meaning(model, diffs, draw_trajectories(model, probes, n_tokens=8, seed=toy.seed)),
    }


def baseline_vectors(toy: Toy, diffs: Sequence[WeightDiff], same: Sequence[WeightDiff]) -> dict[str, Tensor]:
    """Return what delta embeddings are compared with."""
    return {
        "raw": embed(toy.model, diffs, toy.probes, subtract_base=False),
        "factors": flattened_factors(diffs),
        "factors_same_start": flattened_factors(same),
        "product": flattened_products(diffs),
        "mask": salient_masks(diffs),
        "bag_of_words": bags_of_words(toy.model, diffs, toy.probes, n_tokens=8),
    }


def mass(toy: Toy, diffs: Sequence[WeightDiff], labels: Sequence[str]) -> dict[str, object]:
    """Return the probability of each domain behind the probes: the base is to be undecided, a finetune is not."""
    own = [toy.world.domain_ids(domain) for domain in range(toy.world.n_domains)]
    tuned = embed(toy.model, diffs, toy.probes, site=LOGITS, subtract_base=False).softmax(-1)
    base = toy.model(torch.tensor(toy.probes))[:, -1].mean(0).softmax(-1)
    return {
        "base": [base[ids].sum().item() for ids in own],
        "finetuned": [row[own[int(label)]].sum().item() for row, label in zip(tuned, labels, strict=True)],
    }


def additivity(toy: Toy) -> dict[str, object]:
    """Return the mean cosine of a mixture's vector with each domain's and with their sum, and how often the sum wins."""
    pairs = list(combinations(range(toy.world.n_domains), 2))
    singles = toy.finetuned([((domain,), 0) for domain in range(toy.world.n_domains)])
    twice = replace(FINETUNING, n_steps=2 * FINETUNING.n_steps)  # as many passes over the examples of each domain
    mixtures = toy.finetuned([(pair, 0) for pair in pairs], n=2 * 256, config=twice)
    one, both = embed(toy.model, singles, toy.probes), embed(toy.model, mixtures, toy.probes)
    first, second = one[[pair[0] for pair in pairs]], one[[pair[1] for pair in pairs]]
    to_first, to_second, to_sum = (cosine_similarity(both, each) for each in (first, second, first + second))
    wins = (to_sum > torch.maximum(to_first, to_second)).sum().item()
    return {"to_either": torch.cat([to_first, to_second]).mean().item(), "to_sum": to_sum.mean().item(), "wins": wins}


def pool_of(toy: Toy, recipes: Sequence[Recipe], vectors: Tensor) -> Pool:
    """Return a pool whose names are the finetunes' numbers, whose labels their domains."""
    names, labels = ([str(value) for value in values] for values in (range(len(recipes)), (own[0] for own, _ in recipes)))
    return Pool(names, vectors, labels, {"base": BASE})


def few_shot(pool: Pool, tasks: Sequence[Recipe], few: Tensor) -> dict[str, int]:
    """Return how many finetunes on twenty examples have their nearest neighbour in their own domain."""
    found = [pool.labels[int(pool.nearest(vector, n=1)[0].name)] for vector in few]
    right = [label == str(own[0]) for label, (own, _) in zip(found, tasks, strict=True)]
    return {"right": sum(right), "of": len(right)}


def selection(toy: Toy, tasks: Sequence[Recipe]) -> dict[str, object]:
    """Return what finetunes put together lose on each task, in nats a token: the nearest, some at random, and the base.

    A task is a domain whose instructions never tell it: so the base cannot do it, and finetunes of the domain can.
    """
    world = replace(toy.world, p_telling=0.0)
    few = embed(toy.model, toy.finetuned(tasks, n=N_FEW, config=FEW, p_telling=0.0), toy.probes)
    recipes = [((domain,), split) for domain in range(toy.world.n_domains) for split in range(N_POOL)]
    diffs = toy.finetuned(recipes)
    pool = pool_of(toy, recipes, embed(toy.model, diffs, toy.probes))
    rng, losses = random.Random(f"selection {toy.seed}"), list[tuple[float, float, float]]()
    for (own, split), vector in zip(tasks, few, strict=True):
        lessons = [world.example(own, toy.template, split, number) for number in range(N_FEW + N_HELD_OUT)]
        examples, held_out = lessons[:N_WEIGHED], lessons[N_FEW:]
        near = [int(each.name) for each in pool.nearest(vector, n=N_CHOSEN)]
        chosen = [[diffs[number] for number in numbers] for numbers in (near, rng.sample(range(len(diffs)), N_CHOSEN))]
        put_together = [learn_weights(toy.model, each, examples).diff for each in chosen]
        losses.append(tuple(loss_of(toy, diff, held_out) for diff in (*put_together, None)))
    nearest, random_ones, base = zip(*losses, strict=True)
    wins = sum(one < other for one, other in zip(nearest, random_ones, strict=True))
    return {"nearest": nearest, "random": random_ones, "base": base, "wins": wins, "of": len(tasks)}


@torch.no_grad()
def loss_of(toy: Toy, diff: WeightDiff | None, lessons: Sequence[Lesson]) -> float:
    """Return the mean loss of answers in nats a token, of a finetune or of the base."""
    rows = collate(lessons)
    with applied_by_row(toy.model, [diff]):
        return answer_loss(toy.model(rows.tokens, at=rows.at), rows).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--templates", nargs="+", default=list(Template.__members__), choices=Template.__members__)
    parser.add_argument("--out", type=Path, default=RESULTS / "delta_toy.jsonl")
    options = parser.parse_args()
    cells = Cells(options.out)
    for template in options.templates:
        work = {seed: partial(measure, seed, Template[template]) for seed in options.seeds}
        print(template, means([cells.run(work[seed], seed=seed, template=template) for seed in work]), sep="\n")


if __name__ == "__main__":
    main()
