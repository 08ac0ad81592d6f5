"""`comparison.json`: what is compared, where, and what went wrong. It grows with every command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.lab.comparison.job import Job, differences
from agents.lab.comparison.plan import Pair
from agents.lab.comparison.results import FILE, FORMAT, VERSION, refuse_foreign
from agents.run.storage import read_json, write_text
from envs.errors import UserError

RANDOM_EPISODES = 100
FIXED = ("env_kwargs", "hyper", "vec", "budget", "eval_freq", "eval_episodes", "final_eval_episodes")


class Record:
    """The document, in memory and on the disk."""

    def __init__(self, out: Path) -> None:
        """Read what `out` holds.

        Raises:
            UserError: its `comparison.json` is not one of ours.
        """
        self._file = out / FILE
        self.document: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            **{"pairs": [], "references": {}, "failures": [], "commands": [], "machine": {}, "versions": {}},
        }
        if self._file.exists():
            found = read_json(self._file)
            refuse_foreign(found, self._file)
            if wrong := [key for key, value in self.document.items() if type(found.get(key)) is not type(value)]:
                raise UserError(f"{self._file} is malformed: {', '.join(wrong)} missing or of another kind")
            self.document = found

    def add(self, pairs: Sequence[Pair]) -> None:
        """Put pairs beside those that are there; of the same pair, seeds and labels are put together.

        Raises:
            UserError: a pair is there under other conditions.
        """
        stored = {(pair["env"], pair["algo"]): pair for pair in self.document["pairs"]}
        for pair in pairs:
            new = pair.document()
            old = stored.get((pair.env, pair.algo))
            if old is None:
                self.document["pairs"].append(new)
                continue
            before, after = ({name: document.get(name) for name in FIXED} for document in (old, new))
            if found := list(differences(before, after)):
                raise UserError(
                    f"{self._file.parent} compares {pair.algo} on {pair.env} already, but {'; '.join(found)}. "
                    "Choose another --out for this comparison."
                )
            old["settings"] |= new["settings"]
            old["labels"] = list(dict.fromkeys([*old["labels"], *new["labels"]]))
            old["seeds"] = sorted({*old["seeds"], *new["seeds"]})
            old["left_out"] = list(dict.fromkeys([*old["left_out"], *new["left_out"]]))

    def describe(self, command: str, machine: dict[str, Any], versions: dict[str, Any]) -> None:
        """Note a command, and where it runs."""
        self.document["commands"] = list(dict.fromkeys([*self.document["commands"], command]))
        self.document |= {"machine": machine, "versions": versions}

    def refer(self, pair: Pair) -> None:
        """Measure what the scores on an environment are held against, if that is not done yet."""
        from envs.make import reward_threshold

        if pair.env not in self.document["references"]:
            random = random_return(pair.env, pair.env_kwargs, pair.vec)
            threshold = reward_threshold(pair.env)
            self.document["references"][pair.env] = {"random": random, "threshold": threshold}

    def settle(self, job: Job, error: str | None) -> None:
        """Note how a run ended: what went wrong, or that what once went wrong is mended."""
        key = {"env": job.env, "algo": job.algo, "label": job.label, "seed": job.seed}
        others = [failure for failure in self.document["failures"] if key.items() - failure.items()]
        self.document["failures"] = others if error is None else [*others, key | {"error": error}]

    def save(self) -> None:
        """Write the document."""
        write_text(self._file, json.dumps(self.document, indent=2) + "\n")


def random_return(env_id: str, env_kwargs: dict[str, Any], vec: str) -> float:
    """Return the mean return of uniformly random actions over 100 episodes."""
    import torch
    from gymnasium.vector.utils import batch_space

    from agents.loops.evaluation import evaluate
    from agents.run.evaluator import PARALLEL
    from envs.make import make

    env = make(env_id, PARALLEL[vec], vec=vec, env_kwargs=env_kwargs)
    actions = batch_space(env.action_space, env.num_envs)
    actions.seed(0)

    class Uniform:
        device = torch.device("cpu")

        def predict(self, obs: Any, deterministic: bool = True, generator: Any = None) -> torch.Tensor:
            return torch.as_tensor(np.asarray(actions.sample()))

        def inspect(self, obs: Any) -> dict[str, torch.Tensor]:
            return {}

    try:
        return float(evaluate(env, Uniform(), RANDOM_EPISODES, seed=0).returns.mean())
    finally:
        env.close()
