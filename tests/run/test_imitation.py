"""Behaviour cloning: trained, stopped, gone on with, and what is said of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.__main__ import main as agents
from agents.acting.playback import DaggerPlayback, Playback, RecordedState
from agents.acting.state import ActorState, EpisodeTracker
from agents.algos.bc.algorithm import BC
from agents.algos.bc.config import BCConfig
from agents.data.dataset import Builder, of_columns
from agents.run.imitation import HeldOut, prepared
from agents.run.models import load_policy
from envs.actions import Hybrid
from tests.algos.making import make_ppo
from tests.data.test_dataset import SPACES, made
from tests.fakes import ClockEnv
from tests.run.running import assert_same_run, resume, stopped_at, train

BOX = spaces.Box(-1, 1, (2,))
QUICK = "--algo bc --eval-freq 0 --final-eval-episodes 1 --device cpu"


def cloned(**settings: Any) -> BC:
    torch.manual_seed(0)
    return BC(SPACES[0], spaces.Discrete(3), BCConfig(**settings))


def playback(lengths: list[int], algorithm: BC | None = None, seed: int = 0) -> Playback:
    algorithm = algorithm or cloned()
    state = RecordedState(0, None, None, (), EpisodeTracker(1), torch.Generator(), "", made(lengths))
    return Playback(algorithm.policy, state, seed)


def test_a_pass_plays_each_transition_once_and_in_order() -> None:
    played = playback([3, 5, 4, 8])  # 20 transitions, in trajectories of 5 columns of 4
    data = played.data
    for _ in range(3):
        found = played.collect(4).trajectory
        seen = found.obs.transpose(0, 1).reshape(-1, 2).numpy()
        where = [int(np.flatnonzero((data.obs == row).all(1))[0]) for row in seen]
        assert sorted(where) == data.rows.tolist()
        steps = np.diff(where)
        starts = found.start.T.flatten().numpy()
        assert (starts[1:] | (steps == 1)).all()
        assert starts.sum() == 4
        nth = {int(row): index for index, row in enumerate(data.rows)}
        assert found.action.T.flatten().tolist() == [int(data.action[nth[row]]) for row in where]
        assert found.last_obs.tolist() == [data.obs[where[4 * column + 3] + 1].tolist() for column in range(5)]
    assert played.state.step == 60


def test_passes_have_orders_of_their_own_that_follow_from_the_seed() -> None:
    def orders(seed: int) -> list[list[float]]:
        played = playback([4] * 10, seed=seed)
        return [played.collect(4).trajectory.reward.flatten().tolist() for _ in range(3)]

    first = orders(0)
    assert first[0] != first[1] != first[2]
    assert orders(0) == first
    assert orders(1)[0] != first[0]


def test_what_comes_next_follows_from_the_step_alone() -> None:
    whole, other = playback([7, 9, 6]), playback([7, 9, 6])
    for _ in range(3):
        last = whole.collect(4).trajectory
    other.state.step = 2 * 4 * other.columns(4)
    assert other.collect(4).trajectory.obs.tolist() == last.obs.tolist()


def test_episodes_that_break_off_or_are_cut_have_a_future() -> None:
    data = made([4, 4])
    data.terminated[3] = False
    state = RecordedState(0, None, None, (), EpisodeTracker(1), torch.Generator(), "", data)
    played = Playback(cloned().policy, state, 0)
    found = played.collect(4).trajectory
    assert found.terminated.sum() == 1
    assert found.truncated.sum() == 1
    assert found.final is not None
    assert found.final.obs.tolist() == [data.obs[4].tolist()]


def test_the_loss_is_the_likelihood_of_what_was_done() -> None:
    algorithm = cloned(ent_coef=0.5, vf_coef=2.0)
    obs, action, return_ = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 0]), torch.randn(6)
    loss, aux = algorithm.loss(algorithm.model, {"obs": obs, "action": action, "return": return_}, {})
    distribution, value = algorithm.model(obs, (), None)
    p = distribution.log_p.exp()
    likelihood = p[range(6), action].log().mean()
    entropy = -(p * p.log()).sum(1).mean()
    assert loss.item() == pytest.approx(
        (-likelihood - 0.5 * entropy + 2 * ((value - return_) ** 2).mean()).item(), abs=1e-5
    )
    assert float(aux["accuracy"]) == pytest.approx(float((p.argmax(1) == action).float().mean()))


def test_balanced_actions_weigh_the_same_in_sum() -> None:
    algorithm = cloned(balanced=True)
    action = torch.tensor([0] * 6 + [1] * 2)
    algorithm.see(action)
    weight = algorithm.weight[action]
    assert weight.sum() == pytest.approx(8)
    assert weight[:6].sum() == pytest.approx(float(weight[6:].sum()))
    plain = cloned()
    plain.see(action)
    assert plain.weight.tolist() == [1, 1, 1]
    assert algorithm.weight[2] == 1, "of what is not there, and may yet come"
    algorithm.see(torch.tensor([0] * 6 + [1] * 2 + [2] * 8))
    torch.testing.assert_close(algorithm.weight, torch.tensor([16 / 18, 16 / 6, 16 / 24]))


def test_the_end_comes_when_held_out_episodes_are_foretold_no_better() -> None:
    algorithm = cloned(patience=2)
    assert [algorithm.judged(loss) for loss in (3.0, 2.0, 2.5, 1.0, 1.0, 1.5)] == [0, 0, 0, 0, 0, 1]
    again = cloned(patience=2)
    again.load_state_dict(algorithm.state_dict())
    assert again.done
    again = cloned(patience=1)
    assert [again.judged(0.1), again.judged(0.1)] == [0, 1], "as float32, 0.1 is above itself"
    assert not any(cloned(patience=0).judged(loss) for loss in (1.0, 2.0, 3.0))


def test_squashed_actions_are_learnt_as_they_are_before_the_tanh() -> None:
    algorithm = BC(SPACES[0], BOX, BCConfig(squash_output=True))
    stored = algorithm.model.stored(torch.tensor([[0.5, -1.0], [1.0, 0.0]]))
    assert stored.isfinite().all()
    assert stored.tanh().tolist() == pytest.approx(np.array([[0.5, -1], [1, 0]]), abs=1e-5)


def test_choices_beside_squashed_numbers_are_not_squashed() -> None:
    space = Hybrid({"how": spaces.Box(-1, 1, (1,)), "which": spaces.Discrete(9), "more": spaces.MultiBinary(1)})
    algorithm = BC(SPACES[0], space, BCConfig(squash_output=True))
    for batch in (torch.tensor([[0.5, 3, 1]]), torch.tensor([[[0.5, 3, 1]]])):  # rows, and sequences of them
        stored = algorithm.model.stored(batch)
        assert stored.dtype == batch.dtype
        assert stored.view(-1).tolist() == pytest.approx([math.atanh(0.5), 3, 1])


@pytest.mark.parametrize("memory", [None, "gru"])
def test_held_out_episodes_are_measured(memory: str | None) -> None:
    algorithm, data = cloned(memory=memory), made([3, 4])
    found = HeldOut(algorithm, data).measure()
    model, total, right = algorithm.model, 0.0, 0
    for first, length in ((0, 3), (4, 4)):
        carry = model.initial_carry(1)
        for step in range(length):
            output = algorithm.policy.step(torch.from_numpy(data.obs[first + step][None]), carry, None)
            taken = torch.from_numpy(data.action[first - (first > 0) + step][None])
            parameters, _ = model.act(torch.from_numpy(data.obs[first + step][None]), carry)
            total -= float(model.distribution(parameters, None).log_prob(taken).detach())
            right += int(output.action == taken)
            carry = output.carry
    assert found["loss"] == pytest.approx(total / 7, abs=1e-5)
    assert found["accuracy"] == pytest.approx(right / 7)
    assert np.sum(found["confusion"]) == 7


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_values_of_what_follows_are_of_the_memory_there(memory: str) -> None:
    algorithm, gamma = cloned(memory=memory, vf_coef=0.5, gamma=0.9), 0.9
    data = made([3, 7])
    data.terminated[:] = False  # limits ended both
    state = RecordedState(0, None, None, (), EpisodeTracker(1), torch.Generator(), "", data)
    played = Playback(algorithm.policy, state, 0)
    piece = played.collect(5).trajectory  # 2 columns, in which an episode ends within, at the last step or not
    assert piece.final is not None
    after = {(int(t), int(n)): obs for t, n, obs in zip(*piece.final[:3], strict=True)}
    model, found = algorithm.model, algorithm.prepare(piece, {})["return"]
    for n in range(piece.reward.shape[1]):
        carry, worth, ends = model.initial_carry(1), [], piece.truncated[:, n].tolist()
        for t in range(5):
            carry = model.initial_carry(1) if piece.start[t, n] else carry
            carry = model.act(piece.obs[t, n][None], carry)[1]
            obs = after[t, n] if ends[t] else piece.last_obs[n]
            worth.append(float(model.value(obs[None], carry).detach()) if ends[t] or t == 4 else None)
        expected = 0.0
        for t in reversed(range(5)):
            expected = float(piece.reward[t, n]) + gamma * (expected if worth[t] is None else worth[t])
            assert float(found[t, n].detach()) == pytest.approx(expected, abs=1e-5)


def test_numbers_among_choices_need_not_be_equal_to_be_right() -> None:
    space = Hybrid({"arm": spaces.Box(-1, 1, (2,)), "go": spaces.Discrete(3)})
    data = made([3, 4])
    data.own_spaces, algorithm = (SPACES[0], space), BC(SPACES[0], space, BCConfig())
    data.action = np.array([[0.5, -0.5, go] for go in (0, 1, 2, 2, 1, 0, 0)], np.float32)
    told = data.action + np.float32([0.1, 0, 0])
    told[1, 2] = 0
    with mock.patch.object(HeldOut, "_foretold", return_value=(0.5, told)):
        found = HeldOut(algorithm, data).measure()
    assert found["accuracy"] == pytest.approx(6 / 7)
    assert found["mse"] == pytest.approx(0.01 / 2, rel=1e-4)


def test_very_many_actions_need_no_matrix() -> None:
    algorithm, data = BC(SPACES[0], spaces.Discrete(50_000), BCConfig(net_arch=[4])), made([3, 4])
    data.own_spaces = SPACES[0], spaces.Discrete(50_000)
    found = HeldOut(algorithm, data).measure()
    assert "confusion" not in found
    assert len(found["f1"]) == 50_000


def test_the_entropy_of_a_squashed_policy_is_its_own_whatever_was_recorded() -> None:
    algorithm = BC(SPACES[0], BOX, BCConfig(squash_output=True))
    obs, valid = torch.zeros(2, 2), None
    told = []
    for action in (torch.zeros(2, 2), torch.ones(2, 2)):
        minibatch = {"obs": obs, "action": algorithm.model.stored(action), "valid": valid}
        told.append(float(algorithm.loss(algorithm.model, minibatch, {})[1]["entropy"]))
    assert told[0] == told[1]
    policy, _ = algorithm.model(torch.zeros(50_000, 2), (), None)
    action = policy.sample(torch.randn(50_000, 2, generator=torch.Generator().manual_seed(0)))
    assert told[0] == pytest.approx(float(-policy.log_prob(action).mean()), abs=0.05)


def test_stacked_observations_are_those_of_their_episode() -> None:
    data = made([3, 2])
    stacked = prepared(data, 3, False)
    assert stacked.obs.shape == (7, 6)
    first, second = data.obs[0].tolist(), data.obs[1].tolist()
    assert stacked.obs[1].tolist() == [*first, *first, *second]
    assert stacked.obs[4].tolist() == [*data.obs[4].tolist()] * 3
    assert stacked.obs[6].tolist() == [*data.obs[4], *data.obs[5], *data.obs[6]]


def test_actions_are_rescaled_as_the_policy_has_them() -> None:
    data = made([2])
    data.own_spaces = SPACES[0], spaces.Box(0, 4, (1,))
    data.action = np.array([[0.0], [3.0]], np.float32)
    assert prepared(data, 1, True).action.tolist() == [[-1], [0.5]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("h5py")
    out = tmp_path_factory.mktemp("recorded") / "cartpole"
    words = "record heuristic --env CartPole-v1 --env-kwargs max_episode_steps=60 --episodes 10 --exploration 0 0.1"
    assert agents([*words.split(), "--out", str(out)]) == 0
    return out


def test_a_clone_does_as_it_was_shown(recorded: Path, tmp_path: Path) -> None:
    run = train(tmp_path, f"{QUICK} --env CartPole-v1 --env-kwargs max_episode_steps=60 --data {recorded} -n 9000")
    report = json.loads((run / "held_out.json").read_text())
    assert report["episodes"] == 2
    assert report["accuracy"] > 0.75
    assert json.loads((run / "summary.json").read_text())["eval_mean"] == 60
    tags = (run / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"heldout/loss", "heldout/accuracy", "heldout/macro_f1", "train/neglogp", "train/value_loss"} <= {*tags}


def test_half_a_training_gone_on_with_is_the_whole(recorded: Path, tmp_path: Path) -> None:
    words = f"--algo bc --env CartPole-v1 --data {recorded} --patience 0 --n-steps 16 --schedule-total 2000 --balanced"
    words += " --eval-freq 450 --eval-episodes 2 --eval-max-steps 60 --final-eval-episodes 0 --device cpu --norm-obs"
    whole = train(tmp_path / "whole", f"{words} -n 2000")
    with stopped_at(Playback, "collect", 2):
        half = train(tmp_path / "half", f"{words} -n 2000", code=130)
    assert_same_run(whole, resume(half))


def test_data_that_changed_are_not_gone_on_with(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path, f"{QUICK} --env CartPole-v1 --data {recorded} -n 500")
    file = recorded / "data" / "main_data.hdf5"
    before = file.read_bytes()
    import h5py

    with h5py.File(file, "a") as whole:
        whole["episode_0/rewards"][0] = 7
    try:
        resume(run, "-n 2000", code=2)
    finally:
        file.write_bytes(before)
    assert "the recorded data are not those that the run began with" in capsys.readouterr().err


def test_continuous_actions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(400, 3)).astype(np.float32)
    ends = np.arange(400) % 40 == 39
    columns = {"observations": obs, "actions": 2 * np.tanh(obs[:, :1]), "rewards": np.ones(400), "timeouts": ends}
    np.savez(tmp_path / "d.npz", **columns)
    run = train(tmp_path, f"{QUICK} --env Pendulum-v1 --data {tmp_path / 'd.npz'} -n 12000 --rescale-action")
    report = json.loads((run / "held_out.json").read_text())
    assert report["r2"] > 0.95
    assert math.isfinite(report["mse"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--env CartPole-v1", "which recorded episodes?"),
        ("--env CartPole-v1 --data nowhere", "recorded data expected"),
        ("--env MountainCar-v0 --data {}", "its observations are of"),
        ("--env CartPole-v1 --data {} --held-out 1", "held_out"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_in_one_line(
    words: str, said: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agents(["train", "--algo", "bc", *words.format(recorded).split()]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told.replace("-", "_") or said in told


def test_episodes_of_columns_are_cut_where_they_end() -> None:
    base = made([3])
    obs = np.arange(24, dtype=np.float32).reshape(4, 2, 3)[..., :2]
    flags = np.zeros((4, 2), bool)
    terminated, truncated = flags.copy(), flags.copy()
    terminated[1, 0], truncated[3, 1] = True, True
    columns = {"obs": obs, "next_obs": obs + 100, "action": np.arange(8).reshape(4, 2)}
    columns |= {"reward": np.ones((4, 2), np.float32), "terminated": terminated, "truncated": truncated}
    data = of_columns(base, columns)
    assert data.lengths.tolist() == [2, 2, 4]
    assert data.action.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert data.obs[2].tolist() == (obs[1, 0] + 100).tolist()
    assert data.obs[3].tolist() == obs[2, 0].tolist()
    assert data.obs[-1].tolist() == (obs[3, 1] + 100).tolist()
    assert data.terminated.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_what_is_no_transition_is_in_no_episode() -> None:
    obs = np.arange(6, dtype=np.float32)[:, None, None].repeat(2, axis=2)
    columns = {"obs": obs, "next_obs": obs + 1, "action": np.arange(6)[:, None]}
    columns |= {"reward": np.ones((6, 1), np.float32), "terminated": np.array([0, 1, 0, 0, 0, 0], bool)[:, None]}
    columns |= {"truncated": np.zeros((6, 1), bool), "valid": np.array([1, 1, 0, 1, 1, 1], bool)[:, None]}
    data = of_columns(made([3]), columns)
    assert data.lengths.tolist() == [2, 3]
    assert data.action.tolist() == [0, 1, 3, 4, 5]
    assert data.obs[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_round_of_asking_in_which_nothing_happens_adds_nothing() -> None:
    """Where an autoreset takes a tick of its own, a round of one tick may be that."""
    env = ClockEnv(1, lengths=lambda *_: 1, dummies=True)
    policy, built = make_ppo().policy, Builder(env.own_spaces)
    built.add(np.zeros((2, 3), np.float32), np.zeros(1, int), np.zeros(1), np.ones(1, bool), np.zeros(1, bool))
    begun = ActorState.begin(env, policy, 0, torch.Generator().manual_seed(0))
    state, told = RecordedState.of(begun, "", built.finish()), list[list[int]]()
    state.obs = env.step(np.zeros(1, np.int64)).obs  # the next tick is the autoreset

    def label(obs: np.ndarray) -> np.ndarray:
        return np.full(len(obs), 2)

    played = DaggerPlayback(policy, state, 0, env, label, 1, [0] * 4, lambda action: told.append(action.tolist()))
    for rounds, count in ((1, 0), (2, 1), (3, 1), (4, 2)):
        played._ask()
        assert state.rounds == rounds
        assert (0 if state.added is None else len(state.added)) == count
        again = RecordedState.of(begun, "", state.base)
        again.load_state_dict(state.state_dict())
        assert again.rounds == rounds
    assert told == [[0, 2], [0, 2, 2]]


DAGGER = "--algo bc --env CartPole-v1 --dagger-steps 40 --dagger-rounds 2 -n 2000 --n-steps 16 --eval-freq 450 "
DAGGER += "--balanced --eval-episodes 2 --eval-max-steps 60 --final-eval-episodes 0 --device cpu"


def test_an_expert_labels_what_the_policy_does(recorded: Path, tmp_path: Path) -> None:
    expert = train(tmp_path / "expert", "--env CartPole-v1 --n-envs 2 --n-steps 32 --batch-size 32 -n 64 --eval-freq 0")
    asked: list[np.ndarray] = []
    seen: list[list[int]] = []
    ask, see = DaggerPlayback._ask, BC.see

    def seeing(self: BC, action: torch.Tensor) -> None:
        seen.append(action.tolist())
        see(self, action)

    def looked(self: DaggerPlayback) -> Any:
        before = self.state.step
        episodes = ask(self)
        assert self.state.step == before
        added = self._recorded.added
        assert added is not None
        asked.append(added.action.copy())
        act = load_policy(expert).policy.actor()
        assert added.action.tolist() == act(added.at(added.rows), (), None).action.tolist()
        return episodes

    with mock.patch.object(DaggerPlayback, "_ask", looked), mock.patch.object(BC, "see", seeing):
        whole = train(tmp_path / "whole", f"{DAGGER} --data {recorded} --dagger {expert}")
    assert [len(labels) for labels in asked] == [40, 80]
    assert seen == [seen[0], *(seen[0] + labels.tolist() for labels in asked)], "what weighs actions knows them all"
    with stopped_at(Playback, "collect", 3):
        half = train(tmp_path / "half", f"{DAGGER} --data {recorded} --dagger {expert}", code=130)
    assert_same_run(whole, resume(half))


def test_an_expert_of_another_environment_is_refused(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expert = train(tmp_path, "--env Acrobot-v1 --n-envs 2 --n-steps 32 --batch-size 32 -n 64 --eval-freq 0")
    words = f"--algo bc --env CartPole-v1 --data {recorded} --dagger {expert}"
    assert agents(["train", *words.split()]) == 2
    assert "this policy does not fit: it learnt observations" in capsys.readouterr().err
