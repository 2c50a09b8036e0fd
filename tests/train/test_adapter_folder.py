"""The adapter as others get it: loaded by PEFT alone, described by its card, put onto a hub."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.errors import HarnessError, UsageError
from harness.model.load import LoadedModel
from harness.model.profile_schema import HubWeights, Weights
from harness.runs.manifest import Manifest
from harness.runs.summary import Summary
from harness.train.model_card import write_card
from harness.train.push_to_hub import push_adapter
from harness.train.sft import TrainedAdapter
from tests.train.test_sft import train

ESTIMATE = {"mean": 0.75, "low": 0.5, "high": 0.9, "n": 8, "unscored": 0}
MANIFEST = {
    "run": "night", "harness": "1.2", "started": "2026-01-02T03:04:05+00:00", "finished": None,
    "suites": {"small": {"title": "Small: \"tasks\"", "revision": "r1", "split_hash": "s1"}},
    "scorers": {
        "conforming": {"label": "Conforming", "kind": "form", "scale": "share"},
        "bleu_dom": {"label": "BLEU (DOM)", "kind": "similarity", "scale": "percent"},
    },
}  # fmt: skip
SUMMARY = {
    "primary": ["conforming", "bleu_dom"],
    "suites": {
        "small": {
            "tasks": 8,
            "metrics": {
                "conforming": {"base": {**ESTIMATE, "mean": 0.25}, "tuned": ESTIMATE},
                "bleu_dom": {"base": ESTIMATE, "tuned": {**ESTIMATE, "mean": None}},
            },
            "pairs": {"base:tuned": {"conforming": {"difference": 0.5, "low": 0.1, "high": 0.8, "n": 8}}},
        }
    },
}


@pytest.fixture
def adapter(own_cache: Path, tiny: LoadedModel) -> TrainedAdapter:
    return train(tiny)


def test_peft_alone_loads_the_folder_and_computes_the_same(adapter: TrainedAdapter, tiny: LoadedModel) -> None:
    from peft import AutoPeftModelForCausalLM

    assert not [file for file in adapter.folder.iterdir() if file.suffix in (".bin", ".pt")]
    alone = AutoPeftModelForCausalLM.from_pretrained(adapter.folder).eval()
    tokens = torch.arange(5, 40)[None]
    with torch.no_grad(), tiny.adapter(adapter.folder, adapter.sha256) as model:
        expected = model(tokens).logits
        torch.testing.assert_close(alone(tokens).logits, expected)
        with model.disable_adapter():
            assert not torch.allclose(model(tokens).logits, expected, atol=1e-3)


def test_a_new_adapter_has_a_card_that_claims_nothing(adapter: TrainedAdapter) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(adapter.folder / "README.md")
    assert card.data.eval_results is None
    assert card.data.library_name == "peft"
    assert "not measured yet" in card.text
    assert "More Information Needed" not in card.text  # the form that PEFT leaves


@pytest.mark.parametrize("model", ["tuned", "tuned#seed3"])
def test_the_card_holds_the_held_out_numbers(tmp_path: Path, model: str) -> None:
    from huggingface_hub import ModelCard

    write_card(tmp_path, model, "me/base", Manifest.model_validate(MANIFEST), Summary.model_validate(SUMMARY))
    text = (tmp_path / "README.md").read_text()
    meta = yaml.safe_load(text.split("---\n")[1])
    (entry,) = meta["model-index"]
    assert entry["name"] == model.replace("#", "-")
    (result,) = entry["results"]  # bleu_dom has no number for it
    assert result["dataset"] == {
        "type": "small", "name": 'Small: "tasks"', "split": "held-out", "revision": "r1", "args": {"split_hash": "s1"},
    }  # fmt: skip
    assert result["metrics"] == [
        {
            "type": "conforming", "name": "Conforming", "value": 0.75,
            "args": {"low": 0.5, "high": 0.9, "n": 8, "unscored": 0},
        }
    ]  # fmt: skip
    card = ModelCard.load(tmp_path / "README.md")
    assert [found.metric_value for found in card.data.eval_results] == [0.75]
    assert card.data.base_model == "me/base"
    assert "| Conforming | 0.75 [0.5, 0.9] | +0.5 [0.1, 0.8] |" in card.text
    assert ("seed 3" in card.text) == ("#" in model)


class Hub(BaseHTTPRequestHandler):
    """The four calls that an upload of small files makes."""

    refuses = False
    files: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = f"http://127.0.0.1:{self.server.server_address[1]}/me/pages"
        if self.refuses:
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            return self.answer(200, {"url": address})
        if self.path == "/api/validate-yaml":
            meta = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            return self.answer(200 if meta["library_name"] == "peft" else 400, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            return self.answer(200, {"files": modes})
        if "/commit/" in self.path:
            for line in body.splitlines():
                part = json.loads(line)
                if part["key"] == "file":
                    type(self).files[part["value"]["path"]] = base64.b64decode(part["value"]["content"])
            return self.answer(
                200, {"commitUrl": f"{address}/commit/{'0' * 40}", "commitOid": "0" * 40, "success": True}
            )
        return self.answer(404, {"error": self.path})

    def answer(self, status: int, content: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.files, Hub.refuses = {}, False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_TOKEN", "hf_loopback")
    yield Hub
    server.shutdown()
    server.server_close()


def test_push_uploads_the_adapter_and_names_its_base(adapter: TrainedAdapter, hub: type[Hub]) -> None:
    (adapter.folder / "training_args.bin").write_bytes(b"pickle")
    address = push_adapter(adapter.folder, "me/pages", Weights(hub=HubWeights(path="maker/base", revision="v2")))
    assert address.endswith("/me/pages")
    assert hub.files["adapter_model.safetensors"] == (adapter.folder / "adapter_model.safetensors").read_bytes()
    assert hub.files["README.md"].startswith(b"---\n")
    assert "training_args.bin" not in hub.files
    config = json.loads(hub.files["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == ("maker/base", "v2")
    assert json.loads((adapter.folder / "adapter_config.json").read_text())["base_model_name_or_path"] != "maker/base"


def test_a_push_that_fails_is_one_line(
    adapter: TrainedAdapter, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Weights(folder="x")
    with pytest.raises(UsageError, match="cannot be the name of a repository"):
        push_adapter(adapter.folder, "me/my pages", weights)
    hub.refuses = True
    with pytest.raises(HarnessError, match=r"could not be pushed to me/pages: .*\(log in with"):
        push_adapter(adapter.folder, "me/pages", weights)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HarnessError, match=r"could not be pushed to me/pages: .*refused") as told:
        push_adapter(adapter.folder, "me/pages", weights)
    assert "\n" not in str(told.value)
