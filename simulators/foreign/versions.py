"""Versions of an engine, and which of several is nearest to one."""

import re
from collections.abc import Iterable

PLACES = (("major", "majors"), ("minor", "minors"), ("patch", "patches"))


def by_nearness(versions: Iterable[str], asked: str | None) -> list[str]:
    """Versions, the nearest first: the one that was asked for, then by how many majors, minors and patches they are from it.

    Of two that are equally far the older comes first: the engine surely had its kernels. With nothing asked, the newest first. What begins
    with no number (dev-1aa0e96) comes last.
    """

    def away(version: str) -> tuple[bool, bool, list[int]]:
        one = numbers(version)
        if asked is None:
            return not version[:1].isdigit(), False, [-number for number in one]
        far = [abs(a - b) for a, b in zip(one, numbers(asked), strict=True)]
        return not version[:1].isdigit(), version != asked, [*far, *one]

    return sorted(versions, key=away)


def numbers(version: str, places: int = 4) -> tuple[int, ...]:
    """A version's first numbers, in whose order versions are: 0.9 before 0.10, 0.5.6 before 0.5.6.post2."""
    found = [int(digits) for digits in re.findall(r"\d+", version.partition("+")[0])]
    return tuple([*found, *[0] * places][:places])


def distance(version: str, asked: str) -> str:
    """How far a version is from the one that was asked for, in words: 'the same', '2 minors older'. The first place that differs counts."""
    for (place, places), one, other in zip(PLACES, numbers(version), numbers(asked), strict=False):
        if one != other:
            return f"{abs(one - other)} {place if abs(one - other) == 1 else places} {'older' if one < other else 'newer'}"
    return "the same"
