"""Recurrences over time, worked out with few operations whatever the number of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_recurrence(keep: Tensor, new: Tensor, backward: bool = False) -> Tensor:
    """Return h `[T, ...]` with h_t = keep_t * h_{t-1} + new_t and h_{-1} = 0, in log2(T) steps.

    Each step doubles how far back every entry reaches (Hillis & Steele 1986). Nothing is divided, so that `keep` may be
    0, where an episode starts, as well as any number up to 1.

    Args:
        keep, new: `[T, ...]` of one shape.
        backward: from the last step on: h_t = keep_t * h_{t+1} + new_t with h_T = 0.
    """
    reach, steps = 1, len(new)
    while reach < steps:
        ends, starts = slice(reach, steps), slice(0, steps - reach)
        to, source, rest = (starts, ends, slice(steps - reach, steps)) if backward else (ends, starts, slice(0, reach))
        further = [(new[rest], torch.addcmul(new[to], keep[to], new[source]))]
        if 2 * reach < steps:
            further.append((keep[rest], keep[to] * keep[source]))
        new, *kept = (torch.cat(pair[::-1] if backward else pair) for pair in further)
        keep, reach = kept[0] if kept else keep, reach * 2
    return new


class GatedRecurrence(torch.autograd.Function):
    """The recurrent half of PyTorch's GRU, with a backward pass of its own: one product of weights for all steps.

    h_t = (1 - z) * n + z * h_{t-1}, with r, z = sigmoid(x_t + U h_{t-1}) and n = tanh(x_t + r * (U h_{t-1} + b)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the hidden states `[T, N, H]`.

        Args:
            x: what the inputs give to the gates r, z and n, side by side, `[T, N, 3 * H]`.
            hidden: before the first step, `[N, H]`.
            weight, bias: of the hidden state, `[3 * H, H]` and `[3 * H]`.
        """
        size = hidden.shape[-1]
        states = x.new_empty(len(x) + 1, *hidden.shape)
        states[0] = hidden
        gates, inner, candidate = x.new_empty(*x.shape[:2], 2 * size), torch.empty_like(x), torch.empty_like(states[1:])
        turned = weight.t()
        pairs, news = x.split([2 * size, size], dim=-1)
        parts = (states[:-1], states[1:], pairs, news, gates, inner, candidate)
        for before, after, pair, new, gate, of_hidden, n in zip(*(part.unbind() for part in parts), strict=True):
            torch.addmm(bias, before, turned, out=of_hidden)
            torch.add(pair, of_hidden[:, : 2 * size], out=gate).sigmoid_()
            torch.addcmul(new, gate[:, :size], of_hidden[:, 2 * size :], out=n).tanh_()
            torch.lerp(n, before, gate[:, size:], out=after)
        ctx.save_for_backward(states, gates, inner[..., 2 * size :], candidate, weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states, gates, inner, n, weight = ctx.saved_tensors
        r, z = gates.chunk(2, dim=-1)
        # what each of r, z, n and the inner product adds to the gates for each unit of the hidden state's gradient
        to_n = (1 - z) * (1 - n * n)
        to_z = (states[:-1] - n) * z * (1 - z)
        to_r = to_n * inner * r * (1 - r)
        through = torch.stack([to_r, to_z, to_n * r], dim=-2)  # [T, N, 3, H]
        total = torch.empty_like(gradient)
        flowing = torch.zeros_like(gradient[0])
        for t in range(len(gradient) - 1, -1, -1):
            torch.add(gradient[t], flowing, out=total[t])
            back = through[t].mul_(total[t][:, None]).flatten(1)
            flowing = torch.addmm(total[t] * z[t], back, weight)
        to_inputs = torch.cat([through[..., :2, :].flatten(2), to_n * total], dim=-1)
        inner_gradient = through.flatten(2).flatten(0, 1)
        to_weight = inner_gradient.t() @ states[:-1].flatten(0, 1)
        return to_inputs, flowing, to_weight, inner_gradient.sum(0)
