"""How a training is laid out on a card: what changes its memory and speed and leaves the learning the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import UsageError

DEFAULT_MICRO_BATCH = 8
"""What SFTConfig takes where a model file says nothing."""

CHECKPOINTING = "activation_checkpointing"
"""Its name in SFTConfig; a model file may use the older `gradient_checkpointing` too."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One way of doing the same training. A step learns from `micro_batch * accumulation` rows in each process."""

    micro_batch: int
    accumulation: int
    checkpointing: bool
    """Layers are computed again in the backward pass instead of being kept."""
    plain_base: bool = False
    """4-bit weights are held dequantized, as 16-bit matrices, beside the 4-bit ones while training."""
    padding_free: bool = False
    """The rows of a micro-batch stand one behind the other and attend each to itself; `sft` alone says so if False."""
    products: str | None = None
    """The dtype of matrix products where weights and sums are in another, as on a CPU; None is that of the weights."""

    @property
    def effective_batch(self) -> int:
        """Rows that one step of the optimiser learns from, in each process."""
        return self.micro_batch * self.accumulation

    def shared(self, processes: int) -> BatchPlan:
        """Return the part of each of so many processes, with as many rows in all.

        Raises:
            UsageError: the rows of a step cannot be shared evenly.
        """
        if self.effective_batch % processes:
            evenly = [number for number in range(1, self.effective_batch + 1) if self.effective_batch % number == 0]
            raise UsageError(
                f"{processes} processes cannot share the {self.effective_batch} rows of a step evenly",
                f"start {' or '.join(str(number) for number in evenly)}, or set train.sft."
                "per_device_train_batch_size and gradient_accumulation_steps so that their product can be",
            )
        part = self.effective_batch // processes
        micro_batch = max(size for size in range(1, min(part, self.micro_batch) + 1) if part % size == 0)
        return replace(self, micro_batch=micro_batch, accumulation=part // micro_batch)

    def smaller(self) -> BatchPlan | None:
        """Return the next layout that needs less memory at the same effective batch; None when there is none.

        First the micro-batch halves (an odd one falls to 1) and the accumulation grows by as much; then the base goes
        back to 4 bit; then layers are recomputed.
        """
        if self.micro_batch > 1:
            micro_batch = self.micro_batch // 2 if self.micro_batch % 2 == 0 else 1
            return replace(self, micro_batch=micro_batch, accumulation=self.effective_batch // micro_batch)
        if self.plain_base:
            return replace(self, plain_base=False)
        return None if self.checkpointing else replace(self, checkpointing=True)

    def sft(self) -> dict[str, Any]:
        """Return the fields of SFTConfig that this layout sets."""
        return {
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            CHECKPOINTING: self.checkpointing,
            # trl cuts no rows then; they are as long as `max_length` says already
            **({"padding_free": True, "max_length": None} if self.padding_free else {}),
        }

    def __str__(self) -> str:
        base = ", 4-bit base held dequantized" if self.plain_base else ""
        kept = "layers recomputed" if self.checkpointing else "layers kept"
        rows = ", rows without padding" if self.padding_free else ""
        products = f", products in {self.products}" if self.products else ""
        return f"micro-batch {self.micro_batch} × {self.accumulation}{rows}, {kept}{base}{products}"


def written_layout(sft: Mapping[str, Any]) -> BatchPlan:
    """Return the layout that a model file's `sft` asks for, with SFTConfig's defaults."""
    return BatchPlan(
        micro_batch=int(sft.get("per_device_train_batch_size", DEFAULT_MICRO_BATCH)),
        accumulation=int(sft.get("gradient_accumulation_steps", 1)),
        checkpointing=bool(sft.get(CHECKPOINTING, sft.get("gradient_checkpointing", True))),
    )


def laid_out(sft: Mapping[str, Any], layout: BatchPlan) -> dict[str, Any]:
    """Return a model file's `sft` with the fields that the layout sets, under one name each."""
    return {name: value for name, value in sft.items() if name != "gradient_checkpointing"} | layout.sft()
