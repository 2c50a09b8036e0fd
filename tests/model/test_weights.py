from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.model.profile import Profile
from harness.model.profile_schema import HubWeights, PackagedGguf, Weights
from harness.model.weights import fetch_weights, packaged_file


def test_converted_weights_are_taken_from_the_cache(
    embedded_folder: Path, embedded_profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.delattr(transformers, "AutoModelForCausalLM")  # a second conversion would need it
    assert fetch_weights(embedded_profile.file.weights).folder == embedded_folder


def test_converted_weights_are_plain_float32(embedded_folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(embedded_folder / "model.safetensors", "pt") as tensors:
        names = list(tensors.keys())
        assert {tensors.get_slice(name).get_dtype() for name in names} == {"F32"}
    assert len(names) == 272
    assert "quantization_config" not in (embedded_folder / "config.json").read_text()


def test_renamed_weights_are_the_same_and_changed_ones_are_not(tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    before = fetch_weights(Weights(folder=str(tiny_folder))).sha256
    assert fetch_weights(Weights(folder=str(copy))).sha256 == before
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert fetch_weights(Weights(folder=str(copy))).sha256 != before


@pytest.mark.parametrize(
    ("gguf", "message"),
    [
        (PackagedGguf(package="no_such_package", file="a", sha256="b"), "a of no-such-package is not on this machine"),
        (PackagedGguf(package="yaml", file="a.gguf", sha256="b"), r"a\.gguf of yaml is not on this machine"),
        (
            PackagedGguf(package="yaml", file="__init__.py", sha256="b"),
            r"__init__\.py is not the file that the profile",
        ),
    ],
)
def test_a_missing_package_or_file_is_one_line(
    gguf: PackagedGguf, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_EMBEDDED_MODEL", raising=False)
    with pytest.raises(HarnessError, match=message + r".*\(run `html-harness setup`\)"):
        packaged_file(gguf)


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"holds no model: config\.json is missing"):
        fetch_weights(Weights(folder=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(HarnessError, match=r"holds no weights"):
        fetch_weights(Weights(folder=str(tmp_path)))


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Network is unreachable\nsecond line")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(HarnessError) as refused:
        fetch_weights(Weights(hub=HubWeights(path="some/model")))
    assert refused.value.exit_code == 1
    assert str(refused.value).startswith(
        "the weights some/model could not be loaded from the hub: Network is unreachable (check the network, or use"
    )
    assert "\n" not in str(refused.value)


def test_weights_fetched_before_serve_without_a_hub(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    import huggingface_hub

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Network is unreachable")

    def from_cache(path: str, *, local_files_only: bool = False, **kwargs: Any) -> str:
        if not local_files_only:
            raise ConnectionError("Network is unreachable")
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", from_cache)
    assert fetch_weights(Weights(hub=HubWeights(path="some/model"))).folder == tiny_folder
