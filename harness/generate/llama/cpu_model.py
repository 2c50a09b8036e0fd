"""A Llama decoded on a CPU: weights packed once for oneDNN's products, no token of padding, no copy of keys or values.

A step reads all weights for a few rows. Packed, they lie as the processor's vector units take them; the plain product
would rearrange them anew in every step. The packed copy is a second one: `plan_on_cpu` says where there is room for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.generate.llama import cpu_ops
from harness.generate.llama.cpu_attention import CpuCache, attention_of, readings
from harness.generate.llama.model import Attention, FusedLlama, KVCache
from harness.generate.llama.products import PackedProduct, Product
from harness.generate.llama.prompt_batch import PromptBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer


class CpuLlama(FusedLlama):
    """The weights of one model as decoding on a CPU takes them.

    Args:
        model: As of `FusedLlama`, on the CPU.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model, cpu_ops)
        self.enters_beside = False
        self.model_by_model = True
        with torch.inference_mode(False):
            self._packed_head = cpu_ops.packed(self.head)

    def _product(self, block: LlamaDecoderLayer, names: tuple[str, ...]) -> PackedProduct[torch.Tensor]:
        whole = super()._product(block, names)
        assert isinstance(whole, Product)
        return PackedProduct(cpu_ops.packed(whole.below), cpu_ops.packed_linear)

    def pool(self, places: int) -> CpuCache:
        """Return room for that many tokens."""
        plain = super().pool(places)
        return CpuCache(plain.keys, plain.values)

    def _attention_of_rows(self, pool: KVCache, starts: torch.Tensor, positions: torch.Tensor) -> Attention:
        assert isinstance(pool, CpuCache)
        return attention_of(pool, readings(pool, starts.tolist(), positions.tolist()))

    def _attention_of_prompts(self, pool: KVCache, prompts: PromptBatch) -> Attention:
        assert isinstance(pool, CpuCache)
        pool.note(prompts.first_places, prompts.prefixes)
        return super()._attention_of_prompts(pool, prompts)

    def _logits(self, ends: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        normed = self.operations.add_norm(*ends, self.norm, self.epsilon)
        return cpu_ops.packed_linear(normed, self._packed_head)
