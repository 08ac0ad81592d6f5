"""What a run of a comparison does: our training, SB3's, or the evaluation of a model that is there already.

SB3's leaves what ours leaves: the same files, tags and evaluations. Each function imports what it needs and no more.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.schedules import crossings
from agents.lab.comparison.job import JOB_FILE, Job
from agents.run.evaluator import Evaluator, evaluation_scalars, most_steps
from agents.run.storage import read_json
from agents.run.terminal import typed


def train_ours(job: Job, folder: Path, *, resume: bool) -> dict[str, Any] | None:
    """Train in `folder`, or what is left to train there; return what it leaves, or None if it was stopped before."""
    from agents.run.config import RunConfig
    from agents.run.folder import RunFolder
    from agents.run.runner import train

    run, peak = RunFolder(folder), {}
    if run.concluded() is None:
        config = RunConfig.from_dict({**job.settings, "seed": job.seed}, str(folder / JOB_FILE))
        place: dict[str, Any] = {"resume": folder} if resume else {"folder_name": folder.name}
        if train(config, runs_dir=folder.parent, replays_dir=folder, quiet=True, record_steps=0, **place).interrupted:
            return None
    else:
        peak = {"peak_mb": None}  # only its result was left to write, by a process that does not train
    reached = read_json(folder / "summary.json")
    return {
        "steps": reached["steps"],
        "train_seconds": reached["train_s"],
        **read_json(folder / "final_episodes.json"),
        **peak,
        "command": typed("python", "-m", "agents.train", "--config", run.config_file, "--no-record"),
    }


def _evaluator(job: Job, rescale_action: bool = False, observations: dict[str, Any] | None = None) -> Evaluator:
    most = max(job.eval_episodes, job.final_eval_episodes)
    env: dict[str, Any] = {"vec": job.vec, "env_kwargs": job.env_kwargs, "rescale_action": rescale_action}
    env |= observations or {}
    limit = most_steps(job.env, job.env_kwargs, job.budget, job.eval_episodes)  # as ours has by itself
    return Evaluator(job.env, job.seed, most_episodes=most, max_steps=limit, **env)


def _final(job: Job, evaluator: Evaluator, policy: Any) -> dict[str, Any]:
    """Play the final episodes, the same for all runs of this seed."""
    final = evaluator.evaluate(policy, job.final_eval_episodes, "final")
    return {"returns": final.returns.tolist(), "lengths": final.lengths.tolist()}


def evaluate_model(job: Job, trust: bool) -> dict[str, Any]:
    """Evaluate a model that was trained before, ours or SB3's."""
    from agents.lab.sb3_policy import load_sb3
    from agents.run.models import load_policy

    path, statistics = Path(job.settings["model"]), job.settings.get("vec_normalize")
    policy: Any
    if job.library == "sb3":
        policy = load_sb3(path, trust=trust, vec_normalize=Path(statistics) if statistics else None)
        step, rescale, observations = policy.step, False, {}
    else:
        loaded = load_policy(path, "latest", trust=trust)
        policy, step, rescale = loaded.policy, loaded.step, loaded.rescale_action
        observations = loaded.config.params.observations.arguments
    with closing(_evaluator(job, rescale, observations)) as evaluator:
        if job.library == "sb3":
            policy.refuse_unfit(evaluator.env, job.env)
        return {"steps": step, "train_seconds": 0.0, **_final(job, evaluator, policy)}


class _Recorder:
    """Evaluates and writes at the points at which our run does: after the updates of a round, once one fell due."""

    def __init__(self, model: Any, job: Job, folder: Path) -> None:
        from agents.lab.sb3_policy import SB3Policy
        from agents.run.monitor import LOG_ROWS, Monitor
        from agents.run.sinks import CsvSink
        from agents.run.tensorboard import TensorBoardSink

        self.monitor, self.evaluator = Monitor(), _evaluator(job)
        self.policy = SB3Policy(model)
        self._model, self._job = model, job
        self._log_every = max(job.budget // LOG_ROWS, 1)
        self._tensorboard = TensorBoardSink(folder)
        self._progress, self._evaluations = CsvSink(folder / "progress.csv"), CsvSink(folder / "evaluations.csv")
        values = {"library": "stable-baselines3", **job.settings}
        rows = "".join(f"| {key} | {value} |\n" for key, value in values.items())
        self._tensorboard.text("config", f"| setting | value |\n|---|---|\n{rows}")

    def record_due(self, step: int) -> None:
        """Evaluate and write what fell due since the last time."""
        before, self.monitor.handled = self.monitor.handled, step
        if crossings(before, step, self._job.eval_freq):
            with self.monitor.paused("evaluation"):
                result = self.evaluator.evaluate(self.policy, self._job.eval_episodes, "evaluation", step)
                scalars = evaluation_scalars(result, self.monitor.training_seconds())
                for sink in (self._tensorboard, self._evaluations):
                    sink.write(step, scalars)
        if crossings(before, step, self._log_every):
            for sink in (self._tensorboard, self._progress):
                sink.write(step, self._scalars(step))

    def _scalars(self, step: int) -> dict[str, float]:
        """Return what SB3 would have logged now, under its own tags."""
        found = {"time/fps": self.monitor.fps(step)}
        if episodes := self._model.ep_info_buffer:
            found["rollout/ep_rew_mean"] = float(np.mean([episode["r"] for episode in episodes]))
            found["rollout/ep_len_mean"] = float(np.mean([episode["l"] for episode in episodes]))
        logged = self._model.logger.name_to_value.items()
        return found | {tag: float(value) for tag, value in logged if tag.startswith(("train/", "rollout/"))}

    def close(self) -> None:
        """Flush and close everything."""
        for part in (self._tensorboard, self._progress, self._evaluations, self.evaluator):
            part.close()


def train_sb3(job: Job, folder: Path) -> dict[str, Any]:
    """Train SB3 in `folder`; return the steps, the seconds of training without evaluations, and the final episodes."""
    from stable_baselines3.common.callbacks import BaseCallback

    from agents.lab.baselines import make_sb3

    model = make_sb3(env_id=job.env, env_kwargs=job.env_kwargs, seed=job.seed, **job.settings)

    class Rounds(BaseCallback):
        """Tells the recorder when a round of updates is over."""

        def _on_rollout_start(self) -> None:
            recorder.record_due(self.num_timesteps)

        def _on_training_end(self) -> None:
            recorder.record_due(self.num_timesteps)

        def _on_step(self) -> bool:
            return True

    with closing(model.get_env()), closing(_Recorder(model, job, folder)) as recorder:
        recorder.monitor.start()
        model.learn(job.budget, callback=Rounds(), log_interval=None)
        seconds = recorder.monitor.training_seconds()
        final = _final(job, recorder.evaluator, recorder.policy)
    return {"steps": model.num_timesteps, "train_seconds": seconds, **final}
