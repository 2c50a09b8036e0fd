"""What a new suite's files say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from harness.suite.schema import HELD_OUT

EXAMPLE = """\
# One task after the other. Needed: prompt and reference. The rest may be left out: id, input (a page that is to be
# changed), category, difficulty (easy, medium, hard), scope, checks. docs/checks.md lists all kinds of checks.
- id: counter
  category: interactive
  difficulty: easy
  prompt: A page with a button "Add one" and the number 0 above it. Each click on the button adds one to the number.
  reference: |
    <!DOCTYPE html>
    <html lang="en">
    <head><title>Counter</title></head>
    <body>
    <h1>Counter</h1>
    <p id="number">0</p>
    <button type="button" id="add">Add one</button>
    <script>
    document.getElementById("add").addEventListener("click", function () {
      var number = document.getElementById("number");
      number.textContent = Number(number.textContent) + 1;
    });
    </script>
    </body>
    </html>
  checks:
    - {why: 'a button "Add one"', level: must, see: {role: button, name: Add one}}
    - {why: "the number 0 above it", level: must, see: {text: "0", exact: true}}
    - why: "Each click on the button adds one to the number"
      level: must
      steps:
        - click: {role: button, name: Add one}
        - see: {text: "1", exact: true}
        - click: {role: button, name: Add one}
        - see: {text: "2", exact: true}
- id: opening-hours
  category: tables
  difficulty: easy
  prompt: >-
    The opening hours of a bakery as a table with the headers Day and Open, and the rows
    Saturday, 7:00-14:00 and Sunday, closed. The caption says "Opening hours".
  reference: |
    <!DOCTYPE html>
    <html lang="en">
    <head><title>Bakery</title></head>
    <body>
    <h1>Bakery</h1>
    <table>
    <caption>Opening hours</caption>
    <tr><th scope="col">Day</th><th scope="col">Open</th></tr>
    <tr><td>Saturday</td><td>7:00-14:00</td></tr>
    <tr><td>Sunday</td><td>closed</td></tr>
    </table>
    </body>
    </html>
  checks:
    - {why: "a table with the headers Day and Open", level: must, count: {role: columnheader, is: 2}}
    - {why: "Saturday, 7:00-14:00", level: must, see: {role: row, name: '/Saturday\\s+7:00/'}}
    - {why: "Sunday, closed", level: must, see: {role: row, name: '/Sunday\\s+closed/i'}}
    - {why: 'The caption says "Opening hours"', level: should, see: {css: caption, has_text: Opening hours}}
"""


def suite_yaml(
    name: str, source: str, columns: Mapping[str, str], scope: str, ignore: Sequence[str], share: float | None
) -> str:
    """Return the text of `suite.yaml`; what stands behind a # says what else could be there.

    Args:
        name: The suite's title.
        source: The lines of `files` or `hub`.
        columns: Which column holds what; none where the data have the harness' own names.
        scope: `document` or `fragment`.
        ignore: Faults that do not count against a page.
        share: Of the rows, that is held out; None: all of them.
    """
    if columns:
        pairs = ", ".join(f"{what}: {json.dumps(column, ensure_ascii=False)}" for what, column in columns.items())
        column_lines = (
            "# Which column holds what. Of the others only id, category, difficulty and checks are read.\n"
            f"columns: {{{pairs}}}"
        )
    else:
        column_lines = (
            "# columns: {prompt: instruction, input: context, reference: output}  # where the data say otherwise"
        )
    split = _split_line(share)
    return f"""\
# What each key means: docs/suites.md
title: {json.dumps(name)}
description: ""
license: ""  # of the data; shown in `suites list`

# document: a whole page is asked for. fragment: a part of one, such as a form; it is measured inside a page.
scope: {scope}
# Faults that do not count against a page: missing-doctype, missing-title. Both are still reported on their own.
ignore: [{", ".join(ignore)}]

{source}
{column_lines}

{split}
# default_held_out: 64  # measure only so many unless --full is given
"""


def _split_line(share: float | None) -> str:
    if share is None:
        return f"split: {HELD_OUT}  # a benchmark: nothing is learnt from it"
    return (
        "# The share of the rows that no model may learn from. Rows that are nearly the same stay on one side.\n"
        f"held_out_share: {share:g}"
    )
