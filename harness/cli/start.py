"""What is said to whoever types the name alone: what to type next."""

from __future__ import annotations

_SET_UP = ("setup", "once: fetches {missing}")
_STEPS = (
    ("run --profile smollm2-135m --limit 8", "fine-tune a small model and measure it before and after, in minutes"),
    ("suites new mine --from rows.csv", "make a suite of your own table"),
    ("run --weights OWNER/NAME --suites mine", "measure a model of the hub or a folder on it, before and after"),
    ("doctor", "what this machine has, and what is missing"),
)
_AFTER_A_RUN = (
    ("report {run}", "read the newest run again"),
    ("vote {run}", "judge its pages blindly, side by side"),
    ("compare {run} --gate", "fail where it got worse"),
    ("run", "measure once more: the same arguments go on where they were"),
)


def first_steps(program: str) -> str:
    """Return the few lines that say what to type next in this folder."""
    from harness.runs.folder import REPORTS_FOLDER
    from harness.setup.machine import steps as needed

    newest = max(REPORTS_FOLDER.glob("*/summary.json"), key=lambda file: file.stat().st_mtime, default=None)
    steps = _AFTER_A_RUN if newest else _STEPS
    missing = " and ".join(f"the {step.name}" for step in needed(checker=False) if not step.look())
    typed = [
        (command.format(run=newest.parent.name if newest else ""), what.format(missing=missing))
        for command, what in ((_SET_UP, *steps) if missing else steps)
    ]
    lines = [f"  {program} {command}\n      {what}" for command, what in typed]
    return "\n".join(["What to type next:", *lines, f"All commands: {program} --help"])
