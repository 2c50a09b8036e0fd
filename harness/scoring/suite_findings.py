"""What the check of a suite found, and which tasks it says to fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from harness.model.reach import Reach
from harness.runs.manifest import SelfTest
from harness.runs.schema import SCHEMA, JsonObject
from harness.suite.shift import Shift

TIERS = ("extracted", "parses", "well_formed", "conforming", "renders")
"""What every reference must hold; one that does not is a task to fix."""

TOLD = ("lxml_clean", "doctype", "titled", "closed", "accessible", "overflow_free")
"""Counted of the references, but not asked of them."""


@dataclass(frozen=True, slots=True)
class Tier:
    """How many references hold one tier."""

    name: str
    passed: int
    strict: int
    """The same, with the doctype and title counted that the suite ignores."""
    measured: int
    failing: Mapping[str, str]
    """Task id → what is wrong."""
    unmeasured: Mapping[str, str]
    """Task id → why there is no number."""


@dataclass(frozen=True, slots=True)
class SuiteCheck:
    """What was found. `to_fix` is empty exactly when no task needs work."""

    suite: str
    revision: str
    train: int
    held_out: int
    without_reference: int
    held_out_without_checks: int
    tiers: tuple[Tier, ...]
    checked: int
    """Tasks with checks."""
    checks: int
    reference_fails: Mapping[str, tuple[str, ...]]
    """Task id → checks that its own reference does not pass, with what the browser saw."""
    passed_by: Mapping[str, tuple[str, ...]]
    """`empty` or `shuffled` → tasks whose `must` checks it all passes."""
    repeated: tuple[tuple[str, ...], ...]
    """Tasks of one part that ask the same, letter by letter."""
    near: Mapping[str, tuple[tuple[str, ...], ...]]
    """`train` or `held_out` → groups of near-duplicates within that part."""
    leaked: Mapping[str, list[str]]
    """Held-out task → training rows that it resembles."""
    self_test: SelfTest
    split: str = "default"
    shift: Shift | None = None
    """Whether training and held-out rows are of one kind; None where there are too few to tell."""
    reach: Reach | None = None
    """How long answers may be, by an estimate of the tokens of all references."""
    checks_unmeasured: Mapping[str, str] = field(default_factory=dict)
    """Task id → why the browser could not say what its reference passes."""

    @property
    def to_fix(self) -> dict[str, list[str]]:
        """Task id → why it is to be fixed, in the order of the suite's parts and ids."""
        found: dict[str, list[str]] = {}

        def add(task: str, why: str) -> None:
            found.setdefault(task, []).append(why)

        for tier in self.tiers:
            if tier.name in TIERS:
                for task, why in tier.failing.items():
                    add(task, f"the reference is not {_ADJECTIVES[tier.name]}" + (f": {why}" if why else ""))
        for task, failures in self.reference_fails.items():
            for failure in failures:
                add(task, f"the reference fails its own check: {failure}")
        for control, tasks in self.passed_by.items():
            for task in tasks:
                add(task, f"{_PASSES[control]} passes all its must checks")
        for repeated in self.repeated:
            for task in repeated[1:]:
                add(task, f"asks the same as {repeated[0]}")
        for group in self.near["held_out"]:
            for task in group[1:]:
                if task not in {other for repeated in self.repeated for other in repeated[1:]}:
                    add(task, f"nearly the same as {group[0]}, so both count as one")
        for task, rows in self.leaked.items():
            more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
            add(task, f"held out, but nearly the same as training row {rows[0]}{more}")
        return dict(sorted(found.items()))

    @property
    def sound(self) -> bool:
        """Nothing is to fix, no metric is refused, and the browser could measure every reference and its checks."""
        unrendered = self.checks_unmeasured or any(tier.unmeasured for tier in self.tiers if tier.name == "renders")
        return not (self.to_fix or self.self_test.refused or unrendered)

    def as_dict(self) -> JsonObject:
        """The findings for a JSON file: ids, counts and reasons, no text of any task."""
        found = {name: value for name, value in asdict(self).items() if name != "self_test"}
        return {"schema": SCHEMA, **found, "self_test": self.self_test.as_json(), "to_fix": self.to_fix}


_ADJECTIVES = {
    "extracted": "found as a page",
    "parses": "a page that an author wrote",
    "well_formed": "well-formed",
    "conforming": "conforming",
    "renders": "rendered",
}
_PASSES = {"empty": "an empty page", "shuffled": "another task's reference"}
