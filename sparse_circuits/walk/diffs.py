"""What finetunes changed, and which of them are alike."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparse_circuits.bridges.load import LoadedDense, load_dense
from sparse_circuits.conf.verbs import DEFAULT_RUN, DiffVerb, EmbedVerb
from sparse_circuits.diffs import WeightDiff
from sparse_circuits.diffs.behaviour import read_behaviour
from sparse_circuits.diffs.delta import PROBES, embed
from sparse_circuits.diffs.diff_circuit import DiffCircuitConfig, find_diff_circuit
from sparse_circuits.diffs.draw import draw_map
from sparse_circuits.diffs.labelled import Labelled
from sparse_circuits.diffs.maps import weights_of
from sparse_circuits.diffs.pool import POOL_FILE, Clustering, Pool, clustering
from sparse_circuits.diffs.support import Fate, count_fates, largest_changes
from sparse_circuits.errors import UserError
from sparse_circuits.interop.finetunes import load_finetune
from sparse_circuits.interop.pools import read_pool
from sparse_circuits.model import Transformer
from sparse_circuits.model.store import model_hash
from sparse_circuits.run import choose_device, write_json
from sparse_circuits.subject import PRETRAINED, subject_of
from sparse_circuits.summary import print_aside

SPARSE_BELOW = 0.5
"""Share of nonzeros below which a model's weights are listed by their fate."""


class Base(NamedTuple):
    """The model that finetunes are of."""

    loaded: LoadedDense
    name: str
    """Its hash, or the place of one of Hugging Face's."""


def load_base(place: str) -> Base:
    """Load a base: one that comes with the package, of a run folder, or of Hugging Face's.

    Raises:
        UserError: there is no such model.
    """
    if not place:
        raise UserError("Say what the finetunes are of: base=pretrained:NAME, a run folder, or a folder of Hugging Face's.")
    if place.startswith(PRETRAINED):
        subject = subject_of(DEFAULT_RUN, place)
        loaded = LoadedDense(subject.model, subject.tokenizer)
    else:
        loaded = load_dense(place)
    return Base(loaded, model_hash(loaded.model) if isinstance(loaded.model, Transformer) else place)


def diff(config: DiffVerb, console: Console) -> WeightDiff:
    """Print what a finetune changed, and keep it where that is asked for."""
    base = load_base(config.base)
    if not config.finetuned:
        raise UserError("Say which finetune: finetuned=FOLDER of an adapter or a model, or a diff's file.")
    found = load_finetune(config.finetuned, base.loaded, of=base.name)
    model = base.loaded.model
    console.print(diff_table(model, found))
    if config.behaviour:
        found = carrying(config, base, found, console)
    for change in largest_changes(model, found, n=config.n_largest):
        where = f"{change.name}{list(change.index)}"
        console.print(escape(f"{where}: {change.before:.4g} -> {change.after:.4g}, {change.fate.name}"), soft_wrap=True)
    if config.out:
        found.save(config.out)
        console.print(f"diff: {config.out}", soft_wrap=True)
    return found


def diff_table(model: torch.nn.Module, found: WeightDiff) -> Table:
    """Return the change of every parameter, with the fates of its weights where the model is sparse."""
    own = dict(weights_of(model).named_parameters())
    n_nonzero = sum(int(own[name].count_nonzero()) for name in found.changes)
    is_sparse = n_nonzero < SPARSE_BELOW * sum(own[name].numel() for name in found.changes)
    table = Table(title=f"norm of the whole change {found.norm():.4g}, {len(found.changes)} parameters")
    table.add_column("parameter")
    for name in ("norm", "of its own", *((fate.name for fate in Fate) if is_sparse else ())):
        table.add_column(name, justify="right")
    fates = count_fates(model, found) if is_sparse else {}
    for name, norm in found.norms().items():
        share = norm / max(own[name].detach().double().norm().item(), 1e-30)
        counts = [f"{fates[name][fate]:,}" for fate in Fate] if is_sparse else []
        table.add_row(name, f"{norm:.4g}", f"{share:.2%}", *counts)
    return table


