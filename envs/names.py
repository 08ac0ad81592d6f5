"""What the actions and the numbers of observations, or the channels of pictures, are called.

An environment of the user's says so in `metadata["action_names"]` and `metadata["observation_names"]`, one of
Gymnasium's by the tables here, a game of the Atari emulator by `get_action_meanings()`, one of MiniGrid's by its enum
`actions`, and one of Gymnasium's MuJoCo kind by the joints and motors of its model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import EnumType
from typing import Any

import gymnasium
from gymnasium import Space, spaces

from envs.errors import UserError

# Name without version -> names, separated by "|"; of several, those that are as many as there are actions or numbers
# (of pictures: channels).
_ACTIONS = {
    "Acrobot": ["torque -1|no torque|torque +1"],
    "BipedalWalker": ["hip 1|knee 1|hip 2|knee 2"],
    "Blackjack": ["stick|hit"],
    "Bricks": ["left|stay|right"],
    "CarRacing": ["nothing|right|left|gas|brake", "steering|gas|brake"],
    "CartPole": ["left|right"],
    "CliffWalking": ["up|right|down|left"],
    "Corridor": ["left|right"],
    "Crossing": ["stay|up|down"],
    "FrozenLake": ["left|down|right|up"],
    "Invaders": ["stay|left|right|fire"],
    "LunarLander": ["nothing|left engine|main engine|right engine", "main engine|side engines"],
    "MountainCar": ["left|nothing|right"],
    "MountainCarContinuous": ["force"],
    "Pendulum": ["torque"],
    "Submarine": ["stay|left|up|right|down|fire"],
    "Taxi": ["south|north|east|west|pick up|drop off"],
    "Treasure": ["stay|left|up|right|down"],
}
_OBSERVATIONS = {
    "Acrobot": ["cos 1|sin 1|cos 2|sin 2|speed 1|speed 2"],
    "BipedalWalker": [
        "hull angle|hull turn|speed x|speed y|hip 1|hip 1 speed|knee 1|knee 1 speed|contact 1|hip 2|hip 2 speed|knee 2|"
        "knee 2 speed|contact 2|lidar 0|lidar 1|lidar 2|lidar 3|lidar 4|lidar 5|lidar 6|lidar 7|lidar 8|lidar 9"
    ],
    "Bricks": ["paddle|ball|trail|bricks"],
    "CartPole": ["cart|cart speed|pole angle|pole speed"],
    "CliffWalking": ["cell"],
    "Corridor": ["cue|junction"],
    "Crossing": ["walker|cars|speed 1|speed 2|speed 3|speed 4|speed 5"],
    "FrozenLake": ["cell"],
    "Invaders": ["cannon|aliens|aliens to the left|aliens to the right|shots|alien shots"],
    "InvertedDoublePendulum": ["cart|sin 1|sin 2|cos 1|cos 2|cart speed|speed 1|speed 2|constraint"],
    "LunarLander": ["x|y|speed x|speed y|angle|turn|left leg|right leg"],
    "MountainCar": ["position|speed"],
    "MountainCarContinuous": ["position|speed"],
    "Pendulum": ["cos|sin|speed"],
    "Pusher": [
        "shoulder pan|shoulder lift|upper arm roll|elbow|forearm roll|wrist|wrist roll|shoulder pan speed|"
        "shoulder lift speed|upper arm roll speed|elbow speed|forearm roll speed|wrist speed|wrist roll speed|"
        "fingertip x|fingertip y|fingertip z|object x|object y|object z|goal x|goal y|goal z"
    ],
    "Reacher": ["cos 1|cos 2|sin 1|sin 2|target x|target y|speed 1|speed 2|to target x|to target y"],
    "Submarine": ["front|back|shots|trails|enemy shots|fish|submarines|oxygen|divers aboard|divers"],
    "Taxi": ["state"],
    "Treasure": ["player|enemies|trails|gold"],
}
_VARIANT = re.compile(r"(Slippery|8x8|Continuous|Hardcore)$")  # of one of them, with the same names
# the same for leaves that are one number each, by their paths
_LEAVES = {"Blackjack": {"0": "own sum", "1": "dealer's card", "2": "usable ace"}}


@dataclass(frozen=True, slots=True)
class Names:
    """Names of an environment's actions and of its observation's numbers, as far as there are any.

    Attributes:
        actions: of each choice of Discrete, else of each number; () where there are none.
        observations: path of a leaf, "" where the observation is one array -> a name for each of its numbers, or for
            each channel where it is a picture.
        frame_stack: how many observations with these names are seen together.
    """

    actions: tuple[str, ...] = ()
    observations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    frame_stack: int = 1

    def of_leaf(self, path: str, count: int) -> tuple[str, ...]:
        """Return a name for each of the `count` numbers of a leaf: what it is called, else the leaf and its place.

        Names of stacked numbers end in how many steps ago they were seen, "x -3", but for the newest.
        """
        ago = range(self.frame_stack - 1, -1, -1)
        given = tuple(f"{name} -{k}" if k else name for k in ago for name in self.observations.get(path, ()))
        if len(given) == count:
            return given
        return (path,) if path and count == 1 else tuple(f"{path} {i}".strip() for i in range(count))


def names_of(env_id: str, observation_space: Space, action_space: Space, env: gymnasium.Env | None = None) -> Names:
    """Return what an environment's actions and observations are called, where there are as many names as of those.

    Args:
        env_id: as it is registered.
        observation_space: canonical.
        action_space: canonical.
        env: the environment, where it is one of Gymnasium's kind.

    Raises:
        UserError: names in the environment's metadata are not what they must be.
    """
    family = re.sub(r"(NoVel)?-v\d+$", "", env_id.rpartition("/")[2])
    if family not in _ACTIONS:
        family = _VARIANT.sub("", family)
    actions: list[list[str]] = [text.split("|") for text in _ACTIONS.get(family, [])]
    seen: dict[str, list[list[str]]] = {"": [text.split("|") for text in _OBSERVATIONS.get(family, [])]}
    seen |= {path: [[name]] for path, name in _LEAVES.get(family, {}).items()}
    core: Any = None if env is None else env.unwrapped
    if callable(meanings := getattr(core, "get_action_meanings", None)):
        actions.append([str(name).lower() for name in meanings()])
    if isinstance(members := getattr(core, "actions", None), EnumType):  # as MiniGrid has them
        actions.append([name.replace("_", " ") for name in members.__members__])
    if hasattr(core, "mujoco_renderer"):
        actions.append(list(_motors(core.model)))
        seen[""].append(list(_joints(core, core.model)))
    if isinstance(own := getattr(core, "action_space", None), spaces.Discrete) and own.start:
        actions.append([str(own.start + k) for k in range(int(own.n))])
    metadata = getattr(core, "metadata", None) or {}
    if (given := metadata.get("action_names")) is not None:
        actions = [_checked("metadata['action_names']", given, _choices(core.action_space))]
    if (given := metadata.get("observation_names")) is not None:
        own = _leaves(core.observation_space)
        parts = given if isinstance(given, Mapping) else {"": given}
        what = "metadata['observation_names']"
        seen = {path: [_checked(what, names, _numbers(own.get(path)))] for path, names in parts.items()}
    found: dict[str, tuple[str, ...]] = {}
    for path, leaf in _leaves(observation_space).items():
        # the one observation of an environment whose masks were put beside it is called so
        candidates = seen.get(path) or (seen.get("", []) if path == "observation" else [])
        if names := _fitting(candidates, _numbers(leaf)):
            found[path] = names
    return Names(_fitting(actions, _choices(action_space)), found)


def renamed(
    names: Names,
    actions: Sequence[str],
    observations: Sequence[str],
    observation_space: Space,
    action_space: Space,
) -> Names:
    """Return names with those in their place that a user gave for the actions, and for an observation of one row.

    Raises:
        UserError: there are not as many as there are actions or numbers.
    """
    if actions:
        names = replace(names, actions=tuple(_checked("action_names", actions, _choices(action_space) or 0)))
    if observations:
        leaves = _leaves(observation_space)
        path = "observation" if "observation" in leaves else ""
        count = (_numbers(leaves.get(path)) or 0) // names.frame_stack
        found = tuple(_checked("observation_names", observations, count))
        names = replace(names, observations={**names.observations, path: found})
    return names


def _leaves(space: Space) -> Mapping[str, Space]:
    return space.spaces if isinstance(space, spaces.Dict) else {"": space}


def _numbers(space: Space | None) -> int | None:
    """Return how many numbers an array of a space has, or how many channels; None where it is no row and no picture."""
    if isinstance(space, spaces.Discrete):
        return 1
    shape: tuple[int, ...] = getattr(space, "shape", None) or ()
    if len(shape) == 3:  # channels are first or last, and fewer than pixels
        return int(min(shape[0], shape[2]))
    return int(shape[0]) if len(shape) == 1 else None


def _choices(space: Space) -> int | None:
    """Return how many names actions take, or None where they take none."""
    return int(space.n) if isinstance(space, spaces.Discrete) else _numbers(space)


def _fitting(candidates: Sequence[Sequence[str]], count: int | None) -> tuple[str, ...]:
    """Return the first of the candidates with `count` names, or ()."""
    return next((tuple(names) for names in candidates if len(names) == count), ())


def _checked(what: str, names: Any, count: int | None) -> list[str]:
    """Return names that a user gave; UserError where they are no texts, or not `count`."""
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{what} must be a list of texts, got {names!r}")
    if count is not None and len(names) != count:
        raise UserError(f"{what} has {len(names)} names, {count} expected")
    return list(names)


def _motors(model: Any) -> Iterator[str]:
    """Yield a name for each motor of a MuJoCo model: its own or its joint's."""
    for i in range(model.nu):
        name = model.actuator(i).name or model.joint(int(model.actuator_trnid[i, 0])).name
        yield _words(name or f"motor {i}")


