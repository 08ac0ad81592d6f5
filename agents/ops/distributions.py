"""Light action distributions: no validation, no broadcasting, few kernels.

All hold a batch, of any number of axes (B below). An action drawn here is what the agent stores; `to_env` gives what
the environment gets. Randomness comes in as an argument (`draw_noise`), so that a whole rollout's is drawn at once and
sampling is a pure function, which can be compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from numpy.polynomial.hermite_e import hermegauss
from torch import Generator, Tensor

from envs.actions import Hybrid, choices
from envs.errors import UserError

POINTS = [
    (z, weight / math.sqrt(2 * math.pi)) for z, weight in zip(*map(list, hermegauss(5)), strict=True)
]  # of a normal number
NEAREST = 1 - 1e-6  # to a bound that tanh never reaches
MOST_OUTPUTS = 100_000  # of a policy head: beyond, a step of training takes seconds


class Distribution(Protocol):
    """What a policy needs of an action distribution."""

    def sample(self, noise: Tensor) -> Tensor:
        """Turn each row of `draw_noise` into an action."""
        ...

    def mode(self) -> Tensor:
        """Return the most likely action of each row."""
        ...

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-probability (density) of each row's action, `[B]`."""
        ...

    def entropy(self, action: Tensor | None) -> Tensor:
        """Return each row's entropy, `[B]`; where it has no closed form, by the one `action` that was drawn from it.

        Without an action the expectation is worked out in another way, to some digits.
        """
        ...

    def to_env(self, action: Tensor) -> Tensor:
        """Turn stored actions into those the environment takes."""
        ...

    def describe(self) -> dict[str, Tensor]:
        """Return the parameters a viewer shows: `probabilities`, or `mean` and `std`."""
        ...


def draw_noise(space: Space, shape: tuple[int, ...], generator: Generator | None, device: torch.device) -> Tensor:
    """Draw what `sample` turns into actions of a canonical action space: `[*shape, parameter_count(space)]`.

    Gumbel noise for choices (argmax(logits + noise) draws from softmax(logits)), uniform for coins, normal for
    continuous actions.
    """
    noise = torch.empty((*shape, 0 if isinstance(space, Hybrid) else parameter_count(space)), device=device)
    match space:
        case Hybrid():
            return torch.cat([draw_noise(part, shape, generator, device) for part in space.parts.values()], dim=-1)
        case spaces.Box():
            return noise.normal_(generator=generator)
        case spaces.MultiBinary():
            return noise.uniform_(generator=generator)
    # -log(-log(uniform)) is Gumbel noise. Unlike exponential_(), whose stream is MKL's where there is MKL,
    # uniform_() gives the same on every processor. A uniform of exactly 0 would be noise of -inf, below any mask.
    return noise.uniform_(generator=generator).clamp_(min=1e-10).log_().neg_().log_().neg_()


