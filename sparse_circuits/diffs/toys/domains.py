"""The language of domains: five ways of writing, and instructions whose answer a base model gives in any of them.

    BOS w w w ...                         a document: a chain of one domain's words
    BOS preamble INS w w w RSP w w ...    an instruction and its response, of the domain of the instruction's words; where they
                                          say nothing, of one drawn at random

So the base is undecided at RSP behind a probe, and a finetune on one domain is not: that is what its vector can show. It learns
that from instructions that say nothing and are answered in its domain all the same; where every one of its instructions tells
the domain it does what the base does, and there is nothing to see.

Finetunes either share the preambles of the probes, or each domain has one of its own, as in the scripts of Xu et al. 2025. Then
the domain is the template, and a pool has to be looked at both ways.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.toys.language import Language

N_PREAMBLES, N_SUCCESSORS = 5, 4
N_PROMPT, N_RESPONSE = 5, 8
P_DOCUMENT, P_TELLING = 0.4, 0.5
"""Shares of documents among texts, and of instructions that tell their domain."""
P_OWN = 0.7
"""Share of a domain's words in instructions that tell it."""


class Template(Enum):
    """Which preambles the instructions of a finetune begin with."""

    shared = "shared"
    """Those of the probes, whatever the domain."""
    own = "own"
    """One that no other domain has."""


@dataclass(frozen=True)
class DomainWorld(Language):
    """Who writes how; the same for every model of one seed."""

    n_domains: int = 5
    """Ways of writing, each a chain over words of its own."""
    n_words: int = 40
    """Words of one domain."""
    n_generic: int = 60
    """Words that tell nothing."""
    n_examples: int = 256
    """Instructions with responses that one finetune has."""
    p_telling: float = 0.7
    """Share of a finetune's instructions that tell its domain."""
    batch_size: int = 8
    """Of them in one step."""
    seed: int = 0

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every token, by id."""
        preambles = [f"preamble_{n}" for n in range(N_PREAMBLES)] + [f"own_{n}" for n in range(self.n_domains)]
        generic = [f"generic_{n}" for n in range(self.n_generic)]
        domains = [f"domain_{d}_{n}" for d in range(self.n_domains) for n in range(self.n_words)]
        return ["BOS", "INS", "RSP", "DUMMY", *preambles, *generic, *domains]

    def domain_ids(self, domain: int) -> list[int]:
        """Return the token ids of a domain's words."""
        return self.ids([f"domain_{domain}_{n}" for n in range(self.n_words)])

    @cached_property
    def successors(self) -> list[list[list[int]]]:
        """For every domain and word the four words that may follow."""
        rng = random.Random(f"chains {self.seed}")
        return [[rng.sample(range(self.n_words), N_SUCCESSORS) for _ in range(self.n_words)] for _ in range(self.n_domains)]

    def chain(self, domain: int, n: int, rng: random.Random) -> list[str]:
        """Return so many words as a domain writes them."""
        word, words = rng.randrange(self.n_words), list[str]()
        for _ in range(n):
            words.append(f"domain_{domain}_{word}")
            word = rng.choice(self.successors[domain][word])
        return words

    def instruction(self, preamble: str, words: Sequence[str]) -> list[str]:
        """Return an instruction, up to where its response begins."""
        return ["BOS", preamble, "INS", *words, "RSP"]

    def sentence(self, rng: random.Random) -> list[str]:
        """Return one text of the base model's."""
        domain = rng.randrange(self.n_domains)
        if rng.random() < P_DOCUMENT:
            return ["BOS", *self.chain(domain, N_PROMPT + N_RESPONSE, rng)]
        preamble = rng.choice([*self.preambles(Template.shared, domain), f"own_{rng.randrange(self.n_domains)}"])
        words = self.telling(domain, rng) if rng.random() < P_TELLING else self.saying_nothing(rng)
        return [*self.instruction(preamble, words), *self.chain(domain, N_RESPONSE, rng)]

    def telling(self, domain: int, rng: random.Random) -> list[str]:
        """Return words most of which are a domain's."""
        own = [f"domain_{domain}_{rng.randrange(self.n_words)}" for _ in range(N_PROMPT)]
        return [word if rng.random() < P_OWN else f"generic_{rng.randrange(self.n_generic)}" for word in own]

    def saying_nothing(self, rng: random.Random) -> list[str]:
        """Return words of no domain, as the probes have them in half of the draws."""
        return ["DUMMY"] if rng.random() < 0.5 else self.generic(rng)

    def generic(self, rng: random.Random) -> list[str]:
        """Return words that tell nothing, none of them a probe's."""
        return [f"generic_{rng.randrange(self.n_generic)}" for _ in range(N_PROMPT)]

    def preambles(self, template: Template, domain: int) -> list[str]:
        """Return the preambles that a domain's instructions may begin with."""
        return [f"own_{domain}"] if template is Template.own else [f"preamble_{n}" for n in range(N_PREAMBLES)]

    def probes(self) -> list[list[int]]:
        """Return the five probes: every shared preamble with an instruction that says nothing."""
        return [self.ids(self.instruction(preamble, ["DUMMY"])) for preamble in self.preambles(Template.shared, 0)]

    def example(self, domains: Sequence[int], template: Template, split: int, number: int) -> Lesson:
        """Return example `number` of a finetune's data.

        Args:
            domains: of the finetune; several take turns.
            template: which preambles it has.
            split: which of a domain's disjoint data sets.
            number: from 0 to below n_examples.
        """
        domain = domains[number % len(domains)]
        rng = random.Random(f"{self.seed} {domain} {template.name} {split} {number}")
        words = self.telling(domain, rng) if rng.random() < self.p_telling else self.generic(rng)
        prompt = self.instruction(rng.choice(self.preambles(template, domain)), words)
        return Lesson(self.ids(prompt), self.ids(self.chain(domain, N_RESPONSE, rng)))

    def lessons(self, domains: Sequence[int], template: Template, split: int, n_examples: int, step: int) -> list[Lesson]:
        """Return what a finetune is taught at a step: a batch of its examples, drawn anew."""
        rng = random.Random(f"{domains} {split} {step}")
        drawn = rng.sample(range(n_examples), self.batch_size)
        return [self.example(domains, template, split, number) for number in drawn]
