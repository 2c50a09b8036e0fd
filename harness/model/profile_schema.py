"""The form of `baselines/<profile>/profile.yaml` and of its model files, as pydantic models."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness.storage.yaml import YamlModel
from harness.types import ComputeDType, Quantization

DType = Literal["auto", ComputeDType]
BackendName = Literal["transformers", "vllm", "openai", "file"]


class PackagedGguf(YamlModel):
    """A GGUF file inside a Python package, installed or fetched by `html-harness setup`."""

    package: str
    file: str
    sha256: str

    @property
    def distribution(self) -> str:
        """The package's name at the index."""
        return self.package.replace("_", "-")


class HubWeights(YamlModel):
    """A checkpoint on the Hugging Face hub."""

    path: str
    revision: str = "main"


class Weights(YamlModel):
    """Where base weights come from: exactly one of the three."""

    gguf: PackagedGguf | None = None
    hub: HubWeights | None = None
    folder: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Weights:
        if sum(source is not None for source in (self.gguf, self.hub, self.folder)) != 1:
            raise ValueError("name the weights by exactly one of `gguf`, `hub` and `folder`")
        return self

    @property
    def name(self) -> str:
        """The last part of their id or path, as a person calls them."""
        if self.hub:
            return self.hub.path.rpartition("/")[2]
        path = PurePath(self.gguf.file if self.gguf else str(self.folder))
        return path.stem if path.suffix == ".gguf" else path.name

    def __str__(self) -> str:
        if self.gguf:
            return f"{self.gguf.package}/{self.gguf.file}"
        return f"{self.hub.path}@{self.hub.revision}" if self.hub else str(self.folder)


class Shape(YamlModel):
    """The sizes of a Llama-like decoder in the words of its config.json, which `plan` knows before a download."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tie_word_embeddings: bool = False


class ProfileFile(YamlModel):
    """`profile.yaml`: what all models of a profile share."""

    title: str
    weights: Weights | None = None
    """None where all models of the profile run elsewhere."""
    shape: Shape | None = None
    prompt: str
    """A Jinja template of the user's turn over `prompt` and `input`."""
    chat: bool
    """True: the prompt goes through the tokenizer's chat template. False: the prompt is the whole text."""
    quantization: Quantization = "none"
    dtype: DType = "auto"
    max_new_tokens: int | None = Field(default=None, gt=0)
    """The longest answer, which may only lower the limit that follows a suite's references; None leaves it to them."""
    batch_size: int = Field(default=16, gt=0)
    suites: list[str] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _no_old_key(cls, content: object) -> object:
        if isinstance(content, dict) and "training_suite" in content:
            raise PydanticCustomError(
                "removed_key",
                "there is no key 'training_suite' any more: models learn from the suite that is measured",
                {"hint": "take it out; `--train-on SUITE`, or `suite:` under `train:` in a model file, names another"},
            )
        return content


_RENAMED = {"watch": "evaluation", "fit": "batch_plan"}
"""Keys of `train` by their names of before."""


class DevEvaluation(YamlModel):
    """The evaluation of a training by the task: by what the model answers to rows that are kept out of the training."""

    every: int = Field(gt=0)
    """Steps of the optimiser between two evaluations; the last step is always evaluated."""
    rows: int = Field(default=16, ge=2)
    """Size of the development slice, which is taken out of the training rows."""
    metrics: list[str] = Field(default=["well_formed", "bleu_dom"], min_length=1)
    """The task score is the mean of these, each from 0 to 100."""
    patience: int | None = Field(default=None, gt=0)
    """The training stops when so many evaluations in a row bring no higher task score; None trains to the end."""
    max_new_tokens: int | None = Field(default=None, gt=0)
    """The longest answer; None is the limit of the suite that is learnt from."""
    batch_size: int | None = Field(default=None, gt=0)
    """Answers that a process decodes at once, beside what the training holds in memory; None is all of its part, and
    half as many where memory runs out."""


