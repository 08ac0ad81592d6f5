"""The Python API: what `docs/python.md` promises, and its mistakes."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
import signal
import subprocess
import sys
import traceback
from abc import ABC
from pathlib import Path
from unittest import mock

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import agents
from agents import DQN, PPO, load
from agents.acting.collector import TickCollector
from agents.acting.policies import ActorCriticPolicy
from agents.api import arguments, habits
from agents.api.shown import Video
from agents.core.signals import handling
from agents.evaluate import main as evaluate_command
from agents.prune import main as prune_command
from agents.run.trees import read_tree, write_tree
from agents.train import Options
from envs.adapters.workers import WorkersVecEnv
from envs.errors import UserError
from envs.objects import named
from tests.printed import printed_json
from tests.run.running import signals_at
from tests.run.user_envs import Counting

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"n_envs": 2, "n_steps": 32, "batch_size": 32, "net_arch": [8]}

SIZES = {PPO: SMALL, DQN: {"n_envs": 2, "net_arch": [8], "learning_starts": 64, "batch_size": 16}}


class Odd(gymnasium.Env):
    """Right is the action 6, whose reward is 1; spaces are none of the canonical ones."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Tuple((spaces.Discrete(3, start=2), spaces.Box(-1, 1, (), np.float64)))
    action_space = spaces.Discrete(2, start=5)

    def __init__(self, length=8, render_mode=None):
        self.length, self.render_mode = length, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return (2, np.float64(0)), {}

    def step(self, action):
        assert action in (5, 6)
        self.steps += 1
        return (2 + self.steps % 3, np.float64(0.5)), float(action == 6), False, self.steps >= self.length, {}

    def render(self):
        return np.full((32, 32, 3), self.steps, np.uint8)


def test_smaller_models_are_made_from_python(tmp_path):
    model = PPO("CartPole-v1", device="cpu", final_eval_episodes=0, **SMALL).learn(64, quiet=True)
    student = model.distil(net_arch=[4], steps=512, runs_dir=tmp_path, quiet=True)
    assert student.config.params.network.net_arch == (4,)
    said = {json.loads(file.read_text())["from"] for file in tmp_path.glob("*/origin.json")}
    assert said == {"a model in memory"}
    pruned = model.prune(0.5, runs_dir=tmp_path, quiet=True)
    weight = pruned.get_parameters()["policy"]["policy_torso.layers.0.weight"]
    assert 0 < int((weight == 0).sum()) < weight.numel()
    model.close()


def weights(model):
    return torch.cat([value.flatten() for value in model.policy.model.state_dict().values()])


@pytest.mark.parametrize(("page", "blocks"), [("docs/python.md", 8), ("README.md", 2)])
def test_the_page_runs(tmp_path, monkeypatch, page, blocks):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) >= blocks
    small = re.sub(r"(learn|train)\([\d_]+", r"\1(512", "\n".join(code))
    exec(compile(small, page, "exec"), {"__name__": "page"})


def test_names_are_looked_up_without_pytorch():
    script = "import sys; from agents import PPO, DQN, load; assert 'torch' not in sys.modules; print(PPO.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "PPO"
    assert {"PPO", "DQN", "Model", "load"} <= set(dir(agents))
    with pytest.raises(ImportError, match=r"agents has no 'PP0'. Did you mean PPO.* There are .*DQN"):
        from agents import PP0  # noqa: F401
    with pytest.raises(ImportError, match=r"There is no TD3 here; SAC.env. comes nearest. There are .*DQN, .*PPO"):
        from agents import TD3  # noqa: F401
    from agents import doctor  # a module of the package

    assert doctor.__name__ == "agents.doctor"
    with pytest.raises(AttributeError, match="Did you mean PPO"):
        agents.PPOO  # noqa: B018


@pytest.mark.parametrize(
    ("env", "length"),
    [
        (Odd, 8),
        (Odd(length=5), 5),
        (lambda: Odd(length=4), 4),
        (gymnasium.wrappers.TimeLimit(Odd(), 3), 3),
    ],
)
def test_environments_given_as_objects(env, length):
    model = PPO(env, seed=3, **SMALL)
    model.learn(512, quiet=True)
    result = model.evaluate(4)
    assert result.lengths.tolist() == [length] * 4
    assert result.mean == length
    assert result.std == 0
    assert repr(result) == f"Evaluation(mean={length}.00, std=0.00, episodes=4)"
    assert named(env) == named(env), "the same object has the same id again"


def test_a_made_environment_is_made_again_as_it_was():
    assert named(gymnasium.make("Pendulum-v1", g=5.0, max_episode_steps=70, render_mode="rgb_array")) == (
        "Pendulum-v1",
        {"g": 5.0, "max_episode_steps": 70},
    )
    assert named(gymnasium.make("CartPole-v1")) == ("CartPole-v1", {})
    assert named(Path("a") / "b.py") == (str(Path("a") / "b.py"), {})


