"""Weights that stay in 4 bit: the values of bitsandbytes' layers, held once; on a GPU also the kernels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.generate.llama import torch_ops
from harness.generate.llama.decoder import StreamDecoder
from harness.generate.llama.loaded_layers import GROUPS
from harness.generate.llama.model import FusedLlama
from harness.generate.llama.nf4 import Nf4Matrix, joined, why_not_nf4
from harness.generate.llama.products import PackedProduct
from harness.generate.transformers.adapter_kinds import unwrapped
from harness.generate.transformers.continuous_batching import Decoder, Prompt
from harness.generate.transformers.proof import prove
from harness.model.load import LoadedModel, Precision, load_model
from harness.model.profile_schema import Weights
from tests.generate.llama.test_decoder import with_adapter
from tests.generate.llama.test_kernels import for_compute_75
from tests.generate.transformers.test_continuous_batching import some_prompts, stop_rule

HALVES = torch.bfloat16, torch.float16


def layer(outputs: int, inputs: int, dtype: torch.dtype, device: str = "cpu", nested: bool = True) -> Any:
    """A layer of 4-bit weights that are held as a model's are."""
    from bitsandbytes.functional import quantize_4bit

    weight = torch.randn(outputs, inputs, dtype=dtype, device=device) * 0.02
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=nested)
    held = torch.nn.Parameter(packed, requires_grad=False)
    held.quant_state = state  # type: ignore[attr-defined]
    return SimpleNamespace(weight=held, out_features=outputs, in_features=inputs)


