"""The command line in a process of its own that is forked off one with the libraries loaded, which takes seconds."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

LIBRARIES = (
    "harness.cli",
    "harness.pipeline.run",
    "harness.report.page",
    "harness.scoring.selftest",
    "harness.generate.transformers.decoder_factory",
    "harness.generate.transformers.plan",
    "harness.train.fused_layers",
    "transformers.models.llama.modeling_llama",
    "peft",
    "trl.trainer.sft_trainer",
    "statsmodels.stats.proportion",
    "matplotlib.figure",
    "playwright.async_api",
    "datasketch",
)
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
"""By these of its capabilities root may read and write everywhere."""


class Forked:
    """A command at work: as `subprocess.Popen` of `python -m harness`, but for the time it takes to start.

    Args:
        workplace: The folder that it is started in.
        environment: Variables that it has besides those of the tests.
        arguments: The words of the command line.
        as_anybody: Whether it obeys the permissions of files, which root need not.
    """

    def __init__(
        self, workplace: Path, environment: Mapping[str, str], *arguments: str, as_anybody: bool = False
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*LIBRARIES])
        pipes = [context.Pipe(duplex=False) for _ in range(2)]
        variables = {**os.environ, "COLUMNS": "200", **environment}
        writers = [writer for _, writer in pipes]
        self._process = context.Process(target=_command, args=(workplace, variables, arguments, writers, as_anybody))
        self._process.start()
        for writer in writers:
            writer.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(reader.fileno()), encoding="utf-8") for reader, _ in pipes)

        process = self._process
        self.kill, self.terminate, self.is_alive = process.kill, process.terminate, process.is_alive

    def end(self, timeout: float = 600) -> tuple[int, str, str]:
        """Wait for its end; return the exit code and what it said on stdout and stderr that was not read yet."""
        with self.stdout, self.stderr:
            said, complaints = self.stdout.read(), self.stderr.read()
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it has not ended"
        return self._process.exitcode, said, complaints


def _command(
    workplace: Path,
    variables: Mapping[str, str],
    arguments: tuple[str, ...],
    writers: list[Connection],
    as_anybody: bool,
) -> None:
    """What `python -m harness` does, in a process that is its own already."""
    if as_anybody:
        _obey_permissions()
    os.chdir(workplace)
    os.environ.clear()
    os.environ.update(variables)
    for number, writer in enumerate(writers, start=1):
        os.dup2(writer.fileno(), number)
        writer.close()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    sys.argv = ["harness", *arguments]
    import transformers

    from harness.cli import main

    transformers.logging.set_verbosity_error()  # as `main` has it, were it there before the library is loaded
    main()


def _obey_permissions() -> None:
    """Give up what root may, in this process and in those that it starts."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
        assert library.prctl(24, capability, 0, 0, 0) == 0, "PR_CAPBSET_DROP"
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable capabilities below 32, then those above
    assert library.capget(header, sets) == 0
    for which in range(3):
        sets[which] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    assert library.capset(header, sets) == 0
