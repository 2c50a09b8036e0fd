"""What kind of page a task asks for: its category where the suite names one, else told from its text."""

from __future__ import annotations

import re

from harness.types import Task

UNNAMED = "other"
"""The category of tasks whose suite names none."""

_EMAIL = re.compile(r"\b(?:e-?mails?|newsletters?|mailings?)\b|邮件|メール", re.IGNORECASE)
_BY_MARKUP = {
    "form": re.compile(r"<(?:form|input|textarea|select)\b", re.IGNORECASE),
    "script": re.compile(r"<script\b", re.IGNORECASE),
    "table": re.compile(r"<table\b", re.IGNORECASE),
    "navigation": re.compile(r"<nav\b", re.IGNORECASE),
    "media": re.compile(r"<(?:img|picture|video|audio|svg|canvas|iframe)\b", re.IGNORECASE),
    "list": re.compile(r"<(?:ul|ol|dl)\b", re.IGNORECASE),
    "style": re.compile(r"<style\b|\bstyle\s*=", re.IGNORECASE),
}
"""Kinds by what the reference holds; the first that applies."""
_PAGE = re.compile(r"<[a-z][^<>]*>", re.IGNORECASE)


def kind_of(task: Task) -> str:
    """Return the task's category, or `e-mail`, `edit`, `form`, `script`, `table`, ... as its text says.

    An e-mail is asked for in the prompt, and is no form with an e-mail field; an edit is given a page to change.
    """
    if task.category != UNNAMED:
        return task.category
    if _EMAIL.search(task.prompt) and not _BY_MARKUP["form"].search(task.reference):
        return "e-mail"
    if _PAGE.search(task.input):
        return "edit"
    return next((kind for kind, markup in _BY_MARKUP.items() if markup.search(task.reference)), "text")