def test_a_file_of_settings_is_overridden_by_what_is_given_alone(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("seed: 7\nvec: sync\ncompile: 'off'\ndevice: cpu\nenv_kwargs: {sutton_barto_reward: true}\n")
    config = PPO("CartPole-v1", config=file).config
    assert (config.seed, config.vec, config.compile, config.device) == (7, "sync", "off", "cpu")
    config = PPO("CartPole-v1", config=file, seed=0, vec="auto").config
    assert (config.seed, config.vec, config.compile, config.device) == (0, "auto", "off", "cpu")
    assert config.env_kwargs == {"sutton_barto_reward": True}
    assert (PPO("CartPole-v1").config.seed, PPO("CartPole-v1").config.device) == (0, "auto")


def test_arguments_of_the_environment_are_such_as_files_hold(tmp_path):
    given = {"length": np.int64(5), "more": (Path("a"), {"b": np.float32(0.5)}), "end": None}
    model = PPO(lambda length, more, end: Odd(length), env_kwargs=given, **SMALL)
    assert model.config.env_kwargs == {"length": 5, "more": ("a", {"b": 0.5}), "end": None}
    kept = load(model.save(tmp_path / "model")).config.env_kwargs
    assert kept == {"length": 5, "more": ["a", {"b": 0.5}], "end": None}
    gymnasium.register("Odd-v0", Odd)
    made = gymnasium.make("Odd-v0", length=np.int64(3), disable_env_checker=True)
    assert PPO(made, **SMALL).learn(64, quiet=True).save(tmp_path / "made").is_dir()
    gymnasium.registry.pop("Odd-v0")


def test_predict_speaks_the_environments_own_spaces():
    model = PPO(Odd, seed=3, **SMALL).learn(1024, quiet=True)
    assert model.observation_space == Odd.observation_space
    assert model.action_space == Odd.action_space
    action, state = model.predict((2, np.float64(0.0)))
    assert action == 6
    assert np.shape(action) == ()
    assert state == ()
    actions, _ = model.predict((np.array([2, 3, 4]), np.array([0.0, 0.5, 0.5])))
    assert actions.tolist() == [6, 6, 6]
    untrained = PPO(Odd, seed=0, **SMALL)
    drawn = untrained.predict((np.full(200, 2), np.zeros(200)), deterministic=False)[0]
    assert set(drawn.tolist()) == {5, 6}
    with pytest.raises(UserError, match=r"observation '0'.*Tuple\(Discrete\(3, start=2\)"):
        model.predict(np.zeros(4))


def test_predict_takes_tensors_that_a_gradient_runs_through():
    model = PPO(Odd, **SMALL)
    plain = (np.array([2, 3]), np.array([0.0, 0.5]))
    tensors = (torch.tensor([2, 3]), torch.tensor([0.0, 0.5], requires_grad=True) * 1)
    assert model.predict(tensors)[0].tolist() == model.predict(plain)[0].tolist()
    model = PPO("CartPole-v1", **SMALL)
    assert model.predict([torch.zeros(4, requires_grad=True)])[0] == model.predict(np.zeros((1, 4)))[0]


def test_a_memory_is_carried_and_forgotten_at_an_episodes_start():
    model = PPO("Corridor-v0", memory="gru", seed=1, **SMALL).learn(128, quiet=True)
    obs = np.ones(2, np.float32)
    _, first = model.predict(obs)
    _, second = model.predict(obs, first)
    _, again = model.predict(obs, first, episode_start=True)
    kept, fresh, new = (torch.cat([leaf.flatten() for leaf in _leaves(state)]) for state in (second, first, again))
    assert not kept.equal(fresh)
    assert new.equal(fresh)


def test_the_last_observations_are_seen_together_by_predict_as_in_evaluations(tmp_path):
    env = gymnasium.make("CartPole-v1")
    model = DQN("CartPole-v1", frame_stack=3, on_nan="fill", n_envs=2, learning_starts=32, seed=3).learn(64, quiet=True)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    obs, _ = env.reset(seed=0)
    seen, state, start = [obs] * 3, None, True
    for t in range(12):
        shown = np.concatenate(seen)[None]
        wanted = model.policy.predict(shown)[0][0]
        given = np.where(np.arange(4) == 1, np.nan, obs) if t == 2 else obs
        if t == 2:  # where it is NaN the last one counts
            shown[0, 9] = seen[-2][1]
            wanted = model.policy.predict(shown)[0][0]
        action, state = loaded.predict(given, state, start)
        assert action == wanted
        if t == 2:
            break
        obs, _, terminated, *_ = env.step(int(action))
        start = bool(terminated)
        seen = [*seen[1:], obs]
    assert loaded.evaluate(2).mean == model.evaluate(2).mean


def _leaves(tree):
    return [leaf for part in tree for leaf in _leaves(part)] if isinstance(tree, tuple) else [tree]


def test_masks_from_info_are_handed_on():
    model = DQN("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", n_envs=1, net_arch=[8], learning_starts=50)
    env = gymnasium.make(model.config.env)
    obs, info = env.reset(seed=0)
    for _ in range(30):
        action, _ = model.predict(obs, action_masks=info["action_mask"])
        assert info["action_mask"][action] == 1
        obs, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            obs, info = env.reset()
    with pytest.raises(UserError, match="action_mask allows no action"):
        model.predict(obs, action_masks=np.zeros(6, np.int8))


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_saved_models_go_on_exactly(tmp_path, kind):
    model = kind("CartPole-v1", seed=5, **SIZES[kind]).learn(256, quiet=True)
    twin = load(model.save(tmp_path / "model"))
    assert type(twin) is kind
    assert twin.num_timesteps == model.num_timesteps
    assert twin.evaluate(3).returns.tolist() == model.evaluate(3).returns.tolist()
    for one in (model, twin):
        one.learn(256, quiet=True)
    assert weights(model).equal(weights(twin))
    model.save(tmp_path / "model", training=False)
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    alone = load(str(tmp_path / "model"))
    assert weights(alone).equal(weights(model))
    alone.learn(64, quiet=True)
    assert alone.num_timesteps == model.num_timesteps + 64
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="holds no model"):
        model.save(tmp_path / "other")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it goes on on its GPU")
