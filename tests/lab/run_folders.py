"""Run folders that nobody trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.run.config import FLAGS, Layer, resolve
from envs.locate import env_label


def write_folder(
    runs: Path,
    seed: int = 0,
    *,
    name: str = "",
    time: str = "20260101-120000",
    curve: Sequence[tuple[int, float]] = ((100, 10.0), (200, 30.0), (300, 20.0)),
    final: Sequence[float] | None = (24.0, 26.0),
    interrupted: bool = False,
    steps: int | None = None,
    first_step: int = 0,
    **settings: Any,
) -> Path:
    """Write a run with evaluations `curve` (step, mean return) and the returns of its final episodes; return it.

    Without `final` there is no summary, as of a run that was killed.
    """
    config = resolve([Layer(FLAGS, {"env": "CartPole-v1", "seed": seed, "name": name or None, **settings})])
    named = f"{name}__" if name else ""
    run = runs / f"{env_label(config.env)}__{config.algo}__{named}s{seed}__{time}"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config.to_yaml())
    rows = [f"{step},{value!r},{step / 100}" for step, value in curve]
    header = "step,eval/mean_reward,time/time_elapsed" if rows else "step"
    (run / "evaluations.csv").write_text("".join(f"{row}\n" for row in [header, *rows]))
    if final is not None:
        done = list(final)
        summary = {"steps": max([0, *(step for step, _ in curve)]) if steps is None else steps, "train_s": 3.0}
        summary |= {"eval_mean": sum(done) / len(done) if done else None, "interrupted": interrupted}
        summary |= {"first_step": first_step} if first_step else {}
        (run / "summary.json").write_text(json.dumps(summary))
        (run / "final_episodes.json").write_text(json.dumps({"returns": done, "lengths": [1] * len(done)}))
    return run
