"""A comparison from its plan to its stored results: what is done is kept, what is missing is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

from agents.lab.comparison.job import Job, differences
from agents.lab.comparison.plan import PlannedTask, all_jobs
from agents.lab.comparison.pool import JobResult, exclusive, run_jobs
from agents.lab.comparison.results import FILE, FORMAT, VERSION, read_comparison
from agents.lab.machine import describe_machine
from agents.lab.words import duration, number, plural
from agents.run.folder import versions
from agents.run.registry import label
from agents.run.storage import read_json, write_text
from envs.errors import UserError

RANDOM_EPISODES = 100
FIXED = ("env_kwargs", "hyper", "vec", "budget", "eval_freq", "eval_episodes", "final_eval_episodes")


def run_comparison(
    tasks: Sequence[PlannedTask], out: Path, *, workers: int, trust: bool, command: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run what is missing in `out`; tell each end as it comes.

    Args:
        workers: runs at a time.
        trust: whether models of SB3's may be loaded, which runs code from their files.
        command: written down, to be repeated.
        say: takes a line for whoever watches.

    Returns:
        `out`, how many `runs` there are, were done before (`reused`), were `trained` now, and what `failed`.

    Raises:
        UserError: `out` holds other runs, or cannot be written.
        KeyboardInterrupt: it was stopped; all that ended before is kept.
    """
    with exclusive(out) as lock:
        record = ComparisonFile(out)
        record.add_tasks(tasks)
        jobs = all_jobs(tasks)
        missing = [job for job in jobs if not job.is_done(job.folder(out))]
        record.values["commands"] = list(dict.fromkeys([*record.values["commands"], command]))
        record.values |= {"machine": describe_machine(), "versions": versions()}
        record.add_references(tasks)
        record.save()
        if len(missing) < len(jobs):
            say(f"{len(jobs) - len(missing)} of {len(jobs)} runs are done already")
        failed, began = 0, perf_counter()
        with closing(run_jobs(missing, out, workers, lock, trust=trust)) as results:
            for count, result in enumerate(results, 1):
                record.note_end(result.job, result.error)
                record.save()
                failed += result.error is not None
                left = (perf_counter() - began) / count * (len(missing) - count)
                say(f"[{count}/{len(missing)}] {_line(result)}" + (f" · about {duration(left)} left" if left else ""))
    runs, trained = len(jobs), len(missing) - failed
    return {"out": str(out), "runs": runs, "reused": runs - len(missing), "trained": trained, "failed": failed}


def _line(ended: JobResult) -> str:
    """Say in one line how a run ended."""
    job, result = ended.job, ended.result
    name = f"{job.env} {label(job.algo)} {job.label} seed {job.seed}"
    if result is None:
        return f"{name} FAILED: {ended.error}"
    seconds = result.figures.get("train_seconds")
    when = ", trained before" if seconds is None else f" in {duration(seconds)}"
    return f"{name}: {number(result.score)} after {result.figures['steps']:,.0f} steps{when}"


def plan_lines(tasks: Sequence[PlannedTask], out: Path) -> list[str]:
    """Return a line for each side of each task: its budget, its seeds, and how many of its runs are done.

    Raises:
        UserError: `out` holds other runs.
    """
    ComparisonFile(out).add_tasks(tasks)
    lines = []
    for task in tasks:
        jobs = all_jobs([task])
        for side in task.sides:
            done = sum(job.is_done(job.folder(out)) for job in jobs if job.label == side.label)
            lines.append(
                f"{task.env} {label(task.algo)} {side.label}: {task.budget:,} steps, "
                f"{plural(len(task.seeds), 'seed')}, {done} done; "
                f"{task.eval_episodes} episodes every {task.eval_freq:,} steps, {task.final_eval_episodes} at the end"
            )
        lines += [f"  sb3 goes without: {what}" for what in task.left_out]
    return lines


