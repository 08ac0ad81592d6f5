"""Networks put together: shapes, initial weights, and copies that own what they compute with."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.pqn.config import PQNConfig
from agents.core.config import ActorCriticConfig, QNetworkConfig
from agents.networks.layers import MLP, SpectralLinear
from agents.networks.models import ActorCritic, QNetwork, action_mask
from agents.ops.distributions import SquashedGaussian, draw_noise
from envs.errors import UserError
from tests.algos.making import NUM_ENVS, collect, make, make_batch, make_dqn, watch_losses
from tests.fakes import ClockEnv
from tests.networks.encoding import EVERYTHING, SPACES, observations

VECTOR = SPACES["vector"][0]
BOX = spaces.Box(-1, 1, (2,), np.float32)
ACTIONS = [spaces.Discrete(3), BOX, spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4)]


def actor_critic(observation_space=VECTOR, action_space=BOX, **options):
    torch.manual_seed(0)
    config = ActorCriticConfig.model_validate({"net_arch": (16, 8), **options})
    return ActorCritic(observation_space, action_space, config)


def q_network(observation_space=VECTOR, **options):
    torch.manual_seed(0)
    config = QNetworkConfig.model_validate({"net_arch": (8,), **options})
    return QNetwork(observation_space, spaces.Discrete(4), config)


@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_actor_critic_shapes(name, action_space):
    network = actor_critic(SPACES[name][0], action_space, norm_obs=True)
    obs = observations(SPACES[name][0], 3)
    policy, value = network(obs)
    action = policy.sample(draw_noise(action_space, (3,), torch.Generator().manual_seed(0), torch.device("cpu")))
    assert action.shape == (3, *action_space.shape)
    assert policy.log_prob(action).shape == policy.entropy(action).shape == value.shape == (3,)
    assert network.value(obs).equal(value)
    assert network.output(obs, ()).value.equal(value)
    parameters, carry = network.act(obs, ())
    assert network.distribution(parameters).log_prob(action).equal(policy.log_prob(action))
    assert carry == network.initial_carry(3) == ()


@pytest.mark.parametrize("name", SPACES)
def test_q_network_shapes(name):
    network, obs = q_network(SPACES[name][0], norm_obs=True), observations(SPACES[name][0], 3)
    q = network(obs).q
    assert q.shape == (3, 4)
    assert network.output(obs, ()).q.equal(q)
    assert network.act(obs, ())[0].equal(q)


def test_masks_reach_the_outputs_and_not_the_features():
    space = spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(4)})
    x, legal = observations(VECTOR, 3), torch.tensor([[1, 0, 1, 0]] * 3, dtype=torch.int8)
    for obs in ({"x": x, "action_mask": legal}, {"x": x, "action_mask": legal.bool()}):
        network = q_network(space)
        assert network.masked
        assert network(obs).q.equal(network.output(obs, ()).q)
        assert (network(obs).q < -1e30).equal(legal == 0)
        assert network.act(obs, ())[0].equal(q_network()(x).q), "acting masks later, and the mask is no feature"
        policy = actor_critic(space, spaces.Discrete(4))
        probabilities = policy(obs).distribution.describe()["probabilities"]
        assert (probabilities > 0).equal(legal == 1)
        assert policy.output(obs, ()).distribution.describe()["probabilities"].equal(probabilities)
    assert action_mask(x) is action_mask({"x": x}) is None
    assert not q_network().masked


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "gelu", "silu"])
def test_mlp_is_layers_with_an_activation_after_each(activation):
    torch.manual_seed(0)
    mlp = MLP(4, (8, 5), activation)
    x = torch.randn(6, 4)
    function = getattr(torch.nn.functional, activation)
    expected = function(mlp.layers[1](function(mlp.layers[0](x))))
    assert mlp.features == 5
    torch.testing.assert_close(mlp(x), expected)


def test_mlp_without_layers_passes_its_input_on():
    x = torch.randn(2, 4)
    assert MLP(4, (), "relu").features == 4
    assert MLP(4, (), "relu")(x).equal(x)


def is_orthogonal(weight, gain):
    rows, columns = weight.shape
    gram = weight @ weight.T if rows <= columns else weight.T @ weight
    return torch.allclose(gram, gain**2 * torch.eye(len(gram)), atol=1e-4 * gain**2)


@pytest.mark.parametrize("shared", [False, True])
def test_orthogonal_initialisation_and_its_gains(shared):
    network = actor_critic(EVERYTHING, shared_torso=shared)
    heads = {"policy_head": 0.01, "value_head": 1.0}
    checked = 0
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            assert is_orthogonal(module.weight.flatten(1), heads.get(name, math.sqrt(2))), name
            assert not module.bias.any()
            checked += 1
    assert checked == 4 + 2 * (1 if shared else 2) + 2  # the CNN, the torsos, the heads
    assert not is_orthogonal(actor_critic(ortho_init=False).policy_torso.layers[0].weight, math.sqrt(2))


def test_a_shared_torso_is_shared_and_separate_ones_are_not():
    obs = observations(VECTOR, 3)

    def reaches_policy_torso(network):
        network.value(obs).sum().backward()
        return network.policy_torso.layers[0].weight.grad is not None

    assert reaches_policy_torso(actor_critic(shared_torso=True))
    assert not reaches_policy_torso(actor_critic())


def test_state_independent_deviations_are_a_parameter():
    network = actor_critic(log_std_init=-0.5)
    policy, _ = network(observations(VECTOR, 3))
    assert network.log_std.requires_grad
    assert policy.log_std.tolist() == [-0.5, -0.5]
    assert actor_critic(action_space=spaces.Discrete(3)).log_std is None


def test_state_dependent_deviations_begin_near_their_initial_value_and_depend_on_the_state():
    network = actor_critic(log_std_init=-0.5, state_dependent_std=True)
    policy, _ = network(observations(VECTOR, 3))
    assert network.log_std is None
    assert policy.log_std.shape == policy.mean.shape == (3, 2)
    torch.testing.assert_close(policy.log_std, torch.full((3, 2), -0.5), atol=0.05, rtol=0)
    assert policy.log_std[0].ne(policy.log_std[1]).all()
    torch.nn.init.constant_(network.policy_head.bias, 100.0)
    assert network(observations(VECTOR, 1))[0].log_std.max().item() == 2.0


def test_settings_of_continuous_actions_are_refused_where_there_are_none():
    for name in ("use_sde", "state_dependent_std", "squash_output"):
        with pytest.raises(UserError, match=rf"{name} is for continuous actions, a Box; this environment has Discrete"):
            ActorCritic(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), ActorCriticConfig(**{name: True}))


def test_squash_reaches_the_distribution():
    assert isinstance(actor_critic(squash_output=True)(observations(VECTOR, 1))[0], SquashedGaussian)


def outputs(network, obs):
    policy, value = network(obs)
    return torch.cat([policy.mean, value[:, None]], dim=1).detach()


def test_a_deep_copy_computes_with_weights_of_its_own():
    network, obs = actor_critic(), observations(VECTOR, 3)
    clone = copy.deepcopy(network)
    before = outputs(network, obs)
    assert outputs(clone, obs).equal(before)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    assert outputs(clone, obs).equal(before), "the copy computes with the original's weights"
    assert not outputs(network, obs).equal(before)
    with torch.no_grad():
        clone.policy_torso.layers[0].weight.mul_(2)
    assert not outputs(clone, obs)[:, :2].equal(before[:, :2]), "the copy does not compute with its own weights"


def test_loaded_weights_are_those_computed_with():
    network, obs = actor_critic(), observations(VECTOR, 3)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    network.load_state_dict(other.state_dict())
    assert outputs(network, obs).equal(outputs(other, obs))


def test_moved_weights_are_those_computed_with():
    mlp = MLP(4, (8,), "tanh")
    x = torch.randn(2, 4)
    before = mlp(x)
    mlp.to(torch.float64)
    assert mlp(x.double()).dtype == torch.float64
    torch.testing.assert_close(mlp(x.double()).float(), before)


def test_gradients_reach_every_parameter():
    for options in ({}, {"shared_torso": True}, {"state_dependent_std": True}, {"squash_output": True}):
        network = actor_critic(EVERYTHING, **options)
        policy, value = network(observations(EVERYTHING, 2))
        (policy.log_prob(torch.full((2, 2), 0.3)).sum() + value.sum()).backward()
        missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        assert not missing, (options, missing)


def test_state_round_trip_carries_normaliser_statistics():
    obs = observations(VECTOR, 20)
    network = actor_critic(norm_obs=True)
    network.encoder.update_statistics(5 * obs + 3)
    other = actor_critic(norm_obs=True, log_std_init=0.5)
    torch.nn.init.normal_(other.policy_head.weight)
    assert not outputs(other, obs).equal(outputs(network, obs))
    other.load_state_dict(network.state_dict())
    assert outputs(other, obs).equal(outputs(network, obs))


@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
def test_policy_and_value_function_with_widths_of_their_own(action_space):
    network = actor_critic(action_space=action_space, net_arch={"pi": [16, 8], "vf": [12]})
    assert [layer.weight.shape for layer in network.policy_torso.layers] == [(16, network.features), (8, 16)]
    assert [layer.weight.shape for layer in network.value_torso.layers] == [(12, network.features)]
    assert (network.policy_head.in_features, network.value_head.in_features) == (8, 12)
    obs = observations(VECTOR, 3)
    assert network.value(obs).equal(network(obs).value)
    network(obs).value.sum().backward()
    assert all(parameter.grad is None for parameter in network.policy_torso.parameters())
    assert all(parameter.grad is not None for parameter in network.value_torso.parameters())
    linear = actor_critic(net_arch={"pi": [4], "vf": []})
    assert linear.value_head.in_features == linear.features
    assert linear(obs).value.shape == (3,)


def test_equal_widths_by_name_are_the_same_network():
    one, other = (actor_critic(net_arch=arch) for arch in ((16, 8), {"pi": (16, 8), "vf": (16, 8)}))
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(value.equal(other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["torso.layers.1"]),
        ({"dueling": True}, ["head.advantage.layers.0", "head.value.layers.0"]),
        ({"distribution": "iqn", "net_arch": (32,)}, ["torso.layers.0"]),
        ({"distribution": "qr"}, ["head.advantage.layers.0"]),
    ],
)
def test_only_the_last_hidden_layers_are_bounded_and_as_the_singular_values_say(options, names):
    made = make_dqn(
        **{"net_arch": (32, 16), "spectral_norm": True, "optimizer": "sgd", "learning_rate": 0.5, **options}
    )
    found = {name: layer for name, layer in made.model.named_modules() if isinstance(layer, SpectralLinear)}
    assert [*found] == names
    for seed in range(200):
        made.update(make_batch(seed=seed))
    made.algorithm.update_target()
    for network in (made.model, made.algorithm.target):
        layers = dict(network.named_modules())
        for name in names:
            layer = layers[name]
            layer.refresh()
            inputs = torch.eye(layer.in_features)
            effective = (layer(inputs) - layer.bias).T
            exact = layer.weight / torch.linalg.matrix_norm(layer.weight, 2)
            torch.testing.assert_close(effective, exact, atol=0.02, rtol=0)


def test_pqns_bound_follows_each_of_a_rollouts_steps():
    sizes = {"n_envs": NUM_ENVS, "n_steps": 8, "batch_size": 8, "n_epochs": 4, "net_arch": (32, 16)}
    config = PQNConfig.model_validate({**sizes, "spectral_norm": True, "learning_rate": 0.02})
    made = make(config, spaces.Discrete(3))
    (layer,) = (module for module in made.model.modules() if isinstance(module, SpectralLinear))
    largest = []

    def look(*_):
        with torch.no_grad():
            largest.append(float(torch.linalg.matrix_norm(layer.weight / (layer.u @ layer.weight @ layer.v), 2)))

    watch_losses(made, look)
    for _ in range(3):
        made.update(collect(made, ClockEnv(NUM_ENVS)))
    assert len(largest) > 20
    assert max(largest) < 1.2


def test_a_pass_through_a_bounded_layer_changes_nothing_and_its_scale_does_not_matter():
    layer = SpectralLinear(torch.nn.Linear(5, 3))
    x, before = torch.randn(7, 5), copy.deepcopy(layer.state_dict())
    said = layer.train()(x)
    assert all(layer.state_dict()[name].equal(value) for name, value in before.items())
    with torch.no_grad():
        layer.weight.mul_(10)
    torch.testing.assert_close(layer(x), said)
