"""Whether a piece of code is something else than a page: a component of a framework or a template for a server."""

from __future__ import annotations

import re

from harness.answer.markup import RAW_TEXT, Markup

HTML_LANGUAGES = frozenset({"html", "htm", "html5", "xhtml", "html+css", "html-page"})
_LANGUAGES = {
    "jsx": "React", "tsx": "React", "react": "React", "javascriptreact": "React", "typescriptreact": "React",
    "vue": "Vue", "vue-html": "Vue", "svelte": "Svelte", "astro": "Astro", "angular": "Angular", "mdx": "MDX",
    "php": "PHP", "blade": "Blade", "jinja": "Jinja", "jinja2": "Jinja", "html+jinja": "Jinja", "j2": "Jinja",
    "django": "Django", "htmldjango": "Django", "twig": "Twig", "liquid": "Liquid", "nunjucks": "Nunjucks",
    "njk": "Nunjucks", "erb": "ERB", "html+erb": "ERB", "rhtml": "ERB", "ejs": "EJS", "jsp": "JSP", "asp": "ASP",
    "aspx": "ASP.NET", "cshtml": "Razor", "razor": "Razor", "handlebars": "Handlebars", "hbs": "Handlebars",
    "mustache": "Mustache", "pug": "Pug", "jade": "Pug", "haml": "Haml", "slim": "Slim", "heex": "HEEx",
    "eex": "EEx", "thymeleaf": "Thymeleaf", "freemarker": "FreeMarker", "ftl": "FreeMarker", "velocity": "Velocity",
    "mako": "Mako", "go-html-template": "Go template", "gohtml": "Go template", "marko": "Marko",
}  # fmt: skip
_MODULE_LINE = (
    r"^[ \t]*(?:import\b[^\n]{0,200}\bfrom\s*[\"']|import\s+[\"']|export\s+(?:default|const|function|class|let)\b)"
)
_MODULE = re.compile(_MODULE_LINE, re.MULTILINE)
_COMPONENT = re.compile(
    r"\breturn\s*\(?\s*<[A-Za-z>]|=>\s*\(?\s*<[A-Za-z>]|\buse(?:State|Effect|Ref|Memo)\(|ReactDOM\.|React\.createElement"
)
_JSX = re.compile(r"\s(?:on[A-Z]\w*|className|key|ref|value|href|src|class)=\{(?!\{)|\sstyle=\{\{?")
_VUE_COMPONENT = re.compile(
    r"<script\b[^>]{0,200}\bsetup\b|<script\b[^>]{0,200}>\s*(?:import\b[^\n]*\n\s*)*export default\b"
)
_SVELTE = re.compile(r"(?<!\{)\{[#/](?:if|each|await|key)\b|\{:else\b|\{@html\b|\s(?:on|bind):[a-z]+=\{")
_ANGULAR = re.compile(r"\s\*ng[A-Z]\w*=|\s\[\(?ng[A-Z]\w*\)?\]=|\s\((?:click|submit|change|input)\)=|@(?:if|for)\s*\(")
_VUE = re.compile(r"\sv-(?:if|for|model|show|bind|on|else|html|text)\b")
_SERVER = (
    ("PHP", re.compile(r"<\?(?:php|=)")),
    ("Jinja", re.compile(r"\{%-?\s*[a-z]+")),
    ("Handlebars", re.compile(r"\{\{[#/>]\s*[a-z]")),
    ("ERB or EJS", re.compile(r"<%")),
    ("Razor", re.compile(r"^@(?:model|page|using|foreach|if|section)\b|@\{", re.MULTILINE)),
)
_EXPRESSION = re.compile(r"\{\{|\$\{|\{[%#@]|<%|<\?|@\w")
_FIRST_TEMPLATE = re.compile(r"\{%|<\?php\b|<\?=|<%|@extends\b|@model\b|\{\{[#>]")
_SHOWN = 200_000
"""Characters of a piece of code that are read."""


def language_of(info: str) -> str:
    """Return the language that a code block's info string names: `html` also for `{.html}` or `html:index.html`."""
    word = info.strip().split(None, 1)[0].lower() if info.strip() else ""
    word = word.strip("{}.")
    if re.match(r"html5?(?:[:{,;=(]|$)", word) or re.search(r"\.x?html?$", word):
        return "html"
    file = re.search(r"\.([a-z]+)$", word)
    return file[1] if file and file[1] in _LANGUAGES else re.split(r"[:{,;=(]", word)[0]


def code_kind(code: str, language: str, *, document: bool) -> str:
    """Return what a piece of code is where it is no page, as `React`; "" for HTML.

    A document stays a page whatever template tags stand in it: a browser shows it, and shows them. Only a label that
    names a template language together with such tags makes it something else.
    """
    code = code[:_SHOWN]
    named = _LANGUAGES.get(language, "")
    if document:
        own = named and (_EXPRESSION.search(code) is not None or _MODULE.match(code) is not None)
        return named if own else ""
    head = code.lstrip()
    scripted = bool(re.match(r"(?:[\"']use (?:client|server)|//|/\*)", head)) or _MODULE.search(head[:2000]) is not None
    if not head.startswith("<") and (_COMPONENT.search(code) or (scripted and "<" in code and _JSX.search(code))):
        return named or "React"
    if _VUE_COMPONENT.search(code) and re.search(r"<template\b", code):
        return "Vue"
    library = re.search(r"<script\b[^>]{0,300}(?:vue|petite)|\bVue\b|createApp", code, re.IGNORECASE)
    code = _shown(code)
    if _SVELTE.search(code):
        return named or "Svelte"
    if head.startswith("---\n") and _MODULE.search(code):
        return named or "Astro"
    if named:
        return (
            named if named != "React" or not head.startswith("<") or _JSX.search(code) or "className=" in code else ""
        )
    if _FIRST_TEMPLATE.match(head):
        return next((name for name, pattern in _SERVER if pattern.search(code)), "template")
    if _JSX.search(code):
        return "React"
    if _ANGULAR.search(code):
        return "Angular"
    return "Vue" if _VUE.search(code) and library is None else ""


def _shown(code: str) -> str:
    """The code without its scripts, styles and samples of code."""
    kept, position, samples = [], 0, 0
    for piece in Markup(code, final=True).pieces(0):
        if piece.kind not in ("start", "end") or piece.start < position:
            continue
        if samples == 0 and not (piece.kind == "end" and piece.name in RAW_TEXT):
            kept.append(code[position : piece.end])
        position = piece.end
        if piece.name in ("pre", "code", "samp", "kbd"):
            samples = max(0, samples + (1 if piece.kind == "start" else -1))
    if samples == 0:
        kept.append(code[position:])
    return "".join(kept)
