"""What is left of a training that diverged: the batch that it was learning from, and where the fault was seen first."""

from __future__ import annotations

from typing import Any

from agents.core.tree import tree_map
from agents.data.batch import Batch
from agents.learning.results import Diverged
from agents.run.doctor.diagnosis import Diagnosis
from agents.run.doctor.sink import Doctor
from agents.run.folder import RunFolder
from agents.run.storage import atomic_folder
from agents.run.training import Training
from agents.run.trees import write_tree
from envs.errors import UserError

FOLDER, NAME = "diverged", "batch"
MOST_BYTES = 256 * 2**20  # of the batch; of a larger one only its beginning is written
FIELDS = ("obs", "action", "reward", "return_", "next_obs", "terminated", "truncated", "start", "valid", "indices")


def explain(error: Diverged, doctor: Doctor, training: Training, folder: RunFolder) -> None:
    """Write down what was not finite first, and the batch itself; note on the error where."""
    env = environment_of(error, training.env.num_envs)
    place = "" if env is None else f", environment {env}"
    minibatch = "" if error.minibatch is None else f", minibatch {error.minibatch}"
    found = Diagnosis(
        "not finite",
        1.0,
        f"{error.what} is NaN or infinite (update {training.learner.n_updates:,}{minibatch}{place})",
        "a smaller --learning-rate, a smaller --max-grad-norm, and a look at the size of rewards and observations",
        training.step,
    )
    meta = {"step": training.step, "what": error.what, "minibatch": error.minibatch, "environment": env}
    try:
        doctor.tell(found)
        with atomic_folder(folder.path / FOLDER) as at:
            write_tree(at, NAME, batch_of(error.data), meta)
    except UserError as second:
        error.add_note(f"The batch could not be saved: {second}")
        return
    error.add_note(f"First seen: {found.evidence}. The batch is saved in {folder.shown / FOLDER}.")


def environment_of(error: Diverged, num_envs: int) -> int | None:
    """Return from which environment the first number came that is not finite, where one of them is the cause."""
    if error.where is None:
        return None
    if isinstance(error.data, Batch):
        row = error.data.indices[error.where[0]].flatten()[0]
        return int(row) % num_envs
    return error.where[-1]


def batch_of(data: Any) -> dict[str, Any]:
    """Return what was learnt from as a tree that can be written, its beginning only where it is very large."""
    tree = {name: leaf for name in FIELDS if (leaf := getattr(data, name, None)) is not None}
    sizes: list[tuple[int, int]] = []
    tree_map(lambda leaf: sizes.append((leaf.nbytes, len(leaf))), tree)
    taken, rows = sum(size for size, _ in sizes), max((rows for _, rows in sizes), default=0)
    kept = rows if taken <= MOST_BYTES else max(rows * MOST_BYTES // taken, 1)
    return tree_map(lambda leaf: leaf[:kept].cpu(), tree)
