from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.checks.parse import parse_check
from harness.checks.words import Check
from harness.cli.print_findings import print_check
from harness.errors import HarnessError
from harness.metrics import nu
from harness.model.reach import Reach
from harness.progress import ProgressReporter
from harness.render.browser import find_browser
from harness.runs.manifest import SelfTest
from harness.runs.schema import SCHEMA
from harness.scoring import suite_check
from harness.scoring.suite_check import check_suite
from harness.scoring.suite_findings import SuiteCheck, Tier
from harness.suite.shift import Shift
from harness.types import Rendering, Suite, Task

PAGE = '<!DOCTYPE html>\n<html lang="en"><head><title>Page</title></head><body>{}</body></html>'


def _see(text: str, level: str = "must") -> Check:
    return parse_check({"why": f"shows {text}", "level": level, "see": {"text": text}})


def _task(task_id: str, prompt: str, body: str, *checks: Check) -> Task:
    return Task(task_id, prompt, reference=PAGE.format(body), checks=checks)


def _suite(train: tuple[Task, ...], held_out: tuple[Task, ...]) -> Suite:
    return Suite("s", "S", "document", frozenset(), "r", train, held_out, "h")


def _found(**changes: object) -> SuiteCheck:
    tiers = tuple(Tier(name, 3, 3, 3, {}, {}) for name in ("well_formed", "renders"))
    empty = SuiteCheck(
        "s", "r", 2, 1, 0, 0, tiers, 1, 1, {}, {"empty": (), "shuffled": ()}, (),
        {"train": (), "held_out": ()}, {}, SelfTest(tasks=3),
    )  # fmt: skip
    return replace(empty, **changes)  # type: ignore[arg-type]


def test_a_clean_suite_has_nothing_to_mend() -> None:
    assert _found().to_fix == {}
    assert _found().sound


@pytest.mark.parametrize(
    ("changes", "task", "why"),
    [
        ({"tiers": (Tier("well_formed", 2, 2, 3, {"b": "line 1: stray"}, {}),)}, "b", "not well-formed: line 1: stray"),
        ({"reference_fails": {"a": ("shows x [must]: it is not there",)}}, "a", "fails its own check: shows x"),
        ({"passed_by": {"empty": ("a",), "shuffled": ()}}, "a", "an empty page passes"),
        ({"passed_by": {"empty": (), "shuffled": ("c",)}}, "c", "another task's reference passes"),
        ({"repeated": (("a", "b"),)}, "b", "asks the same as a"),
        ({"near": {"train": (), "held_out": (("a", "b"),)}}, "b", "nearly the same as a"),
        ({"leaked": {"c": ["t1", "t2"]}}, "c", "nearly the same as training row t1 and 1 more"),
    ],
)
def test_each_fault_names_its_task(changes: dict[str, object], task: str, why: str) -> None:
    found = _found(**changes)
    assert list(found.to_fix) == [task]
    assert why in found.to_fix[task][0]
    assert not found.sound


def test_duplicates_among_training_tasks_are_told_but_need_no_mending() -> None:
    assert _found(near={"train": (("a", "b"),), "held_out": ()}).sound


def test_a_refused_metric_and_a_page_nobody_could_render_are_not_sound() -> None:
    assert not _found(self_test=SelfTest(tasks=3, refused={"chrf": "'truncated' beats the reference"})).sound
    assert not _found(tiers=(Tier("renders", 2, 2, 2, {}, {"a": "the browser died"}),)).sound


