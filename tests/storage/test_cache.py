from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.storage import cache
from harness.storage.atomic import finished_folder, write_atomically
from harness.storage.cache import cache_folder, content_key, file_sha256, files_sha256

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_order_of_keys_does_not_change_the_key(content: dict[str, Any]) -> None:
    assert content_key(content) == content_key(dict(reversed(content.items())))


@given(JSON, JSON)
def test_other_content_has_another_key(first: Any, second: Any) -> None:
    # repr tells True from 1, as JSON does
    assert (content_key(first) == content_key(second)) == (repr(_sorted(first)) == repr(_sorted(second)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "here"))
    assert cache_folder("a", "b") == tmp_path / "here" / "a" / "b"
    assert (tmp_path / "here" / "a" / "b").is_dir()
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if os.name != "nt":
        assert cache_folder() == tmp_path / "xdg" / "html-harness"


def test_a_cache_restored_without_its_tag_is_still_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    for part in ("weights", "nu"):
        (tmp_path / part).mkdir()
    (tmp_path / "nu" / "vnu.jar").write_bytes(b"jar")
    assert cache_folder("nu") == tmp_path / "nu"
    assert (tmp_path / "CACHEDIR.TAG").is_file()


@pytest.mark.parametrize("theirs", ["notes.txt", "html-harness/weights/x", "weights", ".git/HEAD"])
def test_a_folder_with_something_else_in_it_is_somebodys(
    theirs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nu").mkdir()
    (tmp_path / theirs).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / theirs).write_text("mine")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    assert cache_folder("nu") == tmp_path / "html-harness" / "nu"


def test_on_a_mac_the_cache_of_before_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "Library" / "Caches" / "html-harness"
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: library)
    assert cache_folder() == library
    library.joinpath("CACHEDIR.TAG").unlink()
    library.rmdir()
    (tmp_path / ".cache" / "html-harness").mkdir(parents=True)
    assert cache_folder() == tmp_path / ".cache" / "html-harness"


def test_a_cache_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(HarnessError, match=r"cannot be made: Not a directory \(set HARNESS_CACHE"):
        cache_folder("weights")


def test_hashing_is_remembered_until_a_file_changes(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a.bin", tmp_path / "b.bin"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(cache, "file_sha256", counted)
    before = files_sha256([first, second])
    assert files_sha256([second, first]) == before
    assert hashed == ["a.bin", "b.bin"]
    first.write_bytes(b"other")
    assert files_sha256([first, second]) != before
    assert hashed == ["a.bin", "b.bin", "a.bin"]


def test_equal_files_of_other_names_hash_alike(own_cache: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "model.safetensors").write_bytes(b"same")
    (tmp_path / "two" / "renamed.safetensors").write_bytes(b"same")
    assert files_sha256([*(tmp_path / "one").iterdir()]) == files_sha256([*(tmp_path / "two").iterdir()])


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, "old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new and longer")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_a_file_written_atomically_has_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_atomically(tmp_path / "whole", "x")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_appears_when_it_is_finished_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "weights" / "abc"
    with finished_folder(target) as under_way:
        (under_way / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["abc"]


def test_a_folder_that_failed_vanishes_and_the_old_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "abc"
    target.mkdir()
    (target / "old").write_text("x")
    with pytest.raises(KeyboardInterrupt), finished_folder(target) as under_way:
        (under_way / "new").write_text("y")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]
    assert [path.name for path in target.iterdir()] == ["old"]


@pytest.mark.skipif(os.name == "nt", reason="users have numbers")
def test_a_user_without_a_home_is_one_line_and_no_folder_called_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # as `docker run --user 54321`
    with pytest.raises(HarnessError, match=r"no home folder for the cache \(set HARNESS_CACHE to a folder\)"):
        cache_folder()
    monkeypatch.setenv("HARNESS_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(HarnessError, match=r"HARNESS_CACHE=~nobody-of-this-name/cache names a home folder"):
        cache_folder()
    assert list(tmp_path.iterdir()) == []
