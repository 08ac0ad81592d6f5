"""A trained model as files: everything that acting needs, and nothing that runs code when loaded.

A model is two files in one folder: `model.safetensors` (weights and normaliser statistics) and `model.json`
(algorithm, hyperparameters, spaces, environment, and checksums of both).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from gymnasium import Space
from torch import nn

from agents.acting.policies import ModelPolicy
from agents.core.device import choose_device
from agents.core.precision import set_precision
from agents.core.saved import count
from agents.run import code
from agents.run.build import make_algorithm
from agents.run.config import RunConfig, moved_to
from agents.run.folder import RunFolder, run_of
from agents.run.training import refuse_spoilt
from agents.run.trees import copy_tree, read_tree, write_tree
from envs.actions import ActionCodec
from envs.adapters.stacking import shown_space
from envs.errors import UserError, did_you_mean
from envs.space_json import space_from_json, space_to_json
from envs.spaces import ObservationCodec

FEW_BYTES = 64 * 2**20  # that an algorithm may take beside its model, whose description may say anything


class _Model(Protocol):
    """What is read of a folder with a model; the newest of several has the highest step."""

    @property
    def step(self) -> int: ...


Found = TypeVar("Found", bound=_Model)


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy ready to act, and what it was trained on.

    `own_spaces` are the environment's, of observations and actions; `observation_space` and `action_space` their
    canonical forms. `path` is the folder that holds the model, or the name of a class where it is in memory alone;
    `name` is "best", "latest" or the checkpoint's step;
    `notes` say where the user's own code is not that of the training.
    """

    policy: ModelPolicy
    config: RunConfig
    own_spaces: tuple[Space, Space]
    step: int
    path: Path
    name: str
    notes: tuple[str, ...] = ()
    in_memory: bool = False

    @property
    def place(self) -> str:
        """Where it is, as it is said."""
        return "a model in memory" if self.in_memory else str(self.path.absolute())

    @property
    def observation_space(self) -> Space:
        return shown_space(ObservationCodec(self.own_spaces[0]).space, self.config.params.observations.frame_stack)

    @property
    def action_space(self) -> Space:
        return ActionCodec(self.own_spaces[1], self.rescale_action).space

    @property
    def env(self) -> str:
        return self.config.env

    @property
    def env_kwargs(self) -> dict[str, Any]:
        return self.config.env_kwargs

    @property
    def rescale_action(self) -> bool:
        return self.config.params.rescales_action

    @property
    def algo(self) -> str:
        return self.config.algo

    @property
    def seed(self) -> int:
        return self.config.seed

    def moved(self, env: str | None = None, env_kwargs: dict[str, Any] | None = None) -> LoadedPolicy:
        """Return it as one of another environment, to which the training's own arguments do not apply, or of others.

        Args:
            env: the other environment; None for the training's.
            env_kwargs: arguments that go over the training's own.
        """
        name = self.env if env is None else code.absolute("env", env)
        kwargs = (self.env_kwargs if name == self.env else {}) | (env_kwargs or {})
        return replace(self, config=self.config.model_copy(update={"env": name, "env_kwargs": kwargs}))


def save_model(folder: Path, model: nn.Module, config: RunConfig, own_spaces: tuple[Space, Space], step: int) -> None:
    """Write a model's two files into `folder`; `own_spaces` as `LoadedPolicy` has them."""
    meta = {
        "config": config.model_dump(mode="json"),
        "observation_space": space_to_json(own_spaces[0]),
        "action_space": space_to_json(own_spaces[1]),
        "step": step,
    }
    write_tree(folder, "model", model.state_dict(), meta)


def load_model(
    folder: Path,
    name: str,
    device: str = "cpu",
    *,
    trust: code.Trust = False,
    replaced: str = "",
    acting: bool = True,
) -> LoadedPolicy:
    """Load the model in `folder`.

    Args:
        trust, replaced: which code outside the package, named by its files, may be imported (`code.refuse`).
        acting: whether something is to be played with it, which what learnt no policy cannot do.

    Raises:
        UserError: a file is missing, torn, altered, foreign, or its weights do not fit its description; or the user
            has not agreed to the code that it needs.
    """
    weights, meta = read_tree(folder, "model")
    file = folder / "model.json"
    try:
        values, notes = code.find(meta["config"], run_of(folder), str(file), trust, replaced=replaced)
        config = RunConfig.from_dict(values, source=str(file))
        own_spaces = space_from_json(meta["observation_space"]), space_from_json(meta["action_space"])
        step = count(meta["step"], "step")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: not a model description this version can read ({error!r})") from error
    try:
        shown = shown_space(ObservationCodec(own_spaces[0]).space, config.params.observations.frame_stack)
        spaces = shown, ActionCodec(own_spaces[1], config.params.rescales_action).space
        held = sum(leaf.nbytes for leaf in weights.values() if isinstance(leaf, torch.Tensor))
        algorithm = make_algorithm(config.algo, *spaces, config.params, seed=0, most=8 * held + FEW_BYTES)
        if acting and not algorithm.acts:
            raise UserError(
                f"{config.algo} learns no policy, only what reads observations: begin a training with it, --from"
            )
        refuse_spoilt(weights, algorithm.model.state_dict())
        algorithm.model.load_state_dict(weights)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / 'model.safetensors'}: the weights do not fit {file.name}: {reason}") from error
    policy: Any = algorithm.to(torch.device(device)).eval().policy
    set_precision(policy.model, config.precision)
    return LoadedPolicy(policy, config, own_spaces, step, folder, name, tuple(notes))


