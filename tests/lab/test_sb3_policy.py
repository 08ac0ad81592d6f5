"""SB3's models as policies of ours: the same actions, and no code run from files that nobody trusts."""

from __future__ import annotations

import base64
import json
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import stable_baselines3
import torch

from agents import PPO, load
from agents.acting.evaluation import PolicyPlayer
from agents.core.tree import to_numpy
from agents.evaluate import main as evaluate
from agents.lab.baselines import make_sb3, sb3_class, train_sb3
from agents.lab.sb3_policy import SB3Policy, load_sb3, sb3_algo, sb3_in_env
from agents.run.models import load_policy
from agents.run.transfer import read_weights
from agents.watch import main as watch
from envs.errors import UserError
from envs.make import make
from tests.printed import printed_json

MASKED = f"{Path(__file__).parents[1] / 'acting' / 'masked_env.py'}:Masked"
SMALL = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}


@pytest.fixture(scope="module")
def ppo() -> Any:
    """PPO on Pendulum, with statistics that matter."""
    model = make_sb3("ppo", "Pendulum-v1", 2, SMALL, 0, normalize={"norm_reward": False})
    model.learn(64)
    return model


@pytest.fixture(scope="module")
def dqn() -> Any:
    model = make_sb3("dqn", "CartPole-v1", 1, {"learning_starts": 10, "exploration_final_eps": 0.5}, 0)
    model.learn(60)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, ppo: Any, dqn: Any) -> Path:
    folder = tmp_path_factory.mktemp("models")
    ppo.save(folder / "ppo.zip")
    ppo.get_vec_normalize_env().save(folder / "statistics.pkl")
    dqn.save(folder / "dqn.zip")
    return folder


def observations(env_id: str, count: int) -> np.ndarray:
    env = make(env_id, count)
    return env.reset(3)


def test_actions_are_sb3s_own(ppo, dqn):
    obs = observations("Pendulum-v1", 40)
    ours = SB3Policy(ppo).choose(obs, None)
    theirs, _ = ppo.predict(ppo.get_vec_normalize_env().normalize_obs(obs), deterministic=True)
    np.testing.assert_array_equal(ours.numpy(), theirs)
    raw, _ = ppo.predict(obs, deterministic=True)
    assert not np.allclose(ours.numpy(), raw), "the statistics were applied"
    obs = observations("CartPole-v1", 40)
    np.testing.assert_array_equal(SB3Policy(dqn).choose(obs, None).numpy(), dqn.predict(obs, deterministic=True)[0])


def test_actions_are_clipped(ppo):
    policy = SB3Policy(ppo)
    bias = ppo.policy.action_net.bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias += 50
    assert (policy.choose(observations("Pendulum-v1", 5), None) == 2).all()
    with torch.no_grad():
        bias.copy_(before)


