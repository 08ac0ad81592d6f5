"""A training of stable-baselines3 (SB3) that leaves what ours leaves: the same files, tags and evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agents.core.schedules import crossings
from agents.lab.baselines import make_sb3
from agents.lab.comparison.job import Job
from agents.lab.sb3_policy import SB3Policy
from agents.loops.evaluation import Evaluation
from agents.run.evaluator import Evaluator, evaluation_scalars
from agents.run.monitor import LOG_ROWS, Monitor
from agents.run.sinks import CsvSink, TensorBoardSink


class Recorder:
    """Evaluates and writes at the points at which our run does: after the updates of a round, once one fell due."""

    def __init__(self, model: Any, job: Job, folder: Path) -> None:
        self.monitor = Monitor()
        self.evaluator = Evaluator(
            job.env,
            job.seed,
            vec=job.vec,
            most_episodes=max(job.eval_episodes, job.final_eval_episodes),
            env_kwargs=job.env_kwargs,
        )
        self._model, self._job = model, job
        self._policy = SB3Policy(model)
        self._log_every = max(job.budget // LOG_ROWS, 1)
        self._tensorboard = TensorBoardSink(folder)
        self._progress = CsvSink(folder / "progress.csv")
        self._evaluations = CsvSink(folder / "evaluations.csv")
        values = {"library": "stable-baselines3", **job.settings}
        rows = "".join(f"| {key} | {value} |\n" for key, value in values.items())
        self._tensorboard.text("config", f"| setting | value |\n|---|---|\n{rows}")

    def serve(self, step: int) -> None:
        """Do what fell due since the last time."""
        before, self.monitor.served = self.monitor.served, step
        if crossings(before, step, self._job.eval_freq):
            with self.monitor.aside():
                result = self.evaluator.evaluate(self._policy, self._job.eval_episodes, "evaluation", step)
                scalars = evaluation_scalars(result, self.monitor.training_seconds())
                for sink in (self._tensorboard, self._evaluations):
                    sink.write(step, scalars)
        if crossings(before, step, self._log_every):
            for sink in (self._tensorboard, self._progress):
                sink.write(step, self._scalars(step))

    def final_evaluation(self) -> Evaluation:
        """Play the episodes that the run is judged by."""
        return self.evaluator.evaluate(self._policy, self._job.final_eval_episodes, "final")

    def close(self) -> None:
        """Flush and close everything."""
        for part in (self._tensorboard, self._progress, self._evaluations, self.evaluator):
            part.close()

    def _scalars(self, step: int) -> dict[str, float]:
        """Return what SB3 would have logged now, under its own tags."""
        found = {"time/fps": self.monitor.fps(step)}
        if episodes := self._model.ep_info_buffer:
            found["rollout/ep_rew_mean"] = float(np.mean([episode["r"] for episode in episodes]))
            found["rollout/ep_len_mean"] = float(np.mean([episode["l"] for episode in episodes]))
        logged = self._model.logger.name_to_value.items()
        return found | {tag: float(value) for tag, value in logged if tag.startswith(("train/", "rollout/"))}


def train_beside(job: Job, folder: Path) -> dict[str, Any]:
    """Train in `folder`; return the steps, the seconds of training without evaluations, and the final episodes."""
    from stable_baselines3.common.callbacks import BaseCallback

    model = make_sb3(env_id=job.env, env_kwargs=job.env_kwargs, seed=job.seed, **job.settings)
    recorder = Recorder(model, job, folder)

    class Rounds(BaseCallback):
        """Tells the recorder when a round of updates is over."""

        def _on_rollout_start(self) -> None:
            recorder.serve(self.num_timesteps)

        def _on_training_end(self) -> None:
            recorder.serve(self.num_timesteps)

        def _on_step(self) -> bool:
            return True

    try:
        recorder.monitor.start()
        model.learn(job.budget, callback=Rounds(), log_interval=None)
        seconds = recorder.monitor.training_seconds()
        final = recorder.final_evaluation()
    finally:
        recorder.close()
        model.get_env().close()
    return {
        "steps": model.num_timesteps,
        "train_seconds": seconds,
        "returns": final.returns.tolist(),
        "lengths": final.lengths.tolist(),
    }
