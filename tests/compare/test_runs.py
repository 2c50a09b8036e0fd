from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.compare.command import Asked, RunPlaces, describe, run_compare_command, run_freeze_command
from harness.compare.gate import AS_MANY, DEFAULT_RULES, MOST_TASKS, gate_runs, read_rules
from harness.compare.runs import ManifestDifference, choose_model, compare_runs, split_reference
from harness.compare.writers import cell, junit, markdown, printable
from harness.errors import EXIT_DONE, EXIT_GATE, HarnessError, UsageError
from harness.runs.read import find_run, load_run
from harness.runs.summary import Summary
from tests.compare.compare_data import SCORERS, gate, make_rows, scorers_of
from tests.conftest import CommandLine

WriteRun = Callable[..., Path]


def test_the_same_model_across_runs_is_compared_task_by_task(write_run: WriteRun) -> None:
    first = load_run(write_run("monday", make_rows(40)))
    second = load_run(write_run("tuesday", make_rows(40, gain=0.4)))
    result = compare_runs(first, "tuned", second, "tuned", replicates=999)
    assert str(result.pair) == "tuned@monday:tuned@tuesday"
    assert result.summary.verdicts[result.pair].word == "better"
    assert result.summary.suites["starter"].pairs[result.pair]["conforming"].n == 40
    assert not result.manifest_differences


def test_what_decides_numbers_and_differs_is_listed(write_run: WriteRun) -> None:
    rows = make_rows(10)
    first = load_run(write_run("a", rows, tools={"browser": "155"}, profile={"name": "small"}))
    second = load_run(write_run("b", rows, tools={"browser": "156"}, profile={"name": "small"}))
    result = compare_runs(first, "tuned", second, "tuned", replicates=99)
    assert result.manifest_differences == [ManifestDifference("tools.browser", "155", "156")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"config_sha256": "other"}, ["tuned is not the same model in both runs: other config"]),
        (
            {"weights_sha256": "other", "adapter_config_sha256": "other"},
            ["tuned is not the same model in both runs: other weights, other adapter's config"],
        ),
        ({"description": "other"}, []),
        ({"config_sha256": None}, []),  # written before manifests told it
    ],
)
def test_another_model_of_the_same_name_is_said(write_run: WriteRun, changed: dict[str, Any], said: list[str]) -> None:
    rows = make_rows(10)
    content = dict.fromkeys(("weights_sha256", "config_sha256", "adapter_config_sha256"), "one")
    first = load_run(write_run("a", rows, models={"tuned": content}))
    second = load_run(write_run("b", rows, models={"tuned": {**content, **changed}}))
    lines = describe(compare_runs(first, "tuned", second, "tuned", replicates=99), scorers_of(SCORERS))
    assert [line for line in lines if "same model" in line] == said


def test_tasks_with_another_prompt_are_left_out(write_run: WriteRun) -> None:
    changed = make_rows(30)
    for row in changed[:10]:
        row["prompt_sha"] = "another"
    result = compare_runs(
        load_run(write_run("a", make_rows(30))), "tuned", load_run(write_run("b", changed)), "tuned", replicates=99
    )
    assert result.left_out_tasks == 5
    assert result.summary.suites["starter"].tasks == 25


def test_metrics_of_another_version_are_left_out(write_run: WriteRun) -> None:
    newer = {**SCORERS, "conforming": {**SCORERS["conforming"], "version": 2}}
    del newer["chrf"]
    rows = make_rows(10)
    first, second = load_run(write_run("a", rows)), load_run(write_run("b", rows, scorers=newer))
    result = compare_runs(first, "tuned", second, "tuned", replicates=99)
    assert result.left_out_metrics == {"conforming": "version 1 against 2", "chrf": "only a has it"}
    assert "conforming" not in result.summary.suites["starter"].metrics