@pytest.mark.parametrize(("name", "env"), [("ppo", "Pendulum-v1"), ("dqn", "CartPole-v1")])
def test_chance_follows_the_generator_and_leaves_the_global_stream_alone(name, env, request):
    policy, obs = SB3Policy(request.getfixturevalue(name)), observations(env, 60)
    before = torch.get_rng_state()
    first, again, other = (policy.choose(obs, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert torch.get_rng_state().equal(before)


def test_a_file_says_its_algorithm_and_loads_only_if_trusted(saved, ppo):
    assert sb3_algo(saved / "ppo.zip") == "ppo"
    assert sb3_algo(saved / "dqn.zip") == "dqn"
    with pytest.raises(UserError, match=r"runs whatever code its author put there.*add --trust"):
        load_sb3(saved / "ppo.zip", trust=False)
    loaded = load_sb3(saved / "ppo.zip", trust=True, vec_normalize=saved / "statistics.pkl")
    obs = observations("Pendulum-v1", 4)
    assert loaded.choose(obs, None).equal(SB3Policy(ppo).choose(obs, None))
    assert (loaded.step, loaded.algo) == (64, "ppo")


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (open, (str(self.file), "w"))


def test_nothing_in_a_file_is_run_without_trust(saved, tmp_path, capsys):
    sprung = tmp_path / "sprung"
    trap, content = tmp_path / "trap.zip", base64.b64encode(pickle.dumps(Trap(sprung))).decode()
    with zipfile.ZipFile(saved / "ppo.zip") as good, zipfile.ZipFile(trap, "w") as bad:
        for name in good.namelist():
            text = good.read(name)
            if name == "data":
                text = json.dumps(json.loads(text) | {"trap": {":type:": "x", ":serialized:": content}}).encode()
            bad.writestr(name, text)
    assert evaluate([str(trap), "--env", "Pendulum-v1", "--episodes", "1"]) == 2
    assert "add --trust" in capsys.readouterr().err
    assert sb3_algo(trap) == "ppo"
    assert not sprung.exists()
    load_sb3(trap, trust=True)
    assert sprung.exists(), "the trap works, so the assertion above says something"


def test_the_command_measures_a_model_of_sb3(saved, capsys):
    words = [str(saved / "dqn.zip"), "--env", "CartPole-v1", "--env-kwargs", "max_episode_steps=7", "--episodes", "3"]
    assert evaluate([*words, "--trust", "--json"]) == 0
    summary = printed_json(capsys)
    assert (summary["algo"], summary["env"], summary["step"], summary["episodes"]) == ("dqn", "CartPole-v1", 60, 3)
    assert summary["mean"] == summary["length_mean"] <= 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{dqn} --trust", "does not say which environment it learnt: add --env"),
        ("{dqn} --trust --env Acrobot-v1", "does not fit Acrobot-v1: it learnt observations"),
        ("{dqn} --trust --env MountainCar-v0", "does not fit MountainCar-v0"),
        ("{ppo} --trust --env Pendulum-v1 --vec-normalize {dqn}", "could not be loaded"),
        ("{text} --trust --env CartPole-v1", "is no zip archive"),
        ("{empty} --trust --env CartPole-v1", "holds no model of stable-baselines3"),
        ("{none} --trust --env CartPole-v1", r"none.zip is not there\."),
        ("{none}", r"none.zip is not there\."),
    ],
)
def test_what_cannot_be_measured_is_told(words, message, saved, tmp_path, capsys):
    names = {name: str(saved / f"{name}.zip") for name in ("ppo", "dqn", "none")}
    names |= {name: str(tmp_path / f"{name}.zip") for name in ("text", "empty")}
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme", "nothing")
    assert evaluate(words.format(**names).split()) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "read",
    [load, lambda path: load_policy(path), lambda path: PPO("CartPole-v1").set_parameters(path), read_weights],
)
def test_who_reads_no_models_of_sb3_names_who_does(read, saved, tmp_path):
    with pytest.raises(
        UserError, match=r"evaluate, watch and compare alone: python -m agents.evaluate .*dqn.zip --env"
    ):
        read(saved / "dqn.zip")
    (tmp_path / "mine.zip").write_text("")
    with pytest.raises(UserError, match=r"(does not exist|is not there).* Did you mean .*mine.zip\?$"):
        read(tmp_path / "mine")


def test_a_model_that_is_not_there_is_told_before_its_environment_is_asked_for(saved, capsys):
    for command in (watch, evaluate):
        assert command([str(saved / "dqm.zip")]) == 2
        assert re.search(r"dqm.zip is not there. Did you mean dqn.zip", capsys.readouterr().err)


def test_statistics_of_another_kind_are_refused(saved, tmp_path):
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"mean": 0}))
    with pytest.raises(UserError, match="holds no VecNormalize, but a dict"):
        load_sb3(saved / "ppo.zip", trust=True, vec_normalize=tmp_path / "other.pkl")


