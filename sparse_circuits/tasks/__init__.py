"""Binary next-token tasks on Python code: drawn, mined or the user's own, encoded, scored and examined."""

from sparse_circuits.data.words import Split
from sparse_circuits.tasks.doctor import Diagnosis, Verdict, examine
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.encode import PairBatch, encode_pairs
from sparse_circuits.tasks.evaluate import Evaluation, evaluate, task_evaluator
from sparse_circuits.tasks.mine import Pattern, mined_task
from sparse_circuits.tasks.registry import TASKS, get_task
from sparse_circuits.tasks.score import answer_difference, answer_probabilities, right_margins, task_accuracy, task_losses
from sparse_circuits.tasks.table import pairs_table, verdict_table
from sparse_circuits.tasks.task import Pair, Scoring, Task
from sparse_circuits.tasks.user import find_task

__all__ = [
    "TASKS",
    "Diagnosis",
    "Draw",
    "Evaluation",
    "Pair",
    "PairBatch",
    "Pattern",
    "Scoring",
    "Split",
    "Task",
    "Verdict",
    "answer_difference",
    "answer_probabilities",
    "encode_pairs",
    "evaluate",
    "examine",
    "find_task",
    "get_task",
    "mined_task",
    "pairs_table",
    "right_margins",
    "task_accuracy",
    "task_evaluator",
    "task_losses",
    "verdict_table",
]