def state_folder(loaded: LoadedPolicy) -> Path | None:
    """Return the folder with the state of the training that a loaded model is of, or None where none was kept."""
    if loaded.in_memory:
        return None
    run = RunFolder(loaded.path)
    folder = run.checkpoint(loaded.step) if run.config_file.is_file() else loaded.path
    return folder if (folder / "state.json").exists() else None


def training_state(loaded: LoadedPolicy) -> dict[str, Any] | None:
    """Return what a training needs to go on exactly from a loaded model, or None where that was not kept.

    Raises:
        UserError: it is torn or altered, or of another step, as the model was replaced since.
    """
    if (folder := state_folder(loaded)) is None:
        return None
    state, meta = read_tree(folder, "state")
    if meta.get("step") != loaded.step:
        raise UserError(
            f"{folder} holds the training of step {meta.get('step')}, and the model that was loaded is of step "
            f"{loaded.step}: it was replaced since, so load it again"
        )
    return state


def copy_training_state(loaded: LoadedPolicy, folder: Path) -> None:
    """Copy into `folder` what a training needs to go on exactly from a loaded model, where that was kept.

    Raises:
        UserError: it cannot be read or written.
    """
    if (source := state_folder(loaded)) is not None:
        copy_tree(source, "state", folder)


def untrained(loaded: LoadedPolicy) -> LoadedPolicy:
    """Return the policy that the training of a loaded one began with: its first weights follow from the seed.

    Raises:
        UserError: the algorithm cannot be made.
    """
    spaces = loaded.observation_space, loaded.action_space
    algorithm = make_algorithm(loaded.algo, *spaces, loaded.config.params, loaded.seed)
    policy: Any = algorithm.to(loaded.policy.device).eval().policy
    set_precision(policy.model, loaded.config.precision)
    return replace(loaded, policy=policy, step=0, name="0")


def on_cpu(loaded: LoadedPolicy) -> LoadedPolicy:
    """Return a policy that computes on the CPU: the loaded one, or where that is elsewhere a copy."""
    if loaded.policy.device.type == "cpu":
        return loaded
    copy = untrained(loaded)
    copy.policy.model.cpu().load_state_dict(loaded.policy.model.state_dict())
    return replace(copy, step=loaded.step, name=loaded.name)


def runs_here(config: RunConfig) -> RunConfig:
    """Return settings for a device that is chosen anew where this machine lacks theirs."""
    try:
        choose_device(config.device, env_on_gpu=False, flops=0, batch_size=1)
    except UserError:
        return config.model_copy(update=moved_to(config, "auto"))
    return config


def load_policy(
    path: Path,
    checkpoint: str = "best",
    device: str = "cpu",
    *,
    trust: code.Trust = False,
    env: str | None = None,
    env_kwargs: dict[str, Any] | None = None,
    acting: bool = True,
) -> LoadedPolicy:
    """Load a run's policy, or the model in any folder that holds one.

    Args:
        path: a run folder, or a folder with `model.json` in it (or that file).
        checkpoint: "best" by the run's own evaluations (the last where there were none), "latest", or a step.
        device: where the networks go.
        trust, acting: as `load_model` takes them.
        env, env_kwargs: as `LoadedPolicy.moved` takes them; the training's environment is not imported then.

    Raises:
        UserError: no such model or checkpoint, or its files are unusable, or `load_model` refuses its code.
    """
    replaced = "" if env is None else "env"
    load = partial(load_model, device=device, trust=trust, replaced=replaced, acting=acting)
    return chosen(path, checkpoint, load).moved(env, env_kwargs)


def chosen(path: Path, checkpoint: str, load: Callable[[Path, str], Found]) -> Found:
    """Call `load` with the folder and the name of the model that is meant, and return what it does.

    Raises:
        UserError: there is none, or what `load` raises.
    """
    path = path.parent if path.name in ("model.json", "model.safetensors") else path
    if not (path / "config.yaml").exists() and (path / "model.json").exists():
        return load(path, path.name)
    run = RunFolder.open(path)
    saved = {str(step): folder for step, folder in run.checkpoints()}
    if checkpoint == "best" and (run.best / "model.json").exists():
        return load(run.best, "best")
    if checkpoint in ("best", "latest"):
        newest = list(saved)[-1:]  # a run that was killed after a resume has a model older than its checkpoints
        model = load(path, "latest") if (path / "model.json").exists() else None
        if newest and (model is None or model.step < int(newest[0])):
            model = load(saved[newest[0]], "latest")
        if model is None:
            raise UserError(f"{path}: this run has saved no model yet")
        return model
    if checkpoint not in saved:
        allowed = ["best", "latest", *saved]
        raise UserError(
            f"{path}: no checkpoint {checkpoint!r}; there are {', '.join(allowed)}.{did_you_mean(checkpoint, allowed)}"
        )
    return load(saved[checkpoint], checkpoint)
