"""How a run ends: the final evaluation, a recorded episode, the summary and the last screen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from agents.run.footage import record_episode_of
from agents.run.play import watch_fault
from agents.run.sinks import Sink
from agents.run.summary import Summary, env_flags, last_screen
from agents.run.tensorboard import BEST, FINAL
from envs.single import reward_threshold

if TYPE_CHECKING:
    from agents.run.run import Run


def conclude(run: Run, interrupted: bool, replays: tuple[Path, Path], record_steps: int) -> Summary:
    """Evaluate the final policy on fresh episodes, record one, and write the summary."""
    config, step = run.config, run.training.step
    wall, trained = run.monitor.elapsed(), run.monitor.training_seconds()
    episodes = 0 if interrupted else run.params.final_eval_episodes
    mean = std = solved = cut = recorded = None
    if episodes:
        with run.monitor.paused("evaluation"):
            result = run.evaluate(episodes, "final")
        cut = result.cut
        mean, std = float(result.returns.mean()), float(result.returns.std())
        run.folder.write_final_episodes(result.returns.tolist(), result.lengths.tolist())
        threshold = reward_threshold(config.env)
        threshold = run.params.target_reward if threshold is None else threshold
        solved = None if threshold is None else mean >= threshold
    if record_steps and not interrupted:
        with run.monitor.paused("recording"):
            recorded = record_episode_of(run, replays, record_steps)
    spent = run.monitor.spent
    summary = Summary(
        run=str(run.folder.shown),
        env=config.env,
        algo=config.algo,
        seed=config.seed,
        steps=step,
        wall_s=round(wall, 3),
        train_s=round(trained, 3),
        steps_per_s=round((step - run.monitor.first) / max(wall, 1e-9), 1),
        eval_mean=mean,
        eval_std=std,
        eval_episodes=episodes,
        eval_cut=cut,
        solved=solved,
        interrupted=interrupted,
        eval_s=round(spent.get("evaluation", 0.0), 3),
        record_s=round(spent.get("recording", 0.0), 3),
        total_s=round(run.monitor.elapsed(), 3),
        first_step=run.monitor.first,
    )
    watchable = watch_fault(config.env) is None and (recorded is not None or interrupted or not record_steps)
    scores = {BEST: None if run.monitor.best is None else run.monitor.best[0], FINAL: mean}
    sinks: list[Sink] = [run.tensorboard, *run.trackers]
    for sink in sinks:
        sink.write(step, {tag: score for tag, score in scores.items() if score is not None})
    run.tensorboard.hparams(config.model_dump(mode="json"))
    run.folder.write_summary(dataclasses.asdict(summary))
    if run.training.imitation is not None:
        run.say(run.training.imitation.held_out.report(run.folder.path))
    run.say(run.remarks.at_the_end(run.monitor.returns, run.monitor.lengths))
    if faults := run.training.faults():
        run.say(
            [f"made good in observations: {', '.join(f'{name} {count:,} times' for name, count in faults.items())}"]
        )
    begin_in = [] if run.training.algorithm.acts else env_flags(config.env, config.env_kwargs, config.wrappers)
    run.console.final_table(*last_screen(summary, run.monitor.best, recorded, watchable, begin_in))
    return summary
