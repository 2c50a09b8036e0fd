"""Places of keys and values: rows take as many consecutive ones as they may need, and give them back."""

from __future__ import annotations

import bisect


class Places:
    """Consecutive numbers that are free or taken.

    Args:
        first: The first one.
        count: How many there are.
    """

    def __init__(self, first: int, count: int) -> None:
        self._free = [(first, first + count)]
        """Begin and end of each free stretch, in order; no two of them touch."""

    def take(self, count: int) -> int | None:
        """Return the first of `count` consecutive places, the first that are free; None without any."""
        for number, (begin, end) in enumerate(self._free):
            if end - begin >= count:
                self._free[number : number + 1] = [(begin + count, end)] if end - begin > count else []
                return begin
        return None

    def give_back(self, first: int, count: int) -> None:
        """Let others take `count` places from `first` on."""
        begin, end = first, first + count
        number = bisect.bisect(self._free, (begin, end))
        if number < len(self._free) and self._free[number][0] == end:
            end = self._free.pop(number)[1]
        if number and self._free[number - 1][1] == begin:
            number -= 1
            begin = self._free.pop(number)[0]
        self._free.insert(number, (begin, end))
