"""Learning from recorded episodes: which are learnt from and which held out, and how well those are foretold."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from agents.acting.playback import Playback
from agents.acting.state import ActorState
from agents.core.saved import part
from agents.core.tree import to_numpy, to_tensor, tree_map
from agents.data.dataset import Dataset
from agents.data.inspection import bad_actions, cleaned
from agents.ops.scores import confusion, determination, scores
from agents.run.datasets.reading import load_dataset
from agents.run.datasets.room import Room
from agents.run.storage import write_text
from envs.actions import ActionCodec
from envs.adapters.stacking import FrameStack
from envs.api import VecEnv
from envs.errors import UserError
from envs.seeding import derive_seed
from envs.spaces import ObservationCodec

REPORT = "held_out.json"
MOST_SHOWN = 32  # actions of which each one's scores are said


@dataclass(slots=True)
class RecordedState(ActorState):
    """An `ActorState` that knows which data were learnt from."""

    fingerprint: str = ""

    def state_dict(self) -> dict[str, Any]:
        return ActorState.state_dict(self) | {"data": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if part(state, "data") != self.fingerprint:
            raise ValueError(
                "the recorded data are not those that the run began with: they, or a rule for faults, changed"
            )
        ActorState.load_state_dict(self, state)


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
    leaves = list(data.obs.values()) if isinstance(data.obs, dict) else [data.obs]
    Room().take(frame_stack * sum(leaf.nbytes for leaf in leaves), Path("frame_stack"))
    stack = FrameStack(ObservationCodec(data.own_spaces[0]).space, frame_stack)
    lengths = data.lengths + 1
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.arange(len(first))
    back = np.maximum(rows[:, None] - np.arange(frame_stack)[::-1], first[:, None])
    plain = data.obs if isinstance(data.obs, dict) else {"": data.obs}
    frames = {name: plain[name][back] for name in stack.leaves}
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
        """Return the loss and scores by their names; of Discrete actions the confusion matrix too, `[A, A]`."""
        loss, foretold = self._foretold()
        found: dict[str, Any] = {"loss": loss}
        taken = self.data.action
        if count := self._algorithm.choices:
            counts = confusion(taken, foretold, count)
            made = scores(counts)
            each = {name: [round(float(x), 4) for x in getattr(made, name)] for name in ("precision", "recall", "f1")}
            return found | {"accuracy": made.accuracy, "macro_f1": made.macro_f1, "confusion": counts.tolist(), **each}
        if isinstance(self._algorithm.model.action_space, spaces.Box):
            error = float(np.mean((taken - foretold) ** 2, dtype=np.float64))
            return found | {"mse": error, "r2": determination(taken.astype(np.float64), foretold.astype(np.float64))}
        rows = (taken == foretold).reshape(len(taken), -1).all(axis=1)
        return found | {"accuracy": float(rows.mean())}

    @torch.no_grad()
    def _foretold(self) -> tuple[float, np.ndarray]:
        """Return the mean negative log-likelihood of the actions, and the most likely ones, `[M, ...]`."""
        data, algorithm = self.data, self._algorithm
        model, device = algorithm.model, algorithm.policy.device
        total, modes = 0.0, []
        for episode, (start, length) in enumerate(zip(data.starts, data.lengths, strict=True)):
            obs = tree_map(
                lambda leaf: to_tensor(leaf, device), data.at(slice(start + episode, start + episode + length))
            )
            action = algorithm.stored(to_tensor(data.action[start : start + length], device))
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
        write_text(folder / REPORT, json.dumps(found) + "\n")
        names = {
            "loss": "loss",
            "accuracy": "accuracy",
            "macro_f1": "macro F1",
            "mse": "mean squared error",
            "r2": "R2",
        }
        told = ", ".join(f"{word} {found[name]:.4g}" for name, word in names.items() if name in found)
        lines = [f"on {data.episodes:,} held-out episodes ({len(data):,} transitions): {told}"]
        if "f1" in found and len(found["f1"]) <= MOST_SHOWN:
            columns = zip(found["precision"], found["recall"], found["f1"], strict=True)
            rows = [f"{index}: {p:.3f} {r:.3f} {f:.3f}" for index, (p, r, f) in enumerate(columns)]
            lines.append(f"  precision, recall and F1 of each action: {'; '.join(rows)}")
        return lines


@dataclass(slots=True)
class Imitation:
    """What a training that learns from recorded episodes has of them.

    Attributes:
        playback: what is learnt from.
        held_out: what is not.
        notes: what is to be said of the data.
    """

    playback: Playback
    held_out: HeldOut
    notes: list[str]


def begin(algorithm: Any, env: VecEnv, params: Any, state: ActorState, seed: int) -> Imitation:
    """Read the data that the settings name, and make of them what a training needs.

    Args:
        algorithm: on its device.
        env: which the data must fit.
        params: with a part `recorded`.
        state: of the training.

    Raises:
        UserError: the data are missing, foreign or too large, do not fit the environment, or have a fault that the
            settings refuse.
    """
    recorded = params.recorded
    if recorded.data is None:
        raise UserError("which recorded episodes? Give a folder or file, for example: --data datasets/cartpole")
    data, said = cleaned(load_dataset(Path(recorded.data), env.own_spaces), recorded.rules)
    data = replace(data, own_spaces=env.own_spaces)
    fingerprint = data.fingerprint()
    learnt, held = prepared(data, params.observations.frame_stack, params.rescales_action).split(
        recorded.held_out, derive_seed(seed, "held out")
    )
    if (bad := _no_choice(data)) is not None:
        raise UserError(f"{recorded.data}: {bad}")
    algorithm.see(to_tensor(learnt.action, algorithm.policy.device))
    fields = {name: getattr(state, name) for name in ("step", "obs", "start", "carry", "tracker", "generator")}
    playback = Playback(learnt, algorithm.policy, RecordedState(**fields, fingerprint=fingerprint), seed)
    told = f"{data.episodes:,} recorded episodes ({len(data):,} transitions), {held.episodes:,} of them held out"
    return Imitation(playback, HeldOut(algorithm, held), [told, *said])


def _no_choice(data: Dataset) -> str | None:
    """Say that an action is none of the environment's, which no likelihood can be given to."""
    if isinstance(ActionCodec(data.own_spaces[1]).space, spaces.Box) or not (bad := bad_actions(data)).any():
        return None
    first = int(np.flatnonzero(bad)[0])
    where = f"episode {data.episode[first]}, action {first - data.starts[data.episode[first]]}"
    return f"{where} is none of {data.own_spaces[1]}: --data-bounds drop leaves such episodes out"
