"""Models held against one another."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from sparse_circuits.conf.verbs import DEFAULT_RUN, VerifyVerb
from sparse_circuits.errors import UserError
from sparse_circuits.interop.hugging_face import CODE
from sparse_circuits.interop.verify import Difference, against_hugging_face, against_itself, compare, load_any
from sparse_circuits.model import Transformer
from sparse_circuits.run import choose_device
from sparse_circuits.subject import PRETRAINED, subject_of


def verify(config: VerifyVerb, console: Console) -> Difference:
    """Compare a model with another, or with itself in float64, and print where they differ."""
    if not config.checkpoint:
        raise UserError("Say what to verify: checkpoint=pretrained:NAME, a run folder, or a folder of another project's.")
    model = any_model(config.checkpoint)
    generator = torch.Generator().manual_seed(config.seed)
    tokens = torch.randint(model.d_vocab, (config.n_rows, model.config.n_ctx), generator=generator)
    if config.against is None:
        device = choose_device(config.device)
        found = against_itself(model.to(device), tokens.to(device))
    elif (Path(config.against) / CODE).exists():
        found = against_hugging_face(model, Path(config.against), tokens)
    else:
        found = compare(model, any_model(config.against), tokens)
    console.print(difference_table(found, title=f"{config.checkpoint} against {config.against or 'itself in float64'}"))
    return found


def any_model(place: str) -> Transformer:
    """Return a model of ours: one that comes with the package, or of whatever folder."""
    return subject_of(DEFAULT_RUN, place).model if place.startswith(PRETRAINED) else load_any(place)


def difference_table(found: Difference, *, title: str) -> Table:
    """Return where two models differ as a table."""
    table = Table("site", title=title)
    table.add_column("largest difference", justify="right")
    for site, difference in {**found.sites, "logits": found.logits}.items():
        table.add_row(site, f"{difference:.2e}")
    return table
