"""Kinds of values that the settings at a configuration's root take. A value of another kind ends in one line that names its setting."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

Kind = Callable[[Any], bool]
Kinds = Mapping[str, tuple[Kind, str]]  # by a setting's name: what it must be, and the same in words


def check(values: Mapping[str, Any], kinds: Kinds) -> None:
    """Raise ValueError for the first of these values that is of another kind."""
    for name, (kind, asked) in kinds.items():
        value = values[name]
        if not kind(value):
            shown = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            raise ValueError(f"{name} must be {asked}, got {shown!r}")


def number(value: Any) -> bool:
    """Whether it is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(value: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def seconds_or_none(value: Any) -> bool:
    """Whether it is a time, or null."""
    return value is None or (number(value) and value >= 0)


def flag(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def words(value: Any) -> bool:
    """Whether it is a list of words."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(word, str) for word in value)


def some_of(known: Collection[str]) -> Kind:
    """Whether it is a list of these words."""
    return lambda value: words(value) and set(value) <= set(known)


def group(value: Any) -> bool:
    """Whether it is a group of settings, by name."""
    return isinstance(value, Mapping)
