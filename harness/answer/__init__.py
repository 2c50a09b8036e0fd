"""What a model's answer consists of: thoughts, prose, code blocks and the page; one reader for all who ask."""

from harness.answer.page import Found, find_page, page_end, thought_end, thought_left_open

__all__ = ["Found", "find_page", "page_end", "thought_end", "thought_left_open"]