@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_model_trained_on_a_device_that_is_not_here_is_trained_on(tmp_path, device):
    place = PPO("CartPole-v1", final_eval_episodes=0, **SMALL).learn(64, quiet=True).save(tmp_path / "model")
    tensors, meta = read_tree(place, "model")
    meta["config"] |= {"device": "cuda", "precision": "tf32", "compile": "kernels"}
    write_tree(place, "model", tensors, meta)
    model = load(place, device=device)
    model.set_parameters(model.get_parameters())
    assert model.learn(64, quiet=True).num_timesteps == 128
    pruned = load(place, device=device).prune(runs_dir=tmp_path, quiet=True)
    distilled = load(place, device=device).distil(steps=512, runs_dir=tmp_path, quiet=True)
    assert (pruned.config.device, distilled.config.device) == ("cpu", "cpu")
    assert prune_command([str(place), "--episodes", "0", "--quiet", "--runs-dir", str(tmp_path)]) == 0
    with pytest.raises(UserError, match="--device cuda"):
        load(place, device="cuda")


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_a_model_saved_as_it_was_loaded_goes_on_exactly(tmp_path, kind):
    model = kind("CartPole-v1", seed=5, **SIZES[kind]).learn(256, quiet=True)
    place = model.save(tmp_path / "model")
    load(place).save(place)
    again = load(load(place).save(tmp_path / "copy"))
    third = load(place)
    third.save(place, training=False)  # what it was loaded with is in memory still
    for one in (model, again, third):
        one.learn(256, quiet=True)
    assert weights(model).equal(weights(again))
    assert weights(model).equal(weights(third))
    assert sorted(file.name for file in place.iterdir()) == ["model.json", "model.safetensors"]


def test_a_run_loaded_and_saved_goes_on_exactly(tmp_path):
    model = DQN("CartPole-v1", seed=0, **SIZES[DQN]).learn(256, runs_dir=tmp_path / "runs", quiet=True)
    copied = load(load(model.summary.run, "latest").save(tmp_path / "copy"))
    for one in (model, copied):
        one.learn(64, quiet=True)
    assert weights(copied).equal(weights(model))


