"""`cache list` and `cache prune`."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.generate.store import CompletionStore
from harness.render import RenderSettings
from harness.render.browser import BrowserChoice
from harness.render.cache import RenderCache
from harness.render.settings import RenderRequest
from harness.storage.cache import PARTS
from harness.storage.cache_inventory import KINDS, entries, not_ours
from harness.storage.lock import one_at_a_time
from harness.types import Answer, Rendering
from tests.conftest import CommandLine


@pytest.fixture
def filled(own_cache: Path, tmp_path: Path) -> Path:
    """A cache with something of every kind, by its real writer where that is quick, and with foreign things."""
    from harness.storage.cache import remembered_sha256

    store = CompletionStore({"weights": "abc" * 9}, model="base \x1b[31m")
    for number in range(3):
        store.put(str(number), Answer("<p>", "eos", 1, 1, 0.1))
    old = own_cache / "completions" / f"{'0' * 32}.jsonl"
    old.write_text('{"key": 1}\n')
    browser = BrowserChoice("/usr/bin/x", "chromium", "1", "")
    renders = RenderCache(own_cache / "renders", RenderSettings(), browser)
    renders.store(RenderRequest("a", "<p>"), Rendering(outcome="ok", screenshots={"desktop": b"png"}))
    remembered_sha256(old)
    weights = own_cache / "weights" / f"{'b' * 16}-1"
    weights.mkdir(parents=True)
    (weights / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64}')
    (weights / "model.safetensors").write_bytes(b"0" * 3_000_000)
    for name, record in (("a" * 32, {"steps": 4}), ("c" * 32, None)):
        adapter = own_cache / "adapters" / name
        adapter.mkdir(parents=True)
        (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/x/some-base"}')
        if record:
            (adapter / "training.json").write_text(json.dumps(record))
            (adapter / "README.md").write_text("---\n---\n\n# tuned\n")
    (own_cache / "weights" / f".{'d' * 16}-1.{'0' * 12}").mkdir()  # half of a conversion that was killed
    proof = own_cache / "proofs" / f"{hashlib.sha256(b'').hexdigest()[:32]}.json"
    proof.parent.mkdir()
    proof.write_text("{}")
    # of somebody else
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    (own_cache / "weights" / f"{'e' * 16}-1").symlink_to(tmp_path / "precious")
    (own_cache / "adapters" / "my-adapter").mkdir()
    (own_cache / "adapters" / "my-adapter" / "adapter_model.safetensors").write_bytes(b"mine")
    (own_cache / "notes.txt").write_text("mine")
    (own_cache / "completions" / "mine.jsonl").write_text("mine")
    (own_cache / "completions" / f"{'f' * 32}.json").write_text("mine")
    return own_cache


FOREIGN = (
    f"weights/{'e' * 16}-1/thesis.txt",
    "adapters/my-adapter/adapter_model.safetensors",
    "notes.txt",
    "completions/mine.jsonl",
    f"completions/{'f' * 32}.json",
)


def foreign_stays(cache: Path) -> None:
    assert {(cache / name).read_text() for name in FOREIGN} == {"mine"}
    assert not_ours(cache) == len(FOREIGN)


def test_each_kind_is_listed_with_size_age_and_what_it_belongs_to(filled: Path, command_line: CommandLine) -> None:
    before = {path: path.read_bytes() for path in filled.rglob("*") if path.is_file()}
    code, said, complaint = command_line("cache", "list")
    assert (code, complaint) == (0, "")
    words = " ".join(said.split())
    for expected in (
        f"weights {'b' * 16}-1 3.0 MB now llama, 2",
        f"adapters {'a' * 12}… ",
        "tuned, 4",
        "a training that",
        "3 answers of",
        "of an older",
        "renders 2 files",
        "hashes 1 files",
        "proofs 1 files",
        "5 more things there are not the harness' own, and are left alone",
    ):
        assert expected in words, expected
    assert "\x1b" not in said
    assert "mine" not in said
    assert {path: path.read_bytes() for path in filled.rglob("*") if path.is_file()} == before
    code, said, _ = command_line("cache", "list", "--kind", "adapters,hashes")
    assert "weights" not in said
    assert command_line("cache", "list", "--kind", "adaptors")[2].startswith("error: there is no kind 'adaptors'")


def test_an_empty_cache_is_no_fault(own_cache: Path, command_line: CommandLine) -> None:
    assert command_line("cache", "list")[:2] == (0, f"0 B in {own_cache}\n")
    assert command_line("cache", "prune", "--kind", "weights", "--yes")[0] == 0


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (("--kind", "renders"), {"renders"}),
        (("--kind", "completions,hashes"), {"completions", "hashes"}),
        (("--larger-than", "1MB"), {"weights"}),
        (("--larger-than", "2.5 MiB", "--kind", "weights,adapters"), {"weights"}),
        (("--older-than", "1h"), set()),
        (("--older-than", "0d"), {"weights", "adapters", "completions", "renders", "hashes", "proofs"}),
    ],
)
def test_what_is_asked_for_goes_and_nothing_else(
    filled: Path, command_line: CommandLine, options: tuple[str, ...], gone: set[str]
) -> None:
    before = list(entries(filled))
    code, _, complaint = command_line("cache", "prune", *options, "--yes")
    assert (code, complaint) == (0, "")
    large = "--larger-than" in options
    wanted = {one.path for one in before if one.kind.name in gone and (one.bytes > 1_000_000 or not large)}
    assert {one.path for one in before} - {one.path for one in entries(filled)} == wanted
    assert bool(wanted) == bool(gone)
    foreign_stays(filled)


def test_old_things_go_by_when_they_were_written(filled: Path, command_line: CommandLine) -> None:
    weights = next(entry for entry in entries(filled) if entry.bytes > 1_000_000)
    week = time.time() - 7 * 86_400
    for path in (*weights.path.iterdir(), weights.path):
        os.utime(path, (week, week))
    command_line("cache", "prune", "--older-than", "8d", "--yes")
    assert weights.path.exists()
    command_line("cache", "prune", "--older-than", "6d", "--yes")
    assert not weights.path.exists()
    assert len(list((filled / "adapters").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing says what is to be removed"),
        (("--kind", "weights"), "would be removed (add --yes)"),
        (("--older-than", "soon", "--yes"), "--older-than soon is no such number"),
        (("--larger-than", "5 parsecs", "--yes"), "--larger-than 5 parsecs is no such number"),
        (("--larger-than", "-1", "--yes"), "--larger-than -1 is no such number"),
    ],
)
def test_nothing_goes_by_mistake(
    filled: Path, command_line: CommandLine, options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: PTH123, SIM115
    before = set(filled.rglob("*"))
    code, _, complaint = command_line("cache", "prune", *options)
    assert code == 2
    assert message in complaint
    assert set(filled.rglob("*")) == before


def test_a_person_is_asked_first(filled: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    replies = iter(["", "y"])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or next(replies))
    assert "nothing was removed" in command_line("cache", "prune", "--kind", "weights")[1]
    assert (filled / "weights" / f"{'b' * 16}-1").exists()
    assert "removed 2 of 2" in command_line("cache", "prune", "--kind", "weights")[1]
    assert not (filled / "weights" / f"{'b' * 16}-1").exists()
    assert asked == ["remove these 3.0 MB? [y/N] "] * 2


def test_what_another_process_makes_stays(filled: Path, command_line: CommandLine) -> None:
    making = filled / "adapters" / ("c" * 32)
    with one_at_a_time(making.with_name(f"{making.name}.lock")):
        code, said, _ = command_line("cache", "prune", "--kind", "adapters", "--yes")
    assert code == 0
    assert "removed 1 of 2, others are being made" in said
    assert making.exists()
    command_line("cache", "prune", "--kind", "adapters", "--yes")
    assert not making.exists()


def test_every_folder_of_the_cache_that_the_code_names_is_a_kind() -> None:
    import re

    root = Path(__file__).parents[2] / "harness"
    named = {found for path in root.rglob("*.py") for found in re.findall(r'cache_folder\("(\w+)"', path.read_text())}
    assert {"weights", "adapters", "completions", "renders", "received", "hashes"} <= named
    assert named <= PARTS == {kind.place.partition("/")[0] for kind in KINDS}
