"""Updates in kernels follow PPO's own loss by autograd, and what kernels do not know is left to plain steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn.utils import parametrizations, prune

from agents.algos.ppo.algorithm import PPO
from agents.learning.kernels import surrogate
from agents.learning.kernels.surrogate import sizes, spread_of
from agents.learning.learner import HEALTH, NORM, Learner
from agents.ops.losses import normalized
from envs.errors import UserError
from tests.algos.making import OBS, collect, make_ppo, weights
from tests.core.kernels import DEVICE, needs_triton
from tests.core.recorder import Tape, listening
from tests.learning.surrogate_making import arguments, twin, update_of
from tests.marks import LONG, long_test, pairs

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of NumPy, where numbers are masked
CLOSE = 1.0 if DEVICE.type == "cpu" else 10.0  # a GPU rounds otherwise
BOX, FEW, MANY = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(3), spaces.Discrete(20)
CHOICES = pairs(
    [FEW, BOX, MANY],
    [(16,), (20, 8), {"pi": (8, 16), "vf": (40, 12)}, (64, 64)]
    if LONG
    else [(16,), (20, 8), {"pi": (8,), "vf": (40,)}],
    ["tanh", "relu"],
    ["adam", "adamw"],
    [0.0, 0.05],
    [None, 0.1],
    [None, 0.5],
    [(True, False), (False, False), (True, True)],
    [False, True],
    [None, 0.2, 100.0],
)
NAMES = ("net_arch", "activation", "optimizer", "ent_coef", "clip_range_vf", "clip_range_high", "normalizes")
NAMES += ("norm_obs", "max_grad_norm")


def settings(values: tuple[Any, ...]) -> dict[str, Any]:
    options = dict(zip(NAMES, values, strict=True))
    options["normalize_advantage"], options["normalize_over_rollout"] = options.pop("normalizes")
    return options | {"vf_coef": 0.7, "n_epochs": 2, "batch_size": 50}


def both(space: Any, options: dict[str, Any], rows: int, steps: int) -> tuple[Any, Any, Any, Any]:
    """Return the twins, one of which has learnt plainly, the other in kernels, and what each handed out."""
    plain, fast = twin(space, **options), twin(space, **options)
    given = arguments(plain, rows, steps)
    fast.algorithm.load_state_dict(plain.algorithm.state_dict())
    before = plain.learner.parameters.vector.clone()
    kernels = update_of(fast).kernels()
    with torch.no_grad():
        expected, found = plain.learner._all_minibatches(*given), kernels(*given)
    assert not before.equal(plain.learner.parameters.vector)
    return plain, fast, expected, found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter go through fewer programs."""
    if not LONG and DEVICE.type == "cpu":
        monkeypatch.setattr(surrogate, "BLOCK", 512)


@needs_triton
@pytest.mark.parametrize(("rows", "steps"), [(45, 1), (90, 4)] if LONG else [(90, 4)])
@pytest.mark.parametrize("choice", CHOICES if LONG else CHOICES[:3], ids=str)
def test_steps_in_kernels_are_those_along_the_loss(choice, rows, steps):
    space, *values = choice
    plain, fast, expected, found = both(space, settings(tuple(values)), rows, steps)
    assert set(found) == set(expected) == {"policy", "value", "entropy", "log_ratio", HEALTH, NORM}
    for name, right in expected.items():
        torch.testing.assert_close(
            found[name], right, atol=2e-5 * CLOSE, rtol=2e-4 * CLOSE, msg=lambda text, name=name: name + text
        )
    assert found["log_ratio"].abs().max() > 0.3, "some are clipped"
    for mine, right in zip(fast.learner.optimizer.moments, plain.learner.optimizer.moments, strict=True):
        torch.testing.assert_close(mine, right, atol=2e-6 * CLOSE, rtol=1e-3 * CLOSE)
    mine, right = fast.learner.parameters.vector, plain.learner.parameters.vector
    torch.testing.assert_close(mine, right, atol=2e-4 * CLOSE, rtol=0)  # Adam makes steps of 0.01 of gradients near 0