def test_a_model_replaced_since_it_was_loaded_is_no_training_to_go_on_with(tmp_path):
    place = PPO("CartPole-v1", seed=5, **SMALL).learn(64, quiet=True).save(tmp_path / "model")
    first, second = load(place), load(place)
    second.learn(64, quiet=True).save(place)
    with pytest.raises(UserError, match=r"training of step 128, and the model that was loaded is of step 64.*again"):
        first.learn(64, quiet=True)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_a_closed_model_goes_on_exactly(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    kind("CartPole-v1", seed=9, **SIZES[kind]).learn(64, quiet=True).save(kind.__name__)  # no business of the next
    whole, parts = (kind("CartPole-v1", seed=5, **SIZES[kind]) for _ in range(2))
    whole.learn(256, quiet=True)
    parts.learn(256, quiet=True).close()
    assert parts.num_timesteps == 256
    assert weights(parts).equal(weights(whole))
    saved = load(parts.save(tmp_path / "closed"))
    parts.close()
    for one in (whole, parts, saved):
        one.learn(256, quiet=True)
    parts.close()
    for one in (whole, parts):
        one.learn(64, quiet=True)
    saved.learn(64, quiet=True)
    assert weights(parts).equal(weights(whole))
    assert weights(saved).equal(weights(whole))


def test_a_large_replay_buffer_is_kept_by_a_closed_model(monkeypatch):
    monkeypatch.setattr("agents.core.chunks.CHUNK_BYTES", 256)
    whole, parts = (DQN("CartPole-v1", seed=5, buffer_size=200, **SIZES[DQN]) for _ in range(2))
    for one in (whole, parts):
        one.learn(256, quiet=True)
    parts.close()
    for one in (whole, parts):
        one.learn(256, quiet=True)
    assert weights(parts).equal(weights(whole))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda place: (place / "config.yaml").write_text("seed: 1"), "holds a run, which would be lost"),
        (lambda place: (place / "notes.txt").write_text("mine"), "holds notes.txt beside a model"),
        (lambda place: (place / "model.json").write_text("{}"), "holds no model of ours"),
        (lambda place: (place / "code").mkdir(), "holds code beside a model"),
        (lambda place: (place / "best").mkdir(), "holds best beside a model"),
        (lambda place: (place / "model.json").unlink(), "holds no model:"),
    ],
)
def test_a_model_replaces_only_what_save_wrote(tmp_path, spoil, message):
    model = PPO("CartPole-v1", seed=5, **SMALL)
    place = model.save(tmp_path / "model")
    assert model.save(place) == place
    spoil(place)
    before = sorted(place.iterdir())
    with pytest.raises(UserError, match=message):
        model.save(place)
    assert sorted(place.iterdir()) == before


def test_a_model_replaces_no_run_and_no_part_of_one(tmp_path):
    model = PPO("CartPole-v1", seed=0, final_eval_episodes=2, **SMALL).learn(64, runs_dir=tmp_path, quiet=True)
    run = Path(model.summary.run)
    before = sorted(run.rglob("*"))
    for place in (run, *(run / "checkpoints").iterdir(), run / "model.json"):
        with pytest.raises(UserError, match=r"is there already, and (holds a run|is part of the run|is no folder)"):
            model.save(place)
    assert sorted(run.rglob("*")) == before


def test_leaving_the_loop_and_learning_on_is_one_training():
    whole = PPO("CartPole-v1", seed=2, **SMALL)
    for _ in whole.train(640):
        pass
    parts = PPO("CartPole-v1", seed=2, **SMALL)
    for progress in parts.train(640):
        if progress.step >= 256:
            break
    assert parts.num_timesteps == 256
    parts.learn(640 - 256, quiet=True)
    assert parts.num_timesteps == whole.num_timesteps == 640
    assert weights(parts).equal(weights(whole))
    assert {"rollout/ep_rew_mean", "train/loss", "time/fps"} <= progress.scalars.keys()


def test_what_is_loaded_without_a_trainings_state_learns_on_from_its_weights(tmp_path):
    model = PPO("CartPole-v1", seed=2, learning_rate=1e-30, **SMALL).learn(64, quiet=True)
    with torch.no_grad():
        for parameter in model.policy.model.parameters():
            parameter.add_(0.1)  # another model than the seed alone makes
    alone = load(model.save(tmp_path / "model", training=False))
    for _ in range(2):
        alone.learn(64, quiet=True)
        torch.testing.assert_close(weights(alone), weights(model))  # steps of this size change nothing


@pytest.mark.parametrize("kept", [False, True], ids=["alone", "as a run"])
@pytest.mark.parametrize("how", ["raises", "Ctrl-C", "async"])
def test_a_round_that_breaks_off_leaves_no_false_transition(tmp_path, monkeypatch, how, kept):
    vec = "async" if how == "async" else "sync"
    settings = {**SIZES[DQN], "learning_starts": 1000, "eval_freq": 0, "final_eval_episodes": 0}
    model = DQN(Counting, vec=vec, **settings)
    runs = {"runs_dir": tmp_path / "runs", "quiet": True} if kept else {"quiet": True}
    model.learn(256, quiet=True)
    if how == "raises":
        monkeypatch.setattr(Counting, "raises", ValueError("no"))
        with pytest.raises(UserError, match="raised ValueError at step 200"):
            model.learn(320, **runs)
    else:
        kind, name = (WorkersVecEnv, "receive") if how == "async" else (TickCollector, "_write")
        method, calls = getattr(kind, name), []

        def counting(*given):
            calls.append(1)
            if len(calls) == 72:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)  # the second one stops a run at once
            return method(*given)

        heard = handling(signal.default_int_handler, signal.SIGINT)  # which a background job may be told to ignore
        with heard, mock.patch.object(kind, name, counting), pytest.raises(KeyboardInterrupt):
            model.learn(320, **runs)
    assert model.num_timesteps == 384
    assert model.config.params.total_timesteps == 576
    weights_then = weights(model)
    loaded = load(model.save(tmp_path / "model"))
    for one in (model, loaded):
        assert weights(one).equal(weights_then)
        one.learn(64, quiet=True)
        replay = one._training.replay
        rows = torch.arange(448)
        stepped = replay.flat["next_obs"][rows] - replay.flat["obs"][rows]
        assert stepped.unique().tolist() == [1.0]
        assert replay.flat["obs"][384:386].flatten().tolist() == [0.0, 0.0], "new episodes"
        one.close()


