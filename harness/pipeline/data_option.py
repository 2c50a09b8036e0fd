"""What `--data` says: which file a suite takes its rows from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.errors import UsageError, did_you_mean
from harness.suite.load import SuiteLocation, find_suite
from harness.suite.rows import SUFFIXES


def parse_data_options(options: Sequence[str]) -> dict[str, Path]:
    """Parse `--data SUITE=FILE`.

    Raises:
        UsageError: an option has another form, or the file is missing.
    """
    data: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"--data {option} is not SUITE=FILE", "for example --data html_alpaca=rows.jsonl")
        if not Path(path).exists():
            near = [file.name for file in Path(path).parent.glob("*") if file.suffix in SUFFIXES]
            raise UsageError(f"there is no data file {path}", did_you_mean(Path(path).name, near) if near else "")
        if name in data and data[name] != Path(path):
            raise UsageError(f"--data gives the suite '{name}' two files", "give one")
        data[name] = Path(path)
    return data


def data_by_folder(data: Mapping[str, Path]) -> dict[Path, Path]:
    """Return the files given by `--data`, by the folder of their suite.

    Raises:
        UsageError: a suite does not exist, or gets two files.
    """
    found: dict[Path, Path] = {}
    for name, path in data.items():
        if found.setdefault(find_suite(name).folder.resolve(), path) != path:
            raise UsageError(f"--data gives the suite '{name}' two files", "give one")
    return found


def check_data_option(data: Mapping[str, Path], locations: Iterable[SuiteLocation]) -> dict[Path, Path]:
    """Return the files given by `--data`, by the folder of their suite, which is one of those in use.

    Raises:
        UsageError: the suite does not exist, gets two files, or is not used; the hint names those that are.
    """
    used = {location.folder.resolve(): location for location in locations}
    found = data_by_folder(data)
    for folder, path in found.items():
        if folder not in used:
            # of two suites of one name, the folder says which is meant
            names = {str(one.folder) if one.name == folder.name else one.name for one in used.values()}
            hint = f"in use: {', '.join(sorted(names))}" if used else "leave --data out"
            raise UsageError(f"--data {folder.name}={path}: the suite '{folder.name}' is not used here", hint)
    return found
