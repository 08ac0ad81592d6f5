"""Models are ordinary modules: whatever PyTorch does to one reaches updates and acting, or is refused in words."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from agents.acting.fused import FusedCollector
from agents.acting.numpy_inference import numpy_forward
from agents.acting.state import ActorState
from agents.core.runtime import Runtime
from agents.data.batch import Batch
from envs.errors import UserError
from envs.native.arrays import TorchArrays
from envs.native.gym_env import DYNAMICS
from envs.native.vec_env import NativeVecEnv
from tests.algos.making import BOX, N_STEPS, NUM_ENVS, Made, collect, make_batch, make_dqn, make_ppo, weights
from tests.core.recorder import Tape
from tests.marks import long_test

PLAIN = {"net_arch": (16, 16), "optimizer": "sgd", "learning_rate": 0.1, "max_grad_norm": None}


def make(kind: str, runtime: Runtime | None = None, **options: Any) -> Made:
    """Return an algorithm whose update is one plain gradient step on all the data."""
    if kind == "dqn":
        return make_dqn(runtime=runtime, **{**PLAIN, **options})
    whole = {"batch_size": NUM_ENVS * N_STEPS, "n_epochs": 1}
    return make_ppo(BOX, runtime=runtime, **{**PLAIN, **whole, **options})


def data_for(made: Made) -> Any:
    return make_batch() if made.algorithm.data == "replay" else collect(made)


def torso(model: Any) -> Any:
    return model.torso if hasattr(model, "torso") else model.policy_torso


def replace(model: Any, *layers: nn.Module) -> None:
    for index, layer in enumerate(layers):
        torso(model).layers[index] = layer


def add_unused(model: Any) -> None:
    model.unused = nn.Parameter(torch.ones(3))


OTHER = {"tanh": "relu", "relu": "tanh"}
CHANGES: dict[str, Any] = {
    "pruned": lambda model: prune.l1_unstructured(torso(model).layers[1], "weight", 0.5),
    "spectral norm": lambda model: parametrizations.spectral_norm(torso(model).layers[1]),
    "replaced": lambda model: replace(model, nn.Linear(3, 16)),
    "replaced, of another width": lambda model: replace(model, nn.Linear(3, 24), nn.Linear(24, 16)),
    "replaced, without bias": lambda model: replace(model, nn.Linear(3, 16, bias=False)),
    "replaced, of another kind": lambda model: replace(model, nn.Sequential(nn.Linear(3, 16), nn.LayerNorm(16))),
    "forward hook": lambda model: torso(model).layers[0].register_forward_hook(lambda *given: 3 * given[2]),
    "forward pre-hook": lambda model: torso(model).layers[1].register_forward_pre_hook(lambda _, x: (x[0] ** 2,)),
    "forward method": lambda model: setattr(torso(model).layers[1], "forward", lambda x: x + 1),
    "another activation": lambda model: setattr(torso(model), "activation", OTHER[torso(model).activation]),
    "frozen": lambda model: torso(model).layers[0].requires_grad_(False),
    "unused parameter": add_unused,
    "double and float": lambda model: model.double().float(),
}
SAME_OUTPUT = {"frozen", "unused parameter", "double and float"}
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
each_kind = pytest.mark.parametrize("kind", ["ppo", "dqn"])


def outputs(model: Any, obs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        output = model(obs)
        return output.q if hasattr(output, "q") else output.distribution.mean


def step_on_paper(made: Made, data: Any) -> dict[str, torch.Tensor]:
    """Return the parameters after a gradient step that autograd makes on the model as it is; change nothing."""
    model, before = made.model, copy.deepcopy(made.model.state_dict())
    constants = {name: torch.tensor(value) for name, value in made.algorithm.constants(0.0).items()}
    with torch.no_grad():
        prepared = made.algorithm.prepare(data, constants)
    if not isinstance(data, Batch):
        prepared = made.learner._with_observations(prepared, data)
    model.train()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    loss, _ = made.algorithm.loss(model, prepared, constants)
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True, materialize_grads=True)
    model.eval()
    model.load_state_dict(before)
    steps = zip(trained.items(), gradients, strict=True)
    return {name: parameter.detach() - 0.1 * gradient for (name, parameter), gradient in steps}


@each_kind
@each_change
def test_updates_train_what_is_there(kind, change):
    made = make(kind)
    data = data_for(made)
    made.update(data)
    torch.manual_seed(0)
    change(made.model)
    for _ in range(2):
        made.learner.parameters.refresh()
        made.learner.optimizer.refresh()
        made.algorithm.follow_model()
        expected = step_on_paper(made, data)
        before = weights(made.model)
        made.update(data)
        found = dict(made.model.named_parameters())
        for name, parameter in expected.items():
            torch.testing.assert_close(found[name].detach(), parameter, atol=1e-6, rtol=1e-4)
        assert not weights(made.model).equal(before)


@each_kind
@each_change
def test_updates_alone_follow_a_change(kind, change):
    """As above, but nothing is told that there was one; and the target network goes along."""
    made, twin = make(kind, tau=0.5) if kind == "dqn" else make(kind), make(kind)
    data = data_for(made)
    made.update(data)
    twin.algorithm.load_state_dict(made.algorithm.state_dict())
    for each in (made, twin):
        torch.manual_seed(0)
        change(each.model)
    twin.learner = type(twin.learner)(twin.algorithm, Runtime(), 0)  # made after the change
    twin.algorithm.follow_model()
    for each in (made, twin):
        each.update(data)
        if kind == "dqn":
            each.algorithm.update_target()
    torch.testing.assert_close(weights(made.model), weights(twin.model), atol=1e-7, rtol=1e-6)
    made.update(data)
    assert weights(made.model).isfinite().all()


@each_change
def test_a_target_network_is_of_the_same_structure(change):
    made = make("dqn", tau=1.0, norm_obs=True)
    made.update(make_batch())
    change(made.model)
    for _ in range(3):
        made.update(make_batch())
        made.algorithm.update_target()
    target = made.algorithm.target
    assert [(name, p.shape) for name, p in target.named_parameters()] == [
        (name, p.shape) for name, p in made.model.named_parameters()
    ]
    assert weights(target).equal(weights(made.model))
    for mine, theirs in zip(target.buffers(), made.model.buffers(), strict=True):
        assert mine.equal(theirs), "masks and statistics are taken over whole"
    obs = torch.randn(6, 3)
    torch.testing.assert_close(outputs(target, obs), outputs(made.model, obs))
    assert not any(parameter.requires_grad for parameter in target.parameters())


@each_kind
@each_change
def test_acting_goes_through_what_is_there(kind, change, request):
    made = make(kind)
    obs = 2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    before = outputs(made.model, obs)
    assert numpy_forward(made.model) is not None, "the quick way is the one that may miss a change"
    torch.manual_seed(0)
    change(made.model)
    expected = outputs(made.model, obs)
    assert expected.equal(before) == (request.node.callspec.id.removesuffix(f"-{kind}") in SAME_OUTPUT)
    expected = expected if kind == "ppo" else expected.argmax(dim=1)
    for _ in range(2):
        acting = (
            made.policy.actor()(obs.numpy(), (), None).action,
            made.policy.actor()(obs, (), None).action,
            made.policy.step(obs, (), None).action,
            made.policy.predict(obs.numpy())[0],
        )
        for action in acting:
            torch.testing.assert_close(torch.as_tensor(action), expected)
        made.update(data_for(made))
        expected = outputs(made.model, obs)
        expected = expected if kind == "ppo" else expected.argmax(dim=1)


def test_acting_follows_a_bound_that_is_changed():
    made = make("ppo", norm_obs=True)
    obs = 5 * torch.randn(6, 3)
    assert numpy_forward(made.model) is not None
    before = made.policy.actor()(obs.numpy(), (), None).action
    made.model.encoder.leaves[0].norm.clip = 0.5
    acted = torch.as_tensor(made.policy.actor()(obs.numpy(), (), None).action)
    torch.testing.assert_close(acted, outputs(made.model, obs))
    assert not np.allclose(acted, before)


@each_change
def test_captured_updates_follow_a_change(change):
    tape = Tape()
    said: list[str] = []
    runtime = Runtime("auto", record=tape)
    runtime.say = said.append
    plain, captured = make("ppo", optimizer="adam"), make("ppo", runtime, optimizer="adam")
    rollout = collect(plain)
    for round_ in range(4):
        if round_ == 1:
            for made in (plain, captured):
                torch.manual_seed(0)
                change(made.model)
        assert plain.update(rollout, round_ / 4) == captured.update(rollout, round_ / 4)
        assert weights(plain.model).equal(weights(captured.model))
    for name, buffer in plain.model.named_buffers():
        assert dict(captured.model.named_buffers())[name].equal(buffer), "warming up left a trace"
    assert (tape.recorded, tape.replayed, said) == (2, 4, [])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    "name",
    [
        "pruned",
        "replaced, of another width",
        *(pytest.param(name, marks=long_test) for name in ("forward hook", "another activation")),
    ],
)
def test_compiled_updates_follow_a_change(name):
    said: list[str] = []
    runtime = Runtime("on", torch.device("cpu"))
    runtime.say = said.append
    plain, compiled = make("dqn"), make("dqn", runtime)
    for round_ in range(3):
        if round_ == 1:
            for made in (plain, compiled):
                torch.manual_seed(0)
                CHANGES[name](made.model)
        for made in (plain, compiled):
            made.update(make_batch(seed=round_))
            made.algorithm.update_target()
        torch.testing.assert_close(weights(plain.model), weights(compiled.model), atol=1e-6, rtol=1e-4)
    fallback = ["not compiled, runs as it is: "] if name == "pruned" else []  # its hook writes to the module
    assert [sentence[:29] for sentence in said] == fallback


@each_kind
def test_pruned_weights_stay_0(kind):
    made = make(kind, optimizer="adamw")
    prune.l1_unstructured(torso(made.model).layers[1], "weight", 0.5)
    zero = torso(made.model).layers[1].weight_mask == 0
    for _ in range(3):
        made.update(data_for(made))
    outputs(made.model, torch.zeros(1, 3))
    weight = torso(made.model).layers[1].weight
    assert zero.sum() == 128
    assert not weight[zero].any()
    prune.remove(torso(made.model).layers[1], "weight")
    made.update(data_for(made))
    assert torso(made.model).layers[1].weight[zero].any()


@each_kind
def test_frozen_parts_stand_still_until_they_are_unfrozen(kind):
    made = make(kind, optimizer="adamw")
    frozen = torso(made.model).layers[0]
    made.update(data_for(made))
    frozen.requires_grad_(False)
    before, others = weights(frozen), weights(torso(made.model).layers[1])
    for _ in range(3):
        made.update(data_for(made))
    assert weights(frozen).equal(before)
    assert not weights(torso(made.model).layers[1]).equal(others)
    frozen.requires_grad_(True)
    made.update(data_for(made))
    assert not weights(frozen).equal(before)


@each_kind
def test_all_frozen_is_refused_in_words(kind):
    made = make(kind)
    data = data_for(made)
    made.model.requires_grad_(False)
    with pytest.raises(UserError, match="nothing to train"):
        made.update(data)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_numbers_are_refused_in_words(kind, dtype):
    made = make(kind)
    data = data_for(made)
    made.model.to(dtype)
    with pytest.raises(UserError, match=r"is torch\.float\d\d: .*takes float32 \(network\.float\(\)\)"):
        made.update(data)
    with pytest.raises(UserError, match=r"is torch\.float\d\d: .*takes float32 \(network\.float\(\)\)"):
        made.policy.actor()
    made.model.float()
    made.update(data_for(made))


@each_kind
def test_functional_call_computes_with_the_parameters_given(kind):
    made, obs = make(kind), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(made.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    called = torch.func.functional_call(made.model, dict(other.named_parameters()), (obs,))
    found = called.q if kind == "dqn" else called.distribution.mean
    assert found.equal(outputs(other, obs))
    assert not found.equal(outputs(made.model, obs))


@each_kind
def test_forward_hooks_of_every_layer_fire(kind):
    made, data = make(kind), None
    fired: list[str] = []
    for name, module in made.model.named_modules():
        if not list(module.children()) and not isinstance(module, nn.ModuleList):
            module.register_forward_hook(lambda *_, name=name: fired.append(name))
    made.policy.actor()(torch.zeros(2, 3).numpy(), (), None)
    acting = {name for name in fired if not name.startswith("value")}
    assert acting == set(fired) >= {"encoder.leaves.0", f"{'torso' if kind == 'dqn' else 'policy_torso'}.layers.1"}
    data = data_for(made)
    fired.clear()
    made.update(data)
    assert {name for name, module in made.model.named_modules() if module._forward_hooks} == set(fired)


def with_dropout(kind: str, runtime: Runtime | None = None, **options: Any) -> Made:
    made = make(kind, runtime, **options)
    replace(made.model, nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5)))
    return made


@each_kind
def test_dropout_is_for_updates_and_not_for_acting(kind):
    made = with_dropout(kind)
    dropout, modes = torso(made.model).layers[0][1], []
    dropout.register_forward_hook(lambda module, *_: modes.append(module.training))
    data, obs = data_for(made), torch.randn(64, 3)
    made.policy.actor()(obs.numpy(), (), None)
    assert modes
    assert not any(modes), "a new layer is in training mode, and acts in the other"
    modes.clear()
    made.update(data)
    assert modes[-1] is True
    assert not made.model.training
    modes.clear()
    assert outputs(made.model, obs).equal(outputs(made.model, obs))
    made.policy.actor()(obs, (), None)
    assert not any(modes)
    twins = [copy.deepcopy(made.state_dict()) for _ in range(2)]
    results = []
    for seed, twin in enumerate(twins):
        made.load_state_dict(twin)
        torch.manual_seed(seed)
        made.update(data)
        results.append(weights(made.model))
    assert not results[0].equal(results[1]), "what is dropped must reach the update"


@pytest.mark.usefixtures("as_on_a_gpu")
def test_captured_steps_know_training_from_evaluation_mode():
    tape = Tape()
    runtime = Runtime("auto", record=tape)
    env = NativeVecEnv(DYNAMICS["CartPole-v1"](), NUM_ENVS, TorchArrays("cpu"))
    made = make_ppo(env.action_space, runtime=runtime, obs_space=env.observation_space, net_arch=(64,))
    made.model.policy_head.weight.data.mul_(1000)
    made.model.policy_torso = nn.Sequential(made.model.policy_torso, nn.Dropout(0.5))
    state = ActorState.begin(env, made.policy, 0, torch.Generator().manual_seed(0))
    collector = FusedCollector(env, made.policy, state, ticks=N_STEPS, schedule_steps=1000, runtime=runtime)
    noise = torch.zeros_like(made.policy.draw_noise((N_STEPS, NUM_ENVS), 0.0, state.generator))
    made.policy.draw_noise = lambda *_: noise
    modes, recorded = [], []
    made.model.policy_torso[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    for training in (False, False, False, True, False):
        made.model.train(training)
        modes.clear()
        rollout = collector.collect(N_STEPS).trajectory
        assert not any(modes)
        with torch.no_grad():
            greedy = made.model(rollout.obs.flatten(0, 1)).distribution.mode()
        assert rollout.action.flatten().equal(greedy), "dropout acted"
        modes.clear()
        before = tape.recorded
        made.update(rollout)
        recorded.append(tape.recorded)
        assert any(modes) == (tape.recorded > before), "recorded in training mode, and replayed so"
    assert recorded[2] == recorded[1], "an update's own mode is no reason to capture again"
    assert recorded[3] > recorded[2]


@each_kind
@pytest.mark.parametrize("runtime", [Runtime(), Runtime("auto", record=Tape())], ids=["plain", "captured"])
def test_steps_of_a_scaled_part(kind, runtime):
    made = make(kind, runtime)
    layers = torso(made.model).layers
    prefix = "torso" if kind == "dqn" else "policy_torso"

    def moved():
        data, before = data_for(made), [weights(layer) for layer in layers]
        state = copy.deepcopy(made.state_dict())
        made.update(data)
        steps = [weights(layer) - old for layer, old in zip(layers, before, strict=True)]
        made.load_state_dict(state)
        return steps

    whole = moved()
    made.learner.parameters.set_scale(f"{prefix}.layers.0.", 0.0)
    made.learner.parameters.set_scale(f"{prefix}.layers.1.", 0.25)
    still, slow = moved()
    assert whole[0].any()
    assert not still.any()
    torch.testing.assert_close(slow, whole[1] / 4, atol=1e-7, rtol=1e-4)
    made.learner.parameters.set_scale(f"{prefix}.layers.0.", 1.0)
    torch.testing.assert_close(moved()[0], whole[0], atol=1e-7, rtol=1e-4)
