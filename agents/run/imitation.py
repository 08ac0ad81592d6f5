"""Learning from recorded episodes: which are learnt from and which held out, and how well those are foretold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.acting.playback import DaggerPlayback, Label, Playback, RecordedState
from agents.acting.state import ActorState
from agents.core.config import AlgoConfig
from agents.core.tree import named_leaves, to_numpy, to_tensor, tree_map, tree_to_tensor
from agents.data.dataset import Dataset
from agents.data.inspection import cleaned, no_choices
from agents.data.replay import ReplayBuffer
from agents.networks.models import ActorCritic, QNetwork
from agents.ops.scores import MOST_DRAWN, confusion, determination, tallied
from agents.run.datasets.reading import load_dataset
from agents.run.datasets.room import Room
from agents.run.models import LoadedPolicy, load_policy
from agents.run.storage import to_json, write_text
from envs.actions import ActionCodec, Hybrid
from envs.adapters.stacking import FrameStack
from envs.api import VecEnv
from envs.errors import UserError
from envs.seeding import derive_seed
from envs.spaces import ObservationCodec

REPORT = "held_out.json"
MOST_SHOWN = 32  # actions of which each one's scores are said


def prepared(data: Dataset, frame_stack: int, rescale_action: bool) -> Dataset:
    """Return data as a policy sees them: observations stacked, actions from -1 to 1 where it puts out such.

    Raises:
        UserError: stacked, they are larger than there is room for.
    """
    if rescale_action:
        own = data.own_spaces[1]
        data = replace(data, action=ActionCodec(own, rescale=True).encode(ActionCodec(own).decode(data.action)))
    if frame_stack == 1:
        return data
    leaves = named_leaves(data.obs)
    Room().take(frame_stack * sum(leaf.nbytes for leaf in leaves.values()), Path("frame_stack"))
    stack = FrameStack(ObservationCodec(data.own_spaces[0]).space, frame_stack)
    lengths = data.lengths + 1
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.arange(len(first))
    back = np.maximum(rows[:, None] - np.arange(frame_stack)[::-1], first[:, None])
    frames = {name: leaves[name][back] for name in stack.leaves}
    return replace(data, obs=stack.observed(frames, data.obs))


class HeldOut:
    """The episodes that are never learnt from, and what the policy makes of them.

    Args:
        algorithm: has a policy whose distribution gives recorded actions a likelihood, as BC.
        data: as the policy sees them; there may be none.
    """

    def __init__(self, algorithm: Any, data: Dataset) -> None:
        self._algorithm, self.data = algorithm, data

    def measure(self) -> dict[str, Any]:
        """Return the loss and scores by their names; of few Discrete actions the confusion matrix too, `[A, A]`.

        An action is right where all its choices are; the numbers among them have an error of their own.
        """
        loss, foretold = self._foretold()
        found: dict[str, Any] = {"loss": loss}
        taken = self.data.action
        if count := self._algorithm.choices:
            right = taken[taken == foretold]
            made = tallied(*(np.bincount(actions, minlength=count) for actions in (right, taken, foretold)))
            each = {name: [round(float(x), 4) for x in getattr(made, name)] for name in ("precision", "recall", "f1")}
            matrix = {"confusion": confusion(taken, foretold, count).tolist()} if count <= MOST_DRAWN else {}
            return found | {"accuracy": made.accuracy, "macro_f1": made.macro_f1, **matrix, **each}
        space = self._algorithm.model.action_space
        parts = list(space.parts.values()) if isinstance(space, Hybrid) else [space]
        widths = [int(np.prod(part.shape or (1,))) for part in parts]
        numbers = np.repeat([isinstance(part, spaces.Box) for part in parts], widths)
        taken, foretold = (actions.reshape(len(taken), -1) for actions in (taken, foretold))
        if not numbers.all():
            found["accuracy"] = float((taken == foretold)[:, ~numbers].all(axis=1).mean())
        if numbers.any():
            true, told = (actions[:, numbers].astype(np.float64) for actions in (taken, foretold))
            found |= {"mse": float(np.mean((true - told) ** 2)), "r2": determination(true, told)}
        return found

    @torch.no_grad()
    def _foretold(self) -> tuple[float, np.ndarray]:
        """Return the mean negative log-likelihood of the actions, and the most likely ones, `[M, ...]`."""
        data, algorithm = self.data, self._algorithm
        model, device = algorithm.model, algorithm.policy.device
        total, modes = 0.0, []
        for episode, (start, length) in enumerate(zip(data.starts, data.lengths, strict=True)):
            obs = tree_to_tensor(data.at(slice(start + episode, start + episode + length)), device)
            action = model.stored(to_tensor(data.action[start : start + length], device))
            if model.recurrent:
                begins = torch.zeros(length, 1, dtype=torch.bool, device=device)
                begins[0] = True
                obs = tree_map(lambda leaf: leaf[:, None], obs)
                distribution, _ = model(obs, model.initial_carry(1), begins)
                action = action[:, None]
            else:
                distribution, _ = model(obs, (), None)
            total -= float(distribution.log_prob(action).sum())
            mode = to_numpy(distribution.to_env(distribution.mode()))
            modes.append(mode[:, 0] if model.recurrent else mode)
        return total / len(data), np.concatenate(modes)

    def scalars(self) -> dict[str, float]:
        """Return TensorBoard tag -> number."""
        return {f"heldout/{name}": value for name, value in self.measure().items() if isinstance(value, float)}

    def report(self, folder: Path) -> list[str]:
        """Write what is foretold of the held-out episodes into a run's folder; return it in words."""
        data = self.data
        if not len(data):
            return ["no episode was held out: how well the policy foretells others' actions is not known"]
        found = {"episodes": data.episodes, "transitions": len(data)} | self.measure()
        write_text(folder / REPORT, to_json(found) + "\n")
        names = {
            "loss": "loss",
            "accuracy": "accuracy",
            "macro_f1": "macro F1",
            "mse": "mean squared error",
            "r2": "R2",
        }
        told = ", ".join(f"{word} {found[name]:.4g}" for name, word in names.items() if name in found)
        held_out = f"{data.episodes:,} held-out episode{'' if data.episodes == 1 else 's'}"
        lines = [f"on {held_out} ({len(data):,} transitions): {told}"]
        if "f1" in found and len(found["f1"]) <= MOST_SHOWN:
            columns = zip(found["precision"], found["recall"], found["f1"], strict=True)
            rows = [f"{index}: {p:.3f} {r:.3f} {f:.3f}" for index, (p, r, f) in enumerate(columns)]
            lines.append(f"  precision, recall and F1 of each action: {'; '.join(rows)}")
        return lines


