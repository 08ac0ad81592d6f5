"""Networks read through NumPy give what PyTorch gives, and follow every change of their parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.learning.optim import FlatParameters
from agents.networks.build import ActorCritic, QNetwork
from agents.networks.host import HostNetwork, on_host

VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float32)


def q_network(space=VECTOR, **options):
    torch.manual_seed(0)
    return QNetwork(space, spaces.Discrete(3), **{"net_arch": (16, 8), "activation": "relu", **options})


def host(network):
    return on_host(network.encoder, network.torso, network.head)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("norm_obs", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_it_computes_what_the_network_computes(activation, norm_obs, shape):
    network = q_network(spaces.Box(-np.inf, np.inf, shape, np.float32), activation=activation, norm_obs=norm_obs)
    flat = FlatParameters(network)
    reading = host(network)
    rng = np.random.default_rng(0)
    for change in range(3):
        obs = rng.normal(size=(7, *shape)).astype(np.float32) * 3
        kept = obs.copy()
        network.encoder.update_statistics(torch.from_numpy(obs))
        flat.vector.mul_(1 + 0.1 * change)
        with torch.no_grad():
            np.testing.assert_allclose(reading(obs), network(torch.from_numpy(obs)).numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(obs, kept)


def test_a_policy_reads_the_same_way():
    network = ActorCritic(VECTOR, spaces.Discrete(4), net_arch=(8,), activation="tanh")
    reading = on_host(network.encoder, network.policy_torso, network.policy_head)
    assert reading is not None
    obs = np.ones((3, 5), np.float32)
    with torch.no_grad():
        expected = network.policy(torch.from_numpy(obs)).logits
    np.testing.assert_allclose(reading(obs), expected, rtol=1e-5)


def test_wide_networks_take_fewer_rows():
    assert isinstance(host(q_network()), HostNetwork)
    assert host(q_network(net_arch=(64, 64))).max_rows == 100
    assert host(q_network(net_arch=(256, 256))).max_rows == 6


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (spaces.Box(0, 255, (10, 10, 4), np.uint8), {}),
        (spaces.Box(0, 255, (5,), np.uint8), {}),
        (spaces.Dict({"a": VECTOR, "b": VECTOR}), {}),
        (spaces.Discrete(5), {}),
        (VECTOR, {"activation": "gelu"}),
    ],
    ids=str,
)
def test_other_networks_are_left_to_pytorch(space, options):
    assert host(q_network(space, **options)) is None
