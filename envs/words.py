"""Text and sequences as canonical arrays: bytes of UTF-8, or numbers of symbols, with zeros after the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from gymnasium import Space, spaces

MOST_BYTES = 256  # of a text; the rest of a longer one is not read
MOST_SYMBOLS = 64  # of a sequence; of a longer one the last are read
PRINTED = "".join(map(chr, range(32, 127)))  # the characters of texts whose space names none


class Written(spaces.Box):
    """Canonical texts: uint8 `[length]`, the text's first bytes in UTF-8, and zeros after its end."""

    def __init__(self, length: int) -> None:
        super().__init__(0, 255, (length,), np.uint8)

    def __repr__(self) -> str:
        return f"Written({self.shape[0]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written) and self.shape == other.shape


class Tokens(spaces.MultiDiscrete):
    """Canonical sequences: int64 `[length]`, 1 + the number of each symbol, and zeros after the end."""

    def __init__(self, length: int, symbols: int) -> None:
        super().__init__(np.full(length, symbols + 1, np.int64))

    def __repr__(self) -> str:
        return f"Tokens({len(self.nvec)}, {int(self.nvec[0]) - 1})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and super().__eq__(other)


Reader = Callable[[Any], np.ndarray]  # one raw value -> its canonical array; ValueError where it is none


def understood(space: Space) -> tuple[Written | Tokens, Reader] | None:
    """Return the canonical space of a text or a sequence, and what reads one; None where a space is neither.

    Texts are those of `spaces.Text`, and of any space of no shape whose values are text, such as MiniGrid's missions;
    sequences are `spaces.Sequence` of Discrete.
    """
    if is_text(space):
        length = 4 * space.max_length if isinstance(space, spaces.Text) else MOST_BYTES  # bytes of a character at most
        canonical = Written(min(length, MOST_BYTES))
        return canonical, partial(read_text, length=canonical.shape[0])
    if isinstance(space, spaces.Sequence) and isinstance(space.feature_space, spaces.Discrete):
        symbols = space.feature_space
        return Tokens(MOST_SYMBOLS, int(symbols.n)), partial(read_sequence, symbols=symbols)
    return None


def is_text(space: Space) -> bool:
    """Whether a space's values are text."""
    try:
        return isinstance(space, spaces.Text) or (space.dtype is not None and np.dtype(space.dtype).kind == "U")
    except TypeError:
        return False


def read_text(value: Any, length: int) -> np.ndarray:
    """Return a text's first bytes, uint8 `[length]`, never a part of a character.

    Raises:
        ValueError: it is no text.
    """
    if not isinstance(value, str):
        raise ValueError(f"is {value!r:.60} ({type(value).__name__}), which is not text")
    return _bytes(str(value), length)


@lru_cache(maxsize=4_096)
def _bytes(text: str, length: int) -> np.ndarray:
    data = text.encode("utf-8", "replace")[:length].decode("utf-8", "ignore").encode()
    found = np.zeros(length, np.uint8)
    found[: len(data)] = np.frombuffer(data, np.uint8)
    found.flags.writeable = False
    return found


def text_of(array: Any) -> str:
    """Return the text that `read_text` made an array of, as far as it was kept."""
    return bytes(np.asarray(array, np.uint8)).rstrip(b"\0").decode("utf-8", "replace")


def read_sequence(value: Any, symbols: spaces.Discrete) -> np.ndarray:
    """Return a sequence's last symbols as 1 + their numbers, int64 `[MOST_SYMBOLS]`.

    Raises:
        ValueError: it is no sequence of these symbols.
    """
    numbers = np.asarray(value)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise ValueError(f"is {value!r:.60} ({type(value).__name__}), which is not a sequence of numbers")
    numbers = numbers.astype(np.int64)[-MOST_SYMBOLS:] - int(symbols.start)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= symbols.n):
        raise ValueError(f"is {value!r:.60} ({type(value).__name__}), which is not in {symbols}")
    found = np.zeros(MOST_SYMBOLS, np.int64)
    found[: len(numbers)] = numbers + 1
    return found


def text_to_json(space: Space) -> dict[str, Any]:
    """Return a space of texts as plain JSON data; of another class than `spaces.Text`, as one of those."""
    if not isinstance(space, spaces.Text):
        return {"type": "Text", "max_length": MOST_BYTES}
    return {"type": "Text", "max_length": space.max_length, "characters": "".join(sorted(space.character_set))}


def text_from_json(data: Mapping[Any, Any]) -> spaces.Text:
    """Return the space that `text_to_json` described.

    Raises:
        ValueError: `data` describes none.
    """
    length, characters = data.get("max_length"), data.get("characters", PRINTED)
    if data.keys() - {"max_length", "characters"} or type(length) is not int or not 0 < length < 2**31:
        raise ValueError("not a text")
    if not isinstance(characters, str) or not 0 < len(characters) == len(set(characters)):
        raise ValueError("not a set of characters")
    return spaces.Text(length, charset=characters)