class Judge(Protocol):
    """What is never learnt from, and what it says of the training."""

    data: Dataset

    def scalars(self) -> dict[str, float]:
        """Return TensorBoard tag -> number, `heldout/loss` among them."""
        ...

    def report(self, folder: Path) -> list[str]:
        """Write the last of it into a run's folder; return it in words."""
        ...


@dataclass(slots=True)
class Imitation:
    """What a training that learns from recorded episodes has of them.

    Attributes:
        playback: what is learnt from.
        held_out: what is not.
        notes: what is to be said of the data.
    """

    playback: Playback
    held_out: Judge
    notes: list[str]


def learnt_from(env: VecEnv, params: Any) -> tuple[Dataset, list[str]]:
    """Return the data that settings name, as a policy that is trained in `env` sees them, and what is to be said.

    Raises:
        UserError: they are missing, foreign or too large, do not fit the environment, or have a fault that the
            settings refuse.
    """
    recorded = params.recorded
    if recorded.data is None:
        raise UserError("which recorded episodes? Give a folder or file, for example: --data datasets/cartpole")
    return as_seen(Path(recorded.data), recorded.rules, env.own_spaces, params)


def as_seen(
    path: Path, rules: dict[str, str], own_spaces: tuple[Space, Space], params: AlgoConfig
) -> tuple[Dataset, list[str]]:
    """Return recorded data as a policy with these settings sees them, and what is to be said.

    Args:
        rules: what becomes of each fault, as `agents.data.inspection.cleaned` takes it.
        own_spaces: the environment's.

    Raises:
        UserError: as of `learnt_from`.
    """
    data, said = cleaned(load_dataset(path, own_spaces), rules)
    data = replace(data, own_spaces=own_spaces)
    if (bad := _no_choice(data)) is not None:
        raise UserError(f"{path}: {bad}")
    return prepared(data, params.observations.frame_stack, params.rescales_action), said