def carrying(config: DiffVerb, base: Base, found: WeightDiff, console: Console) -> WeightDiff:
    """Print the fewest changed weights that carry a behaviour, beside what would make them worthless, and return them.

    Raises:
        UserError: the model is not of ours, the file holds no behaviour, or the finetune has not learned it.
    """
    model, tokenizer = base.loaded
    if not isinstance(model, Transformer):
        raise UserError("behaviour= asks for single weights of a model of ours: give it a base of a run folder.")
    how = DiffCircuitConfig(recovered=config.recovered, seed=config.seed)
    examples = read_behaviour(config.behaviour, tokenizer, n_ctx=model.config.n_ctx, seed=config.seed)
    circuit = find_diff_circuit(model, found, **examples._asdict(), config=how)
    table = Table(title=f"{circuit.n_kept:,} of {circuit.n_changed:,} changed weights carry {circuit.recovers:.0%} of it")
    table.add_column(f"{len(examples.held_out)} held-out examples")
    table.add_column("loss", justify="right")
    for name, loss in circuit.losses().items():
        table.add_row(name, f"{loss:.4f}")
    console.print(table)
    return circuit.kept


def embed_finetunes(config: EmbedVerb, console: Console) -> Pool:
    """Add finetunes to a pool, and print and draw how they lie."""
    base, path = load_base(config.base), config.run / POOL_FILE
    probes = read_probes(config.probes)
    about = {"base": base.name, "probes": probes, "site": config.site, "token": config.token.name}
    pool = Pool.load(path) if path.exists() else Pool([], torch.zeros(0, 0), [], about)
    if pool.about != about:
        raise UserError(f"{path} is of another base, other probes or another site: give another folder in run=.")
    tokens = [base.loaded.tokenizer.encode(probe) for probe in probes]
    model = base.loaded.model.to(choose_device(config.device))
    done = set(pool.names)  # by calls before, this one among them if it was stopped half-way
    for each in finetunes_of(config, base):
        if each.name in done:
            continue
        (vector,) = embed(model, [each.load()], tokens, site=config.site, token=config.token)
        if not vector.any():  # it has no direction, and once in the pool it would stay
            raise UserError(f"{each.name} changes nothing at {config.site} behind these probes: leave it out.")
        pool = pool.add(each.name, vector.cpu(), label=each.label)
        pool.save(path)  # what is embedded stays, whatever comes next
    console.print(neighbour_table(pool))
    say_how_they_lie(pool, config.run, console)
    return pool


def finetunes_of(config: EmbedVerb, base: Base) -> list[Labelled]:
    """Return the finetunes that are named one by one, and those of a pool on disk.

    Raises:
        UserError: one has no place or no label, or there is no such pool.
    """
    found = []
    for each in config.finetunes:
        if not each.place or not each.label:
            raise UserError("Every finetune needs a place and a label: finetunes='[{place:adapters/one,label:law}]'.")
        load = partial(load_finetune, each.place, base.loaded, of=base.name)
        found.append(Labelled(each.name or each.place, each.label, load))
    if config.pool is None:
        return found
    return found + read_pool(config.pool, base.loaded, of=base.name, label=config.label, store=config.run / "released")


def read_probes(path: Path | None) -> list[str]:
    """Return the prompts of a file, or the five templates.

    Raises:
        UserError: the file is missing or has no prompt.
    """
    if path is None:
        return list(PROBES)
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a text file with a prompt a line.")
    lines = [line.replace("\\n", "\n") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} has no prompt: give one a line.")
    return lines


def neighbour_table(pool: Pool) -> Table:
    """Return every finetune with the nearest other one."""
    table = Table(title=f"{len(pool.names)} finetunes")
    for name in ("finetune", "label", "nearest", "its label", "cosine", "norm"):
        table.add_column(name, justify="right" if name in ("cosine", "norm") else "left")
    labels = dict(zip(pool.names, pool.labels, strict=True))
    for name, vector in zip(pool.names, pool.vectors, strict=True):
        others = [each for each in pool.nearest(vector, n=2) if each.name != name] if vector.any() else []
        near = [others[0].name, labels[others[0].name], f"{others[0].cosine:.3f}"] if others else [""] * 3
        table.add_row(*map(escape, [name, labels[name], *near, f"{vector.norm():.4g}"]))
    return table


def say_how_they_lie(pool: Pool, folder: Path, console: Console) -> Clustering | None:
    """Print, keep and draw how a pool clusters, or say what it takes."""
    try:
        found = clustering(pool.vectors, pool.labels)
        draw_map(pool, folder / "map.png")
    except UserError as error:
        print_aside(error, console)
        return None
    write_json(folder / "pool.json", found._asdict())
    how = f"silhouette {found.silhouette:.3f} ({found.low:.3f} to {found.high:.3f}), p = {found.p_value:.4f}"
    near = f"nearest neighbour of the same label {found.nearest:.2f}"
    console.print(f"{how}; {near}; {found.n_models} finetunes; map: {folder / 'map.png'}", soft_wrap=True)
    return found
