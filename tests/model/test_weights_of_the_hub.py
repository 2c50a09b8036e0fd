"""`--weights OWNER/NAME` and `--models OWNER/NAME,tuned`, against a hub on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.generate.transformers.architectures import ARCHITECTURES, make
from tests.storage.hub_stub import MODELS, HubStub, Repository, ask

PROFILE = """
from harness.model.adhoc_profile import adhoc_profile
print(adhoc_profile("somebody/{name}").why)
"""
PLAN = """
from harness.pipeline.config import RunConfig, resolve
plan = resolve(RunConfig(models=("somebody/tiny", "tuned")))
print(plan.profile.name, [f"{spec.name} {spec.kind}" for spec in plan.specs], plan.profile.file.chat)
"""
LOAD = """
from harness.model.load import Precision, load_model
from harness.model.weights_facts import weights_named
print(load_model(weights_named("somebody/tiny"), Precision("none", "float32", "cpu")).model.config.model_type)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = make(ARCHITECTURES["Llama, tied"], tmp_path_factory.mktemp("model"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_of_the_hub_is_a_profile_before_its_weights_are_fetched(tiny: dict[str, bytes], tmp_path: Path) -> None:
    repository = Repository(tiny | {"pytorch_model.bin": b"pickle"}, card={"license": "apache-2.0"})
    with HubStub(models__somebody__tiny=repository) as hub:
        profile, plan = ask(
            hub.address, tmp_path / "here", PROFILE.format(name="tiny"), PLAN, imports=MODELS
        ).splitlines()
        assert profile.startswith("made for somebody/tiny@main: llama, ")
        assert profile.endswith("its chat template, license apache-2.0")
        assert plan == "tiny ['tiny base', 'base-fewshot few-shot', 'tuned tuned'] True"
        fetched = {line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line}
        assert "config.json" in fetched and not any(name.endswith((".safetensors", ".bin")) for name in fetched)
        assert ask(hub.address, tmp_path / "here", LOAD, imports=MODELS) == "llama"


def test_what_the_hub_says_of_a_model_is_said_or_refused_in_one_line(tiny: dict[str, bytes], tmp_path: Path) -> None:
    no_text = json.dumps({"model_type": "vit", "hidden_size": 32}).encode()
    repositories = {
        "accepted": Repository(tiny, card={"license": "other", "license_name": "llama2"}, terms=True),
        "gated": Repository(tiny, gated=401),
        "pictures": Repository(tiny | {"config.json": no_text}),
    }
    with HubStub(**{f"models__somebody__{name}": found for name, found in repositories.items()}) as hub:
        programs = [PROFILE.format(name=name) for name in repositories]
        accepted, gated, pictures = ask(hub.address, tmp_path / "here", *programs, imports=MODELS).splitlines()
    assert accepted.endswith("license llama2, gated: its terms have to be accepted on the hub")
    assert gated == (
        "error: the weights somebody/gated are gated on the hub "
        f"(accept their terms at {hub.address}/somebody/gated, then log in: `hf auth login`)"
    )
    assert "describes no model" in pictures
    assert not any(line.endswith(".safetensors") for line in hub.asked if "/resolve/" in line)
