"""A model that was trained before, ours or SB3's, as a run of a comparison: its final evaluation and nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from agents.core.types import Policy
from agents.lab.comparison.job import Job
from agents.lab.sb3_policy import SB3Policy, load_sb3
from agents.run.evaluator import Evaluator
from agents.run.models import load_policy


def evaluate_model(job: Job, trust: bool) -> dict[str, Any]:
    """Let the model play the episodes that the runs of this seed are judged by; return how it did."""
    policy, step, rescale_action = _load(job, trust)
    evaluator = Evaluator(
        job.env,
        job.seed,
        vec=job.vec,
        most_episodes=max(job.eval_episodes, job.final_eval_episodes),
        env_kwargs=job.env_kwargs,
        rescale_action=rescale_action,
    )
    with closing(evaluator):
        if isinstance(policy, SB3Policy):
            policy.refuse_unfit(evaluator.env, job.env)
        final = evaluator.evaluate(policy, job.final_eval_episodes, "final")
    return {"steps": step, "train_seconds": 0.0, "returns": final.returns.tolist(), "lengths": final.lengths.tolist()}


def _load(job: Job, trust: bool) -> tuple[Policy, int, bool]:
    """Return a model as a policy, the steps that it was trained for, and whether its actions are to be rescaled."""
    path = Path(job.settings["model"])
    if job.library == "sb3":
        statistics = job.settings.get("vec_normalize")
        policy = load_sb3(path, job.algo, trust=trust, vec_normalize=Path(statistics) if statistics else None)
        return policy, policy.step, False
    loaded = load_policy(path, "latest")
    return loaded.policy, loaded.step, loaded.rescale_action
