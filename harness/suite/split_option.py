"""`--split`: which of its splits a suite takes. NAME is for every suite that has such a split, SUITE=NAME for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.errors import UsageError, did_you_mean
from harness.suite.load import SuiteLocation, load_suite_file, split_names
from harness.suite.schema import DEFAULT_SPLIT


def chosen_split(location: SuiteLocation, words: Sequence[str]) -> str:
    """Return the name of the split that a suite takes; SUITE=NAME goes before NAME, the last before the others."""
    names = split_names(load_suite_file(location))
    own = [
        name for suite, equals, name in (word.rpartition("=") for word in words) if equals and suite == location.name
    ]
    general = [word for word in words if word in names]
    return (own or general or [DEFAULT_SPLIT])[-1]


def check_split_option(words: Sequence[str], locations: Iterable[SuiteLocation]) -> None:
    """Refuse a word that names no split of these suites.

    Raises:
        UsageError: there is none of that name; the hint names the nearest.
    """
    if not words:
        return
    splits = {location.name: split_names(load_suite_file(location)) for location in locations}
    for word in words:
        suite, equals, name = word.rpartition("=")
        if equals and suite not in splits:
            raise UsageError(f"--split {word}: no suite '{suite}' is used here", did_you_mean(suite, splits))
        asked = [suite] if equals else list(splits)
        known = {known for of in asked for known in splits[of]}
        if name not in known:
            raise UsageError(f"there is no split '{name}' of {' or '.join(asked)}", did_you_mean(name, known))
