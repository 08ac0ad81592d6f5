"""What reads texts: words by their hashes, and networks that do not see what is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.core.config import NetworkConfig
from agents.networks.encoders import Encoder
from agents.networks.words import BUCKETS, MOST_WORDS, TextEncoder, Words
from envs.words import Tokens, Written, read_text
from tests.networks.encoding import made


def texts(*said, length=64):
    return torch.from_numpy(np.stack([read_text(text, length) for text in said]))


def slow_hash(word):
    total = 0
    for place, byte in enumerate(word.encode()):
        total += byte * pow(1_000_003, place, 2**31 - 1)
    return total % (2**31 - 1) % BUCKETS + 1


def test_words_are_hashed_one_by_one():
    said = ["pick up the RED ball!", "", "  two,words ", "größe 7", "x"]
    found = Words(64)(texts(*said))
    wanted = [["pick", "up", "the", "red", "ball"], [], ["two", "words"], ["größe", "7"], ["x"]]
    for row, words in zip(found.tolist(), wanted, strict=True):
        assert row == [slow_hash(word) for word in words] + [0] * (MOST_WORDS - len(words))


def test_words_beyond_the_last_that_is_read_change_nothing():
    short = " ".join("ab" for _ in range(MOST_WORDS))
    one, other = Words(200)(texts(short, short + " and more", length=200))
    assert one.equal(other)
    assert (one > 0).all()


def test_words_that_differ_have_numbers_that_differ():
    said = "go to the red green blue purple yellow grey ball box key door left right up down pick put open"
    (row,) = Words(200)(texts(said, length=200)).tolist()
    assert len(set(row)) == 21  # and the zeros after them


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_what_comes_after_the_end_is_not_seen(kind):
    torch.manual_seed(0)
    short, long = TextEncoder(Tokens(4, 5), kind), TextEncoder(Tokens(9, 5), kind)
    state = long.state_dict()
    if kind == "transformer":
        state["reader.places"] = state["reader.places"][:5]
    short.load_state_dict(state)
    x = torch.tensor([[1, 4, 2, 0], [3, 3, 5, 1]])
    torch.testing.assert_close(short(x), long(torch.nn.functional.pad(x, (0, 5))))


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_order_counts_and_rows_do_not_mix(kind):
    torch.manual_seed(0)
    encoder = TextEncoder(Written(64), kind)
    x = texts("red ball blue box", "blue ball red box", "", "red ball blue box")
    out = encoder(x)
    assert out.shape == (4, encoder.features)
    assert not torch.allclose(out[0], out[1])
    torch.testing.assert_close(out[0], out[3])
    torch.testing.assert_close(encoder(x[:1]), out[:1])
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_multidiscrete_is_read_as_symbols_on_demand_alone():
    space = spaces.MultiDiscrete([5, 5, 5])
    assert made(space).features == 15
    symbols = made(space, text_encoder="gru")
    assert "3 of 5 symbols -> gru" in symbols.description
    x = torch.tensor([[0, 1, 2], [1, 0, 2], [0, 1, 2]])
    out = symbols(x)
    assert torch.equal(out[0], out[2])
    assert not torch.allclose(out[0], out[1])


def test_what_was_understood_is_said():
    space = spaces.Dict({"said": Written(40), "seen": Tokens(9, 5)})
    assert Encoder(space, NetworkConfig()).description.splitlines() == [
        "said: text, its first 40 bytes by words -> transformer",
        "seen: sequence of at most 9 of 5 symbols -> transformer",
    ]
