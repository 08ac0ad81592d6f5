"""An algorithm on an environment, as Python programs use it."""

from __future__ import annotations

import os
from abc import ABCMeta
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from agents.api import arguments, habits
from agents.api.shown import Progress, Video
from agents.api.trainable import Trainable
from agents.run import code
from agents.run.config import RECORD_STEPS, Layer, config_layer, resolve
from envs.errors import UserError, no_attribute

if TYPE_CHECKING:
    import gymnasium
    from torch import Tensor

    from agents.acting.evaluation import Evaluation
    from agents.acting.policies import ModelPolicy
    from agents.run.run import Run
    from agents.run.summary import Summary
    from agents.run.training import Training


class ModelType(ABCMeta):
    """The type of the classes of algorithms: it says what there is in the place of SB3's `PPO.load`."""

    def __getattr__(cls, name: str) -> Any:
        raise no_attribute(cls, name, habits.ATTRIBUTES)


class Model(Trainable, metaclass=ModelType):
    """An algorithm on an environment.

    Args:
        env: a Gymnasium id, "module:Id" or "file.py:Class"; or an environment, its class, or a function that makes it.
        seed: all randomness follows from it; 0 where neither this nor `config` has one.
        env_kwargs: the environment's own arguments.
        device, vec, compile: as the flags of `python -m agents.train`.
        config: a YAML file of settings, which keyword arguments override.
        trust: run code outside the package that this file names; or the names of the code that may be run.
        settings: hyperparameters by name, as `python -m agents.train --help` lists them. What is not given comes from
            the configuration packaged for the environment, where there is one.

    Attributes:
        config: all settings, resolved.
        summary: what the last `learn` with a `runs_dir` reached.

    Raises:
        UserError: a setting or the environment is not usable; the message says what is.
    """

    summary: Summary | None = None

    def __init__(
        self,
        env: Any,
        *misplaced: Any,
        seed: int = arguments.NOT_GIVEN,
        env_kwargs: dict[str, Any] | None = None,
        device: str = arguments.NOT_GIVEN,
        vec: str = arguments.NOT_GIVEN,
        compile: str = arguments.NOT_GIVEN,
        config: str | os.PathLike[str] | None = None,
        trust: code.Trust = False,
        **settings: Any,
    ) -> None:
        from envs.locate import locate
        from envs.objects import named

        name = type(self).__name__
        arguments.refuse(name, self.algo, env, misplaced, settings)
        own, trust = arguments.env_kwargs(env_kwargs), arguments.trusted(trust)
        env_id, own_kwargs = named(env)
        locate(env_id)
        typed = {"seed": seed, "device": device, "vec": vec, "compile": compile}
        settings |= {key: value for key, value in typed.items() if value is not arguments.NOT_GIVEN}
        given = {"env": env_id, "algo": self.algo, "env_kwargs": own_kwargs | own} | arguments.plain(settings)
        hint = f"; settings are keyword arguments: {name}(env, gamma=0.99)"
        beneath = [] if config is None else [config_layer(arguments.place("config", config, hint), trust)]
        layers = [*beneath, Layer(name, given)]
        self._begin(layers, True, resolve(layers), None)
        if self.config.device != "auto":  # a device that is not there is told at once, not at `learn`
            from agents.core.device import choose_device

            choose_device(self.config.device, env_on_gpu=False, flops=0, batch_size=1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.env!r}, step={self.num_timesteps})"

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property, in which an attribute was missing
            return object.__getattribute__(self, name)
        config = self.__dict__.get("config")
        settings = (
            {} if config is None else dict.fromkeys(config.model_dump(), "settings are in config and config.params")
        )
        raise no_attribute(self, name, settings | habits.ATTRIBUTES)

    def __reduce_ex__(self, protocol: Any) -> Any:
        name = type(self).__name__  # a copy would have some of its weights in common with this one
        raise UserError(f"{name} is neither pickled nor copied: save(path) keeps it, and load(path) makes another")

    @property
    def policy(self) -> ModelPolicy:
        """What acts; its `model` is an ordinary `torch.nn.Module`."""
        return self._now().policy

    @property
    def observation_space(self) -> gymnasium.Space:
        """The environment's own."""
        return self._now().own_spaces[0]

    @property
    def action_space(self) -> gymnasium.Space:
        """The environment's own."""
        return self._now().own_spaces[1]

    def train(self, total_timesteps: int | None = None) -> Iterator[Progress]:
        """Train, and yield after every round; it may be left at any time, and the next call goes on from there.

        Args:
            total_timesteps: steps from here on; by default what is left of the last call's, or else as many as the
                settings say.

        Raises:
            UserError: the training diverged, or the environment broke its contract.
        """
        training = self._extended(total_timesteps)
        self._told = []
        yield from self._rounds(training)

    def _rounds(self, training: Training) -> Iterator[Progress]:
        from agents.run.monitor import Monitor

        monitor = Monitor(training.step)
        if self._monitor is not None:  # its newest episodes still count
            monitor.returns, monitor.lengths = self._monitor.returns, self._monitor.lengths
        self._monitor = monitor
        rounds = training.iterations()
        while (iteration := self._next(rounds)) is not None:
            monitor.add(iteration)
            yield Progress(iteration.step, monitor)
            if self._training is not training:
                raise UserError("the training was closed while this loop went on; another train() goes on from there")

    def learn(
        self,
        total_timesteps: int | None = None,
        *,
        quiet: bool = False,
        runs_dir: str | os.PathLike[str] | None = None,
        name: str | None = None,
        replays_dir: str | os.PathLike[str] | None = None,
        **others: Any,
    ) -> Self:
        """Train, showing progress; called again, it goes on.

        Args:
            total_timesteps: steps from here on; by default what is left of the last call's, or else as many as the
                settings say.
            quiet: print nothing.
            runs_dir: keep the run as the command does, in a folder in this one: curves, evaluations, checkpoints, the
                best model, and a final evaluation, which `summary` holds. Without it nothing is written, and nothing is
                evaluated, so that `target_reward` does not end it.
            name: what tells the run from others; part of its folder's name.
            replays_dir: where an episode of the run is recorded at its end; by default none is.

        Raises:
            UserError: as `train`, or something cannot be written.
            KeyboardInterrupt: Ctrl-C, with `runs_dir` after the round, once all is saved; `summary` says where. The
                next call goes on.
        """
        arguments.refuse_of_learn(others, type(self).__name__, self.algo)
        where, recorded = (
            None if given is None else arguments.place(key, given)
            for key, given in (("runs_dir", runs_dir), ("replays_dir", replays_dir))
        )
        if where is None:
            arguments.refuse_without_a_run(name=name, replays_dir=replays_dir)
        from agents.run.monitor import LOG_ROWS
        from agents.run.sinks import ConsoleSink
        from agents.run.terminal import say

        start, training = self.num_timesteps, self._extended(total_timesteps, name)
        told, self._told = self._told, []
        if not quiet:
            say(*told)
        if where is not None:
            self._run(training, quiet, where, recorded)
            return self
        end = training.config.params.total_timesteps
        console = ConsoleSink(end, quiet=quiet, initial=start)
        try:
            due = start
            for progress in self._rounds(training):
                if progress.step >= min(due, end):
                    due = progress.step + (end - start) // LOG_ROWS
                    console.write(progress.step, progress.scalars)
        finally:
            console.close()
        return self

    def _run(self, training: Training, quiet: bool, runs_dir: Path, replays_dir: Path | None) -> None:
        from agents.run.breaking import interrupt_too
        from agents.run.runner import train

        begun: list[Run] = []
        try:
            self.summary = train(
                training.config,
                runs_dir=runs_dir,
                replays_dir=Path("replays") if replays_dir is None else replays_dir,
                quiet=quiet,
                record_steps=0 if replays_dir is None else RECORD_STEPS,
                training=training,
                on_start=begun.append,
            )
        except BaseException as error:
            if begun and not begun[0].between_ticks:
                self._broke_off(error)
            raise
        interrupt_too(self.summary)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Choose an action for one observation, or one for each of a batch, in the environment's own spaces.

        Args:
            observation: NumPy, or whatever the observation space holds; of a Dict or Tuple, each leaf batched.
            state: what the last call returned, for models with a memory, and for those that see several observations
                together or fill what is missing (frame_stack, on_nan and the like); None at the start.
            episode_start: whether an episode starts with it, bool or `[N]`.
            deterministic: take the most likely action instead of sampling.
            action_masks: which actions are legal, for environments that do not say so in the observation.

        Returns:
            The action or actions, ready for `env.step`, and the next state.

        Raises:
            UserError: the observation does not fit the observation space.
        """
        from agents.run.asking import predict

        return predict(self._now(), observation, state, episode_start, deterministic, action_masks)

    def evaluate(
        self, episodes: int = 100, *, seed: int = 0, deterministic: bool = True, env: Any = None
    ) -> Evaluation:
        """Play whole episodes in fresh environments, as `python -m agents.evaluate` does; return how each went.

        Args:
            episodes: how many.
            seed: the same one plays the same episodes.
            deterministic: take the most likely actions.
            env: another environment, as the class takes it.

        Raises:
            UserError: the environment cannot be made, or the policy does not fit it.
        """
        from agents.run.play import measure
        from envs.objects import named
        from envs.seeding import derive_seed

        episodes = arguments.whole("episodes", episodes, "; another environment is evaluate(env=...)")
        seed = derive_seed(arguments.seed(seed), "evaluate")
        now = self._now() if env is None else self._now().moved(*named(env))
        return measure(now, episodes, seed, deterministic)

    def record(self, folder: str | os.PathLike[str] = "replays", *, seed: int = 0, deterministic: bool = True) -> Video:
        """Record one episode, which a notebook shows; files of the episode and its video go into `folder`.

        Raises:
            UserError: the environment cannot be drawn.
        """
        from agents.run.recording import record_episode, replay_folder
        from envs.seeding import derive_seed

        place, seed = arguments.place("folder", folder), derive_seed(arguments.seed(seed), "record")
        now = self._now()
        recorded = record_episode(now, seed, replay_folder(now, place), deterministic=deterministic)
        return Video(recorded.video, recorded.episode.total_reward, recorded.episode.length)

    def save(self, path: str | os.PathLike[str], *, training: bool = True) -> Path:
        """Write a folder that `load` reads: no pickle, and whole or not there.

        Args:
            path: the folder, which is replaced if `save` wrote it and nothing else is in it.
            training: keep what it takes to go on training bit for bit: optimiser, random streams, replay buffer. What
                was loaded with it keeps it, and what was loaded without has none.

        Raises:
            UserError: it cannot be written, or there is something else at `path`, such as a run.
        """
        from agents.api.saving import is_place_of, refuse_other, save

        path = arguments.place("path", path)
        refuse_other(path)
        if self._loaded is None or (not training and is_place_of(path, self._loaded)):
            self._prepared()  # a training that is not kept there any more is kept in memory
        save(path, self._now(), self._state(), training)
        return path

    def distil(
        self, *, steps: int = 100_000, runs_dir: str | os.PathLike[str] = "runs", quiet: bool = False, **settings: Any
    ) -> Model:
        """Train a smaller model to act as this one does, in a run of its own, as `python -m agents.distil`.

        Args:
            steps: of the environments, half of which this model moves.
            settings: in which the student differs, such as `net_arch`.

        Raises:
            UserError: they are no settings, or this model cannot be a teacher.
        """
        from agents.api.loading import load
        from agents.run.breaking import interrupt_too
        from agents.run.distil import distil

        given = [Layer("distil", arguments.plain(settings))]
        steps, place = arguments.whole("steps", steps), arguments.place("runs_dir", runs_dir)
        made = distil(self._now(), given, steps=steps, runs_dir=place, quiet=quiet)
        return load(interrupt_too(made).run, trust=True)

    def prune(
        self,
        sparsity: float = 0.9,
        *,
        method: Literal["magnitude", "structured"] = "magnitude",
        finetune: int = 0,
        runs_dir: str | os.PathLike[str] = "runs",
        quiet: bool = False,
        **settings: Any,
    ) -> Model:
        """Return this model with fewer weights, in a run of its own, as `python -m agents.prune`.

        Args:
            sparsity: the part of the layers' weights that goes.
            method: "magnitude" holds single weights at 0, "structured" takes whole units out.
            finetune: steps that it is trained for meanwhile and then.
            settings: of that training, where they differ.

        Raises:
            UserError: an argument is out of range, or the network is not of that kind.
        """
        from agents.api.loading import load
        from agents.run.breaking import interrupt_too
        from agents.run.prune import Method, prune

        given = [Layer("prune", arguments.plain(settings))]
        sparsity, place = arguments.number("sparsity", sparsity), arguments.place("runs_dir", runs_dir)
        method = arguments.one_of("method", method, get_args(Method))
        finetune = arguments.whole("finetune", finetune, least=0)
        how: dict[str, Any] = {"method": method, "finetune": finetune, "settings": given, "quiet": quiet}
        made = prune(self._now(), sparsity, runs_dir=place, **how)
        return load(interrupt_too(made).run, trust=True)

    def get_parameters(self) -> dict[str, dict[str, Tensor]]:
        """Return a copy of the network's numbers by name, those of its normalisers included, as {"policy": ...}."""
        state = self._now().policy.model.state_dict()
        return {"policy": {name: tensor.clone() for name, tensor in state.items()}}

    def set_parameters(
        self, load_path_or_dict: str | os.PathLike[str] | dict[str, Any], exact_match: bool = True
    ) -> None:
        """Take other numbers for the network; a training that is under way goes on from them.

        Args:
            load_path_or_dict: what `get_parameters` returned, tensors by name, or a run folder, checkpoint, folder of
                weights or *.safetensors file.
            exact_match: refuse them unless all fit; else take the layers that do.

        Raises:
            UserError: they cannot be read, or do not fit.
        """
        from agents.run.transfer import set_parameters

        if not isinstance(load_path_or_dict, Mapping):
            hint = ", or tensors by name, as get_parameters returns them"
            load_path_or_dict = arguments.place("set_parameters", load_path_or_dict, hint)
        set_parameters(self._prepared(), load_path_or_dict, exact_match)
