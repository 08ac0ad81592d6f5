"""A comparison from its plan to its stored results: what is done is kept, what is missing is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from agents.lab.benchmark.machine import describe_machine
from agents.lab.comparison.plan import Pair, all_jobs
from agents.lab.comparison.pool import Outcome, carry_out, writing
from agents.lab.comparison.record import Record
from agents.run.folder import versions


def conduct(
    pairs: Sequence[Pair], out: Path, *, workers: int, trust: bool, command: str, say: Callable[[str], None]
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
    with writing(out) as lock:
        record = Record(out)
        record.add(pairs)
        jobs = all_jobs(pairs)
        missing = [job for job in jobs if not job.is_done(job.folder(out))]
        record.describe(command, describe_machine(), versions())
        record.save()
        for pair in pairs:
            record.refer(pair)
        record.save()
        if len(missing) < len(jobs):
            say(f"{len(jobs) - len(missing)} of {len(jobs)} runs are done already")
        failed, began = [], perf_counter()
        with closing(carry_out(missing, out, workers, lock, trust=trust)) as outcomes:
            for number, outcome in enumerate(outcomes, 1):
                record.settle(outcome.job, outcome.error)
                record.save()
                if outcome.error is not None:
                    failed.append(outcome.error)
                left = (perf_counter() - began) / number * (len(missing) - number)
                say(f"[{number}/{len(missing)}] {_line(outcome)}" + (f" · about {_span(left)} left" if left else ""))
        return {
            "out": str(out),
            "runs": len(jobs),
            "reused": len(jobs) - len(missing),
            "trained": len(missing) - len(failed),
            "failed": len(failed),
        }


def _line(outcome: Outcome) -> str:
    """Say in one line how a run ended."""
    job, result = outcome.job, outcome.result
    name = f"{job.env} {job.algo} {job.label} seed {job.seed}"
    if result is None:
        return f"{name} FAILED: {outcome.error}"
    mean = float(np.mean(result["returns"]))
    return f"{name}: {mean:.1f} after {result['steps']:,} steps in {_span(result['train_seconds'])}"


def _span(seconds: float) -> str:
    """Write a time in the unit that it fills."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"


def plan_lines(pairs: Sequence[Pair], out: Path) -> list[str]:
    """Return a line for each side of each pair: its budget, its seeds, and how many of its runs are done.

    Raises:
        UserError: `out` holds other runs.
    """
    Record(out).add(pairs)
    lines = []
    for pair in pairs:
        jobs = [job for seed in pair.seeds for job in pair.jobs(seed)]
        for subject in pair.subjects:
            runs = [job for job in jobs if job.label == subject.label]
            done = sum(job.is_done(job.folder(out)) for job in runs)
            lines.append(
                f"{pair.env} {pair.algo} {subject.label}: {pair.budget:,} steps, {len(runs)} seeds, {done} done; "
                f"{pair.eval_episodes} episodes every {pair.eval_freq:,} steps, {pair.final_eval_episodes} at the end"
            )
        lines += [f"  sb3 goes without: {what}" for what in pair.left_out]
    return lines