def _joints(core: Any, model: Any) -> Iterator[str]:
    """Yield a name for each number that an environment of Gymnasium's MuJoCo family sees, where they are as usual.

    They are the positions of the joints, without those that say where the whole is, then the speeds, and what
    `observation_structure` says follows.
    """
    structure = getattr(core, "observation_structure", None)
    total = core.observation_space.shape[0]
    if structure is None:
        skipped, rest = model.nq + model.nv - total, {}
        if not (type(core).__module__.startswith("gymnasium.envs.mujoco") and 0 <= skipped <= 2):
            return
    else:
        skipped = int(structure.get("skipped_qpos", 0))
        rest = {key: n for key, n in structure.items() if key not in ("skipped_qpos", "qpos", "qvel")}
        if total != model.nq - skipped + model.nv + sum(rest.values()):
            return
    places, speeds = [], []
    for i in range(model.njnt):
        name, kind = _words(model.joint(i).name or f"joint {i}"), int(model.jnt_type[i])
        where, how = _KINDS.get(kind, ([""], [" speed"]))
        places += [name + suffix for suffix in where]
        speeds += [name + suffix for suffix in how]
    yield from places[skipped:]
    yield from speeds
    for key, count in rest.items():
        yield from (f"{_words(key)} {i}" for i in range(count))


_TURNS = [" turn x", " turn y", " turn z"]
_QUATERNION = [" qw", " qx", " qy", " qz"]
# kind of a MuJoCo joint -> suffixes of its positions and speeds: free is 0, ball is 1, the others have one of each
_KINDS = {
    0: ([" x", " y", " z", *_QUATERNION], [" speed x", " speed y", " speed z", *_TURNS]),
    1: (_QUATERNION, _TURNS),
}


# what Gymnasium's models call joints -> words; the axes are those of the plane that a robot moves in
_JOINTS = {"rootx": "x", "rootz": "height", "rooty": "tilt"} | {
    f"{side[0]}{part}": f"{side} {part}" for side in ("back", "front") for part in ("thigh", "shin", "foot")
}


def _words(name: str) -> str:
    return _JOINTS.get(name, name.removesuffix("_joint").replace("_", " "))