class Training(YamlModel):
    """How an adapter is trained. `sft` and `lora` take any field of trl's SFTConfig and peft's LoraConfig."""

    suite: str | None = None
    """The suite whose training part is used; None is the profile's."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    rows: int | None = Field(default=None, gt=0)
    """Train on a fixed, stratified part of so many rows; None is all of them."""
    batch_plan: Literal["as-written", "auto"] = "as-written"
    """`auto`: micro-batch, accumulation, checkpointing and how a 4-bit base is held are chosen for the GPU's memory, on
    a CPU the micro-batch and what products are made in, at the same effective batch. `as-written`: as `sft` says, in
    torch's and PEFT's own kernels."""
    evaluation: DevEvaluation | None = None
    """None: nothing is kept out, and the last step's weights are the adapter."""
    sft: dict[str, JsonValue] = Field(default_factory=dict)
    lora: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _no_old_key(cls, content: object) -> object:
        for old, new in _RENAMED.items():
            if isinstance(content, dict) and old in content:
                setting = "batch_plan: auto" if content[old] == "card" else new
                raise PydanticCustomError(
                    "renamed_key",
                    "the key '{old}' is now called '{new}'",
                    {"old": old, "new": new, "hint": f"write `{setting}`"},
                )
        return content


class Price(YamlModel):
    """What a server charges, in `currency` per million tokens."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    currency: str = "USD"


class Served(YamlModel):
    """A model behind a server of OpenAI's protocol: vLLM, llama.cpp, TGI, `transformers serve`, hosted ones."""

    url: str
    """Up to and with the version, such as http://localhost:8000/v1."""
    model: str
    """The model's name, as the server knows it."""
    api: Literal["chat", "completions"] | None = None
    """None: chat completions for a profile with `chat: true`, else completions of the whole prompt."""
    key_env: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    """The name of the environment variable that holds the key. The key itself is written nowhere."""
    concurrency: int = Field(default=8, gt=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    timeout_s: float = Field(default=600, gt=0)
    """Seconds for one answer."""
    patience_s: float = Field(default=120, ge=0)
    """Seconds for which a request is tried again while the server is away, busy or broken."""
    price: Price | None = None
    body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of each request, such as top_p; null takes a field out."""
    omit: frozenset[Literal["seed", "temperature", "max_tokens", "stream_options"]] = frozenset()
    """Fields of our own that this server does not take. Without `seed` its samples cannot be drawn again."""
    stream: bool | None = None
    """True: the server answers by a stream of events only. None: where it says so itself."""

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it like http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("keep keys out of it: name an environment variable by `key_env`")
        return url.rstrip("/")

    @field_validator("body")
    @classmethod
    def _no_reserved_field(cls, body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        reserved = sorted(body.keys() & {"model", "messages", "prompt", "n", "stream", "seed"})
        if reserved:
            raise ValueError(f"{', '.join(reserved)} cannot be set here; `omit: [seed]` takes the seed out")
        return body

    @model_validator(mode="after")
    def _omit_or_set(self) -> Served:
        both = sorted(self.omit & {name for name, value in self.body.items() if value is not None})
        if both:
            raise ValueError(f"{', '.join(both)} cannot be set by `body` and taken out by `omit`")
        return self


class ModelFile(YamlModel):
    """`base.yaml`, `tuned.yaml` and others: one model of a profile."""

    description: str = ""
    few_shot: int = Field(default=0, ge=0, le=16)
    """How many training examples stand in the prompt."""
    train: Training | None = None
    adapter: str | None = None
    """A folder with a PEFT adapter made elsewhere."""
    vllm: dict[str, JsonValue] | None = None
    """vLLM decodes, with these fields of its EngineArgs."""
    openai: Served | None = None
    """The model answers behind a server."""
    file: str | None = None
    """The answers are in this JSON Lines file; relative to the folder of the model file."""

    @model_validator(mode="after")
    def _fits_together(self) -> ModelFile:
        if self.train and self.adapter:
            raise ValueError("give either `train` or `adapter`, not both")
        if self.openai and self.file:
            raise ValueError("give either `openai` or `file`, not both")
        elsewhere = "openai" if self.openai else "file" if self.file else None
        if elsewhere and (self.train or self.adapter or self.vllm is not None):
            raise ValueError(f"`{elsewhere}` is a model elsewhere: it cannot have `train`, `adapter` or `vllm`")
        if self.file and self.few_shot:
            raise ValueError("`file` holds answers that are there: it cannot have `few_shot`")
        return self

    @property
    def backend(self) -> BackendName:
        """What answers for this model."""
        if self.openai or self.file:
            return "openai" if self.openai else "file"
        return "transformers" if self.vllm is None else "vllm"
