"""The command line: `sparse-circuits VERB [overrides]`.

Nothing heavy is imported before a verb is known, so that help is instant. A user's mistake is one sentence and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sparse_circuits.errors import UserError, nearest

VERBS = {
    "quickstart": "the whole walk in some minutes: corpus, sparse model, circuits, report",
    "data": "prepare a corpus: read, de-duplicate, split, learn the vocabulary, pack",
    "train": "train a weight-sparse transformer",
    "tasks": "examine the tasks with a tokenizer and a model: the doctor",
    "extract": "extract the circuit behind each task from a trained model",
    "attack": "let circuits propose inputs that fool the whole model, beside random ones",
    "export": "write circuits as a numpy program, GraphML, DOT, JSON or CSV",
    "bridge": "train a sparse model with a bridge to a dense one",
    "steer": "steer the dense model of a bridge by nodes of a circuit, beside its controls",
    "verify": "compare two models: the largest difference of logits, and at every site",
    "diff": "say what a finetune changed, of a sparse model weight by weight",
    "embed": "place finetunes of one base by what they do to a few prompts",
    "dit": "train an adapter that makes finetunes of a base say what they have learned",
    "ask": "ask one finetune through such an adapter",
    "report": "write a run's report, one self-contained page",
    "view": "serve that page on this machine with the models behind it: change nodes and see answers move",
}
HELP = f"""sparse-circuits VERB [setting=value ...]

{chr(10).join(f"  {verb:11} {does}" for verb, does in VERBS.items())}

sparse-circuits VERB --help lists the verb's settings. Settings are Hydra overrides:
  sparse-circuits train model=small l0_fraction=0.03 run=runs/small
  sparse-circuits train --multirun model=tiny,small seed=0,1
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, 1 when nobody reads on, 2 for a user's mistake, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(HELP)
        else:
            run(*_verb(arguments))
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the interpreter's end
        return 1
    except UserError as error:
        print(f"sparse-circuits: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"sparse-circuits: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130


def _verb(arguments: list[str]) -> tuple[str, list[str]]:
    verb, *overrides = arguments
    if verb not in VERBS:
        raise UserError(f'There is no verb "{verb}"{nearest(verb, VERBS)}: choose one of {", ".join(VERBS)}.')
    return verb, overrides


def run(verb: str, overrides: list[str]) -> None:
    """Compose the verb's config and hand it to the walk."""
    from sparse_circuits.conf import compose, sweep
    from sparse_circuits.conf.help import verb_help

    if {"-h", "--help"} & set(overrides):
        print(verb_help(verb))
    elif any(override.startswith("-") for override in overrides):
        sweep(verb, overrides, _work(verb))
    else:
        _work(verb)(compose(verb, overrides))


def _work(verb: str) -> Callable[[Any], None]:
    from rich.console import Console

    from sparse_circuits.walk.verbs import DO

    return lambda config: DO[verb](config, Console())


if __name__ == "__main__":
    sys.exit(main())
