"""MiniGrid as it comes: planes for what each cell holds, the direction, and the mission's words."""

from __future__ import annotations

from contextlib import closing

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.adapters.minigrid import Planes, in_planes
from envs.make import make
from envs.single import make_single
from envs.words import Written, text_of

ENV = "MiniGrid-DoorKey-5x5-v0"
minigrid = pytest.importorskip("minigrid", reason="the MiniGrid extra is not installed")


def test_all_that_is_shown_is_understood():
    with closing(make(ENV, 2, vec="sync")) as env:
        space = env.observation_space
        assert set(space.spaces) == {"direction", "image", "mission"}
        assert space["direction"] == spaces.Discrete(4)
        assert space["image"] == spaces.Box(0, 1, (7, 7, 21), np.uint8)
        assert isinstance(space["mission"], Written)
        obs = env.reset(0)
        assert text_of(obs["mission"][1]) == "use the key to open the door and then get to the goal"


def test_each_number_has_its_plane():
    env = make_single(ENV)
    observation, _ = env.reset(seed=0)
    assert isinstance(env, Planes)
    numbers = env.env.unwrapped.gen_obs()["image"]
    assert len(np.unique(numbers[..., 0])) > 3  # more than walls and floor can be seen
    for cell in np.ndindex(7, 7):
        planes = observation["image"][cell]
        kind, colour, state = (np.flatnonzero(part).tolist() for part in np.split(planes, [11, 17]))
        assert [kind, colour, state] == [[number] for number in numbers[cell]]


@pytest.mark.parametrize("name", ["minigrid.wrappers:ImgObsWrapper", "minigrid.wrappers:FullyObsWrapper"])
def test_wrappers_of_minigrid_see_what_they_expect(name):
    with closing(make_single(ENV, wrappers=[name])) as env:
        assert isinstance(env, Planes)
        assert env.observation_space.contains(env.reset(seed=0)[0])
        assert env.observation_space.contains(env.step(1)[0])


@pytest.mark.parametrize("name", ["RGBImgPartialObsWrapper", "FlatObsWrapper", "SymbolicObsWrapper"])
def test_pixels_vectors_and_places_stay_as_they_are(name):
    with closing(make_single(ENV, wrappers=[f"minigrid.wrappers:{name}"])) as env:
        assert not isinstance(env, Planes)


class Bright(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return {**observation, "image": np.full_like(observation["image"], 200)}


def test_what_a_wrapper_shows_in_the_place_of_minigrids_numbers_is_said():
    env = in_planes(Bright(gymnasium.make(ENV)))
    with closing(env), pytest.raises(ValueError, match=r"holds \[200, 200, 200\].* other bounds than 0 and 255"):
        env.reset(seed=0)


def test_other_environments_stay_as_they_are():
    env = gymnasium.make("CartPole-v1")
    assert in_planes(env) is env
