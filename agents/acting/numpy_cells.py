"""One step of PyTorch's recurrent cells, computed by NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray
from torch import nn

Step = Callable[[ndarray, ndarray], tuple[ndarray, ndarray]]


def numpy_step(cell: nn.GRUCell | nn.LSTMCell) -> Step:
    """Return what takes in float32 inputs `[N, I]` and a carry, as `agents.networks.cells` has it.

    It returns what is remembered `[N, H]` and the next carry, which share no memory with what it was given, and sees
    changes of the cell's parameters made in place.
    """
    weights = [cell.weight_ih.detach().numpy().T, cell.weight_hh.detach().numpy().T]
    biases = [cell.bias_ih.detach().numpy(), cell.bias_hh.detach().numpy()]
    size = cell.hidden_size

    def gru(x: ndarray, hidden: ndarray) -> tuple[ndarray, ndarray]:
        new, of_hidden = x @ weights[0] + biases[0], hidden @ weights[1] + biases[1]
        gates = _sigmoid(new[:, : 2 * size] + of_hidden[:, : 2 * size])
        candidate = np.tanh(new[:, 2 * size :] + gates[:, :size] * of_hidden[:, 2 * size :])
        hidden = candidate + gates[:, size:] * (hidden - candidate)
        return hidden, hidden

    def lstm(x: ndarray, carry: ndarray) -> tuple[ndarray, ndarray]:
        gates = x @ weights[0]
        gates += carry[:, :size] @ weights[1]
        gates += biases[0] + biases[1]
        new = np.tanh(gates[:, 2 * size : 3 * size])
        gates = _sigmoid(gates)
        after = np.empty_like(carry)
        hidden, state = after[:, :size], after[:, size:]
        np.multiply(gates[:, size : 2 * size], carry[:, size:], out=state)
        state += gates[:, :size] * new
        np.multiply(gates[:, 3 * size :], np.tanh(state), out=hidden)
        return hidden, after

    return lstm if isinstance(cell, nn.LSTMCell) else gru


def _sigmoid(x: ndarray) -> ndarray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    x *= np.float32(0.5)
    np.tanh(x, out=x)
    x *= np.float32(0.5)
    x += np.float32(0.5)
    return x
