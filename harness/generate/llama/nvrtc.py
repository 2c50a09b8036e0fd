"""CUDA source compiled where it runs, by the compiler that torch ships (NVRTC): no toolkit, no C++ compiler."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import NamedTuple

import torch

_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES of cuda.h."""


class NvrtcError(RuntimeError):
    """The compiler is not there, does not take the source, or the driver does not take what it made of it."""


def _libraries() -> ctypes.CDLL:
    """Return NVRTC and the driver's interface: torch's own library brings both, wherever they lie."""
    try:
        return ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libcaffe2_nvrtc.so"))
    except OSError as error:
        raise NvrtcError(f"torch's NVRTC does not load: {error}") from error


class Grid(NamedTuple):
    """How a kernel is started."""

    blocks: tuple[int, int, int]
    threads: int
    shared: int = 0
    """Bytes of shared memory for each block, the same at each start of a kernel."""


def _as_c(argument: torch.Tensor | int | float | None) -> ctypes.c_int | ctypes.c_double | ctypes.c_void_p:
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    return ctypes.c_void_p() if argument is None else ctypes.c_int(argument)


def architecture(device: int) -> str:
    """Return what kernels are compiled for: a GPU's own machine code; an older one's PTX in tests of it."""
    return "sm_{}{}".format(*torch.cuda.get_device_capability(device))


class Module:
    """The kernels of one source, for one GPU.

    Args:
        source: CUDA C++; kernels are `extern "C"`.
        options: Of the compiler, such as `-DROWS=8`.
        device: The GPU's number.

    Raises:
        NvrtcError: see there.
    """

    def __init__(self, source: str, options: tuple[str, ...], device: int) -> None:
        self._library = _libraries()
        image = self._compiled(source, options, architecture(device))
        self._module = ctypes.c_void_p()
        with torch.cuda.device(device):
            torch.cuda.current_stream().synchronize()  # its context stands
            self._call("cuModuleLoadData", ctypes.byref(self._module), image)
        self._functions: dict[str, ctypes.c_void_p] = {}

    def launch(self, name: str, grid: Grid, arguments: tuple[torch.Tensor | int | float | None, ...]) -> None:
        """Start a kernel on the current stream; tensors and None are passed as pointers, numbers as int and double."""
        values = [_as_c(one) for one in arguments]
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        function = self._function(name, grid.shared)
        self._call("cuLaunchKernel", function, *grid.blocks, grid.threads, 1, 1, grid.shared, stream, pointers, None)

    def _function(self, name: str, shared: int) -> ctypes.c_void_p:
        if name not in self._functions:
            found = ctypes.c_void_p()
            self._call("cuModuleGetFunction", ctypes.byref(found), self._module, name.encode())
            self._call("cuFuncSetAttribute", found, _MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
            self._functions[name] = found
        return self._functions[name]

    def _compiled(self, source: str, options: tuple[str, ...], target: str) -> bytes:
        words = [f"--gpu-architecture={target}", "--std=c++17", *options]
        kind = "CUBIN" if target.startswith("sm_") else "PTX"
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), None, 0, None, None)
        try:
            given = (ctypes.c_char_p * len(words))(*[word.encode() for word in words])
            if self._library.nvrtcCompileProgram(program, len(words), given):
                self._call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
                log = ctypes.create_string_buffer(size.value)
                self._call("nvrtcGetProgramLog", program, log)
                raise NvrtcError(log.value.decode(errors="replace").strip() or "the source does not compile")
            self._call(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
            image = ctypes.create_string_buffer(size.value)
            self._call(f"nvrtcGet{kind}", program, image)
            return image.raw
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise NvrtcError(f"{name} fails with {code}")
