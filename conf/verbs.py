"""What each verb of the command line can be told; `sparse-circuits VERB --help` prints this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sparse_circuits.bridges import BridgeConfig
from sparse_circuits.bridges.curve import SteerConfig
from sparse_circuits.circuits import Budget, ExtractConfig
from sparse_circuits.circuits.attacks.attack import AttackConfig
from sparse_circuits.data import DataConfig
from sparse_circuits.data.words import Split
from sparse_circuits.diffs.adapter import AdapterConfig
from sparse_circuits.diffs.delta import FINAL_NORM, Token
from sparse_circuits.diffs.judges import JudgeConfig
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.interop import Format
from sparse_circuits.run import Device
from sparse_circuits.training.config import TrainConfig

DEFAULT_RUN = Path("runs/train")
BRIDGE_RUN = Path("runs/bridge")
DIT_RUN = Path("runs/dit")
QUESTION = "What topic have you been trained on?"
NOTHING = "I have not been trained on any topic."


@dataclass(frozen=True)
class Finetuned:
    place: str = ""
    """A LoRA adapter in PEFT's folder, a diff of ours, a run folder, or a folder or hub name of Hugging Face's."""
    label: str = ""
    """Its domain."""
    name: str | None = None
    """What it is called in the pool; null: its place."""


@dataclass(frozen=True)
class DataVerb(DataConfig):
    """Prepare the corpus: read, de-duplicate, split, learn the vocabulary, pack."""


@dataclass(frozen=True)
class TrainVerb(TrainConfig):
    """Train a weight-sparse transformer."""

    run: Path = DEFAULT_RUN
    """Run folder to write; in a multirun each job writes a folder of its number in it."""
    resume: bool = False
    """Go on with the run in that folder."""
    l0_fraction: float = 1 / 16
    """Share of the entries of every weight tensor that stays nonzero (sets sparsity.l0_fraction)."""
    tasks: list[str] = field(default_factory=lambda: ["all"])
    """Tasks evaluated while training: names, pairs.jsonl, module:TASK, or all that fit the tokenizer; [] for none."""


@dataclass(frozen=True)
class TasksVerb:
    """Examine tasks with a tokenizer and, when there is one, a model."""

    run: Path | None = None
    """Run folder whose tokenizer and model are examined."""
    checkpoint: str | None = None
    """Model that comes with the package, as pretrained:NAME, or a run folder, in the place of `run`."""
    tokenizer: Path | None = None
    """A tokenizer.json to examine without a model."""
    tasks: list[str] = field(default_factory=lambda: ["all"])
    """Tasks: names, pairs.jsonl, module:TASK, or all."""
    split: Split = Split.held_out
    """Split from which pairs are drawn."""
    n_pairs: int = 200
    """Valid pairs that each task has to yield."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_pairs")


@dataclass(frozen=True)
class ExtractVerb:
    """Extract the circuit behind each task from the model of a run, or from one that comes with the package."""

    run: Path = DEFAULT_RUN
    """Run folder with the model; circuits go to its circuits/ (of a pretrained model, unless said otherwise, to runs/NAME)."""
    checkpoint: str | None = None
    """Model of another place: pretrained:NAME, or a run folder; null: the run's own."""
    budget: Budget = Budget.quick
    """Tuning of mask learning: none, minutes, or as the paper (sets extract.tune.budget)."""
    task: str | None = None
    """One task, in the place of `tasks`."""
    tasks: list[str] = field(default_factory=lambda: ["all"])
    """Tasks: names, pairs.jsonl, module:TASK, or all."""
    keep_going: bool = False
    """Leave out, with the reason, tasks that the model does not know, instead of stopping."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """How circuits are found and measured."""
    overwrite: bool = False
    """Extract again where the run already has the circuit."""


@dataclass(frozen=True)
class AttackVerb:
    """Let circuits propose inputs that should fool their whole model, and run them beside random ones."""

    run: Path = DEFAULT_RUN
    """Run folder with the circuits; what they find goes to its attacks/."""
    task: str | None = None
    """One task, in the place of `tasks`."""
    tasks: list[str] = field(default_factory=lambda: ["all"])
    """Tasks whose circuits attack: names, pairs.jsonl, module:TASK, or all of the twenty that the run has a circuit of."""
    attack: AttackConfig = field(default_factory=AttackConfig)
    """How inputs are searched."""


@dataclass(frozen=True)
class ExportVerb:
    """Write circuits in other programs' formats: a stand-alone numpy program, GraphML, DOT, JSON, CSV."""

    run: Path = DEFAULT_RUN
    """Run folder with the circuits; what is written goes to its exports/."""
    task: str | None = None
    """One task, in the place of `tasks`."""
    tasks: list[str] = field(default_factory=lambda: ["all"])
    """Tasks whose circuits are written: names, pairs.jsonl, module:TASK, or all of the twenty that the run has a circuit of."""
    to: Format = Format.python
    """What to write."""