@needs_triton
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_rows_need_fill_no_tile(rows):
    plain, fast, expected, found = both(FEW, {"batch_size": 50, "n_epochs": 1}, rows, 1)
    for name, right in expected.items():
        torch.testing.assert_close(found[name], right, atol=1e-5 * CLOSE, rtol=1e-4 * CLOSE)
    torch.testing.assert_close(
        fast.learner.parameters.vector, plain.learner.parameters.vector, atol=1e-5 * CLOSE, rtol=0
    )


@pytest.mark.parametrize(("rows", "count"), [(12, 3), (13, 3), (5, 5), (7, 5), (9, 1)])
def test_each_minibatch_has_its_own_mean_and_deviation(rows, count):
    advantage = 5 * torch.randn(2, rows, generator=torch.Generator().manual_seed(0)) + 3
    chunks = [part for epoch in advantage for part in epoch.tensor_split(count)]
    assert sizes(rows, count) * 2 == [len(part) for part in chunks]
    found = spread_of(advantage, count)
    assert found.shape == (2 * count, 2)
    for part, (center, std) in zip(chunks, found, strict=True):
        torch.testing.assert_close((part - center) / (std + 1e-8), normalized(part))


def test_a_loss_that_becomes_more_is_no_longer_known():
    made = twin(FEW)
    update = update_of(made)
    assert update.fits
    made.algorithm.demonstrator = made.model
    assert not update.fits


LEARNS: dict[str, Any] = {"n_epochs": 1, "batch_size": 32}


@needs_triton
@pytest.mark.parametrize("space", [FEW, BOX], ids=["discrete", "box"])
def test_a_training_in_kernels_follows_the_plain_one(space):
    runtime, said = listening("kernels")
    plain, fast = twin(space, n_epochs=2, batch_size=16), twin(space, runtime, n_epochs=2, batch_size=16)
    assert runtime.summary == "in kernels"
    for progress in (0.0, 0.5):
        rollout = collect(plain)
        expected = plain.update(rollout, progress)
        assert fast.update(rollout, progress) == pytest.approx(expected, abs=1e-5 * CLOSE, rel=1e-4 * CLOSE)
    assert said == []
    torch.testing.assert_close(weights(fast.model), weights(plain.model), atol=1e-5 * CLOSE, rtol=1e-4 * CLOSE)
    assert not weights(fast.model).equal(weights(plain.model)), "both did the same sums"


class Watched(Tape):
    """Refuses to record what a graph refuses; a replay calls the function again, as no recorder sees into kernels."""

    def __call__(self, function):
        _, outputs = super().__call__(function)

        def replay():
            self.replayed += 1
            for name, value in function().items():
                outputs[name].copy_(value)

        return replay, outputs


@needs_triton
def test_kernels_can_be_captured():
    tape = Watched()
    runtime, said = listening("kernels", record=tape)
    plain, fast = twin(FEW, **LEARNS), twin(FEW, runtime, **LEARNS)
    for _ in range(2):
        rollout = collect(plain)
        assert fast.update(rollout) == pytest.approx(plain.update(rollout), abs=1e-5 * CLOSE, rel=1e-4 * CLOSE)
    assert said == []
    assert (tape.recorded, tape.replayed) == (1, 2)


def wrong(name: str) -> Any:
    """Return what stands for kernels that do one thing otherwise."""

    def call(self: Any, data: Any, order: Any, rates: Any, constants: Any) -> Any:
        found = self.learner._all_minibatches(data, order, rates, constants)
        vector, moments = self.learner.parameters.vector, self.learner.optimizer.moments
        if name == "parameters":
            vector[3] += 0.01
        elif name in ("first", "second"):
            moments[name == "second"].mul_(1.02)
        else:
            found[name] = found[name] * 1.02 + 0.02
        return found

    return call