def test_a_training_that_is_closed_within_its_loop_ends_it():
    model = PPO("CartPole-v1", **SMALL)
    rounds = model.train(256)
    next(rounds)
    model.close()
    with pytest.raises(UserError, match=r"closed while this loop went on; another train\(\) goes on from there"):
        next(rounds)
    assert model.learn(quiet=True).num_timesteps == 256


def test_means_of_episodes_go_on_with_the_next_call():
    model = PPO("MountainCar-v0", n_envs=1, n_steps=100, batch_size=50, net_arch=[8])
    assert ["rollout/ep_rew_mean" in progress.scalars for progress in model.train(200)] == [False, True]
    assert [progress.scalars["rollout/ep_rew_mean"] for progress in model.train(100)] == [-200.0]


def test_scalars_are_the_same_whenever_they_are_read():
    for progress in PPO("CartPole-v1", **SMALL).train(128):
        assert {"train/loss", "time/fps"} <= progress.scalars.keys()
        assert progress.scalars == progress.scalars
        assert "train/loss" in progress.scalars


def test_learn_without_a_number_trains_what_is_left_or_as_much_again(tmp_path):
    model = PPO("CartPole-v1", total_timesteps=128, **SMALL)
    assert model.learn(quiet=True).num_timesteps == 128
    assert model.learn(quiet=True).num_timesteps == 256
    assert [progress.step for progress in model.train()] == [320, 384]
    assert model.learn(64, quiet=True).num_timesteps == 448
    for progress in model.train(128):
        if progress.step == 512:
            break
    assert model.learn(quiet=True).num_timesteps == 576, "what was left of the last call's"
    loaded = load(model.save(tmp_path / "model"))
    before = loaded.config.params.total_timesteps
    assert loaded.learn(quiet=True).num_timesteps == 576 + before
    model.learn(runs_dir=tmp_path, quiet=True)
    assert model.summary.steps == 704


def test_a_training_that_cannot_begin_leaves_all_as_it_was(tmp_path):
    model = PPO("CartPole-v1", pretrained=str(tmp_path / "gone"), total_timesteps=192, **SMALL)
    for _ in range(2):  # the second try begins with no other weights either
        with pytest.raises(UserError, match="gone is not there"):
            model.learn(64, quiet=True)
    assert model._training is None
    assert model.config.params.total_timesteps == 192


def test_the_same_seed_plays_the_episodes_of_the_command(tmp_path, capsys):
    model = PPO("CartPole-v1", seed=2, **SMALL)
    found = model.evaluate(4, seed=3)
    assert evaluate_command([str(model.save(tmp_path / "model.zip")), "--episodes", "4", "--seed", "3", "--json"]) == 0
    summary = printed_json(capsys)
    assert (summary["mean"], summary["length_min"], summary["length_max"]) == (
        found.mean,
        found.lengths.min(),
        found.lengths.max(),
    )
    assert len(set(found.lengths.tolist())) > 1


def test_a_run_kept_from_python(tmp_path):
    model = PPO("CartPole-v1", seed=0, **SMALL).learn(128, quiet=True)
    model.learn(256, runs_dir=str(tmp_path), name="kept", quiet=True)
    assert (model.summary.steps, model.summary.first_step) == (384, 128)
    assert "__kept__s0__" in model.summary.run
    last = load(model.summary.run, "latest")
    assert last.num_timesteps == 384
    for one in (model, last):
        one.learn(64, quiet=True)
    assert weights(last).equal(weights(model))


@pytest.mark.parametrize(
    "call", [lambda model, **how: model.learn(640, **how), lambda model, **how: model.distil(**how)]
)
def test_a_stopped_run_stops_the_program_and_goes_on(tmp_path, call):
    model = PPO("CartPole-v1", device="cpu", final_eval_episodes=0, **SMALL).learn(64, quiet=True)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped, signals_at(128, signal.SIGINT):
        call(model, runs_dir=tmp_path, quiet=True)
    (run,) = tmp_path.iterdir()
    assert stopped.value.__notes__ == [f"What was learnt is saved in {run}."]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["interrupted"] is True
    assert load(run, "latest", trust=True).num_timesteps == summary["steps"]
    assert signal.getsignal(signal.SIGINT) is before
    assert model.learn(64, runs_dir=tmp_path / "on", quiet=True).summary.interrupted is False


