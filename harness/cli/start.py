"""What is said to whoever types the name alone: what to type next."""

from __future__ import annotations

_STEPS = (
    ("doctor", "what this machine has, and what is missing"),
    ("run", "fine-tune a model and measure it before and after; without a GPU a small one, in minutes"),
    ("suites new mine --from rows.csv", "measure on tasks of your own"),
    ('generate "A page with a login form"', "the page of the fine-tuned model"),
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

    newest = max(REPORTS_FOLDER.glob("*/summary.json"), key=lambda file: file.stat().st_mtime, default=None)
    steps = _AFTER_A_RUN if newest else _STEPS
    typed = [f"{program} {command.format(run=newest.parent.name if newest else '')}" for command, _ in steps]
    lines = [f"  {words}\n      {what}" for words, (_, what) in zip(typed, steps, strict=True)]
    return "\n".join(["What to type next:", *lines, f"All commands: {program} --help"])
