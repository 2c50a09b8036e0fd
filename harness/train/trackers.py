"""Trackers of experiments (TensorBoard, trackio, W&B, MLflow and others), through transformers' `report_to`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import UsageError, did_you_mean

TRACKER_FIELDS = (
    "report_to",
    "run_name",
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
)
"""Fields of SFTConfig that say where a training is reported and decide nothing of the adapter."""

TENSORBOARD_FOLDER = "TENSORBOARD_LOGGING_DIR"


def check_trackers(report_to: str | Sequence[str]) -> None:
    """Check that every tracker is known to transformers and installed.

    Raises:
        UsageError: one is not; the hint names the nearest, or those that are here.
    """
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    names = [report_to] if isinstance(report_to, str) else report_to
    here = get_available_reporting_integrations()
    for name in names:
        if name in ("none", "all"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            raise UsageError(
                f"train.sft.report_to: there is no tracker '{name}'", did_you_mean(str(name), INTEGRATION_TO_CALLBACK)
            )
        if name not in here:
            raise UsageError(f"train.sft.report_to: {name} is not installed", f"pip install {name}, or leave it out")


@contextlib.contextmanager
def tensorboard_beside(adapter: Path) -> Iterator[None]:
    """Let TensorBoard's files of trainings in this block lie in `adapter`/runs, unless its own variable names a folder.

    transformers would put them among the checkpoints, which go when the training is done.
    """
    if os.environ.get(TENSORBOARD_FOLDER):
        yield
        return
    os.environ[TENSORBOARD_FOLDER] = str(adapter / "runs")
    try:
        yield
    finally:
        del os.environ[TENSORBOARD_FOLDER]