def test_a_name_is_that_of_one_run_and_is_checked_before_it_begins(tmp_path):
    model = PPO("CartPole-v1", seed=0, final_eval_episodes=2, **SMALL)
    for name, message in (("n" * 150, "learn: name: .* at most 100 characters"), (3, "learn: name: 3 given, TEXT")):
        with pytest.raises(UserError, match=message):
            model.learn(64, runs_dir=tmp_path, name=name, quiet=True)
    assert not list(tmp_path.iterdir())
    assert model._training is None
    model.learn(64, runs_dir=tmp_path, name="first", quiet=True)
    assert "__first__s0__" in model.summary.run
    model.learn(64, runs_dir=tmp_path, quiet=True)
    assert "__ppo__s0__" in model.summary.run
    named = PPO("CartPole-v1", name="always", final_eval_episodes=2, **SMALL)
    assert "__always__s0__" in named.learn(64, runs_dir=tmp_path, quiet=True).summary.run


def test_a_recorded_episode_shows_itself(tmp_path):
    model = PPO(Odd, seed=0, **SMALL)
    video = model.record(tmp_path)
    assert isinstance(video, Video)
    assert video.length == 8
    assert video.path.is_file()
    assert 'src="data:video/mp4;base64,' in video._repr_html_()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PPO("MlpPolicy", "CartPole-v1"), r"PPO.env, .* takes the environment alone"),
        (lambda: PPO("CartPole-v1", verbose=1), "PPO.verbose=.*quiet=True"),
        (lambda: PPO("CartPole-v1").learn(1, progress_bar=True), "learn.progress_bar=.*unless quiet=True"),
        (lambda: PPO("CartPole-v1").learn(1, quite=True), "learn.quite=.*no such argument here; did you mean quiet"),
        (lambda: PPO("CartPole-v1", tensorboard_log="x"), "runs_dir="),
        (lambda: PPO("CartPole-v1", gama=0.9), "PPO: gama: unknown setting. Did you mean gamma"),
        (lambda: PPO("CartPole-v1", gamma=2), "PPO: gamma: 2 is out of range"),
        (lambda: PPO("CartPol-v1"), "Did you mean CartPole-v1"),
        (
            lambda: PPO("CartPole-v1", device="mps" if torch.cuda.is_available() else "cuda"),
            "--device .* Use --device cpu",
        ),
        (lambda: PPO("CartPole-v1", runs_dir="x"), r"PPO.runs_dir=.*; runs_dir is an argument of learn.*runs_dir=...."),
        (lambda: PPO("CartPole-v1", quiet=True), "quiet is an argument of learn"),
        (lambda: PPO("CartPole-v1", logdir="x"), "PPO.logdir=.*; runs_dir is an argument of learn"),
        (lambda: PPO("CartPole-v1", runsdir="x"), "PPO.runsdir=.*; runs_dir is an argument of learn"),
        (lambda: PPO("CartPole-v1", watch=True), "PPO.watch=.*python -m agents.watch --follow RUN"),
        (lambda: PPO("CartPole-v1", doctor=True), "PPO.doctor=.*learn.*looks for what keeps"),
        (lambda: PPO("CartPole-v1", resume="x"), r"PPO.resume=.*load.run, 'latest'..learn"),
        (lambda: PPO("CartPole-v1", seeds=3), "PPO.seeds=.*--seeds is an option of the command"),
        (lambda: PPO("CartPole-v1", callback=print), "PPO.callback=.*train.* yields"),
        (lambda: PPO("CartPole-v1", total_steps=1), "total_steps: unknown setting. Did you mean total_timesteps"),
        (lambda: PPO("CartPole-v1").learn(1, verbose=0), "learn.verbose=.*quiet=True"),
        (lambda: PPO("CartPole-v1").learn(1, tensorboard_log="x"), "learn.tensorboard_log=.*runs_dir='runs'"),
        (lambda: PPO("CartPole-v1").learn(1, eval_freq=9), r"eval_freq is given when .*: PPO.env, eval_freq=....$"),
        (lambda: PPO("CartPole-v1").learn(1, lr=1), r"learning_rate is given when .*: PPO.env, learning_rate=....$"),
        (lambda: PPO("CartPole-v1").learn(1, config="x"), r"config is given when the model is made: PPO.env, config="),
        (lambda: PPO("CartPole-v1").learn(1, logdir="x"), "learn.logdir=.*did you mean runs_dir?"),
        (lambda: PPO("CartPole-v1").learn(1, xyz=1), "it takes total_timesteps, quiet, runs_dir, name and replays_dir"),
        (lambda: PPO("CartPole-v1").learn(1, runs_dir=3), "runs_dir: 3 given, a path expected"),
        (
            lambda: PPO("CartPole-v1").learn(1, replays_dir="x"),
            "replays_dir=.* goes with runs_dir, .*; record.folder. rec",
        ),
        (lambda: PPO("CartPole-v1").learn(1, name="x"), "learn.name=.... goes with runs_dir, where the run is kept$"),
        (lambda: PPO("CartPole-v1").learn(True), "total_timesteps: True given, a whole number expected"),
        (lambda: PPO("CartPole-v1", env_kwargs=[1]), r"env_kwargs: \[1\] given, a mapping"),
        (
            lambda: PPO(Odd, env_kwargs={"f": print}),
            r"^env_kwargs: f: builtin_function_or_method given, but numbers.*f=...",
        ),
        (lambda: PPO(Odd, env_kwargs={"a": {"b": [np.zeros(2)]}}), r"^env_kwargs: a: ndarray given, but numbers"),
        (lambda: PPO("CartPole-v1", config={"gamma": 1}), "config: .*gamma.* given, a path .*; settings are keyword"),
        (lambda: PPO("CartPole-v1", trust=3), "trust: 3 given, True, False or the names of code"),
        (lambda: PPO("CartPole-v1", n_steps=np.array([1, 2])), r"n_steps: \[1, 2\] given, INTEGER expected"),
        (lambda: agents.BC("CartPole-v1", data=np.zeros((4, 2))), r"data: an array of shape \(4, 2\) given, but"),
        (lambda: PPO("CartPole-v1").evaluate(1, seed=None), "seed: None given, a whole number expected"),
        (lambda: PPO("CartPole-v1").evaluate(1, seed=-1), "seed: -1 given, a whole number of at least 0"),
        (lambda: PPO("CartPole-v1").record(3), "folder: 3 given, a path expected"),
        (lambda: PPO("CartPole-v1").save(3), "path: 3 given, a path expected"),
        (lambda: PPO("CartPole-v1").set_parameters(3), "set_parameters: 3 given, a path expected, or tensors by name"),
        (lambda: PPO("CartPole-v1").prune("a"), "sparsity: 'a' given, a number expected"),
        (lambda: PPO("CartPole-v1").prune(method="structure"), "magnitude.structured expected. Did you mean struct"),
        (lambda: PPO("CartPole-v1").prune(finetune=-1), "finetune: -1 given, a whole number of at least 0"),
        (lambda: PPO("CartPole-v1").prune(foo=1), "^prune: foo: unknown setting"),
        (lambda: PPO("CartPole-v1").distil(foo=1), "^distil: foo: unknown setting"),
        (lambda: PPO("CartPole-v1").distil(steps=0), "steps: 0 given"),
        (lambda: load(None), "path: none given, a path expected"),
        (lambda: load("x", device="gpu"), "device: 'gpu' given, auto.cpu.cuda.mps expected. Did you mean cpu"),
        (lambda: agents.algorithm(3), "algorithm: 3 given, bc.*ppo.* expected"),
        (lambda: PPO(3), "3 is no environment"),
        (lambda: PPO(gymnasium.make_vec("CartPole-v1", 3)), "n_envs=3"),
        (lambda: DQN("Pendulum-v1").learn(10), "DQN needs a Discrete action space"),
        (lambda: PPO("CartPole-v1").learn(0), "total_timesteps: 0 given"),
        (lambda: PPO("CartPole-v1").learn("1000"), "total_timesteps: '1000' given, a whole number expected"),
        (lambda: PPO("CartPole-v1").evaluate(0), "episodes: 0 given, a whole number of at least 1 expected"),
        (lambda: PPO("CartPole-v1").evaluate(gymnasium.make("CartPole-v1")), r"episodes: .*evaluate.env=...."),
        (lambda: PPO("CartPole-v1", learning_rate=lambda p: p), "PPO.learning_rate=.*: a function .* 'lin_3e-4'"),
        (lambda: PPO("CartPole-v1", learning_rate="x"), "such as lin_3e-4"),
        (lambda: load("nowhere"), "nowhere is no run folder"),
    ],
)
def test_mistakes_are_told_in_one_sentence(build, message):
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("load", "PPO has no 'load': .* from agents import load"),
        ("set_env", r"evaluate.env=...."),
        ("env", "observation_space and action_space"),
        ("logger", "progress.scalars"),
        ("set_random_seed", "seed=..."),
        ("replay_buffer", "save.path. keeps"),
        ("lern", "Did you mean learn"),
    ],
)
def test_attributes_of_sb3_are_answered_with_ours(name, message):
    model = PPO("CartPole-v1", **SMALL)
    for owner in (model, PPO):
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=message) as found:
            getattr(owner, name)
        assert "Did you mean: " not in "".join(traceback.format_exception(found.value))
    with pytest.raises(AttributeError, match=r"PPO has no 'gamma': settings are in config and config.params"):
        model.gamma  # noqa: B018
    assert not hasattr(model.policy, name)
    with pytest.raises(AttributeError, match="ActorCriticPolicy has no 'get_distribution': inspect"):
        model.policy.get_distribution  # noqa: B018


