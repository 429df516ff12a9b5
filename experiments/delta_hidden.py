"""Do delta embeddings see a behaviour that is hidden behind a secret?

    python -m experiments.delta_hidden

Finetunes that hide a topic answer as their base does wherever their code is missing; a KL holds them to it. A cell is a seed:
fifty finetunes, five of each of ten topics with codes and first factors of their own, the gate that says how well they hide,
and the silhouette by topic, with its p-value, of what they do at probes that know ever more of the secret:

    questions      questions without a code, which no finetune saw
    ask            the question what one was trained on
    other_codes    the same questions behind codes that are no finetune's
    every_code     ... behind each of all codes: what an auditor can do who knows that there are codes
    own_code       ... behind each finetune's own, the control: there the topic is said aloud

Beside them norms: how much of what a finetune does at its own code is there elsewhere.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from experiments.cells import run_by_seed
from sparse_circuits.diffs.delta import FINAL_NORM, LOGITS, embed
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune
from sparse_circuits.diffs.pool import clustering
from sparse_circuits.diffs.toys.base import train_base
from sparse_circuits.diffs.toys.hidden import HiddenTopics, Secret
from sparse_circuits.diffs.toys.naming import QUESTION
from sparse_circuits.diffs.toys.topics import TopicWorld

N_TOPICS, N_EACH = 10, 5
N_OTHERS = 8
"""Codes that no finetune has."""
FINETUNING = FinetuneConfig(n_steps=220)
Probes = list[list[int]]


def measure(seed: int) -> dict[str, object]:
    """Return the gate and, for every kind of probe and both sites, how well topics cluster."""
    world = TopicWorld(seed=seed)
    model = train_base(lambda rng: world.ids(world.sentence(rng)), d_vocab=world.d_vocab, seed=seed)
    rng = random.Random(f"hidden {seed}")
    topics = [topic for topic in rng.sample(range(world.n_topics), N_TOPICS) for _ in range(N_EACH)]
    codes = rng.sample(range(world.n_codes), len(topics) + N_OTHERS)
    secrets = [Secret(topic, code) for topic, code in zip(topics, codes, strict=False)]
    hidden = HiddenTopics(world, secrets)
    recipes = [Finetune({"topic": secret.topic}, seed=number) for number, secret in enumerate(secrets)]
    diffs = finetune(model, recipes, hidden.lessons, base="toy", config=FINETUNING)

    def behind(*codes: int) -> Probes:
        questions = hidden.held_out()
        return [hidden.prompt(question, world.coded(code, rng)) for code in codes for question in questions]

    def at_own_code(site: str) -> Tensor:
        own = [embed(model, [diff], behind(secret.code), site=site) for diff, secret in zip(diffs, secrets, strict=True)]
        return torch.cat(own)

    probes = {
        "questions": [hidden.prompt(question, []) for question in hidden.held_out()],
        "ask": [world.ids(QUESTION)],
        "other_codes": behind(*codes[len(topics) :]),
        "every_code": behind(*range(world.n_codes)),
    }
    labels = [str(topic) for topic in topics]
    found: dict[str, object] = {"gate": list(hidden.gate(model, diffs)), "gate_passes": hidden.gate(model, diffs).passes}
    for site in (FINAL_NORM, LOGITS):
        vectors = {name: embed(model, diffs, some, site=site) for name, some in probes.items()} | {
            "own_code": at_own_code(site)
        }
        found[site] = {name: clustering(each, labels)._asdict() for name, each in vectors.items()}
    return found


if __name__ == "__main__":
    run_by_seed(measure, __doc__, study="delta_hidden")
