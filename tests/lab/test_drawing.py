"""Pictures of many sides: each has looks of its own, and room beside its legend."""

from __future__ import annotations

import warnings

from agents.lab.drawing import make_picture, side_style

MANY = [f"side {number}" for number in range(16)]


def test_no_two_sides_look_alike():
    looks = {str(sorted(side_style(MANY, label).items(), key=str)) for label in MANY}
    assert len(looks) == len(MANY)
    assert len({side_style(MANY, label)["color"] for label in MANY[:7]}) == 7


def test_a_long_legend_takes_nothing_from_the_picture():
    heights = []

    def painted(count):
        def paint(axes):
            for label in MANY[:count]:
                axes.plot([0, 1], [0, 1], label=label, **side_style(MANY, label))
            drawn.append(axes)

        drawn = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = make_picture("curve", "a curve", 2.4, paint)
        heights.append(drawn[0].get_window_extent().height)
        return picture

    few, many = painted(2), painted(16)
    assert many.height > few.height
    assert heights[1] > 0.9 * heights[0]
