"""Networks read through NumPy give what PyTorch gives, and follow every change of their parameters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn.utils import parametrizations, prune

from agents.acting.numpy_inference import NumpyForward, NumpyRepeat, numpy_forward, numpy_repeat
from agents.acting.policies import EpsilonGreedyPolicy
from agents.core.checked import MOST_SHAPES
from agents.core.config import ActorCriticConfig, ExplorationConfig, QNetworkConfig
from agents.core.tree import to_numpy, tree_map
from agents.learning.parameters import FlatParameters
from agents.networks.heads import Noise
from agents.networks.models import ActorCritic, QNetwork

VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float32)


def q_network(space=VECTOR, kind=QNetwork, **options):
    torch.manual_seed(0)
    return kind(space, spaces.Discrete(3), QNetworkConfig.model_validate({"net_arch": (16, 8), **options}))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("norm_obs", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_it_computes_what_the_network_computes(activation, norm_obs, shape):
    network = q_network(spaces.Box(-np.inf, np.inf, shape, np.float32), activation=activation, norm_obs=norm_obs)
    flat = FlatParameters(network)
    reading = numpy_forward(network)
    rng = np.random.default_rng(0)
    for change in range(3):
        obs = rng.normal(size=(7, *shape)).astype(np.float32) * 3
        kept = obs.copy()
        network.encoder.update_statistics(torch.from_numpy(obs))
        flat.vector.mul_(1 + 0.1 * change)
        with torch.no_grad():
            np.testing.assert_allclose(reading(obs), network(torch.from_numpy(obs)).q.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(obs, kept)


BOX = spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("action_space", "options"), [(spaces.Discrete(4), {}), (BOX, {}), (BOX, {"use_sde": True})], ids=str
)
def test_a_policy_is_computed_the_same_way(action_space, options):
    network = ActorCritic(VECTOR, action_space, ActorCriticConfig.model_validate({"net_arch": (8,)} | options))
    forward = numpy_forward(network)
    assert forward is not None
    obs = np.ones((3, 5), np.float32)
    with torch.no_grad():
        expected = network.act(torch.from_numpy(obs), ())[0]
    np.testing.assert_allclose(forward(obs), expected, rtol=1e-5)


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@torch.no_grad()
def test_a_cell_remembers_the_same(memory):
    """Step by step, through changes of the parameters in place, and without touching what it was given."""
    network = q_network(memory=memory, memory_size=6, norm_obs=True)
    flat, reading = FlatParameters(network), numpy_forward(network)
    rng, carry = np.random.default_rng(0), torch.randn_like(network.initial_carry(4))
    expected = carry
    for _ in range(5):
        obs, kept = rng.normal(size=(4, 5)).astype(np.float32) * 3, carry.clone()
        flat.vector.mul_(1.2)
        q, after = reading.step(obs, carry)
        wanted, expected = network.act(torch.from_numpy(obs), expected)
        np.testing.assert_allclose(q, wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)
        assert carry.equal(kept)
        carry = after


def test_wide_networks_take_fewer_rows():
    assert isinstance(numpy_forward(q_network()), NumpyForward)
    assert numpy_forward(q_network(net_arch=(64, 64))).max_rows == 100
    assert numpy_forward(q_network(net_arch=(256, 256))).max_rows == 6


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (spaces.Box(0, 255, (10, 10, 4), np.uint8), {}),
        (spaces.Box(0, 255, (5,), np.uint8), {}),
        (spaces.Dict({"a": VECTOR, "b": VECTOR}), {}),
        (spaces.Dict({"a": VECTOR, "action_mask": spaces.MultiBinary(3)}), {}),
        (spaces.Discrete(5), {}),
        (VECTOR, {"activation": "gelu"}),
        (VECTOR, {"memory": "scan"}),
        (VECTOR, {"memory": "gru", "memory_layers": 2}),
    ],
    ids=str,
)
def test_other_networks_are_left_to_pytorch(space, options):
    assert numpy_forward(q_network(space, **options)) is None


class Doubled(QNetwork):
    def act(self, obs, carry):
        q, carry = super().act(obs, carry)
        return 2 * q, carry


class Looks(QNetwork):
    def look(self, obs, carry):
        return super().look(2 * obs, carry)


class Same(QNetwork):
    pass


def test_classes_that_act_otherwise_are_left_to_pytorch():
    assert numpy_forward(q_network(kind=Doubled)) is None
    assert numpy_forward(q_network(kind=Looks)) is None
    assert numpy_forward(q_network(kind=Same)) is not None
    network = q_network()
    network.act = lambda obs, carry: (obs, carry)
    assert numpy_forward(network) is None
    assert numpy_forward(nn.Linear(5, 3)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.head.register_forward_hook(lambda *_: None),
        lambda net: net.torso.register_forward_pre_hook(lambda *_: None),
        lambda net: net.encoder.leaves[0].norm.register_forward_hook(lambda *_: None),
        lambda net: prune.l1_unstructured(net.head, "weight", 0.5),
        lambda net: parametrizations.spectral_norm(net.torso.layers[0]),
        lambda net: setattr(net, "head", nn.Sequential(net.head)),
        lambda net: setattr(net, "head", nn.Linear(8, 3, bias=False)),
        lambda net: setattr(net.torso.layers[0], "forward", lambda x: x),
        lambda net: setattr(net.encoder.leaves[0], "norm", nn.LayerNorm(5)),
        lambda net: net.double(),
    ],
)
def test_what_was_done_to_a_module_is_left_to_pytorch(change):
    network = q_network(norm_obs=True)
    assert numpy_forward(network) is not None
    change(network)
    assert numpy_forward(network) is None


def test_hooks_of_all_modules_are_left_to_pytorch():
    network = q_network()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert numpy_forward(network) is None
    handle.remove()
    assert numpy_forward(network) is not None


HEADS = {
    "wide": {"layer_norm": True, "dueling": True},
    "noisy": {"noisy": True, "dueling": True, "distribution": "c51", "v_min": -1, "v_max": 1},
    "bounded": {"spectral_norm": True, "distribution": "qr", "n_quantiles": 5},
    "sampled": {"distribution": "iqn", "n_quantiles": 5},
    "gelu": {"activation": "gelu"},
    "bytes": {},
}


@pytest.mark.parametrize(("head", "noisy"), [*((head, False) for head in HEADS), ("noisy", True)])
@torch.no_grad()
def test_what_other_networks_have_pytorch_do_is_repeated(head, noisy):
    """For several numbers of rows in turn, and through changes of the parameters and the normaliser in place."""
    space = spaces.Box(0, 255, (5,), np.uint8) if head == "bytes" else VECTOR
    network = q_network(space, norm_obs=head != "bytes", **HEADS[head]).eval()
    flat, reading, act, calls = FlatParameters(network), numpy_repeat(network), network.act, []
    network.act = lambda *given: calls.append(1) or act(*given)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for rows in (1, 3, 3, 1, 3):
        flat.vector.mul_(1.2)
        network.bring_bounds_up_to_date()
        obs = (rng.normal(size=(rows, 5)) * 40).astype(space.dtype)
        network.encoder.update_statistics(torch.from_numpy(obs))
        noise = (Noise(torch.randn(rows, network.noise_size, generator=generator)),) if noisy else ()
        expected = act(torch.from_numpy(obs), (), *noise)[0]
        found = reading(obs, *tree_map(to_numpy, noise))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2, "once for each number of rows"


def test_several_threads_may_ask_at_once():
    network = q_network(layer_norm=True, dueling=True, net_arch=(64, 64)).eval()
    reading, rng = numpy_repeat(network), np.random.default_rng(0)
    asked = rng.normal(size=(8, 200, 2, 5)).astype(np.float32)
    reading(asked[0, 0])
    with torch.no_grad():
        expected = network.act(torch.from_numpy(asked).flatten(0, 2), ())[0].unflatten(0, asked.shape[:3])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: np.stack([reading(obs) for obs in each]), asked))
    np.testing.assert_allclose(np.stack(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (spaces.Box(0, 255, (10, 10, 4), np.uint8), {}),
        (spaces.Dict({"a": VECTOR, "b": VECTOR}), {}),
        (VECTOR, {"memory": "scan"}),
    ],
    ids=str,
)
def test_pictures_dicts_and_memories_are_not_repeated(space, options):
    assert numpy_repeat(q_network(space, **options)) is None


def test_however_many_observations_come_together_few_programs_are_kept():
    """And all are right: those of the first numbers, those that came once, those that come again and again."""
    network, rng = q_network(activation="gelu"), np.random.default_rng(0)
    reading = numpy_repeat(network)
    for rows in [*range(1, 40), 39, 39, 1, 2, 1, 39]:
        obs = rng.normal(size=(rows, 5)).astype(np.float32)
        with torch.no_grad():
            expected = network.act(torch.from_numpy(obs), ())[0].numpy()
        np.testing.assert_allclose(reading(obs), expected, rtol=1e-4, atol=1e-5)
        assert max(len(reading._run._programs), len(reading._run._passed)) <= MOST_SHAPES
    assert {shapes[0][0][0] for shapes in reading._run._programs} == {*range(3, 9), 39, 1}


def test_what_may_do_more_than_compute_is_not_repeated():
    assert numpy_repeat(q_network(kind=Doubled)) is None, "a class of this test's"
    network = q_network(layer_norm=True)
    assert isinstance(numpy_repeat(network), NumpyRepeat)
    network.head.register_forward_hook(lambda *_: None)
    assert numpy_repeat(network) is None


def test_a_policy_that_is_repeated_acts_in_evaluation_mode_and_follows_what_is_done_to_its_model():
    network = q_network(layer_norm=True, dueling=True)
    policy = EpsilonGreedyPolicy(network, ExplorationConfig())
    obs = np.ones((2, 5), np.float32)
    policy.predict(obs)
    kept = policy._quickest()
    network.train()
    assert policy._quickest() is kept, "training and acting in turn make nothing anew"
    assert not network.training
    copied = deepcopy(policy)
    network.head.register_forward_hook(lambda module, given, q: torch.tensor([[0.0], [0.0], [1.0]]).expand_as(q))
    assert policy.predict(obs)[0].tolist() == [2, 2]
    with torch.no_grad():
        copied.model.head.advantage.layers[-1].bias.copy_(torch.tensor([0.0, 1e3, 0.0]))
    assert copied.predict(obs)[0].tolist() == [1, 1]
