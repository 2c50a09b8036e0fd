"""Products with weights in NF4 on a GPU, by the kernels of `nf4_linear.cu`: for the rows of a decoding step.

Which form of the kernel, and in how many parts of the inner dimension, follows from the numbers of rows and outputs
alone: nothing is tried at run time. Captured in a CUDA graph it allocates from the graph's own memory.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from harness.generate.llama.nf4 import Nf4Matrix
from harness.generate.llama.nvrtc import Grid, Module, architecture

MOST_ROWS = 128
"""From here on cuBLAS on unpacked weights is faster, unpacking included."""
_SLICE, _THREADS = 128, 128
"""As in the source."""
_FORMS = ((8, 1, 2, 4), (16, 2, 2, 4), (32, 4, 4, 2), (MOST_ROWS, 8, 4, 2))
"""Up to so many rows: eights of rows and sixteens of outputs for a warp, and blocks on a multiprocessor. Measured on
an H100; a block takes at most 96 KiB of shared memory."""
_FORMS_BEFORE_80 = ((8, 1, 1, 4), (16, 2, 2, 3), (MOST_ROWS, 4, 2, 2))
"""The same for compute capability 7.5, by what a block has of registers and shared memory there."""
_MOST_PARTS = 8
_TYPES = {torch.bfloat16: "bf16", torch.float16: "f16"}


def nf4_linear(inputs: torch.Tensor, matrix: Nf4Matrix) -> torch.Tensor:
    """As `torch_ops.nf4_linear`, sums in float32; in float16 from compute capability 7.5, in bfloat16 from 8.0 on.

    Raises:
        NvrtcError: the kernel cannot be compiled here.
    """
    rows, inner = inputs.shape
    outer = matrix.shape[0]
    if rows > MOST_ROWS:
        return torch.nn.functional.linear(inputs, matrix.unpacked())
    if inputs.stride(1) != 1 or inputs.stride(0) % 8 or inputs.data_ptr() % 16:
        inputs = inputs.clone(memory_format=torch.contiguous_format)  # `contiguous` leaves a single row where it is
    copies = _copies(inputs.device.index)
    forms = _FORMS if copies else _FORMS_BEFORE_80
    tiles, slabs, resident = next(form[1:] for form in forms if rows <= form[0])
    module = _module(_TYPES[inputs.dtype], tiles, slabs, resident, inputs.device.index)
    blocks, groups = -(-outer // (64 * slabs)), -(-rows // (8 * tiles))
    room = _multiprocessors(inputs.device.index) * resident // (blocks * groups)
    parts = max(1, min(room, _MOST_PARTS, inner // _SLICE))
    out = inputs.new_empty((rows, outer))
    target = out if parts == 1 else inputs.new_empty((parts, rows, outer), dtype=torch.float32)
    shared = _SLICE * (3 * (8 * tiles * 2 + 64 * slabs // 2) if copies else 2 * 8 * tiles * 2)
    module.launch(
        "nf4_linear",
        Grid((blocks, parts, groups), _THREADS, shared),
        (inputs, matrix.packed, matrix.scales, matrix.code, target, rows, inner, outer, inputs.stride(0), parts),
    )
    if parts > 1:
        module.launch("nf4_sum", Grid((-(-out.numel() // 256), 1, 1), 256), (target, out, out.numel(), parts))
    return out


@functools.cache
def _module(name: str, tiles: int, slabs: int, resident: int, device: int) -> Module:
    source = Path(__file__).with_name("nf4_linear.cu").read_text(encoding="utf-8")
    options = f'-DTYPE="{name}"', f"-DTILES={tiles}", f"-DSLABS={slabs}", f"-DBLOCKS={resident}"
    return Module(source, options, device)


@functools.cache
def _copies(device: int) -> bool:
    """Whether weights come through shared memory, past the registers."""
    return int(architecture(device).rpartition("_")[2]) >= 80


@functools.cache
def _multiprocessors(device: int) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