def values(one: Any) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(one.weight.data, one.weight.quant_state)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def tiny_nf4(tiny_folder: Path) -> LoadedModel:
    """The tiny model in 4 bit, as a run on a CPU loads it."""
    return load_model(Weights(folder=str(tiny_folder)), Precision("nf4", "float32", "cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("nested", [True, False])
def test_joined_layers_have_the_values_of_bitsandbytes_and_hold_their_bytes_once(
    dtype: torch.dtype, nested: bool
) -> None:
    torch.manual_seed(1)
    layers = [layer(outputs, 192, dtype, nested=nested) for outputs in (96, 32, 33)]
    before = [values(one) for one in layers]
    matrix = joined(layers, torch.empty(200 * 192, dtype=dtype))
    assert matrix.shape == (161, 192)
    assert torch.equal(matrix.unpacked(), torch.cat(before))
    for one, plain in zip(layers, before, strict=True):
        assert one.weight.data.untyped_storage().data_ptr() == matrix.packed.untyped_storage().data_ptr()
        assert torch.equal(values(one), plain)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_weight_is_a_floats_product_rounded_once(dtype: torch.dtype) -> None:
    """What the kernels compute: the first of two weights stands in a byte's upper half."""
    one = layer(16, 128, dtype)
    matrix = joined([one], torch.empty(16 * 128, dtype=dtype))
    halves = torch.stack([matrix.packed >> 4, matrix.packed & 15], -1).view(16, 2, 64).long()
    products = (matrix.code[halves] * matrix.scales[:, :, None]).to(dtype)
    assert torch.equal(products.view(16, 128), values(one))


def test_what_is_held_otherwise_is_not_joined(tiny: LoadedModel) -> None:
    from bitsandbytes.functional import quantize_4bit

    assert why_not_nf4(tiny.model.model.layers[0].mlp.up_proj) == "not held in 4 bit"
    other = layer(8, 128, torch.float32)
    other.weight.data, other.weight.quant_state = quantize_4bit(torch.randn(8, 128), quant_type="fp4")
    assert "fp4" in str(why_not_nf4(other))
    assert "whole blocks" in str(why_not_nf4(layer(64, 32, torch.float32)))
    assert why_not_nf4(layer(3, 64, torch.float32)) is None


def test_packed_weights_answer_as_the_layers_do_with_an_adapter_on_and_off(tiny_nf4: LoadedModel) -> None:
    prompts = [Prompt(number, tuple(tokens)) for number, tokens in enumerate(some_prompts(tiny_nf4, 5))]
    rule = stop_rule(tiny_nf4, 16)
    model = with_adapter(tiny_nf4.model)
    fused = FusedLlama(model, torch_ops, packed=True)
    products = [product for one in fused.layers for product in one.products.values()]
    assert len(products) == 2 * len(GROUPS)
    assert all(isinstance(product, PackedProduct) for product in products)
    said = {}
    for on in (True, False, True):
        with model.disable_adapter() if not on else torch.no_grad():
            expected = {row.key: row.tokens for row in Decoder(model, rule, 2).decode(prompts)}
            assert fused.adapt(model) is on
            assert {row.key: row.tokens for row in StreamDecoder(fused, rule, 2).decode(prompts)} == expected
        said[on] = expected
    assert said[True] != said[False]
    model.unload()


def test_the_base_is_what_was_loaded_after_its_bytes_were_joined(tiny_folder: Path) -> None:
    loaded = load_model(Weights(folder=str(tiny_folder)), Precision("nf4", "float32", "cpu"))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        before = loaded.model(ids).logits
    with torch.inference_mode():  # as decoding does; what is made within could not be trained on
        loaded.fused = FusedLlama(loaded.model, torch_ops, packed=True)
    assert loaded.changed_weights() == []
    loaded.drop_adapters()
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, before)
    with loaded.lent() as base:
        base(ids, labels=ids, inputs_embeds=None).logits.sum()
        assert not any(parameter.is_inference() for parameter in base.parameters())
    assert loaded.changed_weights() == []


def test_a_model_without_4_bit_weights_is_decoded_on_plain_products(tiny: LoadedModel) -> None:
    """A proof's random twin is one."""
    fused = FusedLlama(tiny.model, torch_ops, packed=True)
    assert not any(isinstance(product, PackedProduct) for one in fused.layers for product in one.products.values())


def test_packed_weights_prove_themselves_as_the_others_do(own_cache: Path, tiny_nf4: LoadedModel) -> None:
    def packed(model: Any, stop: Any, rows: int, temperature: float, observe: Any) -> Any:
        return StreamDecoder(FusedLlama(model, torch_ops, packed=True), stop, rows, temperature, observe)

    verdict = prove(unwrapped(tiny_nf4.model), tiny_nf4.tokenizer, {"fused-nf4": packed}, "float32")
    assert verdict.identity() == {"kind": "fused-nf4"}
    assert set(verdict.evidence) == {"fused-nf4: weights", "fused-nf4: twin"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels run on a GPU alone")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("outputs", "inputs"), [(12288, 4096), (4096, 11008), (576, 576), (200, 1536), (33, 64)])
@pytest.mark.parametrize("before_80", [False, True])
def test_kernels_equal_products_with_unpacked_weights(
    outputs: int, inputs: int, dtype: torch.dtype, before_80: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.generate.llama import nf4_ops
    from harness.generate.llama.nf4_ops import MOST_ROWS, nf4_linear

    if before_80 and dtype is torch.bfloat16:
        pytest.skip("GPUs before 8.0 know no bfloat16")
    if before_80:
        for_compute_75(monkeypatch)
    for cached in (nf4_ops._module, nf4_ops._copies):
        cached.cache_clear()

    torch.manual_seed(outputs)
    one = layer(outputs, inputs, dtype, "cuda")
    matrix = joined([one], torch.empty(outputs * inputs, dtype=dtype, device="cuda"))
    plain = values(one).double()
    for rows in (1, 2, 7, 8, 9, 16, 17, 25, 32, 33, 64, 65, 100, MOST_ROWS, MOST_ROWS + 1, 256):
        wide = torch.randn(rows, inputs + 24, dtype=dtype, device="cuda")
        for given in (wide[:, :inputs].contiguous(), wide[:, :inputs], wide[:, 3 : 3 + inputs]):
            _poison(matrix, rows, dtype)
            found = nf4_linear(given, matrix)
            expected = given.double() @ plain.t()
            error = (found.double() - expected).norm() / expected.norm()
            assert error < (3e-3 if dtype is torch.bfloat16 else 4e-4), (rows, float(error))
            assert torch.equal(found, nf4_linear(given, matrix)), rows  # no sum depends on who comes first


def _poison(matrix: Nf4Matrix, rows: int, dtype: torch.dtype) -> None:
    """Fill what the kernels will be given with numbers that are none."""
    spoilt = [torch.full((rows, matrix.shape[0]), torch.nan, dtype=dtype, device="cuda")]
    spoilt += [torch.full((parts, rows, matrix.shape[0]), torch.nan, device="cuda") for parts in range(2, 17)]
    del spoilt
