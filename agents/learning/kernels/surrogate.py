"""All minibatches of an update on the clipped surrogate objective by a few kernels each, where networks are small.

They read rows through the permutation that shuffles them, so that no minibatch is gathered, and what is worked out for
a row never leaves its program. Of a minibatch they are three: gradients of some rows each, their sum, and clipping with
the optimiser's step. The second and the third are no single one, as programs of one kernel cannot wait for each other
without the risk of waiting for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.core.algorithm import Algorithm
from agents.core.checked import Found
from agents.core.objective import ClippedSurrogate
from agents.core.triton_source import interpreted, product_precision, refuse_no_triton
from agents.learning.kernels.networks import Networks, hidden_sizes, networks_of, padded
from agents.learning.optimizer import Optimizer
from agents.learning.parameters import FlatParameters
from envs.errors import UserError

Data = dict[str, Any]
SCALARS = ("policy", "value", "entropy", "_health", "_norm")  # of a minibatch, under the Learner's names
COLUMNS = ("obs", "action", "log_prob", "value", "advantage", "return")  # what kernels read of a row
SUMS = 3  # beside a gradient: policy loss, value loss and entropy
BLOCK = 64  # parameters that a program adds up and steps
GROUP = 8  # gradients that it adds up at a time
CHECKED = 2  # minibatches on which kernels are compared with plain steps
WARPS = 8  # of a program of the gradient's kernel: with these and tiles of 32 rows layers of 64 units spill nothing
HOW = {"enable_fp_fusion": True}  # said, as what Triton takes by itself is about to change
FEW = 3  # rows of gradients where an interpreter stands for a GPU


class SurrogateUpdate:
    """What takes the place of `Learner._all_minibatches`, for `Runtime.replaced`.

    Args:
        algorithm: whose loss and model.
        parameters, optimizer: changed by each step.
    """

    def __init__(self, algorithm: Algorithm, parameters: FlatParameters, optimizer: Optimizer) -> None:
        self.algorithm, self.parameters, self.optimizer = algorithm, parameters, optimizer

    def known(self) -> tuple[ClippedSurrogate, Networks]:
        """Return what the loss is and what the networks are made of.

        Raises:
            UserError: they, or the optimiser's steps, are such as kernels do not know; the message says what.
        """
        objective = self.algorithm.objective
        if objective is None:
            raise UserError("the loss is more than the clipped surrogate objective")
        if self.optimizer.name not in ("adam", "adamw"):
            raise UserError(f"the optimizer is {self.optimizer.name}, not adam or adamw")
        if self.parameters.scale is not None:
            raise UserError("parts of the network have steps of a size of their own")
        return objective, networks_of(self.algorithm.model, self.parameters)

    @property
    def fits(self) -> bool:
        """Whether kernels know all that there is."""
        try:
            self.known()
        except UserError:
            return False
        return True

    def kernels(self) -> Kernels:
        """Return what does the steps, for the networks as they are now.

        Raises:
            UserError: see `known`; or there is no Triton.
        """
        refuse_no_triton(self.parameters.vector.device)
        how = *self.known(), self.algorithm.config.max_grad_norm
        return Kernels(self.parameters.vector, self.optimizer.moments, *how)

    @staticmethod
    def sample(data: Data, order: Tensor, rates: Tensor, constants: dict[str, Tensor]) -> tuple[Any, ...]:
        """Return the arguments of the first steps alone: rounding errors grow from step to step."""
        count = len(rates) // len(order)
        rows = sum(sizes(order.shape[1], count)[:CHECKED])
        return data, order[:1, :rows], rates[: min(count, CHECKED)], constants

    def agree(self, expected: Found, got: Found, before: Sequence[Tensor]) -> str:
        """Say what kernels do otherwise than plain steps; "" if nothing."""
        (outputs, state), (found, left) = expected, got
        tolerance = 1e-3 if product_precision() == "ieee" or interpreted() else 0.03
        for name, right in outputs.items():
            if not _near(found[name], right, tolerance, of=right.norm() + right.numel() ** 0.5):
                return f"another {name.strip('_')}"
        for name, right, mine in zip(("first moment", "second moment"), state[1:], left[1:], strict=False):
            if not _near(mine, right, tolerance, of=right.norm()):
                return f"another {name} of the gradient"
        if not _near(left[0], state[0], 10 * tolerance, of=(state[0] - before[0]).norm()):
            return "other parameters"
        return ""


def _near(found: Tensor, right: Tensor, tolerance: float, of: Tensor) -> bool:
    """Whether two tensors are no further apart than a share of a norm; those that are not finite are not compared."""
    apart = (found - right).norm()
    return bool((apart <= tolerance * of + 1e-12) | ~right.isfinite().all())


def sizes(rows: int, count: int) -> list[int]:
    """Return how many rows each of `count` minibatches has, as `Tensor.tensor_split` evens them out."""
    return [rows // count + (index < rows % count) for index in range(count)]


def spread_of(advantage: Tensor, count: int) -> Tensor:
    """Return mean and deviation of each minibatch's advantages `[M, 2]`, from those of shuffled epochs `[E, rows]`.

    A minibatch of one, whose deviation is undefined, gets numbers that leave it alone.
    """
    epochs, rows = advantage.shape
    size, more = divmod(rows, count)
    parts = []
    for each, one in ((advantage[:, : more * (size + 1)], size + 1), (advantage[:, more * (size + 1) :], size)):
        if not each.numel():
            continue
        together = each.reshape(epochs, -1, one)
        std, center = torch.std_mean(together, dim=-1) if one > 1 else (torch.ones_like(each), torch.zeros_like(each))
        parts.append(torch.stack([center, std], dim=-1))
    return torch.cat(parts, dim=1).flatten(0, 1)


class Kernels:
    """Takes steps on all minibatches; called as `Learner._all_minibatches` is.

    Args:
        vector, moments: of parameters `[P]` and of Adam's, changed by each step.
        objective: what the loss is.
        networks: whose parameters they are.
        max_norm: of gradients; None for no clipping.
    """

    def __init__(
        self,
        vector: Tensor,
        moments: list[Tensor],
        objective: ClippedSurrogate,
        networks: Networks,
        max_norm: float | None,
    ) -> None:
        from agents.learning.kernels import in_triton  # here, as Triton is not everywhere

        self._gradient_of: Any = in_triton.gradient_kernel
        self._sum: Any = in_triton.sum_kernel
        self._step: Any = in_triton.step_kernel
        self._vector, self._moments = vector, moments
        self._objective, self._networks, self._max_norm = objective, networks, max_norm
        device = vector.device
        self._layout = torch.tensor(networks.layout, dtype=torch.int32, device=device)
        self.options = options_of(objective, networks)
        self._most = FEW if interpreted() else torch.cuda.get_device_properties(device).multi_processor_count

    def __call__(self, data: Data, order: Tensor, rates: Tensor, constants: dict[str, Tensor]) -> dict[str, Tensor]:
        columns, vector = self._columns(data), self._vector
        count = len(rates) // len(order)
        normal = vector
        if self._objective.normalize_advantage:
            normal = spread_of(columns["advantage"][order], count)
        low = constants["clip_range"]
        ranges = low, constants.get("clip_range_high", low)
        scalars, log_ratio = vector.new_empty(len(SCALARS), len(rates)), vector.new_empty(order.numel())
        partial = vector.new_empty(self._most, len(vector) + SUMS)
        begin = 0
        for which, size in enumerate(sizes(order.shape[1], count) * len(order)):
            used = self._gradient(columns, order, normal, which, ranges, partial, log_ratio, begin, size)
            self._apply(partial, used, rates, scalars, which)
            begin += size
        return {"log_ratio": log_ratio} | dict(zip(SCALARS, scalars.unbind(), strict=True))

    def _columns(self, data: Data) -> dict[str, Tensor]:
        """Return what kernels read, each in one piece.

        Raises:
            UserError: there is something else, or something more.
        """
        networks = self._networks
        if set(data) != set(COLUMNS):
            raise UserError(f"what is learnt from is {', '.join(sorted(data))}; kernels read {', '.join(COLUMNS)}")
        found = {name: leaf.contiguous() for name, leaf in data.items()}
        for name, leaf in found.items():
            each = {"obs": networks.inputs, "action": networks.outputs if networks.gaussian else 1}.get(name, 1)
            kind = torch.int64 if name == "action" and not networks.gaussian else torch.float32
            if leaf.dtype != kind or leaf.numel() != each * len(data["advantage"]):
                raise UserError(f"{name} is {leaf.dtype}, {tuple(leaf.shape)}, which kernels do not read")
        return found

    def _gradient(
        self,
        columns: dict[str, Tensor],
        order: Tensor,
        normal: Tensor,
        which: int,
        ranges: tuple[Tensor, Tensor],
        partial: Tensor,
        log_ratio: Tensor,
        begin: int,
        size: int,
    ) -> int:
        """Write the gradients of parts of a minibatch into rows of `partial`; return how many there are."""
        networks, objective, vector = self._networks, self._objective, self._vector
        norm = networks.norm
        tiles = -(-size // self.options["TILE"])
        each = -(-tiles // self._most)
        used = -(-tiles // each)
        self._gradient_of[used, 2](
            vector,
            self._layout,
            *(columns[name] for name in COLUMNS),
            order,
            normal,
            *ranges,
            *((vector, vector) if norm is None else (norm.mean, norm.var)),
            partial,
            log_ratio,
            which,
            begin,
            size,
            each,
            len(vector),
            objective.clip_range_vf or 0.0,
            objective.vf_coef,
            objective.ent_coef,
            0.0 if norm is None else norm.clip,
            **self.options,
            **HOW,
        )
        return used

    def _apply(self, partial: Tensor, used: int, rates: Tensor, scalars: Tensor, which: int) -> None:
        """Add gradients up, clip their sum, and step."""
        vector, objective = self._vector, self._objective
        blocks = -(-partial.shape[1] // BLOCK)
        gradient, squares = vector.new_empty(partial.shape[1]), vector.new_empty(blocks)
        self._sum[blocks,](partial, gradient, squares, used, len(vector), BLOCK=BLOCK, GROUP=GROUP, **HOW)
        self._step[blocks,](
            gradient,
            squares,
            vector,
            *self._moments,
            rates,
            scalars,
            which,
            len(rates),
            len(vector),
            blocks,
            self._max_norm or 0.0,
            objective.vf_coef,
            objective.ent_coef,
            CLIP=self._max_norm is not None,
            BLOCK=BLOCK,
            BLOCKS=padded(blocks),
            **HOW,
        )


def options_of(objective: ClippedSurrogate, networks: Networks) -> dict[str, Any]:
    """Return what the gradient's kernel is compiled for."""
    first, second = hidden_sizes(networks.layout)
    # Products of float32 are three of TensorFloat-32, whose errors cancel: without tensor cores registers run out.
    exact = product_precision() == "ieee"
    return {
        "INPUTS": networks.inputs,
        "WIDTH": padded(networks.inputs),
        "FIRST": first,
        "SECOND": second,
        "OUTPUTS": padded(networks.outputs),
        "DEEP": networks.deep,
        "RELU": networks.relu,
        "GAUSSIAN": networks.gaussian,
        "NORM_OBS": networks.norm is not None,
        "NORM_ADVANTAGE": objective.normalize_advantage,
        "CLIP_VF": objective.clip_range_vf is not None,
        "TILE": 16 if exact else 32,
        "PRECISION": "tf32x3" if exact else "tf32",
        "num_warps": WARPS,
    }