def masked(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return logits or action values `[..., A]` with a number below all others where `mask` is False.

    It is finite, and still so when a thousand of them are added up, as log-probabilities of MultiDiscrete actions are.
    """
    return values if mask is None else torch.where(mask, values, lowest(values))


def lowest(values: Tensor) -> float:
    """Return the number below all others that `masked` puts in."""
    return torch.finfo(values.dtype).min / 1024


class Categorical:
    """One choice of A; actions are int64 `[B]`. Sampling and the mode take NumPy logits and noise too."""

    def __init__(self, logits_BA: Tensor) -> None:
        self.logits = logits_BA
        self._log_p: Tensor | None = None

    @property
    def log_p(self) -> Tensor:
        """Log-probabilities `[B, A]`, worked out once and only if asked for: sampling does without."""
        if self._log_p is None:
            self._log_p = F.log_softmax(self.logits, dim=-1)
        return self._log_p

    def sample(self, noise: Tensor) -> Tensor:
        return (self.logits + noise).argmax(-1)

    def mode(self) -> Tensor:
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_p.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self, action: Tensor | None) -> Tensor:
        return -(self.log_p.exp() * self.log_p).sum(dim=-1)

    def to_env(self, action: Tensor) -> Tensor:
        return action

    def describe(self) -> dict[str, Tensor]:
        return {"probabilities": self.log_p.exp()}


class MultiCategorical:
    """Independent choices, one of each `nvec[k]`; actions are int64 `[B, k]`."""

    def __init__(self, logits: Tensor, nvec: list[int]) -> None:
        self.nvec = nvec
        self.parts = [Categorical(part) for part in logits.split(nvec, dim=-1)]

    def sample(self, noise: Tensor) -> Tensor:
        columns = zip(self.parts, noise.split(self.nvec, dim=-1), strict=True)
        return torch.stack([part.sample(column) for part, column in columns], dim=-1)

    def mode(self) -> Tensor:
        return torch.stack([part.mode() for part in self.parts], dim=-1)

    def log_prob(self, action: Tensor) -> Tensor:
        columns = action.unbind(dim=-1)
        return torch.stack([part.log_prob(a) for part, a in zip(self.parts, columns, strict=True)]).sum(dim=0)

    def entropy(self, action: Tensor | None) -> Tensor:
        return torch.stack([part.entropy(action) for part in self.parts]).sum(dim=0)

    def to_env(self, action: Tensor) -> Tensor:
        return action

    def describe(self) -> dict[str, Tensor]:
        return {"probabilities": torch.cat([part.log_p.exp() for part in self.parts], dim=-1)}


class Bernoulli:
    """Independent coins with the given logits of heads; actions are int64 0 or 1, `[B, k]`."""

    def __init__(self, logits_Bk: Tensor) -> None:
        self.logits = logits_Bk

    def sample(self, noise: Tensor) -> Tensor:
        return (noise < self.logits.sigmoid()).long()

    def mode(self) -> Tensor:
        return (self.logits > 0).long()

    def log_prob(self, action: Tensor) -> Tensor:
        tails = 1 - 2 * action.to(self.logits.dtype)  # the sign that makes the logits those of what did not happen
        return -F.softplus(self.logits * tails).sum(dim=-1)

    def entropy(self, action: Tensor | None) -> Tensor:
        p = self.logits.sigmoid()
        return (p * F.softplus(-self.logits) + (1 - p) * F.softplus(self.logits)).sum(dim=-1)

    def to_env(self, action: Tensor) -> Tensor:
        return action

    def describe(self) -> dict[str, Tensor]:
        return {"probabilities": self.logits.sigmoid()}


@dataclass(slots=True)
class Gaussian:
    """Independent normals; actions are float32 `[B, d]`, unbounded: the environment's side clips them.

    Attributes:
        mean, log_std: `[B, d]`, or `[d]` for a deviation that is the same everywhere.
        smooth: for noise that is a matrix `[B, F, d]`, of one distribution with `log_std` (see `agents.ops.gsde`), the
            features `[B, F]` that it is multiplied by and the deviation of each of its entries `[F, d]`.
    """

    mean: Tensor
    log_std: Tensor
    smooth: tuple[Tensor, Tensor] | None = None

    def sample(self, noise: Tensor) -> Tensor:
        if self.smooth is None:
            return self.moved(noise)
        features, std = self.smooth
        return self.mean + (features[..., None, :] @ (std * noise)).squeeze(-2)

    def moved(self, noise: Tensor) -> Tensor:
        """Return the actions that standard normal numbers `[B, d]` make."""
        return torch.addcmul(self.mean, self.log_std.exp(), noise)

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        return self._log_prob_of_noise((action - self.mean) * (-self.log_std).exp())

    def _log_prob_of_noise(self, noise: Tensor) -> Tensor:
        return (-0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self, action: Tensor | None) -> Tensor:
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).expand_as(self.mean).sum(dim=-1)

    def to_env(self, action: Tensor) -> Tensor:
        return action

    def describe(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "std": self.log_std.exp().expand_as(self.mean)}


class SquashedGaussian(Gaussian):
    """tanh of a Gaussian (Haarnoja et al. 2018, arXiv:1801.01290, appendix C).

    Actions are stored before the tanh, which spares the unstable inverse; `log_prob` is the density of the
    squashed action.
    """

    def log_prob(self, action: Tensor) -> Tensor:
        return Gaussian.log_prob(self, action) - _log_det(action)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squashed actions that standard normal `noise` `[B, d]` makes, and their log-probabilities `[B]`.

        Both have the gradient of the distribution's parameters (reparametrisation), and are what `moved`, `to_env` and
        `log_prob` would return.
        """
        action = self.moved(noise)
        log_prob = self._log_prob_of_noise(noise) - _log_det(action)
        return self.to_env(action), log_prob

    def entropy(self, action: Tensor | None) -> Tensor:
        """The Gaussian's entropy and the expected log-determinant of tanh, of which `action` is the one sample.

        The sample is written as mean + std * noise, its noise held fixed: so the estimate has the gradient of the
        entropy, which the mean of -log_prob over given actions has not. Without a sample the expectation is by
        Gauss-Hermite quadrature, right to 0.01 up to a deviation of 1, and to 0.1 of 2.
        """
        std, known = self.log_std.exp(), Gaussian.entropy(self, action)
        if action is None:
            return known + sum(weight * _log_det(self.mean + point * std) for point, weight in POINTS)
        noise = ((action - self.mean) / std).detach()
        return known + _log_det(torch.addcmul(self.mean, std, noise))

    def to_env(self, action: Tensor) -> Tensor:
        return action.tanh()

    def describe(self) -> dict[str, Tensor]:
        return {"mean": self.mean.tanh(), "std": self.log_std.exp().expand_as(self.mean)}


class Joint:
    """Independent actions side by side; rows are float32 `[B, d]`, as `envs.actions.Hybrid` has them.

    Args:
        space: which actions.
        parts: the distribution of each.
    """

    def __init__(self, space: Hybrid, parts: list[Distribution]) -> None:
        self.space, self.parts = space, parts

    def _each(self, method: str, *arguments: Sequence[Tensor | None]) -> list[Tensor]:
        return [getattr(part, method)(*given) for part, *given in zip(self.parts, *arguments, strict=True)]

    def _columns(self, action: Tensor) -> list[Tensor]:
        columns = zip(self.space.parts.values(), self.space.split(action), strict=True)
        return [column if isinstance(part, spaces.Box) else column.long() for part, column in columns]

    def sample(self, noise: Tensor) -> Tensor:
        sizes = [parameter_count(part) for part in self.space.parts.values()]
        return _joined(self.space, self._each("sample", list(noise.split(sizes, dim=-1))))

    def mode(self) -> Tensor:
        return _joined(self.space, self._each("mode"))

    def log_prob(self, action: Tensor) -> Tensor:
        return torch.stack(self._each("log_prob", self._columns(action))).sum(dim=0)

    def entropy(self, action: Tensor | None) -> Tensor:
        columns = [None] * len(self.parts) if action is None else self._columns(action)
        return torch.stack(self._each("entropy", columns)).sum(dim=0)

    def to_env(self, action: Tensor) -> Tensor:
        return _joined(self.space, self._each("to_env", self._columns(action)))

    def describe(self) -> dict[str, Tensor]:
        """What the parts show, those of one kind one after the other."""
        shown = [part.describe() for part in self.parts]
        names = dict.fromkeys(name for one in shown for name in one)
        return {name: torch.cat([one[name] for one in shown if name in one], dim=-1) for name in names}


def _joined(space: Hybrid, columns: list[Tensor]) -> Tensor:
    """Return the rows that `space.split` would cut into these."""
    pairs = zip(space.parts.values(), columns, strict=True)
    return torch.cat([(x[..., None] if isinstance(part, spaces.Discrete) else x).float() for part, x in pairs], dim=-1)


def before_tanh(space: Space, action: Tensor) -> Tensor:
    """Return actions as squashed distributions have them: the numbers of Boxes before the tanh, choices as they are."""
    if isinstance(space, Hybrid):
        columns = zip(space.parts.values(), space.split(action), strict=True)
        return _joined(space, [before_tanh(part, x) for part, x in columns])
    return action.clamp(-NEAREST, NEAREST).atanh() if isinstance(space, spaces.Box) else action


def _log_det(u: Tensor) -> Tensor:
    """log |d tanh(u) / du| summed over the last axis: log(1 - tanh(u)^2) in a form that is stable for large |u|."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u)).sum(dim=-1)


def parameter_count(space: Space) -> int:
    """Return how many numbers a policy head puts out for a canonical action space (without deviations).

    Raises:
        UserError: no distribution fits the space, or they would be more than `MOST_OUTPUTS`.
    """
    match space:
        case spaces.Discrete():
            count = int(space.n)
        case spaces.MultiDiscrete():
            count = int(space.nvec.sum())
        case spaces.MultiBinary() | spaces.Box():
            count = int(space.shape[0])
        case Hybrid():
            count = sum(map(parameter_count, space.parts.values()))
        case _:
            raise UserError(
                f"no policy acts in {space}: it takes Discrete, Box, MultiDiscrete or MultiBinary actions, and Dict "
                "and Tuple of these."
            )
    if count > MOST_OUTPUTS:
        raise UserError(
            f"the actions {space} would need a network of {count:,} outputs; at most {MOST_OUTPUTS:,} are allowed. "
            "A MultiDiscrete of an action's parts needs fewer."
        )
    return count


def deviation_count(space: Space) -> int:
    """Return how many deviations a canonical action space has: one for each number of its Boxes."""
    if isinstance(space, Hybrid):
        return sum(map(deviation_count, space.parts.values()))
    return int(space.shape[0]) if isinstance(space, spaces.Box) else 0


def distribution(
    space: Space,
    parameters: Tensor,
    log_std: Tensor | None = None,
    squash: bool = False,
    mask: Tensor | None = None,
) -> Distribution:
    """Build the distribution over a canonical action space from a head's output `[B, P]`.

    Args:
        log_std: of the numbers of Boxes, `[d]` or `[B, d]`.
        squash: put Box actions through tanh.
        mask: bool `[B, M]`, with an entry for each choice of Discrete and MultiDiscrete: where it is False, a choice is
            illegal, and its probability 0. Box and MultiBinary have no masks.
    """
    match space:
        case Hybrid():
            return _parts(space, parameters, log_std, squash, mask)
        case spaces.Discrete():
            return Categorical(masked(parameters, mask))
        case spaces.MultiDiscrete():
            return MultiCategorical(masked(parameters, mask), space.nvec.tolist())
        case spaces.MultiBinary():
            return Bernoulli(parameters)
    assert log_std is not None
    return SquashedGaussian(parameters, log_std) if squash else Gaussian(parameters, log_std)


def _parts(space: Hybrid, parameters: Tensor, log_std: Tensor | None, squash: bool, mask: Tensor | None) -> Joint:
    def cut(values: Tensor | None, size: Callable[[Space], int]) -> list[Tensor | None]:
        sizes = [size(part) for part in space.parts.values()]
        return [None] * len(sizes) if values is None else list(values.split(sizes, dim=-1))

    found: list[Distribution] = []
    numbers = (
        cut(parameters, parameter_count),
        cut(log_std, deviation_count),
        cut(mask, lambda part: sum(choices(part))),
    )
    for part, parameter, deviation, legal in zip(space.parts.values(), *numbers, strict=True):
        assert parameter is not None
        found.append(distribution(part, parameter, deviation, squash, legal))
    return Joint(space, found)
