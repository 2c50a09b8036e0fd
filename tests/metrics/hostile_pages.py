"""Pages that are slow for a parser or for the Nu Html Checker, none longer than a megabyte."""

from __future__ import annotations

from collections.abc import Callable

_START = '<!DOCTYPE html><html lang="en"><title>T</title><body>'


def _numbered(pattern: str, count: int) -> str:
    return "".join(pattern.format(n) for n in range(count))


HOSTILE: dict[str, Callable[[], str]] = {
    # attributes
    "60,000 attributes": lambda: _START + "<p" + _numbered(" a{}=1", 60_000) + ">x",
    "attributes below the limit, often": lambda: _START + ("<p" + _numbered(" a{}", 1_900) + ">x") * 60,
    "one attribute 60,000 times": lambda: _START + "<p" + " a=1" * 60_000 + ">x",
    "a long class": lambda: _START + '<p class="' + _numbered("c{} ", 100_000) + '">x',
    "a long style": lambda: _START + '<p style="' + "color:red;" * 60_000 + '">x',
    "a long URL": lambda: _START + '<a href="' + "a/%20" * 150_000 + '">x</a>',
    "a long srcset": lambda: _START + '<img alt="" src="a" srcset="' + _numbered("a{0}.png {0}w, ", 40_000) + '">',
    "many ids": lambda: _START + _numbered('<p id="i{}">x', 40_000),
    "one id often": lambda: _START + '<p id="i">x' * 40_000,
    "labels for nothing": lambda: _START + _numbered('<label for="x{}">x</label>', 20_000),
    "broken ARIA": lambda: _START + _numbered('<p role="r{}" aria-owns="a b c">x</p>', 20_000),
    # nesting
    "divs": lambda: _START + "<div>" * 100_000,
    "divs below the limit": lambda: _START + "<div>" * 990 + "x" + "</div>" * 990,
    "tables in tables": lambda: _START + "<table><tr><td>" * 300 + "x",
    "lists in lists": lambda: _START + "<ul><li>" * 20_000,
    "unknown end tags": lambda: _START + "<x>" * 2_900 + "</y>" * 60_000,
    "templates": lambda: _START + "<template>" * 5_000 + "x",
    "svg in foreignObject": lambda: _START + "<svg><foreignObject>" * 400 + "x",
    "forms and buttons": lambda: _START + "<form><button>" * 20_000,
    # unclosed formatting
    "b and p": lambda: _START + "<b><p>" * 40_000,
    "a without end": lambda: _START + '<a href="x">' * 40_000,
    "fonts of all sizes": lambda: _START + _numbered("<font size={}><p>", 20_000),
    "i, b, u crosswise": lambda: _START + "<i><b><u><p></b></i></u>" * 10_000,
    "nobr": lambda: _START + "<nobr>x<p>" * 20_000,
    # entities and text
    "entities": lambda: _START + "<p>" + "&nosuch; &amp &#xD800; " * 30_000,
    "ampersands": lambda: _START + "<p>" + "&" * 700_000,
    "comments": lambda: _START + "<!-- a -- b --!>" * 40_000,
    "text in a table": lambda: _START + "<table>" + "x<tr>" * 40_000,
    # CSS
    "rules": lambda: _START + "<style>" + _numbered(".c{0} > p:not(#i{0}) {{ margin: {0}px }}\n", 12_000) + "</style>x",
    "broken rules": lambda: _START + "<style>" + "p { colour: rgb(; } @x {{{ " * 25_000 + "</style>x",
    "a long selector": lambda: _START + "<style>" + "a > b + c ~ d, " * 40_000 + "e { color: red }</style>x",
    "brackets": lambda: _START + "<style>p { width: " + "calc(" * 20_000 + "1px" + ")" * 20_000 + " }</style>x",
}  # fmt: skip
