"""Every command in a folder that is full of somebody's own files, under every name that the harness might write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from harness.cli.app import app
from harness.errors import HarnessError
from harness.render.browser import find_browser
from harness.storage.outputs import check_folder, check_output, output_folder, rewrite_output, write_output
from tests.conftest import TINY_PROFILE, TINY_TUNED, CommandLine, make_suite
from tests.report.synthetic import make_run

_NAMES = """
index.html page.html findings.json junit.xml pr.md samples.csv samples.parquet tables.tex tables.md model-card.md
summary.json manifest.json samples.jsonl journal.jsonl votes.jsonl agreement.json .lock README.md run1.html notes.txt
reports/index.html reports/theirs/index.html reports/theirs/manifest.json reports/theirs/.lock reports/plain/a.txt
reports/run1/exports/samples.csv reports/run1/exports/tables.md reports/run1/exports/tables.tex reports/run1/notes.txt
reports/run1/exports/samples.parquet reports/run1/exports/model-card.md reports/run1/run1.html
other/index.html other/theirs/manifest.json other/theirs/index.html adapter/adapter_model.safetensors adapter/README.md
merged/model.safetensors merged/config.json tasks/theirs/suite.txt tasks/file baselines/scores/run1.json
cache/adapters/theirs.bin cache/weights/theirs.bin cache/notes.txt cache/nu.txt linked/notes.txt
home/.cache/theirs.txt home/.cache/pip/a home/notes.txt bin/chromium .venv/pyvenv.cfg .venv/bin/python shots/a.png
"""
SOMEBODYS = [*_NAMES.split(), "with spaces/notes.txt"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, a suite, a profile, and the files of somebody who has nothing to do with them."""
    place = tmp_path_factory.mktemp("original")
    for run in ("reports/run1", "other/run1"):
        make_run(place / run, tasks=4, pictures=False, models=("base", "tuned"))
    make_suite(place / "tasks" / "small", train=4, held_out=3)
    profile = place / "baselines" / "tiny"
    profile.mkdir(parents=True)
    (profile / "profile.yaml").write_text(TINY_PROFILE.format(weights="nothing-here"))
    (profile / "base.yaml").write_text("description: As made.\n")
    (profile / "tuned.yaml").write_text(TINY_TUNED)
    rows = [{"prompt": f"Show {n}", "reference": f"<p>{n}</p>"} for n in range(4)]
    (place / "rows.yaml").write_text(yaml.safe_dump(rows))
    (place / "answers.jsonl").write_text('{"task": "film", "completion": "<p>1</p>", "model": "a"}\n')
    for name in SOMEBODYS:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f'{{"name": "somebody\'s {name}"}}')
    (place / "link").symlink_to("linked")
    (place / "link.html").symlink_to("notes.txt")
    return place


