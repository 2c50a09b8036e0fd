"""The way to the hub, against a hub on loopback that huggingface_hub and datasets are led to by HF_ENDPOINT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.model.profile_schema import Weights
from harness.model.weights import fetch_weights
from tests.storage.hub_stub import HubStub, Repository, ask

MODEL = """
from harness.model.profile_schema import HubWeights, Weights
from harness.model.weights import fetch_weights
local = fetch_weights(Weights(hub=HubWeights(path="somebody/tiny")))
print(local.sha256)
"""
SUITE = """
from harness.suite.load import find_suite, load_suite
suite = load_suite(find_suite("published"))
print([task.prompt for task in (*suite.train, *suite.held_out)])
"""
NEW = """
from pathlib import Path
from harness.suite.new import make_suite
made = make_suite("mine", "somebody/rows", Path("tasks"))
print(dict(made.columns), made.notes)
"""
MIB = 2**20


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with a model's names, larger than the pieces of 10 MiB in which the client writes; nobody loads it."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("model")
    save_file({"weight": torch.arange(3_200_000, dtype=torch.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_is_fetched_once_without_its_pickles_and_is_there_without_the_hub(
    tiny_model: Path, tmp_path: Path
) -> None:
    wanted = fetch_weights(Weights(folder=str(tiny_model))).sha256
    with HubStub(models__somebody__tiny=Repository(files(tiny_model) | {"pytorch_model.bin": b"pickle"})) as hub:
        assert ask(hub.address, tmp_path / "here", MODEL) == wanted
        assert any("resolve" in line and line.endswith("model.safetensors") for line in hub.asked)
        assert not any("pytorch_model.bin" in line for line in hub.asked)
    assert ask(hub.address, tmp_path / "here", MODEL) == wanted


def test_a_broken_download_goes_on_where_it_broke(tiny_model: Path, tmp_path: Path) -> None:
    broken = Repository(files(tiny_model), breaks={"model.safetensors": 11 * MIB})
    with HubStub(models__somebody__tiny=broken) as hub:
        said = ask(hub.address, tmp_path / "here", MODEL)
    assert said == fetch_weights(Weights(folder=str(tiny_model))).sha256
    assert [line.rpartition("bytes=")[2] for line in hub.asked if "bytes=" in line] == [f"{10 * MIB}-"]


def test_a_download_that_stays_broken_is_one_line_and_the_next_call_takes_it_up(
    tiny_model: Path, tmp_path: Path
) -> None:
    broken = Repository(files(tiny_model), breaks={"model.safetensors": 11 * MIB}, fails_after_a_break=True)
    with HubStub(models__somebody__tiny=broken) as hub:
        said = ask(hub.address, tmp_path / "here", MODEL)
        assert said.startswith("error: the weights somebody/tiny could not be loaded from the hub: ")
        assert said.count("\n") == 0
        # what came is no model: nothing half is taken for whole
        assert ask(hub.address, tmp_path / "here", MODEL).startswith("error: the weights somebody/tiny could not be")
        hub.broken = False
        assert ask(hub.address, tmp_path / "here", MODEL) == fetch_weights(Weights(folder=str(tiny_model))).sha256


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_is_one_line_that_says_how_to_log_in(tiny_model: Path, tmp_path: Path, status: int) -> None:
    with HubStub(models__somebody__tiny=Repository(files(tiny_model), gated=status)) as hub:
        said = ask(hub.address, tmp_path / "here", MODEL)
    assert said == (
        "error: the weights somebody/tiny are gated on the hub "
        f"(accept their terms at {hub.address}/somebody/tiny, then log in: `hf auth login`)"
    )


def test_a_model_that_the_hub_does_not_have_is_one_line(tmp_path: Path) -> None:
    with HubStub() as hub:
        said = ask(hub.address, tmp_path / "here", MODEL)
    assert said == (
        "error: the hub has no weights somebody/tiny (check the name; if they are private, log in: `hf auth login`)"
    )


ROWS = [{"instruction": f"Page {number}", "output": f"<h1>{number}</h1>"} for number in range(6)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with a suite whose rows are on the hub."""
    suite = tmp_path / "here" / "tasks" / "published"
    suite.mkdir(parents=True)
    columns = {"prompt": "instruction", "reference": "output"}
    content = {"title": "Published", "hub": {"path": "somebody/rows"}, "columns": columns}
    (suite / "suite.yaml").write_text(json.dumps(content))
    return tmp_path / "here"


def test_a_data_set_of_the_hub_is_a_suite(published: Path) -> None:
    with HubStub(datasets__somebody__rows=Repository({"train.jsonl": LINES}, breaks={"train.jsonl": 50})) as hub:
        said, made = ask(hub.address, published, SUITE, NEW).splitlines()
    assert sorted(json.loads(said.replace("'", '"'))) == [row["instruction"] for row in ROWS]
    assert made.startswith("{'prompt': 'instruction'")


def test_a_gated_data_set_is_one_line_that_says_how_to_log_in(published: Path) -> None:
    with HubStub(datasets__somebody__rows=Repository({"train.jsonl": LINES}, gated=401)) as hub:
        said = ask(hub.address, published, SUITE, NEW).splitlines()
    line = "the data set somebody/rows is gated on the hub "
    assert len(said) == 2
    assert all(
        one.startswith(f"error: {line}(accept its terms at {hub.address}/datasets/somebody/rows") for one in said
    )
    assert all(one.endswith("then log in: `hf auth login`)") for one in said)


def test_a_data_set_that_the_hub_does_not_have_is_one_line(published: Path) -> None:
    with HubStub() as hub:
        said = ask(hub.address, published, SUITE, NEW).splitlines()
    line = "error: the hub has no data set somebody/rows (check the name; if it is private, log in: `hf auth login`)"
    assert said == [line, line]