def test_two_models_of_one_run(write_run: WriteRun, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_run("r", make_rows(40, gain=0.4))
    code = run_compare_command("r:base", "r:tuned", places=RunPlaces(tmp_path / "reports"), replicates=999)
    assert code == EXIT_DONE
    assert capsys.readouterr().out.startswith("tuned beats base on starter: ")


def test_several_trainings_are_one_model(write_run: WriteRun) -> None:
    run = load_run(write_run("r", make_rows(30, ("base", "tuned#seed0", "tuned#seed1"), gain=0.3)))
    assert run.families == ["base", "tuned"]
    result = compare_runs(run, "base", run, "tuned", replicates=99)
    assert result.summary.trainings == {"base": 1, "tuned": 2}


def test_usage_errors_are_one_line_that_helps(write_run: WriteRun, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    run = load_run(write_run("monday", make_rows(4)))
    with pytest.raises(UsageError, match="did you mean 'monday'"):
        find_run("mnday", reports, tmp_path)
    with pytest.raises(UsageError, match="did you mean 'tuned'"):
        choose_model(run, "tunde")
    with pytest.raises(UsageError, match="several models"):
        choose_model(load_run(write_run("x", make_rows(4, ("one", "two")))), "")
    with pytest.raises(UsageError, match="same model of the same run"):
        compare_runs(run, "base", run, "base")
    with pytest.raises(UsageError, match="share no task"):
        compare_runs(run, "base", load_run(write_run("other", make_rows(4, suite="other"))), "base")
    with pytest.raises(UsageError, match="no run"):
        load_run(tmp_path)
    (run.path / "samples.jsonl").unlink()
    with pytest.raises(UsageError, match="not finished"):
        load_run(run.path)


def test_damage_and_newer_files_are_named(write_run: WriteRun) -> None:
    folder = write_run("r", make_rows(4))
    (first, *_) = (folder / "samples.jsonl").read_text("utf-8").splitlines()
    (folder / "samples.jsonl").write_text(first + '\n{"torn', "utf-8")
    with pytest.raises(HarnessError, match=r"samples.jsonl is damaged at line 2"):
        load_run(folder)
    (folder / "manifest.json").write_text('{"schema": 99}', "utf-8")
    with pytest.raises(HarnessError, match="which this harness reads"):
        load_run(folder)


def test_references() -> None:
    assert split_reference("run:tuned") == ("run", "tuned")
    assert split_reference("run") == ("run", "")
    assert split_reference("a/b:c:tuned") == ("a/b:c", "tuned")


def test_frozen_scores_compare_like_the_run_they_come_from(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("old", make_rows(40))
    new = load_run(write_run("new", make_rows(40, gain=0.3)))
    frozen = run_freeze_command("old", places=RunPlaces(tmp_path / "reports", tmp_path / "scores"))
    assert frozen == tmp_path / "scores" / "old.json"
    assert "Write starter" not in frozen.read_text("utf-8")
    from_run = compare_runs(load_run(tmp_path / "reports" / "old"), "tuned", new, "tuned", replicates=99)
    from_frozen = compare_runs(load_run(frozen), "tuned", new, "tuned", replicates=99)
    assert from_run.summary.suites["starter"].pairs == from_frozen.summary.suites["starter"].pairs
    assert find_run("old", tmp_path / "nowhere", tmp_path / "scores") == frozen


@pytest.fixture
def summaries(write_run: WriteRun) -> dict[str, Summary]:
    better = load_run(write_run("better", make_rows(64, gain=0.4)))
    return {
        "better": compare_runs(better, "base", better, "tuned", replicates=999).summary,
        "worse": compare_runs(better, "tuned", better, "base", replicates=999).summary,
    }


@pytest.mark.parametrize(
    ("rule", "better", "worse"),
    [
        ("no primary worse", True, False),
        ("no conforming worse", True, False),
        ("no conforming@starter worse", True, False),
        ("verdict is better", True, False),
        ("verdict is not worse", True, False),
        ("verdict@starter is worse", False, True),
        ("conforming difference >= 0.05", True, False),
        ("bleu_dom low > -1", True, False),
        ("conforming mean >= 0.99", False, False),
        ("conforming unscored == 0", True, True),
    ],
)
def test_rules(summaries: dict[str, Summary], rule: str, better: bool, worse: bool) -> None:
    for name, expected in (("better", better), ("worse", worse)):
        assert all(check.passed for check in gate(summaries[name], [rule])) is expected


def test_what_was_not_measured_never_passes(write_run: WriteRun) -> None:
    rows = make_rows(20)
    for row in rows:
        row["scores"]["checks_must"] = None
    run = load_run(write_run("r", rows))
    summary = compare_runs(run, "base", run, "tuned", replicates=99).summary
    failed = [check for check in gate(summary) if not check.passed]
    assert [(check.rule, check.metric, check.detail) for check in failed] == [
        ("no primary worse", "checks_must", "not measured"),
        ("nine tenths of the tasks compared", "checks_must", "0 of 20 tasks"),
        (AS_MANY, "checks_must", "no number on 20 and 20 of 20 tasks"),
    ]
    assert not gate(summary, ["checks_must mean >= 0"])[0].passed


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("tuned must win", "not understood"),
        ("no conformin worse", "did you mean 'conforming'"),
        ("conforming diference > 0", "did you mean 'difference'"),
        ("conforming@startr low > 0", "did you mean 'starter'"),
        ("verdict is beter", "did you mean 'better'"),
    ],
)
def test_rules_that_mean_nothing_are_refused(summaries: dict[str, Summary], rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gate(summaries["better"], [rule])


def test_rules_are_read_from_text_and_yaml(tmp_path: Path) -> None:
    assert read_rules("") == read_rules(None) == DEFAULT_RULES
    assert read_rules("verdict is better; no chrf worse") == ("verdict is better", "no chrf worse")
    file = tmp_path / "gate.yaml"
    file.write_text("rules:\n  - no primary worse\n  - conforming low > -0.05\n", "utf-8")
    assert read_rules(str(file)) == ("no primary worse", "conforming low > -0.05")
    file.write_text("rules: [", "utf-8")
    with pytest.raises(UsageError, match="is not valid YAML"):
        read_rules(str(file))
    file.write_text("rules: {}", "utf-8")
    with pytest.raises(UsageError, match="no list of rules"):
        read_rules(str(file))
    with pytest.raises(UsageError, match="there is no file"):
        read_rules(str(tmp_path / "none.yaml"))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UsageError, match="cannot be read: "):
        read_rules(str(tmp_path / "folder.yaml"))


def test_the_gates_exit_code_and_files(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("good", make_rows(64, gain=0.4))
    lines: list[str] = []
    options: dict[str, Any] = {"places": RunPlaces(tmp_path / "reports"), "replicates": 999, "say": lines.append}
    files = tmp_path / "out" / "gate.xml", tmp_path / "out" / "gate.md"
    assert run_compare_command("good", None, Asked("", *files), **options) == EXIT_DONE
    assert run_compare_command("good:tuned", "good:base", Asked("", *files), **options) == EXIT_GATE
    root = ElementTree.parse(files[0]).getroot()
    assert int(root.attrib["failures"]) == len(root.findall(".//failure")) > 0
    assert int(root.attrib["tests"]) == len(root.findall(".//testcase")) == 6
    text = files[1].read_text("utf-8")
    assert text.startswith("<!-- html-harness -->\n\n**base is worse than tuned on starter")
    assert "| Conforming ★ |" in text
    assert any(line.startswith("FAILED: no primary worse: conforming on starter") for line in lines)


def test_names_from_files_cannot_break_out_of_the_reports(write_run: WriteRun) -> None:
    rows = make_rows(20, ("base", "tuned"), suite="a|b<script>\x1b[31m\x00")
    run = load_run(write_run("r", rows))
    result = compare_runs(run, "base", run, "tuned", replicates=99)
    xml = junit(gate(result.summary))
    ElementTree.fromstring(xml)
    text = markdown(result.summary, scorers_of(SCORERS), result.pair)
    assert "<script>" not in text
    assert "\x1b" not in text + xml
    assert cell("a|`b`") == "a\\|\\`b\\`"
    assert printable("a\nb\x07") == "a b�"


def test_one_run_alone_is_held_against_itself_as_its_verdict_does(write_run: WriteRun, tmp_path: Path) -> None:
    rows = make_rows(30, ("a-tuned-one", "plain"), gain=0.3)
    write_run("r", rows, models={"plain": {"kind": "base"}, "a-tuned-one": {"kind": "tuned"}})
    lines: list[str] = []
    run_compare_command("r", places=RunPlaces(tmp_path / "reports"), replicates=99, say=lines.append)
    assert "a-tuned-one" in lines[0].partition(" plain")[0]
    assert any("One training" in line for line in lines)


def test_frozen_scores_have_the_name_that_was_typed(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run("pr", make_rows(10))
    folder.rename(folder.with_name("main"))  # its manifest still says pr
    places = RunPlaces(tmp_path / "reports", tmp_path / "frozen")
    assert run_freeze_command("main", places=places) == tmp_path / "frozen" / "main.json"
    assert [path.name for path in (tmp_path / "frozen").iterdir()] == ["main.json"]
    folder.with_name("latest").symlink_to("main")
    assert run_freeze_command("latest", places=places) == tmp_path / "frozen" / "latest.json"


def test_a_run_and_frozen_scores_of_one_name_are_told_apart(write_run: WriteRun, tmp_path: Path) -> None:
    for name in ("main", "pr"):
        write_run(name, make_rows(10))
    places = RunPlaces(tmp_path / "reports", tmp_path / "frozen")
    said: list[str] = []
    run_compare_command("main", "pr", places=places, replicates=99, say=said.append)
    assert not said[0].startswith("main is ")
    frozen = run_freeze_command("main", places=places)
    said.clear()
    run_compare_command("main:base", "pr", places=places, replicates=99, say=said.append)
    assert said[0] == f"main is {tmp_path / 'reports' / 'main'}; for the frozen scores of that name write {frozen}"
    said.clear()
    run_compare_command(str(frozen), "pr", places=places, replicates=99, say=said.append)
    assert not said[0].startswith("main is ")


def test_a_difference_that_only_rounding_keeps_from_the_limit_is_at_the_limit(write_run: WriteRun) -> None:
    rows = make_rows(30)
    for row in rows:
        row["scores"]["checks_must"] = 0.8 if row["model"] == "tuned" else 0.7
    summary = compare_runs(run := load_run(write_run("r", rows)), "base", run, "tuned", replicates=99).summary
    held = {
        rule: gate(summary.as_json(), [rule])[0].passed
        for rule in ("checks_must difference >= 0.1", "checks_must difference > 0.1", "checks_must difference == 0.1")
    }
    assert list(held.values()) == [True, False, True]
    assert not gate(summary.as_json(), ["checks_must difference >= 0.1000001"])[0].passed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rules:\n  - no primary worse\nrules:\n  - no chrf worse\n", "line 3 .*the key 'rules' stands there twice"),
        ("- no primary worse\n".encode("utf-16"), "is not UTF-8 text"),
        (b"rules:\n  - no primary worse\nrule:\n  - no chrf worse\n", "has the key 'rule', which holds no rules"),
    ],
)
def test_a_file_of_rules_is_read_whole_or_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "gate.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_rules(str(tmp_path / "gate.yaml"))


def test_bytes_that_are_no_text_are_one_line(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run("r", make_rows(2))
    with (folder / "samples.jsonl").open("ab") as stream:
        stream.write(b'{"suite": "\xff"}\n')
    with pytest.raises(HarnessError, match=r"samples\.jsonl is damaged at line 5: .*invalid start byte"):
        load_run(folder)
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(HarnessError, match=r"picture is damaged at line 1"):
        load_run(tmp_path / "picture")


def test_words_that_would_be_lost_beside_freeze_are_refused(
    write_run: WriteRun, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run("r", make_rows(64, gain=0.4))
    monkeypatch.chdir(tmp_path)
    for words in (["--gate"], ["r"], ["--rules", "verdict is better"], ["--junit", "gate.xml"], ["--markdown", "x.md"]):
        code, out, error = command_line("compare", "r", "--freeze", *words)
        assert (code, out) == (2, "")
        assert error.startswith("error: --freeze keeps the scores of one run and compares nothing")
    assert not (tmp_path / "baselines").exists()


def test_a_gates_file_holds_the_gate_also_without_the_word(
    write_run: WriteRun, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run("r", make_rows(64, gain=0.45))
    monkeypatch.chdir(tmp_path)
    code, _, _ = command_line("compare", "r:tuned", "r:base", "--junit", "gate.xml")
    assert code == EXIT_GATE
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().attrib["failures"] != "0"


def test_a_run_without_rows_and_two_files_of_one_name_are_one_line(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("empty", [], models={"tuned": {"kind": "tuned"}})
    write_run("r", make_rows(10))
    places = RunPlaces(tmp_path / "reports")
    with pytest.raises(UsageError, match="the run empty holds no answers"):
        run_compare_command("empty", "r", places=places)
    with pytest.raises(UsageError, match="cannot hold both JUnit and Markdown"):
        run_compare_command("r", asked=Asked("", tmp_path / "x", tmp_path / "." / "x"), places=places)


def test_tasks_with_another_reference_are_left_out_and_fail_the_gate(write_run: WriteRun, tmp_path: Path) -> None:
    folders = [write_run(name, make_rows(64)) for name in ("old", "new")]
    for folder, changed in zip(folders, (0, 10), strict=True):
        tasks = [json.loads(line) for line in (folder / "tasks.jsonl").read_text("utf-8").splitlines()]
        tasks = [task | {"reference": f"<p>{number < changed}"} for number, task in enumerate(tasks)]
        (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks), "utf-8")
    frozen = run_freeze_command("old", places=RunPlaces(tmp_path / "reports", tmp_path / "scores"))
    assert "<p>" not in frozen.read_text("utf-8")
    new = load_run(folders[1])
    for old in (load_run(folders[0]), load_run(frozen)):
        result = compare_runs(old, "tuned", new, "tuned", replicates=99)
        assert (result.left_out_tasks, result.summary.suites["starter"].tasks) == (10, 54)
        failed = {(check.rule, check.detail) for check in gate_runs(result) if not check.passed}
        assert failed == {(MOST_TASKS, "54 of 64 tasks")}


def test_a_run_that_was_copied_without_its_tasks_is_refused(write_run: WriteRun) -> None:
    folder = write_run("r", make_rows(10))
    (folder / "tasks.jsonl").unlink()
    with pytest.raises(HarnessError, match=r"the run r lacks its tasks\.jsonl \(copy the whole folder\)"):
        load_run(folder)


def test_a_run_does_not_decide_alone_what_the_gate_rests_on(write_run: WriteRun) -> None:
    worse = {**SCORERS, "checks_must": {**SCORERS["checks_must"], "primary": False}}
    rows = make_rows(64)
    for row in rows:
        row["scores"]["checks_must"] = 0.0
    first = load_run(write_run("a", make_rows(64)))
    result = compare_runs(first, "tuned", load_run(write_run("b", rows, scorers=worse)), "tuned", replicates=99)
    assert {check.metric for check in gate_runs(result) if not check.passed} == {"checks_must"}
    other = {**SCORERS, "checks_must": {**SCORERS["checks_must"], "scale": "percent"}}
    result = compare_runs(first, "tuned", load_run(write_run("c", rows, scorers=other)), "tuned", replicates=99)
    assert result.left_out_metrics == {"checks_must": "share against percent"}
    assert result.left_out_primary == ("checks_must",)


def test_many_other_packages_do_not_hide_another_suite(write_run: WriteRun) -> None:
    def about(version: str) -> dict[str, Any]:
        packages = {f"package{number}": version for number in range(60)}
        return {"packages": packages, "suites": {"starter": {"revision": version}}, "tools": {"browser": version}}

    runs = [load_run(write_run(name, make_rows(10), **about(name))) for name in ("1", "2")]
    lines = describe(compare_runs(runs[0], "tuned", runs[1], "tuned", replicates=99), scorers_of(SCORERS))
    assert lines[1:3] == ["  suites.starter.revision: 1 → 2", "  tools.browser: 1 → 2"]