@pytest.fixture
def place(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the commands are started in."""
    place = tmp_path / "my work"
    shutil.copytree(original, place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    find_browser.cache_clear()
    yield place
    find_browser.cache_clear()


REFUSED = 2
COMMANDS: list[tuple[str, int | None]] = [
    ("suites list", 0),
    ("suites new fresh", 0),
    ("suites new rows --from rows.yaml", 0),
    ("suites new theirs", REFUSED),
    ("suites new file", REFUSED),
    ("suites check small --json findings.json", REFUSED),
    ("profiles list", 0),
    ("profiles check tiny", 0),
    ("profiles new tiny --from theirs", REFUSED),
    ("profiles new fresh --from ./nowhere", REFUSED),
    ("report run1", 0),
    ("report other/run1", 0),
    ("report other/theirs", REFUSED),
    ("report theirs", REFUSED),
    ("report run1 --single-file", REFUSED),
    *((f"report run1 --export {name}", REFUSED) for name in ("csv", "parquet", "latex", "markdown", "model-card")),
    ("compare run1 --gate", None),
    ("compare run1 --junit junit.xml", REFUSED),
    ("compare run1 --markdown pr.md", REFUSED),
    ("compare run1 --markdown link.html", REFUSED),
    ("compare run1 --freeze", REFUSED),
    ("vote run1 --pair base,nobody", REFUSED),
    ("vote theirs", REFUSED),
    ("score small answers.jsonl --name theirs", REFUSED),
    ("score small answers.jsonl --name plain", REFUSED),
    ("run --profile tiny --models base --name theirs", REFUSED),
    ("run --profile tiny --models base,tuned --name plain", REFUSED),
    ("train tuned --profile tiny --out adapter", REFUSED),
    ("train tuned --profile tiny --merge merged", REFUSED),
    ("train tuned --profile tiny --out notes.txt", REFUSED),
    ("plan tuned --profile tiny --gpu t4", REFUSED),
    ("generate hello --profile tiny --model base --out page.html", REFUSED),
    ("generate hello --profile tiny --model base --out reports", REFUSED),
    ("generate hello --profile tiny --model base --out link.html", REFUSED),
]


def test_every_command_is_started() -> None:
    """`doctor` and `audit` are started below, where each of them takes longer; `setup` has tests of its own."""
    commands: set[str] = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert commands - {"doctor", "audit", "judge", "cache", "setup"} == {command.split()[0] for command, _ in COMMANDS}
    assert len(SOMEBODYS) >= 50


@pytest.mark.parametrize(("command", "code"), COMMANDS)
def test_no_file_of_somebodys_own_changes(
    command: str, code: int | None, place: Path, command_line: CommandLine
) -> None:
    before = contents(place)
    found, said, error = command_line(*command.split())
    after = contents(place)
    ours = [name for name, content in before.items() if after.get(name) != content]
    assert [name for name in ours if name in SOMEBODYS] == []
    assert all(name.startswith(("reports/run1/", "other/run1/")) for name in ours)
    assert (place / "link").is_symlink() and (place / "link.html").is_symlink()
    assert (found, error.count("\n")) == (found if code is None else code, int(found not in (0, 100))), said + error
    assert "Traceback" not in said + error


def test_measuring_files_and_looking_at_the_machine_write_nothing(place: Path, command_line: CommandLine) -> None:
    before = contents(place)
    assert command_line("doctor")[0] in (0, 1)
    assert contents(place) == before


VALUES: dict[str, Callable[[Path], str | None]] = {
    "unset": lambda place: None,
    "empty": lambda place: "",
    "space": lambda place: "  ",
    "used": lambda place: str(place / "cache"),
    "spaces": lambda place: str(place / "with spaces"),
    "link": lambda place: str(place / "link"),
    "relative": lambda place: "cache",
    "home": lambda place: "~",
    "file": lambda place: str(place / "notes.txt"),
    "here": lambda place: ".",
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("variable", ["HARNESS_CACHE", "HARNESS_VENV", "HARNESS_BROWSER", "HARNESS_VNU_JAR"])
def test_whatever_our_variables_hold(
    variable: str,
    value: str,
    place: Path,
    own_cache: Path,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from harness.storage.cache import cache_folder

    for drawing, nothing in (("forest", ""), ("training", [])):  # most of what a report takes
        monkeypatch.setattr(f"harness.report.plots.{drawing}", lambda *_, _nothing=nothing, **__: _nothing)
    monkeypatch.delenv(variable, raising=False)
    wanted = VALUES[value](place)
    if wanted is not None:
        monkeypatch.setenv(variable, wanted)
    before = contents(place)
    codes = {}
    for command in ("suites list", "report run1", "compare run1 --markdown new.md"):
        codes[command], _, error = command_line(*command.split())
        assert error.count("\n") == int(codes[command] != 0)
    assert set(codes.values()) == {0}
    if (variable, value) == ("HARNESS_CACHE", "file"):
        with pytest.raises(HarnessError, match="set HARNESS_CACHE to another folder"):
            cache_folder("adapters")
    else:
        folder = cache_folder("adapters")
        (folder / "ours.bin").write_bytes(b"ours")
        if variable == "HARNESS_CACHE" and value in ("unset", "empty", "space"):
            assert folder == place / "home/.cache/html-harness/adapters"
        elif variable == "HARNESS_CACHE":
            assert folder.parent.name == "html-harness"  # a folder of its own in a used one
        shutil.rmtree(folder.parent)
    after = contents(place)
    assert [name for name in SOMEBODYS if after[name] != before[name]] == []


def test_an_empty_or_new_folder_becomes_the_cache_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.storage.cache import cache_folder

    for name in ("new", "empty"):
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / name))
        if name == "empty":
            (tmp_path / name).mkdir()
        for _ in range(2):
            assert cache_folder("adapters") == tmp_path / name / "adapters"
        assert (tmp_path / name / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


def test_a_file_of_ours_is_written_again_and_a_changed_one_is_not(tmp_path: Path, own_cache: Path) -> None:
    file = tmp_path / "new folder" / "page.html"
    for page in ("<p>1</p>", "<p>2</p>"):
        write_output(file, page)
        assert file.read_text() == page
    file.write_text("<p>2</p><!-- mended by hand -->")
    with pytest.raises(Exception, match=r"page\.html is there already and is not the harness' own"):
        write_output(file, "<p>3</p>")
    assert file.read_text() == "<p>2</p><!-- mended by hand -->"
    write_output(Path(os.devnull), "<p>4</p>")
    assert not Path(os.devnull).is_file()
    (tmp_path / "link").symlink_to(tmp_path / "behind the link")
    write_output(tmp_path / "link", "<p>5</p>")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "behind the link").read_text() == "<p>5</p>"
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(Exception, match="cannot be written"):
        write_output(tmp_path / "circle", "x")


def test_a_folder_of_ours_is_filled_again_and_what_else_is_in_it_stays(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    with output_folder(folder) as target:
        (target / "weights.bin").write_text("1")
        (target / "old.txt").write_text("1")
        (target / "sub").mkdir()
        (target / "sub" / "a.txt").write_text("1")
    (folder / "notes.txt").write_text("somebody's")
    rewrite_output(folder, "sub/a.txt", "1, measured")
    check_folder(folder)
    with output_folder(folder) as target:
        (target / "weights.bin").write_text("2")
        (target / "sub").mkdir()
        (target / "sub" / "a.txt").write_text("2")
    found = {name: text for name, text in contents(folder).items() if not name.startswith(".html-harness")}
    assert found == {"weights.bin": b"2", "sub/a.txt": b"2", "notes.txt": b"somebody's"}
    (folder / "sub" / "a.txt").write_text("changed by hand")
    with pytest.raises(Exception, match=r"a\.txt was changed"), output_folder(folder) as target:
        (target / "weights.bin").write_text("3")
        (target / "sub").mkdir()
        (target / "sub" / "a.txt").write_text("3")
    assert (folder / "weights.bin").read_text() == "2"
    with pytest.raises(KeyboardInterrupt), output_folder(tmp_path / "stopped") as target:
        (target / "weights.bin").write_text("half")
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_record_that_leads_out_of_its_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim.txt").write_text("somebody's")
    folder = tmp_path / "adapter"
    with output_folder(folder) as target:
        (target / "a.txt").write_text("1")
    record = folder / ".html-harness.json"
    from harness.storage.cache import file_sha256

    leading = f'"../victim.txt": ["{file_sha256(tmp_path / "victim.txt")}"], "a.txt"'
    record.write_text(record.read_text().replace('"a.txt"', leading))
    with output_folder(folder) as target:
        (target / "b.txt").write_text("2")
    assert (tmp_path / "victim.txt").read_text() == "somebody's"


def test_a_place_for_a_file_is_looked_at_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for wrong in (tmp_path / "a", tmp_path):
        with pytest.raises(Exception, match="is a folder"):
            check_output(wrong)
