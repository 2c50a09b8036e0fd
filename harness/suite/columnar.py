"""Reads Parquet files, and Arrow files and streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import UsageError


def read_columnar(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield (place, row); maps are objects, of a key that stands twice the last value.

    Raises:
        UsageError: the file is of another format, or broken.
    """
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    kind = "a Parquet" if path.suffix.lower() == ".parquet" else "an Arrow"
    try:
        if kind == "a Parquet":
            table = pq.read_table(path)
        else:
            try:
                table = feather.read_table(path)
            except pa.ArrowInvalid:  # a stream, as `datasets` writes it
                with pa.memory_map(str(path)) as stream:
                    table = pa.ipc.open_stream(stream).read_all()
        rows = table.to_pylist(maps_as_pydicts="lossy")
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # a date that Python does not have
        fault = str(error).splitlines()[0]
        raise UsageError(f"{path} cannot be read as {kind} file: {fault}", "write it again") from None
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row
