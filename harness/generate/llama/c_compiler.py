"""C source compiled where it runs, where a compiler is there: once for a processor, then from the cache."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from harness.storage.atomic import write_atomically
from harness.storage.cache import cache_folder, content_key

_OPTIONS = ("-O3", "-march=native", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
_COMPILERS = ("cc", "gcc", "clang")
_PATIENCE_S = 60
_NATIVE = ("model name", "flags", "Features", "CPU part")
"""Lines of /proc/cpuinfo that `-march=native` goes by."""


@functools.cache
def compiled(source: Path, *options: str) -> ctypes.CDLL | None:
    """Return the library that a source becomes on this processor; None where nothing here compiles or loads it.

    OpenMP is torch's, which is loaded already: two of them would wait for each other's threads.
    """
    compiler = os.environ.get("CC") or next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        about = [source.read_text(encoding="utf-8"), _OPTIONS, options, compiler, torch.__version__, _processor()]
        library = cache_folder("compiled") / f"{content_key(about)[:32]}.so"
        if not library.is_file():
            write_atomically(library, _compile(compiler, source, options))
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(compiler: str, source: Path, options: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        made, linked = Path(folder) / "made.o", Path(folder) / "made.so"
        for words in (
            [compiler, *_OPTIONS, *options, "-c", str(source), "-o", str(made)],
            [compiler, "-shared", str(made), "-o", str(linked), "-lm"],
        ):
            subprocess.run(words, check=True, capture_output=True, timeout=_PATIENCE_S)
        return linked.read_bytes()


def _processor() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return sorted({line for line in lines if line.startswith(_NATIVE)})
