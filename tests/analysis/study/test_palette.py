"""The study's colours: seen on the page, and told apart with any colour vision."""

import itertools

import numpy as np
import pytest

from analysis.stats import Values
from analysis.study.palette import PALETTE, css

PAGES = ("#fdfdfc", "#15171b")  # report.css, light and dark
APART = 10.0  # CIE76; about 2.3 is just noticed side by side
VISION = {  # Machado, Oliveira and Fernandes 2009 (doi:10.1109/TVCG.2009.113), severity 1, on linear RGB
    "normal": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_lines_are_seen_on_the_page_and_told_apart_with_any_colour_vision(place: int) -> None:
    colours = {system: linear(pair[place]) for system, pair in PALETTE.items()}
    page = luminance(linear(PAGES[place]))
    for system, colour in colours.items():
        light, dark = sorted((luminance(colour), page), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, system
    for vision, matrix in VISION.items():
        seen = {system: lab(np.clip(matrix @ colour, 0, 1)) for system, colour in colours.items()}
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(seen[one] - seen[other]) >= APART, (vision, one, other)


def test_a_system_without_a_colour_is_grey() -> None:
    assert css("something_new") == "light-dark(#8C8C8C, #8C8C8C)"


def linear(text: str) -> Values:
    channels = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(colour: Values) -> float:
    return float(XYZ[1] @ colour)


def lab(colour: Values) -> Values:
    x, y, z = np.cbrt(np.maximum(XYZ @ colour / np.array([0.95047, 1.0, 1.08883]), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
