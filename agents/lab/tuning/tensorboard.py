"""Trials in TensorBoard: learning curves under SCALARS, and the tab HPARAMS, which ranks them."""

from __future__ import annotations

from statistics import fmean

from optuna.trial import FrozenTrial

from agents.lab.tuning.study import SETTINGS, Study
from agents.lab.tuning.trial import points
from agents.run.storage import disk
from agents.run.tensorboard import BEST, FINAL, TensorBoardSink

FOLDER = "tensorboard"


def record(study: Study, trial: FrozenTrial) -> None:
    """Write an ended trial, means over its seeds, where that is not done and there is anything to write.

    Raises:
        UserError: it cannot be written.
    """
    folder = study.folder / FOLDER / f"{study.plan.sampling}-{trial.number}"
    curves = [curve for curve in points(trial) if curve]
    if folder.exists() or not curves:
        return
    with disk("write", folder):
        folder.mkdir(parents=True)
    sink = TensorBoardSink(folder)
    means: list[float] = []
    whole = [curve for curve in curves if len(curve) == len(curves[0])]  # the last may have been given up
    for row in zip(*whole, strict=True):
        means.append(fmean(point.mean for point in row))
        seconds = fmean(point.seconds for point in row)
        sink.write(row[0].step, {"eval/mean_reward": means[-1], "time/time_elapsed": seconds})
    sink.write(whole[0][-1].step, {BEST: max(means), FINAL: means[-1]})
    sink.hparams(dict(trial.user_attrs.get(SETTINGS) or {}))
    sink.close()