@pytest.mark.parametrize("name", ["A2C", "DDPG", "TD3", "SAC", "TRPO", "TQC", "CrossQ"])
def test_a_file_is_played_and_shown_as_what_it_is(name, tmp_path):
    if name in ("TRPO", "TQC", "CrossQ"):
        pytest.importorskip("sb3_contrib")
    model = sb3_class(name.lower())("MlpPolicy", "Pendulum-v1", device="cpu", seed=0)
    model.save(file := tmp_path / "model.zip")
    policy, obs = load_sb3(file, trust=True), observations("Pendulum-v1", 5)
    assert sb3_algo(file) == policy.algo == name.lower()
    assert type(policy._model) is type(model)
    np.testing.assert_array_equal(policy.choose(obs, None).numpy(), model.predict(obs, deterministic=True)[0])
    assert policy.inspect(obs, ())["value"].shape == (5,)


class OwnPolicy(stable_baselines3.sac.policies.SACPolicy):
    """Of a module that names no algorithm."""


def test_a_policy_of_ones_own_hides_no_algorithm(tmp_path):
    stable_baselines3.SAC(OwnPolicy, "Pendulum-v1", device="cpu").save(tmp_path / "own.zip")
    assert load_sb3(tmp_path / "own.zip", trust=True).algo == "sac"


def test_a_file_of_an_unknown_algorithm_says_where_its_policy_is_from(saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {"__module__": "sb3_contrib.ars.policies"}}))
    with pytest.raises(UserError, match=r"policy is from sb3_contrib\.ars\.policies, not of RECURRENTPPO, .* or TD3$"):
        load_sb3(tmp_path / "other.zip", trust=True)


def test_a_viewer_is_told_what_sb3s_networks_put_out(ppo, dqn):
    obs = observations("Pendulum-v1", 5)
    told = SB3Policy(ppo).inspect(obs, ())
    normalised = torch.as_tensor(ppo.get_vec_normalize_env().normalize_obs(obs))
    actions, values, _ = ppo.policy(normalised, deterministic=True)
    torch.testing.assert_close(told["mean"], actions)
    torch.testing.assert_close(told["value"], values.flatten())
    torch.testing.assert_close(told["std"][0], ppo.policy.log_std.exp())
    obs = observations("CartPole-v1", 5)
    told = SB3Policy(dqn).inspect(obs, ())
    torch.testing.assert_close(told["q_values"], dqn.q_net(torch.as_tensor(obs)))
    torch.testing.assert_close(told["value"], told["q_values"].max(dim=1).values)


@pytest.mark.parametrize("algo", ["sac", "td3", "tqc", "ppo"])
def test_a_viewer_is_told_of_actions_in_the_units_of_the_environment(algo):
    """Pendulum's torque goes from -2 to 2, and these networks' output from -1 to 1."""
    if algo == "tqc":
        pytest.importorskip("sb3_contrib")
    squashed = {"use_sde": True, "policy_kwargs": {"squash_output": True}} if algo == "ppo" else {}
    model = sb3_class(algo)("MlpPolicy", "Pendulum-v1", device="cpu", seed=0, **squashed)
    obs = observations("Pendulum-v1", 5)
    told = SB3Policy(model).inspect(obs, ())
    expected, _ = model.predict(obs, deterministic=True)
    np.testing.assert_allclose(told["mean"], expected, atol=1e-6)
    assert told["value"].shape == (5,)
    if algo == "sac":
        with torch.no_grad():
            log_std = model.actor.get_action_dist_params(torch.as_tensor(obs))[1]
        torch.testing.assert_close(told["std"], 2 * log_std.exp())
    assert ("std" in told) == (algo != "td3")


def test_a_viewer_is_told_the_probability_of_each_of_several_choices():
    model = make_sb3("ppo", "CartPole-v1", 1, SMALL, 0)
    told = SB3Policy(model).inspect(observations("CartPole-v1", 3), ())
    torch.testing.assert_close(told["probabilities"].sum(dim=1), torch.ones(3))
    assert told["probabilities"].shape == (3, 2)


