"""`suites list`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from harness.errors import HarnessError
from harness.suite.load import find_suites, load_suite, load_suite_file


def list_suites() -> None:
    """Print every suite under tasks/ with its size; one whose data lie on the hub is not downloaded for it."""
    table = Table("suite", "title", "train", "held out", "licence", box=None, pad_edge=False)
    for location in find_suites():
        file = load_suite_file(location)
        if file.hub is not None:
            train, held_out = "on the hub", file.hub.path
            if file.split is not None:
                train, held_out = str(file.split.train_rows), str(file.split.of_rows - file.split.train_rows)
        else:
            suite = load_suite(location)
            train, held_out = str(len(suite.train)), str(len(suite.held_out))
        table.add_row(location.name, file.title, train, held_out, file.license)
    if not table.row_count:
        raise HarnessError("there are no suites under tasks/", "run the harness in the folder that holds tasks/")
    Console().print(table)