def test_checks_that_the_browser_could_not_say_of_a_reference_are_no_passed_checks(
    checked: Callable[[Suite], SuiteCheck], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stalled(renderer: object, pages: Sequence[tuple[Task, str]], *_: object) -> list[Rendering | None]:
        return [Rendering("ok", checks_unmeasured="too slow now") if task.checks else None for task, _ in pages]

    monkeypatch.setattr(suite_check, "render_task_pages", stalled)
    found = checked(_suite((), (_task("a", "a greeting", "<h1>Hello</h1>", _see("Hello")),)))
    assert found.reference_fails == {}
    assert found.checks_unmeasured == {"a": "too slow now"}
    assert not found.sound
    assert "Checks not measured (too slow now)" in _printed(found)


def test_accessibility_of_references_is_told_only() -> None:
    assert _found(tiers=(Tier("accessible", 2, 2, 3, {"a": "no label"}, {}),)).to_fix == {}


def _printed(found: SuiteCheck) -> str:
    stream = io.StringIO()
    print_check(found, Console(file=stream, width=80))
    return stream.getvalue()


def test_80_columns_are_enough_and_pages_cannot_write_escapes() -> None:
    long = "attribute \x1b[31mred\x1b[0m \u202e not allowed on element " * 5
    found = _found(
        tiers=(Tier("well_formed", 2, 1, 3, {"some-rather-long-task-identifier": long}, {}),),
        leaked={f"{number:012x}": ["t"] for number in range(40)},
        self_test=SelfTest(tasks=3, refused={"chrf": "[bold]x[/bold]"}, untested=("bleu",)),
    )
    printed = _printed(found)
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed and "\u202e" not in printed
    assert "[bold]x[/bold]" in printed
    assert "Tasks to fix: 41" in printed


def test_how_parts_compare_and_what_is_out_of_reach_is_told_and_no_task_to_mend() -> None:
    told = Shift(0.93, 0.9, 0.96, True, ("references are longer: median 1,340 characters against 260",))
    found = _found(split="original", shift=told, reach=Reach(384, 88, 136, estimated=True))
    printed = " ".join(_printed(found).split())
    assert "split: original" in printed
    assert "this measures transfer, not learning. Held out against training: references are longer" in printed
    assert "88 of 136 references are longer than that" in printed
    assert found.sound
    assert json.loads(json.dumps(found.as_dict()))["reach"]["out_of_reach"] == 88
    assert "too few rows to compare" in _printed(_found())


def test_the_json_holds_ids_and_reasons() -> None:
    found = json.loads(json.dumps(_found(repeated=(("a", "b"),)).as_dict()))
    assert found["schema"] == SCHEMA
    assert found["to_fix"] == {"b": ["asks the same as a"]}


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Suite], SuiteCheck]:
    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    choice = nu.find_nu()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    if choice is not None:
        monkeypatch.setenv("HARNESS_VNU_JAR", choice.jar)
    return lambda suite: check_suite(suite, ProgressReporter(Console(file=io.StringIO())), limit=2)


@pytest.mark.slow
def test_faults_planted_in_a_suite_are_found(checked: Callable[[Suite], SuiteCheck]) -> None:
    absent = parse_check({"why": "no table", "level": "must", "not_see": {"role": "table"}})
    found = checked(
        _suite(
            (
                _task("fine", "A page about the weather in spring", "<h1>Rain and sun</h1>", _see("Rain")),
                _task("broken", "Say hello to the whole wide world", "<h1>Hello<b></h1><p>there</p>"),
            ),
            (
                _task("wrong", "A short poem on winter nights at sea", "<h1>Snow</h1><p>Cold</p>", _see("Ice")),
                _task("lax", "Three facts on bees and their honey", "<ul><li>They fly</li></ul>", absent),
                _task("leaky", "A page about the weather in spring", "<h1>Storm</h1>", _see("Storm")),
            ),
        )
    )
    assert set(found.to_fix) == {"broken", "wrong", "lax", "leaky"}
    assert "not well-formed" in found.to_fix["broken"][0]
    assert any("shows Ice [must]" in why for why in found.to_fix["wrong"])
    assert any("an empty page passes" in why for why in found.to_fix["lax"])
    assert found.to_fix["leaky"] == ["held out, but nearly the same as training row fine"]
    assert {tier.name: tier.passed for tier in found.tiers}["renders"] == 5