def test_watch_records_a_trusted_model_and_refuses_another(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [str(saved / "dqn.zip"), "--env", "CartPole-v1", "--env-kwargs", "max_episode_steps=7", "--width", "400"]
    assert watch(words) == 2
    assert "add --trust" in capsys.readouterr().err
    assert watch([*words[:1], "--trust"]) == 2
    assert "add --env" in capsys.readouterr().err
    assert watch([*words, "--trust", "--json"]) == 0
    printed = capsys.readouterr().out
    assert "CartPole-v1 · SB3 DQN · 60 steps" in printed
    (video,) = json.loads(printed.splitlines()[-1])["videos"]
    assert video == str(Path("replays", "CartPole-v1", "dqn", "seed0.mp4"))
    reader = imageio_ffmpeg.read_frames(video)
    assert next(reader)["size"] == (400, 224)
    assert len(list(reader)) == 7


def test_models_of_the_contributions_are_played_and_shown(tmp_path):
    sb3_contrib = pytest.importorskip("sb3_contrib")
    model = sb3_contrib.QRDQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8], "n_quantiles": 5}, seed=0)
    model.save(tmp_path / "qrdqn.zip")
    assert sb3_algo(tmp_path / "qrdqn.zip") == "qrdqn"
    policy = load_sb3(tmp_path / "qrdqn.zip", trust=True)
    obs = observations("CartPole-v1", 6)
    with torch.no_grad():
        expected = model.policy.quantile_net(torch.as_tensor(obs)).mean(dim=1)
    shown = policy.inspect(obs, ())
    torch.testing.assert_close(shown["q_values"], expected)
    torch.testing.assert_close(shown["value"], expected.amax(dim=1))
    assert policy.choose(obs, None).equal(expected.argmax(dim=1))


def test_a_recurrent_model_remembers_its_episode_and_no_other(tmp_path):
    """The actions of our player are those of SB3's `predict` with the states that it hands on."""
    pytest.importorskip("sb3_contrib")
    networks = {"lstm_hidden_size": 8, "n_lstm_layers": 2, "net_arch": [8]}
    model = make_sb3("recurrentppo", "PendulumNoVel-v1", 1, {"n_steps": 8, "policy_kwargs": networks}, 0)
    model.save(tmp_path / "recurrent.zip")
    assert sb3_algo(tmp_path / "recurrent.zip") == "recurrentppo"
    player = PolicyPlayer(load_sb3(tmp_path / "recurrent.zip", trust=True), 3, None)
    rng, state, start = np.random.default_rng(0), None, np.ones(3, bool)
    for _ in range(6):
        obs = rng.normal(size=(3, 3)).astype(np.float32)
        expected, state = model.predict(obs, state, start, deterministic=True)
        assert set(player.inspect(obs)) == {"mean", "std"}
        np.testing.assert_allclose(player.act(obs), expected, atol=1e-6)
        start = rng.random(3) < 0.4
        player.start(start)
    fresh, _ = model.predict(obs, None, np.ones(3, bool), deterministic=True)
    assert not np.allclose(fresh, expected), "what it remembers must show"


def test_a_model_with_masks_learns_and_plays_legal_actions(tmp_path):
    pytest.importorskip("sb3_contrib")
    settings = {"n_steps": 40, "batch_size": 40, "n_epochs": 1}
    model, _ = train_sb3(80, algo="maskableppo", env_id=MASKED, n_envs=1, hyperparameters=settings, seed=0)
    model.save(tmp_path / "masks.zip")
    assert sb3_algo(tmp_path / "masks.zip") == "maskableppo"
    policy, env = sb3_in_env(tmp_path / "masks.zip", MASKED, 4, trust=True)
    player, obs = PolicyPlayer(policy, 4, torch.Generator().manual_seed(0)), env.reset(0)
    for _ in range(40):
        action = to_numpy(player.act(obs))
        assert obs["action_mask"][np.arange(4), action].all()
        obs = env.step(action).obs
    with pytest.raises(UserError, match="needs action masks, and CartPole-v1 has none"):
        make_sb3("maskableppo", "CartPole-v1", 1, settings, 0)


def test_contributions_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    assert sb3_class("dqn") is stable_baselines3.DQN
    with pytest.raises(UserError, match=r"qrdqn of SB3 needs its contributions: pip install"):
        sb3_class("qrdqn")
