"""A training with all that goes on around it: logging, evaluations, checkpoints, the models that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from agents.acting.evaluation import Evaluation
from agents.core.algorithm import RecordedAlgorithm
from agents.core.schedules import crossings
from agents.run.breaking import Stop
from agents.run.compiling import KNOWN, of_compiling
from agents.run.config import RunConfig
from agents.run.doctor.sink import Doctor, facts_of
from agents.run.doctor.vitals import Vitals, returns_of
from agents.run.evaluator import EVALUATIONS, evaluation_scalars, evaluator_of
from agents.run.folder import FOR_FILM, RunFolder
from agents.run.footage import film_interval, record_video, too_close
from agents.run.header import understood
from agents.run.histograms import histograms
from agents.run.metrics import UserMetrics
from agents.run.models import save_model
from agents.run.monitor import LOG_ROWS, Monitor
from agents.run.play import watch_fault
from agents.run.remarks import Remarks, of_actions, of_settings
from agents.run.sinks import ConsoleSink, CsvSink, Sink
from agents.run.storage import atomic_folder, remove_folder
from agents.run.tensorboard import TensorBoardSink
from agents.run.terminal import typed
from agents.run.tracking import Tracker
from agents.run.training import Training
from agents.run.trees import remove_tree, write_tree
from envs.errors import UserError
from envs.single import has_time_limit

LOOK_EVERY = 1.0  # seconds between two looks at what goes on around the training
SAVE_EVERY = 1.0  # seconds between two models that are saved to be watched; writing one takes milliseconds
KEEP_STATES = 2  # checkpoints whose training state is kept; all keep their model
Track = Callable[[Path, RunConfig], Tracker]
TAKING_TURNS = "One environment does all in turn: evaluations use the training's, which then begins a new episode."


class Run:
    """A training with its folder, sinks and evaluation environments."""

    def __init__(
        self,
        training: Training,
        folder: RunFolder,
        monitor: Monitor,
        *,
        resumed: bool,
        quiet: bool,
        doctor: bool = True,
        film: bool = False,
        track: Track | None = None,
    ) -> None:
        self.training, self.folder, self.monitor = training, folder, monitor
        self.config = training.config
        self.params = cast(Any, training.config.params)  # settled: nothing is "auto" any more
        kept = monitor.handled if resumed else None
        self.trackers = [] if track is None else [track(folder.path, self.config)]
        self.tensorboard = TensorBoardSink(folder.path, purge_step=kept)
        self.progress_csv = CsvSink(folder.path / "progress.csv", resume_step=kept)
        self.evaluations = CsvSink(folder.path / "evaluations.csv", resume_step=kept)
        best = None if monitor.best is None else monitor.best[0]
        step = training.step
        self.console = ConsoleSink(self.params.total_timesteps, quiet=quiet, initial=step, best=best)
        self.keeps_env = False  # whether somebody trains on in the environments afterwards
        self.between_ticks = True  # where the environments' state can be saved
        most = max(self.params.final_eval_episodes, self.params.eval_episodes)
        self.evaluator = evaluator_of(self.config, training.env.backend, most)
        if self.config.one_instance:
            self.evaluator.share(training.env)
        self.remarks = Remarks(training.env.observation_space)
        self.doctor = self.make_doctor(kept) if doctor else None
        self.vitals = Vitals(training.policy, training.env.observation_space, training.env.action_space)
        self.rollout: Any = None  # what was learnt from last
        self.metrics = None if self.config.metrics is None else UserMetrics(self.config.metrics)
        self.log_every = max(self.params.total_timesteps // LOG_ROWS, 1)
        part = max(self.params.total_timesteps // EVALUATIONS, 1)
        self.save_every = self.params.eval_freq or part
        self.examine_every = min(self.save_every, part)
        self.film = film
        self.told_to_watch = self.told_of_compiling = False
        self.looked = -LOOK_EVERY  # at how many seconds of the run it last looked around
        self.saved = 0.0  # at how many seconds the newest model was

    def make_doctor(self, kept: int | None) -> Doctor:
        """Return what watches over the training; of a resumed run it knows the rows that are kept."""
        plays = self.training.algorithm.data != "recorded"  # or there are no episodes that might not end
        limit = not plays or has_time_limit(self.config.env, self.config.env_kwargs)
        taken = self.training.data_bytes if self.training.replay is not None else 0
        return Doctor(self.folder.path, facts_of(self.params, limit, taken), self.tensorboard, kept)

    @property
    def sinks(self) -> list[Sink]:
        """Where scalars go."""
        return [self.tensorboard, *self.trackers, self.console, *([] if self.doctor is None else [self.doctor])]

    def evaluate(self, episodes: int, *stream: str | int) -> Evaluation:
        """Play greedily on fresh episodes; `stream` names the random stream they come from."""
        what = {"final": "final evaluation", "confirmation": "confirming the target"}.get(str(stream[0]), "evaluation")
        if self.params.n_envs == 1 and not self.evaluator.shared:
            self.find_out_instances()
        self.between_ticks = not self.evaluator.shared  # or the environments are where the training does not know
        if (doubts := self.evaluator.doubts()) is not None:
            self.console.say(doubts)
        with self.console.working(what, "episodes") as report:
            result = self.evaluator.evaluate(self.training.policy, episodes, *stream, report=report)
        if self.evaluator.shared:
            self.training.begin_episodes()
            self.between_ticks = True
        return result

    def find_out_instances(self) -> None:
        """Go on with the training's one environment for all, where no other can be built beside it."""
        try:
            _ = self.evaluator.env
        except UserError as error:
            self.config = self.training.config = self.config.model_copy(update={"one_instance": True})
            self.folder.write_config(self.config)
            self.evaluator.share(self.training.env)
            self.console.say(f"no second copy of the environment: {error}. {TAKING_TURNS}")

    def loop(self, stop: Stop) -> None:
        """Train until the budget, the target or a stop."""
        self.handle_due()
        if self.monitor.target_reached(self.params.target_reward):
            return
        self.between_ticks = False
        for iteration in self.training.iterations():
            self.between_ticks = True
            self.monitor.add(iteration)
            self.rollout = iteration.data
            if self.metrics is not None:
                done = min(iteration.step / self.params.total_timesteps, 1.0)
                for row in self.metrics.rows(iteration.episodes, done):
                    self.monitor.add_metrics(row)
            if self.handle_due():
                stop.take_again()
            if self.monitor.elapsed() >= self.looked + LOOK_EVERY:
                self.look_around()
            if self.monitor.target_reached(self.params.target_reward) or stop.is_set():
                return
            self.between_ticks = False
            self.monitor.trains_on()
        self.between_ticks = True
        if isinstance(algorithm := self.training.algorithm, RecordedAlgorithm) and algorithm.done:
            passes = f"{algorithm.config.patience} passes over the data"
            self.console.say(f"held-out episodes were foretold no better in {passes} (--patience): the training ends")

    def handle_due(self) -> bool:
        """Do what fell due since the last time; after a resume, what was left undone when the run broke off.

        Returns:
            Whether a row of scalars was written.
        """
        before, step, params = self.monitor.handled, self.training.step, self.params
        evaluated = 0
        affordable = step >= params.total_timesteps or self.monitor.may_evaluate(step, params.eval_share)
        if crossings(before, step, params.eval_freq) and affordable:
            with self.monitor.paused("evaluation"):
                evaluated = self.evaluate_and_keep_best(step)
            is_best = self.monitor.best is not None and self.monitor.best[1] == step
            if is_best and crossings(self.monitor.last_video, step, params.video_freq):
                with self.monitor.paused("recording"):
                    record_video(self, step, "best")
                self.monitor.last_video = step
        if crossings(before, step, params.record_every) and self.monitor.last_video != step:
            with self.monitor.paused("recording"):
                self.save_model_of(step)
                record_video(self, step, "latest")
        if crossings(before, step, params.histogram_freq):
            for tag, numbers in histograms(self.training.learner, self.learnt_from):
                self.tensorboard.histogram(tag, step, numbers)
        if row := crossings(before, step, self.log_every):
            self.log(step)
        if crossings(before, step, self.examine_every):
            self.see_doctor(step)
        self.monitor.handled = step
        self.monitor.evaluated += evaluated
        if row:
            self.monitor.begin_row()  # not before it is noted as done: a break would leave the row's second try empty
        if crossings(before, step, self.save_every):
            self.save_to_be_watched()
        if crossings(before, step, params.save_freq):
            with self.monitor.paused("saving"):
                self.checkpoint()
        elif self.film and crossings(before, step, film_interval(step, params.total_timesteps)):
            with self.monitor.paused("saving"):
                self.keep_model()
        return bool(row)

    @property
    def learnt_from(self) -> Any:
        """What was learnt from last: a rollout, or all that is replayed; None for nothing yet."""
        return self.rollout if self.training.replay is None else self.training.replay

    def see_doctor(self, step: int) -> None:
        """Take the training's vitals, and say what is wrong."""
        if self.doctor is None:
            return
        self.doctor.history.words = self.vitals.words
        self.say(self.doctor.examine(step, self.vitals.take(self.learnt_from) | returns_of(self.monitor.returns)))

    def look_around(self) -> None:
        """Say what most likely keeps the run from learning.

        Raises:
            UserError: the run folder is gone.
        """
        self.looked = self.monitor.elapsed()
        self.folder.refuse_gone()
        if self.folder.asked:
            self.save_to_be_watched()
        self.say(self.remarks.of_observations(self.training.collector.state.obs))
        self.say(self.remarks.of_returns(self.monitor.returns, self.monitor.lengths))
        if not self.told_of_compiling and (seconds := self.monitor.training_seconds()) >= KNOWN:
            self.told_of_compiling = True
            steps = self.training.step - self.monitor.first
            self.say(of_compiling(self.training, seconds, steps, str(self.folder.shown)))

    def log(self, step: int) -> None:
        """Write the scalars gathered since the last row.

        Raises:
            UserError: they cannot be written.
        """
        scalars = self.monitor.scalars(step) | {
            f"faults/{name}": float(n) for name, n in self.training.faults().items()
        }
        for sink in (self.progress_csv, *self.sinks):
            sink.write(step, scalars)
        if self.doctor is not None:
            self.doctor.keep(step, self.training.algorithm.model)

    def evaluate_and_keep_best(self, step: int) -> int:
        """Evaluate, keep the best model, and note whether the target is reached; return the steps it took.

        A first look at few episodes can be lucky, so a target reached there is confirmed on fresh ones.
        """
        result = self.evaluate(self.params.eval_episodes, "evaluation", step)
        scalars = evaluation_scalars(result, self.monitor.training_seconds())
        mean = scalars["eval/mean_reward"]
        for sink in (self.evaluations, *self.sinks):
            sink.write(step, scalars)
        if self.training.keeps_best and (self.monitor.best is None or mean > self.monitor.best[0]):
            self.monitor.best = (mean, step)
            with atomic_folder(self.folder.best) as folder:
                save_model(folder, self.training.algorithm.model, self.config, self.training.env.own_spaces, step)
        target, self.monitor.reached = self.params.target_reward, None
        if target is not None and mean >= target:
            episodes = max(self.params.final_eval_episodes, self.params.eval_episodes)
            confirmed = float(self.evaluate(episodes, "confirmation", step).returns.mean())
            self.monitor.reached = confirmed if confirmed >= target else None
        return int(result.lengths.sum())

    def checkpoint(self) -> None:
        """Save model and training state under the current step; old checkpoints keep their model alone.

        In the middle of a round no state of an old one goes: one from between two rounds may be among them.
        """
        self.folder.refuse_gone()
        step, earlier = self.training.step, self.folder.resumable()
        with atomic_folder(self.folder.checkpoint(step)) as folder:
            save_model(folder, self.training.algorithm.model, self.config, self.training.env.own_spaces, step)
            state = {
                "training": self.training.state_dict(with_env=self.between_ticks),
                "monitor": self.monitor.state_dict(),
            }
            write_tree(folder, "state", state, {"step": step}, None if earlier is None else earlier[1])
        kept = self.folder.states()[-KEEP_STATES:]
        for one in self.folder.checkpoints() if self.between_ticks else ():
            if one not in kept:
                remove_tree(one[1], "state")

    def keep_model(self) -> None:
        """Save the model as it is as a checkpoint without a training state, where none is, for the film.

        Of those saved before, what lies too close together for the film of a long training goes.
        """
        step = self.training.step
        place = self.folder.checkpoint(step)
        if place.exists():
            return
        with atomic_folder(place) as folder:
            save_model(folder, self.training.algorithm.model, self.config, self.training.env.own_spaces, step)
            (folder / FOR_FILM).touch()
        for crowded in too_close(self.folder.kept_for_film(), film_interval(step, self.params.total_timesteps)):
            remove_folder(crowded)

    def save_to_be_watched(self) -> None:
        """Save the policy as it is, but not more often than anybody looks."""
        if self.monitor.elapsed() >= self.saved + SAVE_EVERY:
            with self.monitor.paused("saving"):
                self.save_latest()
            self.saved = self.monitor.elapsed()

    def save_latest(self) -> None:
        """Save the policy as it is as the model of the run itself; say once that it can be watched."""
        training = self.training
        self.save_model_of(training.step)
        if (
            not self.told_to_watch
            and training.algorithm.acts
            and training.step < self.params.total_timesteps
            and not watch_fault(self.config.env)
        ):
            self.console.say(f"watch it learn: {typed('python', '-m', 'agents.watch', '--follow', self.folder.shown)}")
        self.told_to_watch = True

    def save_model_of(self, step: int) -> None:
        """Save the model as it is, which is that of `step`, as the run's own."""
        self.folder.refuse_gone()
        save_model(self.folder.path, self.training.algorithm.model, self.config, self.training.env.own_spaces, step)

    def say(self, lines: Iterable[str]) -> None:
        """Print each on a line of its own."""
        for line in lines:
            self.console.say(line)

    def print_header(self, notes: list[str]) -> None:
        """Say what runs where, and write the configuration to TensorBoard."""
        training, config, params = self.training, self.config, self.params
        self.say(understood(training))
        training.runtime.say = self.console.say
        for tracker in self.trackers:
            tracker.say = self.console.say
        if params.eval_max_steps is not None:
            self.console.say(f"evaluations cut episodes after {params.eval_max_steps:,} steps (--eval-max-steps)")
        self.console.say(f"run folder: {self.folder.shown}")
        self.say([*notes, *of_settings(params), *of_actions(training.env.own_spaces[1], params.rescales_action)])
        rows = "".join(f"| {key} | {value} |\n" for key, value in config.model_dump(mode="json").items())
        self.tensorboard.text("config", f"| setting | value |\n|---|---|\n{rows}")
        self.monitor.start()

    def close(self) -> None:
        """Flush and close everything but the environments of the training."""
        with ExitStack() as stack:  # what raises keeps none of the others open
            stack.callback(self.evaluator.close)
            for sink in reversed((self.progress_csv, self.evaluations, *self.sinks)):
                stack.callback(sink.close)