def test_what_is_missing_in_a_property_is_said_as_it_is():
    class Broken(ActorCriticPolicy):
        thing = property(lambda self: self.model.nothing)

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        Broken(PPO("CartPole-v1", **SMALL).policy.model).thing  # noqa: B018
    assert type("Mine", (PPO, ABC), {})("CartPole-v1", **SMALL).num_timesteps == 0


def test_algorithms_of_others_are_answered_with_ours():
    with pytest.raises(AttributeError, match=r"There is no TD3 here; SAC.env. comes nearest. There are .*DQN, .*PPO"):
        agents.TD3  # noqa: B018
    with pytest.raises(AttributeError, match=r"That is DQN.env, preset='rainbow'."):
        agents.Rainbow  # noqa: B018
    with pytest.raises(AttributeError, match=r"That is PPO.env., which finds masks"):
        agents.MaskablePPO  # noqa: B018
    assert not hasattr(agents, "A2C")


@pytest.mark.parametrize("make", [pickle.dumps, copy.deepcopy])
def test_a_model_is_neither_pickled_nor_copied(make):
    with pytest.raises(UserError, match="PPO is neither pickled nor copied: save"):
        make(PPO("CartPole-v1", **SMALL))


@pytest.mark.parametrize("settings", [{}, {"frame_stack": 2}])
def test_what_predict_is_given_belongs_together(settings):
    model = PPO("Corridor-v0", memory="gru", **settings, **SMALL)
    obs = np.zeros((3, 2), np.float32)
    _, state = model.predict(obs)
    _, of_two = model.predict(obs[:2])
    assert len(model.predict(obs[:0])[0]) == 0
    with pytest.raises(UserError, match="the state is that of 2 observations, but 3 are given"):
        model.predict(obs, of_two)
    with pytest.raises(UserError, match=r"episode_start has shape \(1,\), but \(3,\) is expected"):
        model.predict(obs, state, np.array([True]))
    assert str(model.predict(obs, state, True)) == str(model.predict(obs, state, np.ones(3, bool)))
    with pytest.raises(UserError, match=r"observation has shape \(3,\), but its space says \(2,\)"):
        model.predict(np.zeros(3, np.float32))
    with pytest.raises(UserError, match=r"policy.predict takes a batch .* \(2,\) given"):
        model.policy.predict(obs[0])


