"""Memory: unrolling gives the numbers that stepping gave, and nothing passes from one episode to the next."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.acting.collector import TickCollector
from agents.acting.state import ActorState
from agents.algos.ppo.config import PPOConfig
from agents.algos.pqn.config import PQNConfig
from agents.core.config import MemoryConfig
from agents.core.runtime import Runtime
from agents.core.tree import restarted
from agents.networks.cells import GRU, LSTM, in_runs
from agents.networks.memory import MEMORIES, build_memory
from envs.errors import UserError
from tests.algos.making import BOX, NUM_ENVS, collect, make, make_ppo, watch_losses
from tests.fakes import ClockEnv

TICKS = 24
each_memory = pytest.mark.parametrize("memory", MEMORIES)
each_action = pytest.mark.parametrize("action_space", [spaces.Discrete(3), BOX], ids=str)


def agent(memory, action_space=None, **options):
    made = make_ppo(action_space, memory=memory, memory_size=8, ortho_init=False, **options)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.mul_(2)  # so that what is remembered shows
    return made


def memory_of(memory, inputs=3, size=8, **options):
    options = {"memory_window": 4, "memory_heads": 2, "memory_horizon": 20} | options
    return build_memory(MemoryConfig(memory=memory, memory_size=size, **options), inputs)


def stepped(made, rollout):
    """Return the log-probabilities and values of a rollout's actions, worked out tick by tick as acting does."""
    carry, log_probs, values = rollout.carry, [], []
    for t, start in enumerate(rollout.start):
        carry = torch.where(start[:, None], 0.0, carry)
        output = made.model.output(rollout.obs[t], carry)
        log_probs.append(output.distribution.log_prob(rollout.action[t]))
        values.append(output.value)
        carry = made.policy.step(rollout.obs[t], carry, None).carry
    return torch.stack(log_probs), torch.stack(values), carry


@each_memory
@each_action
@pytest.mark.parametrize("dummies", [False, True])
@torch.no_grad()
def test_unroll_gives_the_numbers_of_step(memory, action_space, dummies):
    made = agent(memory, action_space)
    env = ClockEnv(NUM_ENVS, action_space, dummies=dummies)
    rollout = collect(made, env, n_steps=TICKS)
    assert rollout.start[1:].any()
    log_prob, value, carry = stepped(made, rollout)
    evaluated = made.policy.evaluate(rollout)
    torch.testing.assert_close(evaluated[0], log_prob, atol=1e-5, rtol=0)
    torch.testing.assert_close(evaluated[1], value, atol=1e-5, rtol=0)
    ended = (rollout.terminated | rollout.truncated)[-1]
    ended = ended if rollout.valid is None else ended | ~rollout.valid[-1]
    torch.testing.assert_close(rollout.last_carry, torch.where(ended[:, None], 0.0, carry), atol=1e-5, rtol=0)
    flat = made.model(rollout.obs, torch.zeros_like(rollout.carry), torch.ones_like(rollout.start))
    assert not torch.allclose(flat.value, value, atol=1e-3), "without what it remembers it must say something else"


@each_memory
@torch.no_grad()
def test_a_truncation_bootstraps_with_the_carry_of_its_step(memory):
    made, env = agent(memory), ClockEnv(NUM_ENVS)
    rollout = collect(made, env, n_steps=TICKS)
    _, value, next_value = made.policy.evaluate(rollout)
    clean, carry, checked = ClockEnv(NUM_ENVS), rollout.carry, 0
    clean.reset(0)
    for t, action in enumerate(env.actions):
        carry = made.policy.step(rollout.obs[t], torch.where(rollout.start[t][:, None], 0.0, carry), None).carry
        final = made.model.value(torch.from_numpy(clean.step(action).next_obs), carry)
        cut = rollout.truncated[t]
        torch.testing.assert_close(next_value[t][cut], final[cut], atol=1e-5, rtol=0)
        goes_on = ~(cut | rollout.terminated[t])
        following = value[t + 1] if t + 1 < TICKS else final
        torch.testing.assert_close(next_value[t][goes_on], following[goes_on], atol=1e-5, rtol=0)
        checked += int(cut.sum())
    assert checked > 3


