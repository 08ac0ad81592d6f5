"""What observations are taken apart into."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from agents.view.explanation.features import MOST, features_of, leaves_of
from envs.names import Names
from envs.words import Written

SPACES = {
    "vector": spaces.Box(-1, 1, (3,)),
    "long": spaces.Box(-1, 1, (1000,)),
    "matrix": spaces.Box(-1, 1, (2, 2)),
    "choice": spaces.Discrete(4),
    "picture": spaces.Box(0, 255, (3, 20, 14), np.uint8),
    "stack": spaces.Box(0, 255, (4, 8, 8), np.uint8),
    "text": Written(12),
}


@pytest.mark.parametrize("kind", SPACES)
def test_every_number_belongs_to_one_feature(kind):
    space = spaces.Dict({kind: SPACES[kind], "action_mask": spaces.Box(0, 1, (2,))})
    found = features_of(space, Names())
    assert {feature.path for feature in found} == {kind}
    assert (np.sum([feature.where for feature in found], axis=0) == 1).all()
    assert len(found) <= MOST
    assert len({feature.name for feature in found}) == len(found)
    assert leaves_of(space).keys() == {kind}


def test_numbers_and_channels_have_their_names():
    names = Names(observations={"": ("a", "b", "c")})
    assert [feature.name for feature in features_of(SPACES["vector"], names)] == ["a", "b", "c"]
    red, _, _ = features_of(SPACES["picture"], names)
    assert red.name == "a"
    assert red.where[0].all()
    assert not red.where[1:].any()
    first = features_of(SPACES["picture"], Names())[0]
    assert first.name == "rows 0-3, columns 0-2"
    assert first.where[:, :4, :3].all()
    assert first.where.sum() == 3 * 4 * 3


def test_only_the_feature_is_replaced():
    _, middle, _ = features_of(SPACES["vector"], Names())
    obs, others = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert middle.replaced(obs, others).tolist() == [[0, 1, 0]] * 2
    assert middle.replaced(obs, others).dtype == np.float32
    assert not obs.any()
    space = spaces.Dict(cell=spaces.Discrete(4), far=SPACES["vector"])
    cell = features_of(space, Names())[0]
    both = cell.replaced({"cell": np.array([1, 2]), "far": obs}, {"cell": np.array([3, 0]), "far": others})
    assert both["cell"].tolist() == [3, 0]
    assert both["far"] is obs


def test_what_its_numbers_say_is_summed():
    _, second = features_of(SPACES["matrix"], Names())[:2]
    assert second.summed({"": np.arange(8.0).reshape(2, 2, 2)}).tolist() == [1.0, 5.0]
    assert second.summed({"elsewhere": np.zeros((2, 2))}) is None