@needs_triton
@pytest.mark.parametrize(
    "what", ["policy", "value", "entropy", "log_ratio", HEALTH, NORM, "first", "second", "parameters"]
)
def test_kernels_that_do_something_else_are_not_used(monkeypatch, what):
    monkeypatch.setattr(surrogate.Kernels, "__call__", wrong(what))
    runtime, said = listening("kernels")
    plain, fast = twin(FEW, **LEARNS), twin(FEW, runtime, **LEARNS)
    monkeypatch.setattr(surrogate.Kernels, "learner", fast.learner, raising=False)
    rollout = collect(plain)
    assert fast.update(rollout) == plain.update(rollout)
    assert weights(fast.model).equal(weights(plain.model))
    text = {"first": "another first moment of the gradient", "second": "another second moment of the gradient"}
    reason = text.get(what, "other parameters" if what == "parameters" else f"another {what.strip('_')}")
    assert said == [f"not in a kernel, runs as it is: Disagreement: {reason}"]


@needs_triton
def test_numbers_that_are_not_finite_are_noticed_in_kernels_too():
    runtime, said = listening("kernels")
    for bad, part in ((torch.inf, "reward"), (torch.nan, "obs")):
        made = twin(FEW, runtime, **LEARNS)
        rollout = collect(made)
        made.learner.refuse_divergence(made.learner.update(rollout, 0.0), 0)
        getattr(rollout, part)[2, 1] = bad
        result = made.learner.update(rollout, 0.0)
        assert not result.health.isfinite()
        with pytest.raises(UserError, match="the training diverged"):
            made.learner.refuse_divergence(result, 1)
    assert said == []


PICTURE = spaces.Box(0, 255, (3, 12, 12), np.uint8)
WORDS = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32)})


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (FEW, {"optimizer": "sgd"}),
        (FEW, {"optimizer": "rmsprop"}),
        (FEW, {"activation": "elu"}),
        (FEW, {"net_arch": (8, 8, 8)}),
        (FEW, {"net_arch": ()}),
        (FEW, {"net_arch": (256,)}),
        (FEW, {"net_arch": (128, 128)}),
        (FEW, {"net_arch": {"pi": (8, 8), "vf": (8,)}}),
        (FEW, {"shared_torso": True}),
        (FEW, {"memory": "gru"}),
        (FEW, {"norm_value": "popart"}),
        (FEW, {"dual_clip": 3.0}),
        (FEW, {"desired_kl": 0.01}),
        (FEW, {"target_kl": 0.01}),
        (FEW, {"curiosity": "rnd"}),
        (spaces.MultiDiscrete([2, 3]), {}),
        (spaces.MultiBinary(3), {}),
        (spaces.Discrete(65), {}),
        (BOX, {"squash_output": True}),
        (BOX, {"state_dependent_std": True}),
        (BOX, {"use_sde": True}),
        (FEW, {"obs_space": PICTURE}),
        (FEW, {"obs_space": WORDS}),
        (FEW, {"obs_space": spaces.Box(-1, 1, (129,), np.float32)}),
        (FEW, {"obs_space": spaces.Discrete(4)}),
    ],
    ids=str,
)
def test_what_kernels_do_not_know_is_left_to_plain_steps(space, options):
    runtime, said = listening("kernels")
    learner = make_ppo(space, runtime=runtime, **options).learner
    assert learner._epochs == learner._all_minibatches
    assert "in kernels" not in runtime.summary
    assert said == []


def test_a_loss_of_another_class_is_left_to_plain_steps():
    class Mine(PPO):
        def loss(self, model, minibatch, constants):
            loss, aux = super().loss(model, minibatch, constants)
            return loss * 1.0, aux

    mine = Mine(OBS, FEW, make_ppo(FEW).algorithm.config)
    learner = Learner(mine, listening("kernels")[0], 0)
    assert mine.objective is None
    assert learner._epochs == learner._all_minibatches


def replaced(made: Any) -> None:
    made.model.policy_torso.layers[0] = nn.Sequential(made.model.policy_torso.layers[0])


def own_forward(made: Any) -> None:
    layer = made.model.value_head
    layer.forward = lambda x: nn.functional.linear(x, layer.weight, layer.bias) * 2


