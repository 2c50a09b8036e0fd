"""Which decoder answers for a model, and the memory of what was proved."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import JsonValue

from harness.runs.schema import JsonObject
from harness.storage.atomic import write_atomically
from harness.storage.cache import cache_folder, content_key
from harness.storage.lock import one_at_a_time

if TYPE_CHECKING:
    from harness.generate.transformers.plan import DecodingPlan

Kind = Literal["fused-nf4", "fused", "slots", "generate", "vllm"]
"""`fused`: few large products on unpacked weights (`llama`), on CUDA as captured steps; `fused-nf4`: on weights
that stay in 4 bit; `slots`: transformers' own layers with a cache of ours (`continuous_batching`); `generate`:
transformers' own `generate` (`reference`); `vllm`: its engine."""
FUSED: tuple[Kind, ...] = ("fused-nf4", "fused")

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "triton")
_SOURCES = (
    *("transformers/continuous_batching", "transformers/kv_cache", "transformers/prefill", "transformers/reference"),
    *("transformers/proof", "transformers/decoder_check", "transformers/comparison", "transformers/twin_checks"),
    *("transformers/twin", "transformers/adapter_kinds", "../model/attention", "../model/context"),
    *("stopping", "sampling"),
)
"""The program text that a proof speaks of, beside all of `llama`: where it changes, it is to be proved again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which decoder was found to write what `generate` writes."""

    kind: Kind
    padded: bool = False
    """Of `generate`: whether several prompts go in one padded batch, which was proved to change nothing."""
    why: str = ""
    """Why faster ones do not answer."""
    evidence: JsonObject = field(default_factory=dict)
    """What was compared, and how far it was from `generate`."""

    def identity(self) -> JsonObject:
        """Return which decoder it is; `in_key` says what of it belongs into a completion's key."""
        return {"kind": self.kind} | ({"padded": self.padded} if self.kind == "generate" else {})

    def line(self, name: str) -> str | None:
        """Return the line that says that a model is decoded by `generate`; None where a decoder of ours answers."""
        if self.kind != "generate":
            return None
        how = "in padded batches" if self.padded else "one prompt at a time"
        return f"{name} is decoded by transformers' generate, {how}: {self.why}"


def in_key(decoder: Mapping[str, JsonValue], dtype: str | None, device: str | None) -> JsonObject:
    """Return a decoder's identity as keys have it.

    In float32 on a CPU both of ours write the tokens of `generate`, whichever there is room for: under one name.
    """
    same = (dtype, device, decoder.get("kind")) == ("float32", "cpu", "fused")
    return {**decoder, "kind": "slots"} if same else dict(decoder)


class Memory:
    """A finding on something, kept in the cache under everything that it depends on.

    Args:
        about: What it depends on, beside the versions of packages and the decoders' own program text.
    """

    def __init__(self, about: object) -> None:
        key = content_key({"about": about, "packages": _versions(), "sources": _sources()})
        self.path = cache_folder("proofs") / f"{key[:32]}.json"

    def read(self) -> Any:
        """Return what was found, None where nothing was yet."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.path.read_text(encoding="utf-8"))
        return None

    def found_or(self, find: Callable[[], Any]) -> Any:
        """Return what was found before, else what `find` returns now; other processes wait for it."""
        known = self.read()
        if known is None:
            with one_at_a_time(self.path.with_suffix(".lock")):
                known = self.read()
                if known is None:
                    known = find()
                    write_atomically(self.path, json.dumps(known))
        return known


def remembered(about: object) -> Verdict | None:
    """Return the verdict on `about` where there is one."""
    known = Memory(about).read()
    return None if known is None else Verdict(**known)


def remembered_or(about: object, prove: Callable[[], Verdict]) -> Verdict:
    """Return the verdict on `about`: proved once, then read from the cache."""
    return Verdict(**Memory(about).found_or(lambda: asdict(prove())))


@functools.cache
def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


@functools.cache
def _sources() -> str:
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    fused = [path for path in sorted((folder / "llama").iterdir()) if path.suffix in (".py", ".cu", ".c")]
    for path in [*(folder / f"{name}.py" for name in _SOURCES), *fused]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kinds_here(plan: DecodingPlan | None) -> list[Kind]:
    """Return the decoders of ours that there are on this machine, the fastest first.

    Args:
        plan: Of the memory; None decodes with the weights as they are.
    """
    return [*(plan.fused if plan is not None else ()), "slots"]


def device_name(device: str) -> str:
    """Return what computes, as far as rounding and memory depend on it."""
    import torch

    if device != "cuda":
        from harness.generate.llama.cpu_attention import is_compiled

        return f"{device} {torch.backends.cpu.get_cpu_capability()}{', compiled' if is_compiled() else ''}"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cuda elsewhere"