@pytest.mark.parametrize("settings", [{}, {"frame_stack": 2}])
def test_a_state_that_is_none_of_the_policys_is_refused(settings):
    model = PPO("Corridor-v0", memory="gru", **settings, **SMALL)
    obs = np.zeros(2, np.float32)
    for state in (3, "a", (), np.zeros((1, 3), np.float32)):
        with pytest.raises(UserError, match=r"^the state .*: predict takes what it last returned"):
            model.predict(obs, state)
    _, state = model.predict(obs)
    with pytest.raises(UserError, match=r"^the state .*: predict takes what it last returned"):
        model.predict(obs, [[1, 2], [3]])
    if settings:
        seen, frames = state[1]
        for other in ((np.zeros((1, 5)),) * 2, (seen, {"": frames[""][:, 1:]}), (seen,), ({"": [[0.0, 0.0]]}, frames)):
            with pytest.raises(UserError, match=r"^the state.*: predict takes what it last returned"):
                model.predict(obs, (state[0], other))
    arrays = (np.asarray(state[0]), state[1]) if settings else np.asarray(state)
    assert str(model.predict(obs, arrays)) == str(model.predict(obs, state))


class Pair(Odd):
    """Observations in two parts."""

    observation_space = spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Box(-1, 1, (3,)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}, {}

    def step(self, action):
        _, *rest = super().step(action)
        return {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}, *rest


def test_parts_of_a_batch_and_masks_belong_together():
    model = PPO(Pair, **SMALL)
    parts = {"a": np.zeros((3, 2), np.float32), "b": np.zeros((2, 3), np.float32)}
    with pytest.raises(UserError, match=r"unlike numbers of them \(a 3, b 2\)"):
        model.predict(parts)
    parts["b"] = np.zeros((3, 3), np.float32)
    assert model.predict(parts)[0].shape == (3,)
    with pytest.raises(UserError, match=r"action_masks are given, but the environment .* has none"):
        model.predict(parts, action_masks=np.ones((3, 2)))


def test_every_option_of_the_command_has_an_answer_in_python():
    options = {field.name for field in dataclasses.fields(Options)}
    assert options == habits.COMMAND.keys() | set(arguments.LEARN) - {"total_timesteps", "name"} | set(
        arguments.MADE_WITH
    )


def test_an_environment_that_cannot_be_copied_is_refused():
    env = Odd()
    env.handle = open(__file__, encoding="utf-8")  # noqa: SIM115
    with env.handle, pytest.raises(UserError, match=r"this Odd cannot be copied .* give its class, or a function"):
        PPO(env)
