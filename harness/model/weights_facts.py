"""What is known of weights before they are fetched: sizes, context, chat template, license and gating."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.errors import UsageError
from harness.model.checkpoint import one_line
from harness.model.context import context_length
from harness.model.gpu_memory import GIB, NF4_BYTES, Card, linear_sizes
from harness.model.profile_schema import HubWeights, Shape, Weights
from harness.model.weights import fetch_settings, gguf_file, hub_card
from harness.storage.json_file import read_object
from harness.storage.variables import without_tilde
from harness.types import Quantization

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?(?:@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class WeightsFacts:
    """A causal language model as its small files describe it."""

    architecture: str
    """`model_type` of its config, or of a GGUF file's header."""
    parameters: int
    """Weights in all, tied ones once."""
    shape: Shape | None
    """Its sizes where its blocks are a Llama's, for which memory is computed part by part."""
    context: int | None
    """The longest sequence in tokens; None where its config does not say."""
    chat: bool
    """It brings a chat template."""
    license: str = ""
    """As the hub's card says; empty where there is none."""
    gated: bool = False
    """The hub hands it only to those who accepted its terms."""

    def __str__(self) -> str:
        asked = "its chat template" if self.chat else "no chat template, so asked in the instruction form"
        terms = [f"license {self.license}"] if self.license else []
        terms += ["gated: its terms have to be accepted on the hub"] if self.gated else []
        return ", ".join([f"{self.architecture}, {_count(self.parameters)} parameters", asked, *terms])


def weights_named(word: str) -> Weights:
    """Return the weights that `--weights` names: a model's folder, a GGUF file, or a hub id with or without @REVISION.

    Raises:
        UsageError: it names nothing of these.
    """
    path = without_tilde(word)
    packed = gguf_file(path)
    if packed is not None:
        return Weights(folder=str(packed.resolve()))
    if (path / "config.json").is_file():
        return Weights(folder=str(path.resolve()))
    if path.exists():
        raise UsageError(f"{word} holds no model", "it needs config.json with *.safetensors, or one *.gguf file")
    if not is_hub_id(word):
        raise UsageError(f"there is no model {word}", "name a folder, a GGUF file or a hub id such as OWNER/NAME")
    name, _, revision = word.partition("@")
    return Weights(hub=HubWeights(path=name, revision=revision or "main"))


def is_hub_id(word: str) -> bool:
    """Return whether a word has the form of a model's id on the hub, OWNER/NAME or NAME, with @REVISION or without."""
    return _HUB_ID.fullmatch(word) is not None and not word.endswith(".gguf")


def weights_facts(weights: Weights) -> WeightsFacts:
    """Return what a model's small files say; of the hub nothing else is fetched.

    Raises:
        HarnessError: they cannot be had, are broken, or are of no causal language model.
    """
    folder = Path(weights.folder) if weights.folder else None
    if folder is not None and folder.suffix == ".gguf":
        return _of_gguf(folder)
    if folder is None:
        assert weights.hub is not None
        folder = fetch_settings(weights.hub)
    card = hub_card(weights.hub) if weights.hub is not None else {}
    config, counted, shape = _sizes(folder)
    return WeightsFacts(
        architecture=str(config.model_type),
        parameters=counted,
        shape=shape,
        context=context_length(config),
        chat=_has_chat_template(folder),
        license=str(card.get("license") or ""),
        gated=bool(card.get("gated")),
    )


def brings_chat_template(weights: Weights) -> bool:
    """Return whether weights on the hub, in a folder or in a GGUF file bring a chat template.

    Raises:
        HarnessError: they cannot be had, or are broken.
    """
    if weights.hub is not None:
        return _has_chat_template(fetch_settings(weights.hub))
    path = Path(str(weights.folder))
    return _of_gguf(path).chat if path.suffix == ".gguf" else _has_chat_template(path)


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or any(folder.glob("additional_chat_templates/*.jinja")):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_object(config).get("chat_template"))


def _sizes(folder: Path) -> tuple[PretrainedConfig, int, Shape | None]:
    """Return the config, and the sizes of the model that it describes, which takes no memory for them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    written = read_object(folder / "config.json")
    hint = "name a causal language model that the installed transformers knows"
    with one_line(f"{folder / 'config.json'} describes no model", hint), torch.device("meta"):
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return config, sum(tensor.numel() for tensor in model.parameters()), _shape(written, model)


def _shape(config: Mapping[str, JsonValue], model: PreTrainedModel) -> Shape | None:
    """Return the sizes in a Llama's words, if a decoder of those sizes has exactly this model's linear layers."""
    import torch

    known = {name: config[name] for name in Shape.model_fields if name in config}
    known.setdefault("num_key_value_heads", known.get("num_attention_heads"))
    try:
        shape = Shape(**known)
    except ValueError:
        return None
    head = model.get_output_embeddings()
    found = sorted(
        (module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    expected = sorted(size for size in linear_sizes(shape).values() for _ in range(shape.num_hidden_layers))
    return shape if found == expected else None


def _of_gguf(path: Path) -> WeightsFacts:
    with one_line(f"{path} cannot be read", "fetch it again: it is cut or damaged"):
        from gguf import GGUFReader

        reader = GGUFReader(path)
        architecture = str(reader.fields["general.architecture"].contents())
        length = reader.fields.get(f"{architecture}.context_length")
        return WeightsFacts(
            architecture=architecture,
            parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
            shape=None,
            context=None if length is None else int(length.contents()),
            chat="tokenizer.chat_template" in reader.fields,
        )


def weights_memory(facts: WeightsFacts, quantization: Quantization, card: Card | None) -> str:
    """Return in words what weights alone take: on a CPU, or for architectures whose other memory no formula gives."""
    size = facts.parameters * (4 if card is None else 2 if quantization == "none" else NF4_BYTES)
    how = "float32" if card is None else "16 bit" if quantization == "none" else "4 bit"
    where = "this CPU" if card is None else f"{card.name}, which has {card.memory / GIB:.1f} GiB"
    besides = "; what training and answers take besides is known for Llama's layers alone" if card is not None else ""
    return f"{size / GIB:.2f} GiB of weights in {how} on {where}{besides}"


def _count(parameters: int) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= size:
            return f"{parameters / size:.3g}{letter}"
    return str(parameters)
