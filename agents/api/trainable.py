"""The training behind a model of the Python API: built when it is first needed, gone on with, and kept when closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from agents.api import arguments
from agents.run.config import Layer, RunConfig, resolve

if TYPE_CHECKING:
    from agents.core.types import Iteration
    from agents.run.models import LoadedPolicy
    from agents.run.monitor import Monitor
    from agents.run.training import Training


class Trainable:
    """Settings, and what is trained by them.

    Its training goes on from the first of these that is there: the training itself, the state that was kept when its
    environments were closed, what lies beside the loaded model, the loaded weights alone, weights drawn by the seed.
    """

    algo: ClassVar[str] = "ppo"
    config: RunConfig

    def _begin(self, layers: list[Layer], packaged: bool, config: RunConfig, loaded: LoadedPolicy | None) -> None:
        """Take settings, resolved as `config`, and a model that was loaded."""
        self._layers, self._packaged, self.config, self._loaded = layers, packaged, config, loaded
        self._training: Training | None = None
        self._monitor: Monitor | None = None
        self._kept: dict[str, Any] | None = None  # the training's state while its environments are closed
        self._told: list[str] = []  # what the next `learn` has to say

    @classmethod
    def _of(cls, loaded: LoadedPolicy) -> Self:
        """Return a model that acts as a saved one does."""
        model = cls.__new__(cls)
        model._begin([Layer(str(loaded.path), loaded.config.model_dump(mode="json"))], False, loaded.config, loaded)
        return model

    @property
    def num_timesteps(self) -> int:
        """Environment steps that it has learnt from."""
        if self._training is not None:
            return self._training.step
        return 0 if self._loaded is None else self._loaded.step

    def close(self) -> None:
        """Close the environments that it trains in; `learn` makes others and goes on exactly where it was."""
        self._put_away()

    def _put_away(self, with_env: bool = True) -> None:
        """Close the environments, and keep what it takes to go on; in new episodes unless `with_env`."""
        if self._training is not None:
            training, self._loaded, self._kept = self._training, self._now(), self._state(with_env)
            self._training = None
            training.env.close()

    def _next(self, rounds: Iterator[Iteration]) -> Iteration | None:
        """Return what the next round of the training comes to; None at the end."""
        try:
            return next(rounds, None)
        except BaseException as error:
            self._broke_off(error)
            raise

    def _broke_off(self, error: BaseException) -> None:
        """Close the environments after an error within a round: they have moved on from what was last seen of them."""
        from agents.learning.results import Diverged

        if not isinstance(error, Diverged):  # which is told between two rounds, and whose weights cannot be taken back
            self._put_away(with_env=False)

    def _now(self) -> LoadedPolicy:
        """Return the policy as it is, and what goes with it."""
        from agents.run.models import LoadedPolicy

        if self._training is None and self._loaded is not None:
            return self._loaded
        training = self._prepared()
        what = training.policy, training.config, training.env.own_spaces, training.step
        return LoadedPolicy(*what, Path(type(self).__name__), "latest", in_memory=True)

    def _state(self, with_env: bool = True) -> dict[str, Any] | None:
        """Return what it takes to go on, if that is in memory; None before the first step too."""
        if self._training is None:
            return self._kept
        return self._training.state_dict(with_env) if self._training.step else None

    def _prepared(self) -> Training:
        """Return the training, as far as it has come."""
        from agents.run.build import build
        from agents.run.transfer import begin

        if self._training is None:
            training = build(self.config)
            try:
                if self._loaded is None:
                    begin(training)
                else:
                    self._restore(training, self._loaded)
            except BaseException:
                training.env.close()
                raise
            self._training, self._kept = training, None
        return self._training

    def _extended(self, total_timesteps: int | None, name: str | None = None) -> Training:
        """Return the training, with a budget of so many steps from here on.

        Args:
            total_timesteps: None for what is left of the budget, or where nothing is, as many as the settings say.
            name: of the run; None for that of the settings.
        """
        step, begun, was = self.num_timesteps, self._training is not None, self.config
        beneath, total = self._layers, was.params.total_timesteps
        if total_timesteps is not None:
            total = step + arguments.whole("total_timesteps", total_timesteps)
        elif step >= total:
            total = step + resolve(self._layers, packaged=self._packaged).params.total_timesteps
        if name is not None:
            beneath = [*beneath, Layer("learn", {"name": name})]
        budget = Layer(type(self).__name__, {"total_timesteps": total})
        self.config = resolve([*beneath, budget], packaged=self._packaged)
        try:
            training = self._prepared()
        except BaseException:
            self.config = was
            raise
        if begun:
            training.extend(self.config.params)
        training.config = training.config.model_copy(update={"name": self.config.name})
        self._told += training.schedules_since(was.params) if step else []
        return training

    def _restore(self, training: Training, loaded: LoadedPolicy) -> None:
        from agents.run.models import training_state
        from agents.run.training import restore

        state = training_state(loaded) if self._kept is None else {"training": self._kept}
        if state is not None:
            self._told += restore(training, state)
            return
        training.algorithm.model.load_state_dict(loaded.policy.model.state_dict())
        training.algorithm.copy_model()
        training.collector.state.step = loaded.step
