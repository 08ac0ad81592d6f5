"""What actions and observations are called in pictures."""

from __future__ import annotations

from enum import IntEnum

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from envs.errors import UserError
from envs.make import make
from envs.names import _ACTIONS, _OBSERVATIONS, Names, names_of, renamed


def names(env_id: str, **kwargs):
    env = make(env_id, 1, render=True, **kwargs)
    env.close()
    return env.names


@pytest.mark.parametrize("vec", ["native", "sync"])
def test_gymnasiums_own_are_named_whatever_steps_them(vec):
    found = names("CartPole-v1", vec=vec)
    assert found.actions == ("left", "right")
    assert found.observations == {"": ("cart", "cart speed", "pole angle", "pole speed")}


def test_nothing_is_looked_up_where_nothing_is_drawn():
    env = make("CartPole-v1", 1)
    assert env.names.actions == ()


@pytest.mark.parametrize(
    ("env_id", "actions", "numbers"),
    [
        ("Acrobot-v1", 3, 6),
        ("MountainCar-v0", 3, 2),
        ("MountainCarContinuous-v0", 1, 2),
        ("Pendulum-v1", 1, 3),
        ("LunarLander-v3", 4, 8),
        ("BipedalWalker-v3", 4, 24),
        ("LunarLanderContinuous-v3", 2, 8),
        ("BipedalWalkerHardcore-v3", 4, 24),
        ("FrozenLake-v1", 4, 1),
        ("FrozenLake8x8-v1", 4, 1),
        ("CliffWalking-v1", 4, 1),
        ("CliffWalkingSlippery-v1", 4, 1),
        ("Corridor-v0", 2, 2),
        ("PendulumNoVel-v1", 1, 3),
        ("Bricks-v0", 3, 4),
        ("Crossing-v0", 3, 7),
        ("Invaders-v0", 4, 6),
        ("Submarine-v0", 6, 10),
        ("Treasure-v0", 5, 4),
    ],
)
def test_every_action_and_number_or_channel_of_the_standard_environments_has_a_name(env_id, actions, numbers):
    found = names(env_id)
    assert (len(found.actions), len(found.observations[""])) == (actions, numbers)


def test_names_follow_what_there_are_of_them():
    found = names("LunarLander-v3", env_kwargs={"continuous": True})
    assert found.actions == ("main engine", "side engines")


def test_an_observation_beside_its_mask_keeps_its_names():
    found = names("Taxi-v4", vec="sync")
    assert found.actions == ("south", "north", "east", "west", "pick up", "drop off")
    assert found.observations == {"observation": ("state",)}


def test_parts_of_a_tuple_are_named():
    assert names("Blackjack-v1").observations == {"0": ("own sum",), "1": ("dealer's card",), "2": ("usable ace",)}


def test_the_tables_repeat_no_name():
    for texts in (*_ACTIONS.values(), *_OBSERVATIONS.values()):
        for text in texts:
            assert len(set(text.split("|"))) == len(text.split("|"))


class Own(gym.Env):
    metadata = {"action_names": ["wait", "go"], "observation_names": ["depth", "width"]}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)


class Parts(Own):
    observation_space = spaces.Dict(near=spaces.Box(-1, 1, (1,)), far=spaces.Box(-1, 1, (2,)))
    metadata = {"observation_names": {"far": ["left eye", "right eye"]}}  # noqa: RUF012


def of(env: gym.Env):
    return names_of("Own-v0", env.observation_space, env.action_space, env)


class Shifted(gym.Env):
    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(3, start=-1)


def test_actions_without_names_have_the_environments_numbers():
    assert names_of("Shifted-v0", Shifted.observation_space, spaces.Discrete(3), Shifted()).actions == ("-1", "0", "1")


def test_actions_that_an_enum_counts_are_named_by_it():
    shown = Shifted()
    shown.actions = IntEnum("Moves", ["turn_left", "forward"], start=0)
    assert names_of("Shown-v0", Shifted.observation_space, spaces.Discrete(2), shown).actions == (
        "turn left",
        "forward",
    )


