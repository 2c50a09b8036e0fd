"""The process that parses for `harness.metrics.parser_pool`: reads pickled requests from stdin, answers on stdout.

First it says True: it is ready. A request is (function name, arguments, processor seconds); an answer is (value, "")
or (None, reason). A request that needs more seconds ends the process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys

_MEMORY_BYTES = 3 * 2**30


def main() -> None:
    """Serve requests until stdin closes."""
    if hasattr(signal, "SIGPROF"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.RLIM_INFINITY))
    from harness.metrics.facts import PageFacts, page_facts
    from harness.metrics.html5 import tree_errors
    from harness.types import OVERRAN, Message

    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that a library prints may reach the answers
    pickle.dump(True, answers)
    answers.flush()
    while True:
        try:
            name, arguments, seconds = pickle.load(requests)
        except EOFError:
            return
        try:
            _end_after(seconds)
            found = page_facts(*arguments) if name == "page_facts" else tree_errors(*arguments)
            answer: tuple[PageFacts | list[Message] | None, str] = (found, "")
        except MemoryError:
            answer = (None, f"{OVERRAN}parsing needs more memory than allowed")
        except Exception as error:
            answer = (None, f"parsing failed: {f'{type(error).__name__}: {error}':.200}")
        _end_after(0)
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _end_after(seconds: float) -> None:
    """Have the system end this process after so many more processor seconds; 0 takes that back."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
