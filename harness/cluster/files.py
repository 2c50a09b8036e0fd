"""Brings weights and adapters to the nodes: by a shared folder, from the hub, or from the machine the run began on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.model.identity import TEMPLATES_FOLDER, adapter_hashes, model_hashes
from harness.model.profile_schema import Weights
from harness.model.weights import fetch_weights
from harness.storage.atomic import finished_folder
from harness.storage.cache import cache_folder

if TYPE_CHECKING:
    from ray.actor import ActorHandle

PIECE_BYTES = 32 * 2**20
"""Files travel in pieces of this size, one at a time, so that no memory fills with weights."""


class FileServer:
    """Reads files on the machine where they lie. A Ray actor is made of it."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names of a folder's files, those of its chat templates too, with their sizes in bytes."""
        top = Path(folder)
        files = [*sorted(top.iterdir()), *sorted((top / TEMPLATES_FOLDER).glob("*"))]
        return {path.relative_to(top).as_posix(): path.stat().st_size for path in files if path.is_file()}

    def piece(self, folder: str, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on, fewer at its end."""
        with (Path(folder) / name).open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder with weights or an adapter, as a node is told of it."""

    folder: str
    """Where it lies on the machine that the run began on, and on any other that shares its disk."""
    sha256: str
    """Over everything in it that decides a text."""
    weights: Weights | None = None
    """Where a node may fetch it by itself."""


def weights_sha256(folder: Path) -> str | None:
    """Return the SHA-256 over a folder's content as `fetch_weights` computes it, or None where it holds no model."""
    try:
        return model_hashes(folder).identity
    except (HarnessError, OSError):
        return None


def adapter_sha256(folder: Path) -> str | None:
    """Return the SHA-256 over an adapter's content, or None where there is none."""
    try:
        return adapter_hashes(folder).identity
    except (HarnessError, OSError):
        return None


def obtain(source: FolderSource, server: ActorHandle, *, adapter: bool = False) -> Path:
    """Return a folder on this machine that holds exactly these files.

    Looked for in this order: the same path (a shared disk), what came before, the package or the hub, the machine that
    the run began on.

    Raises:
        HarnessError: what arrives is something else.
    """
    sha256_of = adapter_sha256 if adapter else weights_sha256
    kept = cache_folder("received") / source.sha256[:32]
    for folder in (Path(source.folder), kept):
        if sha256_of(folder) == source.sha256:
            return folder
    if source.weights is not None and source.weights.folder is None:
        try:
            local = fetch_weights(source.weights)
        except HarnessError:
            local = None  # no package and no hub here: the files come from the driver
        if local is not None and local.sha256 == source.sha256:
            return local.folder
    _receive(source, server, kept)
    if sha256_of(kept) != source.sha256:
        raise HarnessError(f"{source.folder} changed while it was sent", "run the same command again")
    return kept


def _receive(source: FolderSource, server: ActorHandle, target: Path) -> None:
    import ray

    with finished_folder(target) as folder:
        for name, size in ray.get(server.sizes.remote(source.folder)).items():
            (folder / name).parent.mkdir(exist_ok=True)
            with (folder / name).open("wb") as stream:
                for piece in _pieces(server, source.folder, name, size):
                    stream.write(piece)


def _pieces(server: ActorHandle, folder: str, name: str, size: int) -> Iterator[bytes]:
    import ray

    for offset in range(0, size, PIECE_BYTES):
        yield ray.get(server.piece.remote(folder, name, offset, PIECE_BYTES))
