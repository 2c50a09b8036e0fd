"""One training in several processes, as `accelerate launch` starts them; in a single one each of these does nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta

from harness.errors import EXIT_FAILED, HarnessError, UsageError

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: the main one may fetch weights meanwhile. A dead one ends all at once."""

_LOST = (
    "this training was ended, because another of its processes died or the launcher was told to stop; "
    "the same command goes on from the last checkpoint"
)


def world_size() -> int:
    """Return how many processes were started together, 1 where this one was started by itself."""
    try:
        return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1
    except (KeyError, ValueError):
        return 1


def sharded() -> bool:
    """Return whether `accelerate launch` was told to share the model itself out (FSDP), and not only the rows."""
    return world_size() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def refuse_many(command: str) -> None:
    """Stop a command that is to be done once.

    Raises:
        UsageError: several processes were started together.
    """
    if world_size() > 1:
        raise UsageError(
            f"{command} works in one process",
            "let `accelerate launch -m harness train` make the adapter first; it is then found in the cache",
        )


def count() -> int:
    """Return how many processes train together."""
    if world_size() == 1 or not _joined():
        return 1
    import torch.distributed as dist

    return dist.get_world_size()


def is_main_process() -> bool:
    """Return whether this process is the one that prints and writes."""
    return world_size() == 1 or os.environ.get("RANK") == "0"


def wait() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set in any process; all of them ask, and get one answer."""
    if count() == 1:
        return flag
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    raised = torch.tensor([int(flag)], device=PartialState().device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process do the block before the others, which then find its work done."""
    if not is_main_process():
        wait()
    yield
    if is_main_process():
        wait()


def is_first_to_fail() -> bool:
    """Return whether this process is to say why all of them end: the first that asks, and no other after it."""
    if world_size() == 1 or not _joined():
        return is_main_process()
    import torch.distributed as dist

    try:
        return int(dist.distributed_c10d._get_default_store().add("harness/spoken", 1)) == 1
    except Exception:  # the launcher keeps the count, and may be gone
        return True


@contextlib.contextmanager
def together() -> Iterator[int]:
    """Join the processes that were started together; yield how many there are. Each takes its own GPU.

    Raises:
        HarnessError: another process ended before its time.
    """
    if world_size() == 1:
        yield 1
        return
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    _speak_when_ended()
    try:
        yield count()
        wait()
    except RuntimeError as error:
        if not _is_of_the_connection(error):
            raise
        raise HarnessError(_LOST) from error
    dist.destroy_process_group()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _joined() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def _is_of_the_connection(error: RuntimeError) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ("gloo", "Gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    )


def _speak_when_ended() -> None:
    """Say one line and end when the launcher ends this process because another one died, or is itself gone.

    Python's own handlers wait until the interpreter runs again, and a process that waits for a dead one's gradients
    never gets there: a thread reads the signal from a socket.
    """
    launcher = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: None)
    reader, writer = socket.socketpair()
    reader.settimeout(1.0)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        with writer:
            while os.getppid() == launcher:
                with contextlib.suppress(TimeoutError):
                    if reader.recv(1) == bytes([signal.SIGTERM]):
                        break
        if is_first_to_fail() if os.getppid() == launcher else is_main_process():
            print(f"error: {_LOST}", file=sys.stderr, flush=True)
        os._exit(EXIT_FAILED)

    threading.Thread(target=listen, daemon=True, name="launcher's signals").start()
