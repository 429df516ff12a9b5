"""What verbs print."""

from rich.console import Console

from sparse_circuits.errors import UserError
from sparse_circuits.summary import print_aside


def test_what_stands_in_brackets_is_text_and_no_markup() -> None:
    console = Console(record=True, width=20)
    says = "Say tasks=[red] or tasks=[/all], whatever the width of the screen."
    print_aside(UserError(says), console)
    assert console.export_text().strip() == says