def fill(replay: ReplayBuffer, policy: Any, env: VecEnv, params: Any) -> list[str]:
    """Put recorded transitions into a replay buffer; return what is to be said of them.

    Raises:
        UserError: as of `learnt_from`, or there are more than it holds.
    """
    data, said = learnt_from(env, params)
    columns = replay.num_envs
    ticks = -(-len(data) // columns)
    if ticks > replay.rows:
        raise UserError(
            f"buffer_size {replay.rows * columns:,} is less than the {len(data):,} recorded transitions: raise it"
        )
    if policy.recurrent and ticks < (needed := params.replay.burn_in + params.replay.sequence_length):
        raise UserError(
            f"the {len(data):,} recorded transitions are {ticks:,} steps of {columns} environments, and a sequence has "
            f"{needed:,} (burn_in + sequence_length): record more, or lower n_envs or sequence_length"
        )
    place = np.minimum(np.arange(ticks * columns), len(data) - 1).reshape(columns, ticks).T
    reward = np.sign(data.reward) if params.clip_reward else data.reward
    rows: dict[str, Any] = {"obs": data.at(data.rows[place]), "next_obs": data.at(data.rows[place] + 1)}
    rows |= {"action": data.action[place], "reward": reward[place], "terminated": data.terminated[place]}
    rows["truncated"] = data.cut[place]
    rows = tree_map(torch.from_numpy, rows)
    if policy.recurrent:
        rows["carry"] = tree_map(lambda leaf: leaf.expand(ticks, *leaf.shape), policy.initial_carry(columns))
    real = torch.from_numpy(len(data) > np.arange(ticks * columns).reshape(columns, ticks).T)
    replay.extend(tree_map(lambda leaf: leaf.to(replay.device), rows), None if real.all() else real)
    replay.cut()  # columns may end within an episode, which what is stored next does not go on with
    tree_map(lambda leaf: leaf[:ticks].masked_fill_(_like(~real, leaf), 0), replay.store)  # never written, but saved
    return [f"{data.episodes:,} recorded episodes ({len(data):,} transitions) are in the replay buffer", *said]


def _like(flags: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """Return flags `[T, N]` as they are broadcast over a leaf `[T, N, ...]`."""
    return flags.to(leaf.device).view(*flags.shape, *[1] * (leaf.dim() - 2))


def divided(env: VecEnv, params: Any, state: ActorState, seed: int) -> tuple[RecordedState, Dataset, list[str]]:
    """Read the data that settings name; return a state that has what is learnt from, what is held out, and what to say.

    Args:
        env, params, state: as of `begin`.

    Raises:
        UserError: as of `learnt_from`.
    """
    data, said = learnt_from(env, params)
    learnt, held = data.split(params.recorded.held_out, derive_seed(seed, "held out"))
    told = f"{data.episodes:,} recorded episodes ({len(data):,} transitions), {held.episodes:,} of them held out"
    return RecordedState.of(state, data.fingerprint(), learnt), held, [told, *said]


def begin(algorithm: Any, env: VecEnv, params: Any, state: ActorState, seed: int) -> Imitation:
    """Read the data that the settings name, and make of them what a training needs.

    Args:
        algorithm: on its device.
        env: which the data must fit.
        params: with a part `recorded`.
        state: of the training.

    Raises:
        UserError: as of `learnt_from`, or an expert that is to be asked does not fit.
    """
    recorded, held, said = divided(env, params, state, seed)

    def see(action: np.ndarray) -> None:
        algorithm.see(to_tensor(action, algorithm.policy.device))

    see(recorded.base.action)
    expert, policy = params.expert, algorithm.policy
    if expert.dagger is None:
        playback = Playback(policy, recorded, seed)
    else:
        when = [
            params.total_timesteps * (index + 1) // (2 * expert.dagger_rounds) for index in range(expert.dagger_rounds)
        ]
        if env.capturable:
            raise UserError(
                "dagger: a policy that is asked about plays in NumPy: give --vec sync, or leave --compile on out"
            )
        label = labels_of(Path(expert.dagger), env, params.rescales_action)
        ticks = -(-expert.dagger_steps // env.num_envs)

        def told(action: np.ndarray) -> None:
            see(action)
            algorithm.look_again()

        playback = DaggerPlayback(policy, recorded, seed, env, label, ticks, when, told)
    return Imitation(playback, HeldOut(algorithm, held), said)


def fitting(path: Path, env: VecEnv) -> LoadedPolicy:
    """Return the policy of another run, which must act on the same observations, one at a time.

    Raises:
        UserError: there is none, its spaces are others, or it has a memory.
    """
    loaded = load_policy(path)
    for what, theirs, mine in (
        ("observations", loaded.observation_space, env.observation_space),
        ("actions", ActionCodec(loaded.own_spaces[1]).space, ActionCodec(env.own_spaces[1]).space),
    ):
        if theirs != mine:
            raise UserError(f"{path}: this policy does not fit: it learnt {what} {theirs}, not {mine}")
    if loaded.policy.recurrent:
        raise UserError(f"{path}: this policy has a memory, which would have to see all that came before")
    return loaded


def labels_of(path: Path, env: VecEnv, rescale_action: bool) -> Label:
    """Return what the policy of another run would do, as actions of a policy that is trained in `env`.

    Raises:
        UserError: as of `fitting`.
    """
    loaded = fitting(path, env)
    act, own = loaded.policy.actor(), env.own_spaces[1]
    theirs, ours = ActionCodec(own, loaded.rescale_action), ActionCodec(own, rescale_action)

    def label(obs: Any) -> np.ndarray:
        return ours.encode(theirs.decode(to_numpy(act(obs, (), None).env_action)))

    return label


def demonstrator(path: Path, env: VecEnv, mine: Any, rescale_action: bool) -> ActorCritic | QNetwork:
    """Return the network of another run's policy, frozen, to be compared with `mine`, which is trained.

    Raises:
        UserError: as of `fitting`; or it has not what `mine` is compared by, action probabilities or, where `mine` has
            action values, either; or its actions mean something else.
    """
    loaded = fitting(path, env)
    model = loaded.policy.model
    if not isinstance(model, ActorCritic | QNetwork if isinstance(mine, QNetwork) else ActorCritic):
        raise UserError(f"{path}: demonstrator: {loaded.algo} has no probabilities of actions; a run of bc or ppo has")
    if not isinstance(env.action_space, spaces.Discrete):
        theirs, ours = (loaded.rescale_action, model.squash), (rescale_action, mine.squash)
        if theirs != ours:
            names = "rescale_action and squash_output"
            raise UserError(f"{path}: demonstrator: {names} are {theirs} there and {ours} here: set them alike")
    return model.requires_grad_(False)


def _no_choice(data: Dataset) -> str | None:
    """Say that an action is none of the environment's, which no likelihood can be given to."""
    if not (bad := no_choices(data)).any():
        return None
    first = int(np.flatnonzero(bad)[0])
    where = f"episode {data.episode[first]}, action {first - data.starts[data.episode[first]]}"
    return f"{where} is none of {data.own_spaces[1]}: --data-bounds drop leaves such episodes out"
