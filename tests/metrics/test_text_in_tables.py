"""Text between the cells of a table is an error, as the standard's "in table text" has it; html5lib is silent."""

from __future__ import annotations

import pytest

from harness.metrics.html5 import tree_errors


@pytest.mark.parametrize(
    "table",
    [
        "<table>x<tr><td>1</table>",
        "<table> x<tr><td>1</table>",
        "<table>\n<tr>\n x <td>1</td></tr></table>",
        "<table><tr><td>1</td>\n y</tr></table>",
        "<table><tbody> z</tbody></table>",
        "<table><caption>c</caption> z</table>",
        "<table><colgroup> q<col></colgroup></table>",
        "<table>&nbsp;<tr><td>x</table>",
        "<table><tr><td><table> y</table></td></tr></table>",
        "<template><tr> z<td>1</td></tr></template>",
        "<table><!-- c --> z<tr><td>1</table>",
    ],
)
def test_text_outside_cells_is_an_error(table: str) -> None:
    found = [message for message in tree_errors(f"<!DOCTYPE html>\n{table}") if "outside its cells" in message.text]
    assert len(found) == 1
    assert found[0].line is not None and found[0].line >= 2


@pytest.mark.parametrize(
    "table",
    [
        "<table>\n <tr> \n <td>x y</td>\n</tr>\n</table>",
        "<table><caption> c </caption><tr><th> a &amp; b </th></tr></table> text",
        "<table> <script> var x = 1 </script> <style> p {} </style> <tr><td>1</table>",
        "<table><tr><td>1</td><!-- x --></tr></table>",
        "<table> <template> x </template> <tr><td>1</table>",
    ],
)
def test_white_space_and_text_in_cells_are_none(table: str) -> None:
    assert tree_errors(f"<!DOCTYPE html>\n{table}") == []
