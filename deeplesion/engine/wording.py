"""Numbers in sentences."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time as people say it: ``42 s``, ``5 min 3 s``, ``2 h 5 min``, ``3 d 4 h``."""
    total = round(seconds)
    for large, small, names in ((86400, 3600, "d h"), (3600, 60, "h min"), (60, 1, "min s")):
        if total >= large:
            first, second = names.split()
            return f"{total // large} {first} {total % large // small} {second}"
    return f"{total} s"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things: ``1 step``, ``2 steps``.

    Args:
        number: Of them.
        noun: What one is called.
        plural: What several are called; ``noun`` and an s where it is not given.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
