"""A process that has imported what is slow to import, and runs each program in a fork of itself."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVE = """
import gc, importlib, json, os, sys, traceback
for name in sys.argv[1:]:
    importlib.import_module(name)
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(order["output"], 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(order["cwd"])
    os.environ.update(order["environment"])
    sys.argv[:] = ["-c", *order["arguments"]]
    code = 0
    try:
        exec(compile(order["program"], "<string>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)  # taking the interpreter down costs more than most programs
"""


class WarmPython:
    """Runs programs as `python -c PROGRAM ARGUMENTS` would, each in a process of its own, without their imports' cost.

    What is read from the environment as a module is imported is what it was when this began; nothing that a program
    does is seen by another. It ends without what Python does at exit, with 1 where it raises.
    """

    def __init__(self, imports: Sequence[str], environment: Mapping[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVE, *imports],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        atexit.register(self.close)

    def run(
        self, program: str, *arguments: str, cwd: Path, environment: Mapping[str, str], timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program and wait for it; `environment` is added to what the process began with."""
        asks, answers = self._server.stdin, self._server.stdout
        assert asks is not None
        assert answers is not None
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            order = {"program": program, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
            print(json.dumps(order | {"output": [out.name, err.name]}), file=asks, flush=True)
            if not select.select([answers], [], [], timeout)[0]:
                os.killpg(self._server.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(program, timeout)
            code = answers.readline()
            assert code, "the process of the programs died"
            return subprocess.CompletedProcess(["python", "-c", program, *arguments], int(code), out.read(), err.read())

    def close(self) -> None:
        """End the process."""
        if self._server.stdin is not None and self._server.poll() is None:
            self._server.stdin.close()
        self._server.wait()