class ComparisonFile:
    """`comparison.json`: what is compared, where, and what went wrong. It grows with every command."""

    def __init__(self, out: Path) -> None:
        """Read what `out` holds.

        Raises:
            UserError: its `comparison.json` is not one of ours.
        """
        self._file = out / FILE
        self.values: dict[str, Any] = {
            **{"format": FORMAT, "version": VERSION, "pairs": [], "references": {}, "failures": [], "commands": []},
            **{"machine": {}, "versions": {}},
        }
        if self._file.exists():
            read_comparison(self._file)
            self.values |= read_json(self._file)

    def add_tasks(self, tasks: Sequence[PlannedTask]) -> None:
        """Put tasks beside those that are there; of the same task, seeds and labels are put together.

        Raises:
            UserError: a task is there under other conditions, or its environment with other arguments: scores of both
                would be held against one return of random play.
        """
        stored = {(task["env"], task["algo"]): task for task in self.values["pairs"]}
        arguments = {task["env"]: task.get("env_kwargs") or {} for task in self.values["pairs"]}
        for task in tasks:
            if (there := arguments.setdefault(task.env, task.env_kwargs)) != task.env_kwargs:
                raise UserError(
                    f"{self._file.parent} compares on {task.env} with env_kwargs {there}, here they are "
                    f"{task.env_kwargs}. Choose another --out for this comparison."
                )
            new, old = task.to_json(), stored.get((task.env, task.algo))
            if old is None:
                self.values["pairs"].append(new)
                continue
            before, after = ({name: values.get(name) for name in FIXED} for values in (old, new))
            if found := list(differences(before, after)):
                raise UserError(
                    f"{self._file.parent} compares {label(task.algo)} on {task.env} already, but {'; '.join(found)}. "
                    "Choose another --out for this comparison."
                )
            old["settings"] = old.get("settings", {}) | new["settings"]
            old["seeds"] = sorted({*old["seeds"], *new["seeds"]})
            for name in ("labels", "left_out"):
                old[name] = list(dict.fromkeys([*old.get(name, ()), *new[name]]))

    def add_references(self, tasks: Sequence[PlannedTask]) -> None:
        """Measure what the scores on each environment are held against, where that is not done yet."""
        from agents.run.evaluator import most_steps
        from envs.single import reward_threshold

        for task in tasks:
            if task.env not in self.values["references"]:
                self.save()  # what is compared is written down before anything takes time
                limit = most_steps(task.env, task.env_kwargs, task.budget, task.eval_episodes)  # as scores have it
                random = random_return(task.env, task.env_kwargs, task.vec, limit)
                self.values["references"][task.env] = {"random": random, "threshold": reward_threshold(task.env)}

    def note_end(self, job: Job, error: str | None) -> None:
        """Note how a run ended: what went wrong, or that what once went wrong is mended."""
        key = {"env": job.env, "algo": job.algo, "label": job.label, "seed": job.seed}
        others = [failure for failure in self.values["failures"] if key.items() - failure.items()]
        self.values["failures"] = others if error is None else [*others, key | {"error": error}]

    def save(self) -> None:
        """Write the file."""
        write_text(self._file, json.dumps(self.values, indent=2) + "\n")


def random_return(env_id: str, env_kwargs: dict[str, Any], vec: str, step_limit: int | None = None) -> float:
    """Return the mean return of uniformly random actions, of legal ones, over 100 episodes.

    Args:
        step_limit: steps after which an episode counts with its return so far, as `evaluate` takes it.
    """
    from agents.acting.evaluation import evaluate
    from agents.run.datasets.experts import Random
    from agents.run.evaluator import PARALLEL
    from envs.make import make

    with closing(make(env_id, PARALLEL[vec], vec=vec, env_kwargs=env_kwargs)) as env:
        env.action_space.seed(0)
        played = evaluate(env, Random(env.action_space), RANDOM_EPISODES, seed=0, step_limit=step_limit)
        return float(played.returns.mean())
