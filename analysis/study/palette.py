"""The colours of the simulators in a study's figures, on light and on dark; what is measured has the colour of the text.

Okabe and Ito's hues (jfly.uni-koeln.de/color, 2008). On a light page they are deep enough for lines on white (contrast 3, WCAG 2.2,
1.4.11), and as far apart as they can then be with any colour vision. Tracks differ in dash and mark, so colour is never alone.
"""

from analysis.plots import OTHER

PALETTE = {  # system: (on light, on dark)
    "vidur": ("#C44E00", "#D55E00"),
    "splitwise_sim": ("#B88900", "#E69F00"),
    "distserve_sim": ("#B2528A", "#CC79A7"),
    "aisimulate": ("#1F77B4", "#56B4E9"),
    "native": ("#009E73", "#009E73"),
}


def css(system: str) -> str:
    """A system's colour as CSS that follows the theme; grey for one without an entry."""
    light, dark = PALETTE.get(system, (OTHER, OTHER))
    return f"light-dark({light}, {dark})"