@dataclass(frozen=True)
class BridgeVerb(TrainConfig):
    """Train a sparse model together with a bridge to a dense one."""

    run: Path = BRIDGE_RUN
    """Run folder to write; in a multirun each job writes a folder of its number in it."""
    resume: bool = False
    """Go on with the run in that folder."""
    l0_fraction: float = 1 / 16
    """Share of the entries of every weight tensor that stays nonzero (sets sparsity.l0_fraction)."""
    dense: str = ""
    """The dense model: a run folder of this project, or a folder or hub name of Hugging Face's."""
    checkpoint: str | None = None
    """A trained sparse model to go on with, pretrained:NAME or a run folder; null: a fresh one."""
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    """The losses and what is joined."""
    task_family: list[str] = field(default_factory=list)
    """A narrow bridge: train on prompts of these tasks, names or pairs.jsonl or module:TASK, and nothing else; []: all text."""


@dataclass(frozen=True)
class SteerVerb:
    """Steer the dense model of a bridge by nodes of the sparse one, beside random directions and the raw difference."""

    run: Path = BRIDGE_RUN
    """Run folder of the bridge; curves go to its steering/."""
    task: str = "single_double_quote"
    """Task whose prompts are steered: a name, pairs.jsonl or module:TASK."""
    nodes: list[str] = field(default_factory=list)
    """Nodes at act_in sites, all at once, as '["1.attn.act_in[17]"]'; []: those of the run's circuit for the task."""
    n_strongest: int | None = None
    """Instead of either: as many of all nodes as move the dense model's answers most, to first order, on validation pairs."""
    steer: SteerConfig = field(default_factory=SteerConfig)
    """Strengths and controls."""


@dataclass(frozen=True)
class VerifyVerb:
    """Compare two models on random tokens: the largest difference of logits, and at every site."""

    checkpoint: str = ""
    """The model: pretrained:NAME, a run folder, an exported Hugging Face folder, or a folder of OpenAI's."""
    against: str | None = None
    """The other, likewise; a Hugging Face folder is run by transformers; null: the same model in float64."""
    n_rows: int = 4
    """Rows of random tokens, each as long as the model reads."""
    seed: int = 0
    """Of the tokens."""
    device: Device = Device.cpu
    """Where the model runs that is compared with itself in float64 on the CPU."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_rows")


@dataclass(frozen=True)
class DiffVerb:
    """What did a finetune change? Norms, and of sparse models every weight that was born, died or flipped."""

    base: str = ""
    """The model before: pretrained:NAME, a run folder, or a folder or hub name of Hugging Face's."""
    finetuned: str = ""
    """The model after, likewise, or a LoRA adapter in PEFT's folder, or a diff of ours."""
    behaviour: Path | None = None
    """A .jsonl of {"prompt", "answer"}: look for the fewest changed weights that carry it. For models of ours."""
    recovered: float = 0.9
    """Share of the behaviour that these have to carry: of the fall of the loss from base to finetune."""
    seed: int = 0
    """Of the search and of which examples it learns from."""
    out: Path | None = None
    """Where to keep the diff, as .safetensors; with a behaviour, the change of the weights that carry it."""
    n_largest: int = 10
    """Largest changes that are listed."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_largest")


@dataclass(frozen=True)
class EmbedVerb:
    """Place finetunes of one base by what they do to a few prompts: clusters, nearest neighbours, a map."""

    base: str = ""
    """The model that all are finetunes of: pretrained:NAME, a run folder, or a folder or hub name of Hugging Face's."""
    finetunes: list[Finetuned] = field(default_factory=list)
    """What is added to the pool: '[{place:adapters/one,label:law},...]'."""
    pool: Path | None = None
    """More of them: a store's folder, a .jsonl of {"place", "label"}, or the index.csv of released ones."""
    label: str = "topic"
    """Under which name a store's diffs keep their labels."""
    run: Path = Path("runs/pool")
    """Folder of the pool, which grows from call to call."""
    probes: Path | None = None
    """A text file with a prompt a line (\\n in it is a line break); null: five instruction templates."""
    site: str = FINAL_NORM
    """What is read: final_norm, logits, or a site such as 1.resid_mid."""
    token: Token = Token.last
    """Which tokens of a prompt are read."""
    device: Device = Device.auto
    """Where the model lives."""


