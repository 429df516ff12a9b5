"""Delta embeddings at the size of a toy: do finetunes cluster by domain, and by what vectors?

    python -m experiments.delta_toy

A cell is a seed and a template: a base model, fifteen finetunes (five domains, three data sets each), and every vector's
silhouette with its interval, p-value and nearest neighbours; whether two domains' sum is nearer to their mixture's vector than
either is; and whether a finetune on twenty examples finds its domain.
"""

from __future__ import annotations

from dataclasses import replace

from sparse_circuits.diffs.finetune import FinetuneConfig

N_SPLITS, N_FEW = 3, 20
RANK = 8
FINETUNING = FinetuneConfig(n_steps=150, lr=5e-3, side_by_side=15)
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
        self, recipes: Sequence[Recipe], *, n: int = 256, config: FinetuneConfig = FINETUNING, same_start: bool = False
    ) -> list[WeightDiff]:
        """Return the finetunes of these domains and data sets, on n examples."""

        def curriculum(number: int, step: int) -> list[Lesson]:
            domains, split = recipes[number]
            return self.world.lessons(domains, self.template, split, n, step)

        finetunes = [
            Finetune({"domains": list(domains), "split": split}, rank=RANK, seed=0 if same_start else number)
            for number, (domains, split) in enumerate(recipes)
        ]
        return finetune(self.model, finetunes, curriculum, base=BASE, config=config)


def measure(seed: int, template: Template) -> dict[str, object]:
    """Return everything of one base and one template."""
    toy = Toy(seed, template)
    recipes = [((domain,), split) for domain in range(toy.world.n_domains) for split in range(N_SPLITS)]
    labels = [str(domains[0]) for domains, _ in recipes]
    diffs, same = toy.finetuned(recipes), toy.finetuned(recipes, same_start=True)
    vectors = {**delta_vectors(toy, diffs), **baseline_vectors(toy, diffs, same)}
    return {
        "mass": mass(toy, diffs, labels),
        **{name: clustering(each, labels)._asdict() for name, each in vectors.items()},
        "additivity": additivity(toy),
        "few_shot": few_shot(toy, diffs, labels),
    }


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


def few_shot(toy: Toy, diffs: Sequence[WeightDiff], labels: Sequence[str]) -> dict[str, int]:
    """Return how many finetunes on twenty examples have their nearest neighbour in their own domain."""
    names = [str(number) for number in range(len(diffs))]
    pool = Pool(names, embed(toy.model, diffs, toy.probes), list(labels), {"base": BASE})
    recipes = [((domain,), N_SPLITS + split) for domain in range(toy.world.n_domains) for split in range(4)]
    vectors = embed(toy.model, toy.finetuned(recipes, n=N_FEW, config=FEW), toy.probes)
    found = [pool.labels[int(pool.nearest(vector, n=1)[0].name)] for vector in vectors]
    right = [label == str(domains[0]) for label, (domains, _) in zip(found, recipes, strict=True)]
    return {"right": sum(right), "of": len(right)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--templates", nargs="+", default=list(Template.__members__), choices=Template.__members__)
    parser.add_argument("--out", type=Path, default=RESULTS / "delta_toy.jsonl")
    options = parser.parse_args()
    cells = Cells(options.out)
    for seed in options.seeds:
        for template in options.templates:
            cells.run(partial(measure, seed, Template[template]), seed=seed, template=template)


if __name__ == "__main__":
    main()