@pytest.mark.parametrize("curiosity", ["rnd", "none"])
@pytest.mark.parametrize("truncates", [False, True])
@torch.no_grad()
def test_where_values_are_not_looked_at_successors_are_judged_alike(truncates, curiosity, monkeypatch):
    """As on a GPU, of a rollout that has every successor, whether an episode was truncated in it or not."""
    made, env = agent("gru", curiosity=curiosity), ClockEnv(NUM_ENVS, lengths=lambda *_: 5 if truncates else 100)
    state = ActorState.begin(env, made.policy, 1, torch.Generator().manual_seed(0))
    collector = TickCollector(env, made.policy, state, ticks=TICKS, schedule_steps=10**6, successors=True)
    rollout = collector.collect(TICKS).trajectory
    assert rollout.next_obs is not None
    assert bool(rollout.truncated.any()) == (rollout.final is not None) == truncates
    expected = made.policy.evaluate(rollout)
    monkeypatch.setattr("agents.core.device.LOOKED_AT", ())
    for found, right in zip(made.policy.evaluate(rollout), expected, strict=True):
        torch.testing.assert_close(found, right, atol=1e-5, rtol=0)


@each_memory
@each_action
def test_the_first_ratio_is_1(memory, action_space):
    made, seen = agent(memory, action_space), []
    watch_losses(made, lambda _, aux, __: seen.append(aux["log_ratio"].abs().max().item()))
    env = ClockEnv(NUM_ENVS, action_space, dummies=True)
    for seed in range(3):
        seen.clear()
        made.update(collect(made, env, seed=seed, n_steps=TICKS))
        assert seen[0] < 1e-5
        assert max(seen) > 1e-4, "later ratios must differ, or the first proves nothing"


@pytest.mark.parametrize("kind", [PPOConfig, PQNConfig])
@pytest.mark.parametrize("memory", [None, "gru"])
def test_the_normaliser_takes_in_what_belongs_to_transitions_and_nothing_else(memory, kind):
    settings = {"n_envs": NUM_ENVS, "n_steps": TICKS, "batch_size": 16, "net_arch": (16,)}
    made = make(kind.model_validate({**settings, "memory": memory, "norm_obs": True}), spaces.Discrete(3))
    rollout = collect(made, ClockEnv(NUM_ENVS, dummies=True), n_steps=TICKS)
    made.update(rollout)
    real = rollout.obs[rollout.valid].numpy()
    norm = made.model.encoder.leaves[0].norm
    assert norm.count == len(real) < rollout.reward.numel()
    np.testing.assert_allclose(norm.mean.numpy(), real.mean(0), atol=1e-5)
    np.testing.assert_allclose(norm.var.numpy(), real.var(0), atol=1e-5)


@each_memory
@torch.no_grad()
def test_carries_are_reset_where_episodes_start(memory):
    torch.manual_seed(0)
    module = memory_of(memory)
    x = torch.randn(6, 2, 3)
    start = torch.zeros(6, 2, dtype=torch.bool)
    start[3, 0] = True
    noisy = torch.randn_like(module.initial_carry(2))
    output, carry = module(x, noisy, start)
    alone, alone_carry = module(x[3:], torch.randn_like(noisy), start[3:])
    torch.testing.assert_close(output[3:, 0], alone[:, 0])
    torch.testing.assert_close(carry[0], alone_carry[0])
    assert not torch.allclose(output[3:, 1], alone[:, 1], atol=1e-2), "the other one goes on"
    assert not module.initial_carry(2).any()
    start[0] = True
    torch.testing.assert_close(module(x, noisy, start)[0], module(x, 0 * noisy, start)[0])