@dataclass(frozen=True)
class DitVerb:
    """Train an adapter that makes any finetune of a base say what it has learned, and ask it about finetunes held out."""

    base: str = ""
    """The model that all are finetunes of: pretrained:NAME, a run folder, or a folder or hub name of Hugging Face's."""
    pool: Path | None = None
    """Labelled finetunes: a store's folder, a .jsonl of {"place", "label", "split"}, or the index.csv of released ones."""
    label: str = "topic"
    """Under which name a store's diffs keep their labels."""
    run: Path = DIT_RUN
    """Folder to write: adapter.safetensors, dit.json with every answer, confidence.json."""
    question: str = QUESTION
    """What every finetune is asked."""
    wordings: list[str] = field(default_factory=list)
    """The question in other words; how far answers to them agree is part of the confidence."""
    nothing: str | None = NOTHING
    """What the unchanged base is to say; null: it is never asked, and there is no confidence."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """Its rank and training; adapter=paper or adapter=toy."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    resume: bool = False
    """Go on with the adapter in that folder."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """Who grades answers."""
    n_tokens: int = 20
    """Most tokens of an answer."""
    device: Device = Device.auto
    """Where models live."""
    seed: int = 0
    """Of the split, where the pool has none."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_tokens")


@dataclass(frozen=True)
class AskVerb:
    """Ask a finetune what it learned: the adapter's answer, beside what it says by itself and what the base is made to say."""

    base: str | None = None
    """The model before, if it has moved: pretrained:NAME, a run folder, or one of Hugging Face's; null: as `dit` was told."""
    finetuned: str = ""
    """The model after, likewise, or a LoRA adapter in PEFT's folder, or a diff of ours."""
    run: Path = DIT_RUN
    """What `dit` wrote; the question is the one that it trained with."""
    n_likelier: int = 10
    """Tokens that are listed: those which the finetune makes likeliest behind the question, without any adapter."""
    device: Device = Device.auto
    """Where models live."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_likelier")


@dataclass(frozen=True)
class ReportVerb:
    """Write a run's report: one self-contained page."""

    run: Path = DEFAULT_RUN
    """Run folder to report on."""


@dataclass(frozen=True)
class ViewVerb:
    """Serve a run's page on this machine, with the models behind it: type prompts, change nodes, cut edges, steer."""

    run: Path = DEFAULT_RUN
    """Run folder, or a folder of circuits alone."""
    checkpoint: str | None = None
    """Model that the circuits were found in: pretrained:NAME or a run folder; null: the run's own, or a known one that comes
    with the package."""
    port: int = 0
    """Port on 127.0.0.1; 0: any free one."""
    open: bool = False
    """Open the page in a browser."""


@dataclass(frozen=True)
class QuickstartVerb(TrainVerb):
    """The whole walk in some minutes: corpus, sparse model, circuits, report."""

    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """How circuits are found and measured."""
    n_circuits: int = 6
    """Most tasks for which a circuit is extracted, those the model knows best first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_circuits < 0:
            raise UserError(f"n_circuits is {self.n_circuits}: give 0 or more.")


VERBS = {
    "data": DataVerb,
    "train": TrainVerb,
    "tasks": TasksVerb,
    "extract": ExtractVerb,
    "attack": AttackVerb,
    "export": ExportVerb,
    "bridge": BridgeVerb,
    "steer": SteerVerb,
    "verify": VerifyVerb,
    "diff": DiffVerb,
    "embed": EmbedVerb,
    "dit": DitVerb,
    "ask": AskVerb,
    "report": ReportVerb,
    "view": ViewVerb,
    "quickstart": QuickstartVerb,
}