CHANGES: dict[str, Any] = {
    "replaced": replaced,
    "forward": own_forward,
    "hook": lambda made: made.model.policy_head.register_forward_hook(lambda *args: args[2] * 2),
    "pre-hook": lambda made: made.model.policy_head.register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
    "pruned": lambda made: prune.random_unstructured(made.model.policy_torso.layers[0], "weight", 0.5),
    "parametrised": lambda made: parametrizations.weight_norm(made.model.policy_torso.layers[0]),
    "frozen": lambda made: made.model.value_head.requires_grad_(False),
    "more": lambda made: made.model.register_parameter("more", nn.Parameter(torch.ones(3, device=DEVICE))),
    "scaled": lambda made: made.learner.parameters.set_scale("policy_head", 0.1),
    "held": lambda made: made.learner.parameters.hold_at_zero(
        {"policy_head.weight": torch.eye(3, 16, dtype=torch.bool, device=DEVICE)}
    ),
}


@needs_triton
@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_becomes_another_one_goes_on_in_plain_steps(change):
    runtime, said = listening("kernels")
    plain, fast = twin(FEW, **LEARNS), twin(FEW, runtime, **LEARNS)
    rollout = collect(plain)
    fast.update(rollout)
    plain.update(rollout)
    assert said == []
    fast.load_state_dict(plain.state_dict())
    for made in (plain, fast):
        torch.manual_seed(0)
        CHANGES[change](made)
    assert fast.update(rollout) == plain.update(rollout)
    assert len(said) == 1
    assert said[0].startswith("not in a kernel, runs as it is: UserError: ")


@needs_triton
def test_layers_of_the_same_kind_go_on_in_kernels():
    runtime, said = listening("kernels")
    plain, fast = twin(FEW, **LEARNS), twin(FEW, runtime, **LEARNS)
    for wide in (False, True):
        if wide:
            for made in (plain, fast):
                torch.manual_seed(1)
                made.model.policy_torso.layers[0] = nn.Linear(3, 24)
                made.model.policy_head = nn.Linear(24, 3)
                made.model.policy_torso.features = 24
        rollout = collect(plain)
        assert fast.update(rollout) == pytest.approx(plain.update(rollout), abs=1e-5 * CLOSE, rel=1e-4 * CLOSE)
    assert said == []


@needs_triton
@pytest.mark.parametrize(
    ("name", "change"), [("more", lambda x: x), ("obs", torch.Tensor.double), ("action", torch.Tensor.int)]
)
def test_rows_of_another_kind_are_refused(name, change):
    made = twin(FEW)
    data, *rest = arguments(made, 8, 1)
    data[name] = change(data.get(name, data["obs"]))
    with pytest.raises(UserError, match=name):
        update_of(made).kernels()(data, *rest)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("space", [FEW, BOX], ids=["discrete", "box"])
def test_large_minibatches_on_cuda_follow_plain_steps_and_repeat_bit_for_bit(monkeypatch, space, tf32):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    options = {"net_arch": (64, 64), "batch_size": 16384, "n_epochs": 2}
    plain, fast, expected, found = both(space, options, 30_000, 4)
    for name in ("value", "entropy", HEALTH, NORM):
        torch.testing.assert_close(found[name], expected[name], rtol=2e-2 if tf32 else 1e-3, atol=1e-3)
    apart = (fast.learner.parameters.vector - plain.learner.parameters.vector).norm()
    start = twin(space, **options)
    moved = (plain.learner.parameters.vector - start.learner.parameters.vector).norm()
    assert apart < (0.1 if tf32 else 0.01) * moved
    again = both(space, options, 30_000, 4)[1]
    assert again.learner.parameters.vector.equal(fast.learner.parameters.vector)
    runtime, said = listening("kernels", device=DEVICE)  # and captured
    captured = twin(space, runtime, **options)
    captured.algorithm.load_state_dict(start.algorithm.state_dict())
    given = arguments(captured, 30_000, 4)
    captured.learner._epochs(*given)
    assert said == []
    assert captured.learner.parameters.vector.equal(fast.learner.parameters.vector)


@long_test
@needs_triton
def test_nothing_is_spilled_where_layers_have_64_units():
    from tests.core.kernels import not_interpreting

    lines = not_interpreting("tests.learning.surrogate_costs").splitlines()
    assert lines
    for line in lines:
        name, registers, spilled = line.rsplit(maxsplit=2)
        assert int(registers) <= 255, name
        assert int(spilled) == 0, name