@each_memory
def test_gradients_stop_at_an_episodes_start_and_pass_through_time(memory):
    torch.manual_seed(0)
    module = memory_of(memory, memory_window=6)
    x = torch.randn(6, 2, 3, requires_grad=True)
    start = torch.zeros(6, 2, dtype=torch.bool)
    start[3, 0] = True
    module(x, module.initial_carry(2), start)[0][-1].square().sum().backward()
    assert not x.grad[:3, 0].any()
    assert x.grad[3:, 0].any(dim=-1).all()
    assert x.grad[:, 1].any(dim=-1).all()


def test_a_gru_begins_by_keeping_most_of_what_it_remembers():
    """Without weights nothing is written anew, and what was there stays by the bias of the update gates alone."""
    gru = GRU(2, 3)
    with torch.no_grad():
        gru.cell.weight_ih.zero_()
        gru.cell.weight_hh.zero_()
        carry = torch.tensor([[1.0, -2.0, 0.5]])
        _, after = gru(torch.ones(1, 2), carry)
    torch.testing.assert_close(after, carry * 0.880797)


@pytest.mark.parametrize(("ours", "theirs"), [(GRU, torch.nn.GRU), (LSTM, torch.nn.LSTM)])
def test_cells_are_pytorchs(ours, theirs):
    """The numbers of a run and all its gradients, with a gradient of the last state too."""
    torch.manual_seed(0)
    made, like = ours(3, 5), theirs(3, 5)
    for name, parameter in made.cell.named_parameters():
        getattr(like, f"{name}_l0").data.copy_(parameter)
    x, carry = torch.randn(7, 2, 3, requires_grad=True), torch.randn(2, ours.parts * 5, requires_grad=True)
    states = tuple(part[None] for part in carry.chunk(ours.parts, dim=-1))
    expected, after = like(x, states if ours is LSTM else states[0])
    after = torch.cat(after, dim=-1)[0] if ours is LSTM else after[0]
    output, last = made(x, carry, torch.zeros(7, 2, dtype=torch.bool))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(last, after)

    def gradients(output, last, module):
        loss = (output * torch.linspace(-1, 2, output.numel()).view_as(output)).sum() + last.square().sum()
        return torch.autograd.grad(loss, [x, carry, *module.parameters()])

    for one, other in zip(gradients(output, last, made), gradients(expected, after, like), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 7, 64])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@torch.no_grad()
