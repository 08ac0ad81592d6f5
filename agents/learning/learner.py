"""From prepared data to a better model: minibatches, gradients, clipping, optimiser steps, and how they are run."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.core.algorithm import Algorithm
from agents.core.checked import Function, Version
from agents.core.runtime import Runtime
from agents.core.saved import count, part
from agents.core.tree import tree_map
from agents.core.watch import repeats_itself, suits_numpy
from agents.data.batch import Batch
from agents.data.trajectory import Trajectory, has_pictures
from agents.learning.kernels.surrogate import SurrogateUpdate
from agents.learning.optimizer import Optimizer
from agents.learning.parameters import FlatParameters, clipped
from agents.learning.results import UpdateResult, divergence
from agents.networks.augmentation import Augmentation
from envs.seeding import derive_seed

Data = dict[str, Any]
Aux = dict[str, Tensor]
HEALTH = "_health"  # of a step: its loss and gradient norm, summed: finite only if both are
NORM = "_norm"  # of a step: its gradient's norm before clipping


class Learnt(NamedTuple):
    """What an update gives, as tensors; see `UpdateResult`."""

    metrics: dict[str, Any]
    priority: Tensor | None
    health: Tensor
    steps: Tensor


class Learner:
    """Steps an algorithm's model along the gradient of its loss.

    Args:
        algorithm: on its device already.
        runtime: how steps are run.
        seed: minibatches are drawn by a stream that follows from it.
        augment: changes pictures as they are learnt from, by numbers of the same stream; None for not.
    """

    def __init__(self, algorithm: Algorithm, runtime: Runtime, seed: int, augment: Augmentation | None = None) -> None:
        self._augment = augment
        algorithm.eval()
        self.algorithm = algorithm
        self.parameters = FlatParameters(algorithm.model)
        self.optimizer = Optimizer(algorithm.config.optimizer, self.parameters, algorithm.optimizer_eps)
        self.n_updates = 0
        device = self.parameters.vector.device
        self.shuffling = torch.Generator(device).manual_seed(derive_seed(seed, "minibatch"))
        self._recurrent: bool = getattr(algorithm.model, "recurrent", False)

        def version() -> Hashable:  # a target network that is made anew is another module
            return self.parameters.version, *algorithm.children()

        by_numpy = suits_numpy(algorithm)
        how = version, self._changing if by_numpy else None, lambda: repeats_itself(algorithm)

        # a sequence's steps, one after the other, would keep PyTorch's compiler busy for minutes
        def compiled(function: Function, by_pytorch: bool = not self._recurrent) -> Function:
            return runtime.compiled(function, *how, by_pytorch)

        # no more than will be run, so that the runtime's summary is true
        self._step: Any = self._plain_step
        self._prepare: Any = self._prepared
        self._measure: Any = self._measured
        self._halves: Any = ()
        self._epochs: Any = self._all_minibatches
        self._captured_epochs, self._captured_whole = self._epochs, None
        in_cpp = by_numpy and runtime.in_cpp and not self._recurrent
        if in_cpp and algorithm.data != "replay" and augment is None:
            self._prepare = compiled(self._prepared, by_pytorch=False)
        if algorithm.stops_early:
            self._halves = compiled(self._gradient), compiled(self._apply)
            return
        self._step = compiled(self._plain_step)
        if algorithm.data == "replay":
            return
        self._epochs = self._in_kernels(runtime, version)
        if in_cpp:
            self._measure = compiled(self._measured, by_pytorch=False)
            self._scan = runtime.scanned(self._on_rows, self._in_turn, *how)
            self._epochs = self._evenly
        self._captured_epochs = runtime.captured(self._epochs, self._changing, version)
        if runtime.record is not None and not self._recurrent and augment is None:
            self._captured_whole = runtime.captured(self._whole, self._changing, version)

    def _in_kernels(self, runtime: Runtime, version: Version) -> Function:
        """Return `_all_minibatches`, or kernels in its place if there are any for the loss and the model."""
        plain, update = self._all_minibatches, SurrogateUpdate(self.algorithm, self.parameters, self.optimizer)
        if not update.fits or runtime.compiles:
            return plain
        return runtime.replaced(plain, update.kernels, self._changing, update.agree, version, update.sample)

    @property
    def device(self) -> torch.device:
        """Where updates are made."""
        return self.parameters.vector.device

    def _changing(self) -> list[Tensor]:
        """Return what steps change in place: parameters, moments, and statistics such as those of BatchNorm."""
        return [self.parameters.vector, *self.optimizer.moments, *self.algorithm.buffers()]

    def update(self, data: Trajectory | Batch, progress: float) -> UpdateResult:
        """Learn from data that was begun when `progress` (0 to 1) of the budget was spent.

        Raises:
            UserError: the model was changed into one that cannot be trained.
        """
        if self.parameters.refresh():
            self.optimizer.refresh()
            self.algorithm.follow_model()
        numbers = self.algorithm.constants(progress)
        device = self.parameters.vector.device
        rate = 1.0 if self.algorithm.paces else numbers["learning_rate"]  # then `pace` gives it at each step
        constants = {
            name: torch.tensor(value, device=device) for name, value in numbers.items() if name != "learning_rate"
        }
        with torch.no_grad():
            if isinstance(data, Batch):
                learnt, extra = self._on_batch(data, constants, rate), dict[str, float]()
            else:
                learnt, extra = self._on_rollout(data, constants, rate)
        metrics = learnt.metrics | extra if learnt.metrics else {}
        return UpdateResult(metrics, learnt.priority, learnt.health, data, learnt.steps)

    def _on_batch(self, data: Batch, constants: Data, rate: float) -> Learnt:
        """Take one step on transitions from a replay buffer."""
        if self._augment is not None:
            obs, next_obs = (self._augment(seen, self.shuffling) for seen in (data.obs, data.next_obs))
            data = data._replace(obs=obs, next_obs=next_obs)
        prepared = self.algorithm.prepare(data, constants)
        if self._augment is not None and self.algorithm.views:
            prepared["augmented"] = self._augment(prepared["obs"], self.shuffling)
        prepared |= self.algorithm.draw(len(prepared["action"]), self.shuffling)
        self.parameters.train(True)
        aux = self._step(prepared, constants, self.optimizer.rates(rate)[0])
        self._count_steps(1)
        return self._concluded(aux, prepared, constants)

    def _on_rollout(self, data: Trajectory, constants: Data, rate: float) -> tuple[Learnt, dict[str, float]]:
        """Go through all epochs of a rollout."""
        parts = {field.name: getattr(data, field.name) for field in fields(data)}
        if self._captured_whole is not None and _is_regular(data):
            count = data.reward.numel()
            planned = self.algorithm.n_epochs * self._count(count, len(data.start))
            rates = self.optimizer.rates(rate, planned)
            learnt = self._captured_whole(parts, self._orders(count), rates, constants)
            self._count_steps(planned)
            names, numbers = zip(*learnt.metrics.items(), strict=True)
            metrics = dict(zip(names, torch.stack(numbers).unbind(), strict=True))  # the graph's are overwritten
            learnt = learnt._replace(metrics=metrics, health=learnt.health.clone(), steps=learnt.steps.clone())
            return learnt, {"train/early_stop": 0.0}
        prepared = (self._prepare if _is_regular(data) else self._prepared)(parts, constants)
        self.parameters.train(True)
        aux, taken, planned = self._update_on_rollout(prepared, constants, rate, data.valid is not None)
        self._count_steps(taken)
        learnt = self._concluded(aux, prepared, constants, self._measure if _is_regular(data) else self._measured)
        return learnt, {"train/early_stop": float(taken < planned)}

    def _whole(self, parts: Data, order: Tensor, rates: Tensor, constants: Data) -> Learnt:
        """Do all of an update on a rollout, whose fields are `parts`, as one function that looks at no value."""
        prepared = self._prepared(parts, constants)
        self.parameters.train(True)
        return self._concluded(dict(self._epochs(prepared, order, rates, constants)), prepared, constants)

    def _concluded(self, aux: Aux, prepared: Data, constants: Data, measure: Function | None = None) -> Learnt:
        """Return what an update gives, once its steps are taken; `measure` does what `_measured` does."""
        self.parameters.train(False)
        self.algorithm.after_update(prepared)
        health, metrics = (measure or self._measured)(aux, prepared, constants)
        return Learnt(metrics, aux.get("priority"), health, aux[HEALTH])

    def _measured(self, aux: Aux, prepared: Data, constants: Data) -> tuple[Tensor, dict[str, Any]]:
        """Return a number that is finite where all of an update is, and its metrics; a pure function."""
        rest = {name: values for name, values in aux.items() if name not in (HEALTH, NORM)}
        metrics = self.algorithm.metrics(rest, prepared, constants) if rest else {}
        if (norm := aux.get(NORM)) is not None:
            metrics["train/grad_norm"] = norm.mean() if norm.dim() else norm
        return aux[HEALTH].sum() + self.parameters.vector.sum(), metrics

    def _count_steps(self, taken: int) -> None:
        self.optimizer.steps += taken
        self.n_updates += taken

    def refuse_divergence(self, result: UpdateResult, step: int) -> None:
        """Raise Diverged if an update at `step` left a loss, a gradient or a parameter that is not finite."""
        if not math.isfinite(result.health.item()):
            finite = bool(self.parameters.vector.isfinite().all())
            raise divergence(result, step, finite, self.algorithm.config.network.norm_obs)

    def latest(self, progress: float) -> dict[str, float]:
        """Return TensorBoard tag -> what schedules and counters say for data begun at `progress`."""
        constants = {f"train/{name}": value for name, value in self.algorithm.constants(progress).items()}
        found = constants | self.algorithm.policy.schedules(progress)
        return found | {"train/n_updates": float(self.n_updates)}

    def _prepared(self, parts: Data, constants: Data) -> Data:
        """Return what minibatches are made of, of a rollout whose fields are `parts`."""
        data = Trajectory(**parts)
        return self._with_observations(self.algorithm.prepare(data, constants), data)

    def _with_observations(self, prepared: Data, trajectory: Trajectory) -> Data:
        """Return what minibatches are made of: `[T, N, ...]` with memory, else the real transitions, `[B, ...]`."""
        data = {**prepared, "obs": trajectory.obs}
        if self._augment is not None:
            data["augmented"] = self._augment(trajectory.obs, self.shuffling)
        if self._recurrent:
            data |= {"start": trajectory.start, "carry": trajectory.carry}
            return data if trajectory.valid is None else data | {"valid": trajectory.valid}
        data = tree_map(lambda leaf: leaf.flatten(0, 1), data)
        if trajectory.valid is None:
            return data
        kept = trajectory.valid.flatten().nonzero().squeeze(1)
        return tree_map(lambda leaf: leaf[kept], data)

    def _update_on_rollout(self, data: Data, constants: Data, rate: float, varying: bool) -> tuple[Aux, int, int]:
        """Go through all epochs; return what the losses gave, the steps taken and those planned.

        `varying`: the number of transitions may change, which nothing compiled or captured can follow.
        """
        rows = data["start"].shape[1] if self._recurrent else len(data["action"])
        if not rows:
            return {HEALTH: torch.zeros(())}, 0, 0
        order = self._orders(rows)
        planned = self.algorithm.n_epochs * self._count(rows, len(data["start"]) if self._recurrent else 1)
        rates = self.optimizer.rates(rate, planned)
        if self.algorithm.stops_early:
            halves = (self._gradient, self._apply) if varying else self._halves
            aux, taken = self._until_stopped(data, order, rates, constants, *halves)
            return aux, taken, planned
        if varying:
            return self._all_minibatches(data, order, rates, constants, self._plain_step), planned, planned
        return dict(self._captured_epochs(data, order, rates, constants)), planned, planned

    def _orders(self, rows: int) -> Tensor:
        """Draw in which order each epoch goes through the rows, int64 `[n_epochs, rows]`."""
        device, epochs = self.parameters.vector.device, self.algorithm.n_epochs
        if device.type == "cpu":
            return torch.stack([torch.randperm(rows, generator=self.shuffling) for _ in range(epochs)])
        keys = torch.randint(2**62, (epochs, rows), generator=self.shuffling, device=device)
        return keys.argsort(dim=1)  # one sort for all epochs

    def _count(self, rows: int, ticks: int) -> int:
        """Return how many minibatches `rows` rows make: transitions, or whole sequences of so many ticks."""
        size = self.algorithm.batch_size or rows
        if self._recurrent and self.algorithm.batch_size is not None:
            size = max(self.algorithm.batch_size // ticks, 1)
        return -(-rows // size)

    def _minibatches(self, data: Data, order: Tensor) -> Iterator[Data]:
        """Yield the minibatches of every epoch; `order` `[n_epochs, rows]` shuffles each."""
        count = self._count(order.shape[1], len(data["start"]) if self._recurrent else 1)
        for rows in order.unbind():
            # tensor_split evens the sizes out, so that no small rest is left over
            if self._recurrent:
                for part in rows.tensor_split(count):
                    yield {
                        name: tree_map(
                            lambda leaf, part=part, axis=0 if name == "carry" else 1: leaf.index_select(axis, part),
                            value,
                        )
                        for name, value in data.items()
                    }
                continue
            shuffled = tree_map(lambda leaf, rows=rows: leaf[rows].tensor_split(count), data)
            for i in range(count):
                yield _part(shuffled, i)

    def _all_minibatches(self, data: Data, order: Tensor, rates: Tensor, constants: Data, step: Any = None) -> Aux:
        """Take a step on every minibatch of every epoch; return what their losses gave."""
        step = step or self._step
        pairs = zip(self._minibatches(data, order), rates.unbind(), strict=True)
        return _gathered([step(minibatch, constants, rate) for minibatch, rate in pairs])

    def _evenly(self, data: Data, order: Tensor, rates: Tensor, constants: Data) -> Aux:
        """Do the same; where all minibatches are of one size, the runtime goes through them."""
        if order.numel() % len(rates):
            return self._all_minibatches(data, order, rates, constants)
        aux = self._scan((data, constants), (order.view(len(rates), -1), rates))
        return {name: value if value.dim() == 1 else value.flatten(0, 1) for name, value in aux.items()}

    def _in_turn(self, fixed: tuple[Data, Data], each: tuple[Tensor, Tensor]) -> Aux:
        (data, constants), (order, rates) = fixed, each
        found = [self._step(_rows(data, rows), constants, rate) for rows, rate in zip(order, rates, strict=True)]
        return tree_map(lambda *leaves: torch.stack(leaves), *found)

    def _on_rows(self, fixed: tuple[Data, Data], row: tuple[Tensor, Tensor]) -> Aux:
        """Take one optimiser step on some rows of the data."""
        (data, constants), (rows, rates) = fixed, row
        return self._plain_step(_rows(data, rows), constants, rates)

    def _until_stopped(
        self, data: Data, order: Tensor, rates: Tensor, constants: Data, gradient_of: Any, apply: Any
    ) -> tuple[Aux, int]:
        """Do the same until the algorithm stops it, which is found out before each step; and the steps taken."""
        found: list[Aux] = []
        for minibatch, rate in zip(self._minibatches(data, order), rates.unbind(), strict=True):
            gradient, norm, aux = gradient_of(minibatch, constants)
            found.append(aux)
            if bool(self.algorithm.stop(aux, constants)):
                return _gathered(found), len(found) - 1
            apply(gradient, norm, rate, aux)
        return _gathered(found), len(found)

    def _plain_step(self, minibatch: Data, constants: Data, rates: Tensor) -> Aux:
        """Take one optimiser step."""
        gradient, norm, aux = self._gradient(minibatch, constants)
        self._apply(gradient, norm, rates, aux)
        return aux

    def _gradient(self, minibatch: Data, constants: Data) -> tuple[Tensor, Tensor, Aux]:
        gradient, loss, aux = self.parameters.gradient(self.algorithm.loss, minibatch, constants)
        norm = torch.linalg.vector_norm(gradient)
        return gradient, norm, aux | {HEALTH: loss + norm, NORM: norm}

    def _apply(self, gradient: Tensor, norm: Tensor, rates: Tensor, aux: Aux) -> None:
        max_norm = self.algorithm.config.max_grad_norm
        if self.algorithm.paces:
            rates = self.optimizer.paced(rates, self.algorithm.pace(aux))
        self.optimizer.step(gradient if max_norm is None else clipped(gradient, norm, max_norm), rates)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that updates need to go on bit for bit, the algorithm's own state excepted."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "n_updates": self.n_updates,
            "shuffling": self.shuffling.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; the generator's state, which fits one kind of device, comes last."""
        self.optimizer.load_state_dict(part(state, "optimizer"))
        self.n_updates = count(part(state, "n_updates"), "n_updates")
        self.shuffling.set_state(part(state, "shuffling"))


def _is_regular(data: Trajectory) -> bool:
    """Whether a rollout's tensors have the same shapes each time, and are small enough to be copied."""
    return data.final is None and data.valid is None and data.next_obs is not None and not has_pictures(data.next_obs)


def _rows(data: Data, rows: Tensor) -> Data:
    return tree_map(lambda leaf: leaf.index_select(0, rows), data)


def _part(chunks: Any, i: int) -> Any:
    """Take the i-th chunk of every leaf."""
    return {key: _part(value, i) if isinstance(value, dict) else value[i] for key, value in chunks.items()}


def _gathered(found: list[Aux]) -> Aux:
    """Stack scalars, put the others one after the other."""
    return {
        name: torch.stack([aux[name] for aux in found]) if value.dim() == 0 else torch.cat([aux[name] for aux in found])
        for name, value in found[0].items()
    }
