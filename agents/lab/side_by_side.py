"""Several policies beside one another in one video, each in its own copy of the same episode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from agents.lab.words import number
from agents.run.play import Moment
from agents.run.video import Frame

MOST = 6  # policies in a picture
STEPS = 2_000  # of a video at most
HEIGHT, STRIP = 320, 26  # pixels of each one's picture at most, and of the words above it


def frames(shows: Sequence[tuple[str, Iterator[Moment]]], fps: float) -> Iterator[Frame]:
    """Yield pictures of all, step by step, until the last episode has ended; who has ended stands still.

    Args:
        shows: for each policy its name and its episode, rendered.
        fps: of the video; the end stays for a second.
    """
    tiles: list[Frame] = []
    running = {index: moments for index, (_, moments) in enumerate(shows)}
    for _ in range(STEPS):
        for index, moments in list(running.items()):
            moment = next(moments)
            tile = _tile(shows[index][0], moment)
            tiles[index : index + 1] = [tile]
            if moment.ended:
                del running[index]
        yield _together(tiles)
        if not running:
            break
    yield from [_together(tiles)] * round(fps)


def _tile(name: str, moment: Moment) -> Frame:
    """Return the environment's picture with a line above it: who plays, and the return so far."""
    from PIL import Image, ImageDraw

    assert moment.frame is not None
    picture = Image.fromarray(moment.frame)
    scale = HEIGHT / picture.height
    picture = picture.resize((max(round(picture.width * scale), 1), HEIGHT))
    tile = Image.new("RGB", (max(picture.width, HEIGHT), HEIGHT + STRIP), "white")
    tile.paste(picture, (0, STRIP))
    words = f"{name}: return {number(moment.ret)} at step {moment.step:,}{', ended' if moment.ended else ''}"
    ImageDraw.Draw(tile).text((4, 5), words.encode("ascii", "replace").decode(), fill="black", font_size=14)
    return np.asarray(tile)


def _together(tiles: Sequence[Frame]) -> Frame:
    """Put tiles into rows, as square as they get; all are as large as the largest."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    whole = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * height, index % columns * width
        whole[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return whole
