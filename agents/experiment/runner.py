"""One run from start to last screen: train, log, evaluate, checkpoint, stop cleanly, resume."""

from __future__ import annotations

import dataclasses
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from agents.core.schedules import crossings
from agents.core.types import Progress
from agents.experiment.artefact import load_policy, save_model
from agents.experiment.build import Training, build
from agents.experiment.config import RunConfig
from agents.experiment.folder import RunFolder
from agents.experiment.monitor import Monitor
from agents.experiment.play import Moment
from agents.experiment.recording import record_episode, replay_folder
from agents.experiment.sinks import ConsoleSink, CsvSink, TensorBoardSink
from agents.experiment.storage import atomic_folder, read_tree, write_tree
from agents.experiment.video import gif_bytes
from agents.loops.evaluation import Evaluation, evaluate
from envs.api import VecEnv
from envs.errors import UserError
from envs.make import make, reward_threshold
from envs.seeding import derive_seed

KEEP_STATES = 2  # checkpoints whose training state is kept; all keep their model
THUMBNAILS = 250  # frames of the small video in TensorBoard, every second one of the episode
LOG_ROWS = 500  # about how many rows of scalars a whole run writes at most


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run reached; `solved` is None where the environment has no threshold and no target was set."""

    run: str
    env: str
    algo: str
    seed: int
    steps: int
    wall_s: float
    steps_per_s: float
    eval_mean: float | None
    eval_std: float | None
    eval_episodes: int
    solved: bool | None
    interrupted: bool


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into an event; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Run:
    """A training with its folder, sinks and evaluation environments."""

    def __init__(self, training: Training, folder: RunFolder, monitor: Monitor, *, resumed: bool, quiet: bool) -> None:
        self.training, self.folder, self.monitor = training, folder, monitor
        self.config, self.params = training.config, training.config.params
        step = training.position.step
        self.tensorboard = TensorBoardSink(folder.path, purge_step=step if resumed else None)
        self.progress = CsvSink(folder.path / "progress.csv", resume_step=step if resumed else None)
        self.evaluations = CsvSink(folder.path / "evaluations.csv", resume_step=step if resumed else None)
        best = None if monitor.best is None else monitor.best[0]
        self.console = ConsoleSink(self.params.total_timesteps, quiet=quiet, initial=step, best=best)
        self._eval_env: VecEnv | None = None
        self.log_every = max(self.params.total_timesteps // LOG_ROWS, 1)

    @property
    def eval_env(self) -> VecEnv:
        """Environments of their own, so that evaluating disturbs nothing."""
        if self._eval_env is None:
            native = self.training.env.backend == "native"
            self._eval_env = make(
                self.config.env,
                min(self.params.final_eval_episodes or self.params.eval_episodes, 100 if native else 10),
                vec="native" if native else "sync",
                env_kwargs=self.config.env_kwargs,
                rescale_action=self.params.rescales_action,
            )
        return self._eval_env

    def evaluate(self, episodes: int, *stream: str | int) -> Evaluation:
        """Play greedily on fresh episodes; `stream` names the random stream they come from."""
        return evaluate(self.eval_env, self.training.agent, episodes, derive_seed(self.config.seed, *stream))

    def loop(self, stop: threading.Event) -> None:
        """Train until the budget, the target or a stop."""
        before = self.training.position.step
        for progress in self.training.progress():
            self.monitor.take(progress)
            after = progress.step
            if crossings(before, after, self.log_every):
                self.log(progress)
            solved = bool(crossings(before, after, self.params.eval_freq)) and self.assess(after)
            if crossings(before, after, self.params.save_freq):
                self.checkpoint()
            before = after
            if solved or stop.is_set():
                return

    def log(self, progress: Progress) -> None:
        """Write the scalars gathered since the last row."""
        scalars = self.monitor.scalars(progress.step)
        agent, total = self.training.agent, self.params.total_timesteps
        scalars |= agent.schedules(min(progress.step / total, 1.0))
        for sink in (self.tensorboard, self.progress, self.console):
            sink.write(progress.step, scalars)

    def assess(self, step: int) -> bool:
        """Evaluate, keep the best model, and return whether the target is reached.

        A first look at few episodes can be lucky, so a target reached there is confirmed on fresh ones.
        """
        result = self.evaluate(self.params.eval_episodes, "evaluation", step)
        mean = float(result.returns.mean())
        scalars = {
            "eval/mean_reward": mean,
            "eval/std_reward": float(result.returns.std()),
            "eval/mean_ep_length": float(result.lengths.mean()),
        }
        for sink in (self.tensorboard, self.evaluations, self.console):
            sink.write(step, scalars)
        if self.monitor.best is None or mean > self.monitor.best[0]:
            self.monitor.best = (mean, step)
            with atomic_folder(self.folder.best) as folder:
                save_model(folder, self.training.agent, self.config, self.training.env, step)
        target = self.params.target_reward
        if target is None or mean < target:
            return False
        confirmed = self.evaluate(max(self.params.final_eval_episodes, self.params.eval_episodes), "confirmation", step)
        return bool(confirmed.returns.mean() >= target)

    def checkpoint(self, with_env: bool = True) -> None:
        """Save model and training state under the current step; old checkpoints keep their model alone."""
        step = self.training.position.step
        with atomic_folder(self.folder.checkpoint(step)) as folder:
            save_model(folder, self.training.agent, self.config, self.training.env, step)
            state = {"training": self.training.state_dict(with_env), "monitor": self.monitor.state_dict()}
            write_tree(folder, "state", state, {"step": step})
        for _, old in self.folder.checkpoints()[:-KEEP_STATES]:
            for name in ("state.json", "state.safetensors"):
                (old / name).unlink(missing_ok=True)

    def save_final(self) -> None:
        """Save the model of the run itself, which is the policy as training left it."""
        training = self.training
        save_model(self.folder.path, training.agent, self.config, training.env, training.position.step)

    def rescue(self, error: BaseException) -> None:
        """Save what was learnt when training breaks; the environments cannot be saved in the middle of a tick."""
        try:
            self.checkpoint(with_env=False)
            self.save_final()
            self.console.say(f"What was learnt is saved. To go on: python -m agents.train --resume {self.folder.path}")
        except UserError as second:
            error.add_note(f"What was learnt could not be saved: {second}")
        self.close()

    def introduce(self, notes: list[str]) -> None:
        """Say what runs where, and write the configuration to TensorBoard."""
        training, config, params = self.training, self.config, self.params
        parameters = sum(p.numel() for p in training.agent.network.parameters())
        self.console.say(
            f"{config.algo.upper()} on {config.env}: {params.n_envs} environments ({training.env.backend}), "
            f"{parameters:,} parameters, {training.agent.device} ({training.device_reason})"
        )
        self.console.say(f"run folder: {self.folder.path}")
        for note in notes:
            self.console.say(note)
        rows = "".join(f"| {key} | {value} |\n" for key, value in config.model_dump(mode="json").items())
        self.tensorboard.text("config", f"| setting | value |\n|---|---|\n{rows}")
        self.monitor.start(training.position.step)

    def record(self, replays_dir: Path) -> Path | None:
        """Record one episode of the best model; say why where the environment cannot be rendered."""
        loaded = load_policy(self.folder.path)
        thumbnails: list[np.ndarray] = []

        def picture(moment: Moment) -> np.ndarray:
            assert moment.frame is not None
            if moment.step % 2 and len(thumbnails) < THUMBNAILS:
                thumbnails.append(moment.frame[::2, ::2])
            return moment.frame

        seed = derive_seed(self.config.seed, "recording")
        try:
            recorded = record_episode(loaded, seed, replay_folder(loaded, replays_dir), picture=picture)
        except UserError as error:
            self.console.say(f"no episode was recorded: {error}")
            return None
        self.tensorboard.video("eval/video", self.training.position.step, gif_bytes(thumbnails, fps=15))
        return recorded.video

    def close(self) -> None:
        """Flush and close everything."""
        for part in (self.tensorboard, self.progress, self.evaluations, self.console, self.training.env):
            part.close()
        if self._eval_env is not None:
            self._eval_env.close()


def load_latest(training: Training, monitor: Monitor, folder: RunFolder) -> list[str]:
    """Restore the newest checkpoint that is whole; return a sentence for each thing worth telling.

    Raises:
        UserError: no checkpoint of the run can be read.
    """
    said = []
    for step, path in reversed(folder.checkpoints()):
        if not (path / "state.json").exists() and not (path / "state.safetensors").exists():
            continue
        try:
            state, _ = read_tree(path, "state")
        except UserError as error:
            said.append(f"checkpoint {step} was passed over: {error}")
            continue
        said += training.load_state_dict(state["training"])
        monitor.load_state_dict(state["monitor"])
        return said
    told = "".join(f"\n  {line}" for line in said)
    raise UserError(f"{folder.path}: no checkpoint to resume from; it must be started anew.{told}")


def train(
    config: RunConfig,
    *,
    runs_dir: Path,
    replays_dir: Path,
    resume: Path | None = None,
    quiet: bool = False,
    record: bool = True,
) -> Summary:
    """Train as `config` says, in a new run folder or going on in the folder `resume`.

    Raises:
        UserError: anything the user can mend; what was learnt until then is saved in the run folder.
    """
    training = build(config)
    monitor = Monitor()
    notes: list[str] = []
    if resume is None:
        folder = RunFolder.create(
            runs_dir, config, device=str(training.agent.device), threads=torch.get_num_threads()
        )
    else:
        folder = RunFolder.open(resume)
        folder.tidy()
        notes = load_latest(training, monitor, folder)
        folder.resume(config)
    run = Run(training, folder, monitor, resumed=resume is not None, quiet=quiet)
    started, first_step = perf_counter(), training.position.step
    with stop_signals() as stop:
        try:
            run.introduce(notes)
            run.loop(stop)
        except BaseException as error:
            run.rescue(error)
            raise
        run.checkpoint()
        run.save_final()
        summary = conclude(run, perf_counter() - started, first_step, stop.is_set(), replays_dir if record else None)
    return summary


def conclude(run: Run, wall: float, first_step: int, interrupted: bool, replays_dir: Path | None) -> Summary:
    """Evaluate the final policy on fresh episodes, record one, and write the summary."""
    config, step = run.config, run.training.position.step
    episodes = 0 if interrupted else run.params.final_eval_episodes
    mean = std = solved = None
    if episodes:
        result = run.evaluate(episodes, "final")
        mean, std = float(result.returns.mean()), float(result.returns.std())
        threshold = reward_threshold(config.env)
        threshold = run.params.target_reward if threshold is None else threshold
        solved = None if threshold is None else mean >= threshold
    summary = Summary(
        run=str(run.folder.path),
        env=config.env,
        algo=config.algo,
        seed=config.seed,
        steps=step,
        wall_s=round(wall, 3),
        steps_per_s=round((step - first_step) / max(wall, 1e-9), 1),
        eval_mean=mean,
        eval_std=std,
        eval_episodes=episodes,
        solved=solved,
        interrupted=interrupted,
    )
    run.folder.write_summary(dataclasses.asdict(summary))
    recorded = None
    if replays_dir is not None and not interrupted:
        recorded = run.record(replays_dir)
    run.tensorboard.hparams(config.model_dump(mode="json"))
    run.close()
    run.console.final_table(*last_screen(run, summary, recorded))
    return summary


def last_screen(run: Run, summary: Summary, recorded: Path | None) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the last screen's title, its rows, and the commands to type next."""
    path = summary.run
    rows = {"steps": f"{summary.steps:,} in {summary.wall_s:.1f} s ({summary.steps_per_s:,.0f} steps/s)"}
    if summary.eval_mean is not None:
        rows["final policy"] = (
            f"{summary.eval_mean:.1f} +- {summary.eval_std:.1f} over {summary.eval_episodes} fresh greedy episodes"
        )
    if run.monitor.best is not None:
        rows["best evaluation"] = f"{run.monitor.best[0]:.1f} at step {run.monitor.best[1]:,}"
    if summary.solved is not None:
        rows["solved"] = "yes" if summary.solved else "no"
    rows["run folder"] = path
    if recorded is not None:
        rows["recorded episode"] = str(recorded)
    commands = {
        "watch it play": f"python -m agents.watch {shlex.quote(path)}",
        "measure it": f"python -m agents.evaluate {shlex.quote(path)}",
        "see its curves": f"tensorboard --logdir {shlex.quote(str(run.folder.path.parent))}",
    }
    title = f"{summary.algo.upper()} on {summary.env}"
    if summary.interrupted:
        title += ", stopped early"
        commands = {"go on": f"python -m agents.train --resume {shlex.quote(path)}", **commands}
    return title, rows, commands
