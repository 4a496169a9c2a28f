"""Versions: which is nearest, and how far another is."""

import pytest

from simulators.foreign.versions import by_nearness, distance


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ("0.19.0", ["0.19.0", "0.14.0", "0.24.0", "0.9.1"]),  # of two that are equally far the older
        ("0.15.1", ["0.14.0", "0.19.0", "0.9.1", "0.24.0"]),
        ("0.31.0", ["0.24.0", "0.19.0", "0.14.0", "0.9.1"]),
        (None, ["0.24.0", "0.19.0", "0.14.0", "0.9.1"]),
    ],
)
def test_versions_come_by_how_near_they_are(asked: str | None, order: list[str]) -> None:
    assert by_nearness(["dev-1aa0e96", "0.9.1", "0.14.0", "0.24.0", "0.19.0"], asked) == [*order, "dev-1aa0e96"]


@pytest.mark.parametrize(
    ("version", "asked", "words"),
    [
        ("0.19.0", "0.19.0+cpu", "the same"),
        ("0.24.0", "0.26.1", "2 minors older"),
        ("0.24.0", "0.23.0", "1 minor newer"),
        ("0.5.10", "0.5.12", "2 patches older"),
        ("1.0.0", "0.24.0", "1 major newer"),
    ],
)
def test_how_far_another_is_in_words(version: str, asked: str, words: str) -> None:
    assert distance(version, asked) == words