def test_an_environments_own_names_are_in_its_metadata():
    assert of(Own()).actions == ("wait", "go")
    assert of(Own()).observations == {"": ("depth", "width")}
    assert of(Parts()).observations == {"far": ("left eye", "right eye")}


def test_channels_of_pictures_are_named_wherever_they_are():
    for shape in ((2, 8, 8), (8, 8, 2)):
        env = Own()
        env.observation_space = spaces.Box(0, 255, shape, np.uint8)
        assert of(env).observations == {"": ("depth", "width")}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("action_names", ["wait"], r"\['action_names'\] has 1 names, 2 expected"),
        ("observation_names", ["a", "b", "c"], r"\['observation_names'\] has 3 names, 2 expected"),
        ("action_names", "go", "must be a list of texts, got 'go'"),
        ("action_names", [1, 2], "must be a list of texts"),
    ],
)
def test_names_that_cannot_be_right_are_refused(key, value, message):
    env = Own()
    env.metadata = {key: value}
    with pytest.raises(UserError, match=message):
        of(env)


def test_a_wrapper_that_changes_the_actions_takes_their_names_away():
    env = gym.wrappers.TransformAction(Own(), lambda action: int(action > 1), spaces.Discrete(5))
    assert of(env).actions == ()


def test_the_emulators_games_name_their_actions():
    pytest.importorskip("ale_py")
    assert names("ALE/Pong-v5", vec="sync").actions == ("noop", "fire", "right", "left", "rightfire", "leftfire")


def test_muscles_and_joints_of_mujoco_are_those_of_the_model():
    pytest.importorskip("mujoco")
    cheetah = names("HalfCheetah-v5")
    assert cheetah.actions == ("back thigh", "back shin", "back foot", "front thigh", "front shin", "front foot")
    assert cheetah.observations[""][:3] == ("height", "tilt", "back thigh")
    assert cheetah.observations[""][8:10] == ("x speed", "height speed")
    assert len(cheetah.observations[""]) == 17
    ant = names("Ant-v5")
    assert ant.actions[:2] == ("hip 4", "ankle 4")
    assert ant.observations[""][:6] == ("root z", "root qw", "root qx", "root qy", "root qz", "hip 1")
    assert ant.observations[""][27] == "cfrc ext 0"
    assert len(ant.observations[""]) == 105
    assert len(names("Hopper-v4").observations[""]) == 11
    assert names("Walker2d-v4").actions[:4] == ("thigh", "leg", "foot", "thigh left")
    assert names("Reacher-v5").observations[""][0] == "cos 1"
    assert names("Pusher-v5").observations[""][14] == "fingertip x"


def test_a_user_may_give_names_for_an_environment_that_does_not_say():
    one = spaces.Box(-1, 1, (2,)), spaces.Discrete(3)
    known = Names(("a", "b", "c"), {"": ("x", "y")})
    assert renamed(known, [], [], *one) is known
    assert renamed(known, ["left", "stay", "right"], ["place", "speed"], *one) == Names(
        ("left", "stay", "right"), {"": ("place", "speed")}
    )
    beside_mask = spaces.Dict(observation=spaces.Discrete(5), action_mask=spaces.MultiBinary(3))
    assert renamed(Names(), [], ["cell"], beside_mask, one[1]) == Names((), {"observation": ("cell",)})
    stacked = spaces.Box(-1, 1, (6,)), one[1]
    seen = renamed(Names(frame_stack=3), [], ["x", "y"], *stacked)
    assert seen.of_leaf("", 6) == ("x -2", "y -2", "x -1", "y -1", "x", "y")
    for actions, numbers, message in (
        (["left"], [], "action_names has 1 names, 3 expected"),
        ([], ["x"], "observation_names has 1 names, 2 expected"),
    ):
        with pytest.raises(UserError, match=message):
            renamed(known, actions, numbers, *one)