def test_runs_are_the_steps_one_after_the_other(steps, share):
    """For a recurrence that forgets nothing, so that each number says what was taken in since the start."""
    generator = torch.Generator().manual_seed(steps)
    x = torch.randn(steps, 5, 2, generator=generator)
    start, carry = torch.rand(steps, 5, generator=generator) < share, torch.randn(5, 2, generator=generator)
    calls = []

    def run(x, carry):
        calls.append(x.shape[:2].numel())
        return carry + x.cumsum(0)

    output, after = in_runs(run, x, restarted(carry, start[0]), start)
    expected, state = [], carry
    for x_N, start_N in zip(x, start, strict=True):
        state = state * ~start_N[:, None] + x_N
        expected.append(state)
    torch.testing.assert_close(output, torch.stack(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(after, state, atol=1e-5, rtol=0)
    assert sum(calls) <= 4 * x.shape[:2].numel(), "little is made up beside the steps there are"
    assert len(calls) <= 1 + steps.bit_length() // 2


@each_memory
@torch.no_grad()
def test_a_sequence_is_its_parts(memory):
    """Whatever is remembered at a cut is all that the second part needs; layers each keep their own."""
    torch.manual_seed(0)
    for layers in (1, 3):
        module = memory_of(memory, memory_layers=layers)
        x, start = torch.randn(20, 3, 3), torch.rand(20, 3) < 0.15
        carry = module.initial_carry(3)
        whole, last = module(x, carry, start)
        for cut in (1, 9, 19):
            first, carried = module(x[:cut], carry, start[:cut])
            second, after = module(x[cut:], carried, start[cut:])
            torch.testing.assert_close(torch.cat([first, second]), whole, atol=1e-5, rtol=0)
            torch.testing.assert_close(after, last, atol=1e-5, rtol=0)


def test_a_layer_takes_in_what_the_one_before_remembers():
    torch.manual_seed(0)
    stack, x, start = memory_of("gru", memory_layers=2), torch.randn(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool)
    carry = torch.randn_like(stack.initial_carry(2))
    first, one = stack.layers[0](x, carry[:, :8], start)
    second, other = stack.layers[1](first, carry[:, 8:], start)
    output, after = stack(x, carry, start)
    torch.testing.assert_close(output, second)
    torch.testing.assert_close(after, torch.cat([one, other], dim=-1))


def test_a_scan_begins_with_time_scales_up_to_its_horizon():
    """Without weights nothing is written anew; what stays after a step tells each number's time scale."""
    scan = memory_of("scan", memory_horizon=100)
    with torch.no_grad():
        for parameter in (scan.gate.weight, scan.candidate.weight, scan.candidate.bias):
            parameter.zero_()
        _, after = scan(torch.ones(1, 3), torch.ones(1, 8))
    shares = after[0].tolist()
    assert shares[0] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(1 - 1 / 101)
    assert shares == sorted(shares)


def test_slow_numbers_of_a_scan_are_as_large_as_quick_ones():
    """Of inputs that are standard normal and independent, each number has a variance of 1 after a while."""
    scan = memory_of("scan", memory_horizon=20)
    with torch.no_grad():
        scan.gate.weight.zero_()
        scan.candidate.weight.copy_(torch.eye(3).repeat(3, 1)[:8])
        scan.candidate.bias.zero_()
        x = torch.randn(100, 4_000, 3, generator=torch.Generator().manual_seed(0))
        states, _ = scan(x, scan.initial_carry(4_000), torch.zeros(100, 4_000, dtype=torch.bool))
    torch.testing.assert_close(states[-1].var(0), torch.ones(8), atol=0.1, rtol=0)


@torch.no_grad()
def test_a_new_scan_adds_nothing_where_nothing_is_seen():
    """What was seen once would otherwise lie beneath a constant that piles up over a thousand steps."""
    scan = memory_of("scan", memory_horizon=1_000)
    x, start = torch.zeros(50, 1, 3), torch.zeros(50, 1, dtype=torch.bool)
    assert not scan(x, scan.initial_carry(1), start)[0].any()
    x[0] = 1
    assert scan(x, scan.initial_carry(1), start)[0][-1].any()


@torch.no_grad()
def test_a_transformer_looks_back_so_far_and_no_farther():
    torch.manual_seed(0)
    module, x = memory_of("gtrxl", memory_window=4), torch.randn(9, 1, 3)
    start = torch.zeros(9, 1, dtype=torch.bool)
    last = module(x, module.initial_carry(1), start)[0][-1]
    for t in range(9):
        other = x.clone()
        other[t] += 1
        changed = not torch.allclose(module(other, module.initial_carry(1), start)[0][-1], last, atol=1e-6)
        assert changed == (t >= 5), f"step {t} of 9, seen by the last one through a window of 4"


@torch.no_grad()
def test_a_transformers_distances_count_from_the_present_step():
    """Keys that say nothing leave the scores to the distances alone."""
    torch.manual_seed(0)
    module, x = memory_of("gtrxl", memory_window=3, memory_heads=1), torch.randn(5, 1, 3)
    module.key_value.weight[:8].zero_()
    module.distance.copy_(torch.tensor([[-100.0, -100.0, 0.0]]))
    start = torch.zeros(5, 1, dtype=torch.bool)
    embedded = module.embed(x[:, 0])
    value = module.before_attention(embedded) @ module.key_value.weight[8:].t()
    found = module._attend(embedded[None], embedded[None], start.long().t(), start.long().t())
    torch.testing.assert_close(found[0, 2:], module.mix(value[:-2]))


def test_a_gate_begins_by_handing_on_what_it_was_asked():
    gate = memory_of("gtrxl").attended
    with torch.no_grad():
        for layer in (gate.said, gate.asked, gate.reset):
            layer.weight.zero_()
    torch.testing.assert_close(gate(torch.ones(1, 8), torch.ones(1, 8)), torch.full((1, 8), 0.880797))


@each_memory
def test_predict_remembers_until_an_episode_starts(memory):
    made = agent(memory, BOX)
    obs = np.random.default_rng(0).normal(size=(5, 3, 3)).astype(np.float32)
    none, first = np.zeros(3, bool), np.array([True, False, False])
    action, state = made.policy.predict(obs[0])
    again, other = made.policy.predict(obs[1], state, none)
    restarted, _ = made.policy.predict(obs[1], state, first)
    fresh, _ = made.policy.predict(obs[1])
    assert restarted[0].equal(fresh[0])
    assert restarted[1:].equal(again[1:])
    assert not torch.allclose(again, fresh, atol=1e-3)
    assert not other.equal(state)
    assert action.shape == (3, 2)


def test_names():
    assert make_ppo().model.memory is None
    settings: Any = MemoryConfig.model_fields["memory"].annotation
    assert get_args(get_args(settings)[0]) == tuple(MEMORIES)


@each_memory
def test_what_is_compiled_is_never_the_unrolling(memory, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("a sequence's steps take minutes to compile"))
    made = make_ppo(memory=memory, runtime=Runtime("on"))
    made.update(collect(made))


FAULTY = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self, inputs, size):
        super().__init__()
        self.features = size
        self.layer = nn.Linear(inputs + size, size)
    def initial_carry(self, n):
        return torch.zeros(n, self.features)
    def one(self, x, carry):
        carry = self.layer(torch.cat([x, carry], -1)).tanh()
        return carry, carry
    def forward(self, x, carry, start=None):
        if start is None:
            return self.one(x, carry)
        outputs = []
        for x_N, start_N in zip(x, start):
            carry = self.one(x_N, self.begin(carry, start_N))[1]
            outputs.append(carry)
        return torch.stack(outputs), carry
    def begin(self, carry, start):
        return carry * ~start[:, None]

class NoStart(Base):
    def begin(self, carry, start):
        return carry

class NoStartAtFirst(Base):
    def forward(self, x, carry, start=None):
        if start is not None:
            start = torch.cat([torch.zeros_like(start[:1]), start[1:]])
        return super().forward(x, carry, start)

class OtherCarry(Base):
    def forward(self, x, carry, start=None):
        outputs, after = super().forward(x, carry, start)
        return (outputs, after) if start is None else (outputs, carry)

class NoFeatures(Base):
    def __init__(self, inputs, size):
        super().__init__(inputs, size)
        del self.features

class Ones(Base):
    def initial_carry(self, n):
        return torch.ones(n, self.features)

class OneArgument(Base):
    def __init__(self, inputs):
        pass
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoStart", "must give for a sequence what it gives step by step"),
        ("NoStartAtFirst", "must give for a sequence what it gives step by step"),
        ("OtherCarry", "must give for a sequence what it gives step by step"),
        ("NoFeatures", "must have an attribute `features`"),
        ("Ones", "must begin with one tensor of zeros"),
        ("OneArgument", "fails: TypeError"),
        ("Nothing", "has no 'Nothing'.*Did you mean|has no 'Nothing'; it has"),
    ],
)
def test_what_is_wrong_with_a_memory_of_ones_own_is_said(name, message, tmp_path):
    file = tmp_path / "mem.py"
    file.write_text(FAULTY)
    assert memory_of(f"{file}:Base", 4).features == 8
    with pytest.raises(UserError, match=message):
        memory_of(f"{file}:{name}", 4)
