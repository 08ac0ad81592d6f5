"""Encoders learnt from recorded observations: trained, stopped, gone on with, probed, and begun with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.__main__ import main as agents
from agents.acting.playback import Playback
from agents.algos.pretrain.config import PretrainConfig
from agents.data.dataset import Dataset
from agents.run.build import make_algorithm
from agents.run.datasets.reading import load_dataset
from agents.run.folder import find_latest_run
from agents.run.models import load_policy
from agents.run.probes import native_states, probe, quantities
from agents.run.seeds import _row as seeds_row
from agents.run.summary import Summary, env_flags, last_screen
from agents.run.trees import read_tree
from agents.train import main
from envs.errors import UserError
from tests.printed import printed_json
from tests.run.running import assert_same, last_state, resume, rows, stopped_at, train

WORDS = "--algo pretrain --env Bricks-v0 --device cpu --batch-size 32"
CURL = "--objective curl --augment shift"
SMALL = "--n-envs 2 --batch-size 16 --net-arch 8 8"
NONE = "--eval-freq 0 --save-freq 0 --final-eval-episodes 0 --device cpu"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("h5py")
    out = tmp_path_factory.mktemp("recorded") / "bricks"
    assert agents(["record", "random", "--env", "Bricks-v0", "--episodes", "30", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("objective", ["--objective autoencoder", CURL])
def test_an_encoder_is_learnt_and_begun_with(objective: str, recorded: Path, tmp_path: Path) -> None:
    run = train(tmp_path, f"{WORDS} {objective} --data {recorded} -n 4000")
    losses = [float(row["heldout/loss"]) for row in rows(run, "progress.csv") if row["heldout/loss"]]
    assert len(losses) > 2
    assert losses[-1] < losses[0]
    assert rows(run, "evaluations.csv") == []
    probes = json.loads((run / "probes.json").read_text())
    assert {"reward to come", "action", "state 0", "state 6"} <= probes.keys()
    assert "state 7" not in probes  # the wall: 30 flags in one number
    assert probes["state 1"]["observation"] > 0.9
    ppo = "--env Bricks-v0 --n-envs 2 --n-steps 16 --batch-size 32 --n-epochs 1 -n 32"
    begun = train(tmp_path / "ppo", f"{ppo} {NONE} --from {run} --freeze encoder")
    layers = json.loads((begun / "origin.json").read_text())["layers"]
    assert all(row["loaded"] == row["part"].startswith("encoder") for row in layers)
    mine, theirs = (read_tree(each, "model")[0] for each in (run, begun))
    name = "encoder.leaves.0.convolutions.0.weight"
    assert mine[name].equal(theirs[name])


@pytest.mark.parametrize("algo", ["", "--algo dqn --activation tanh --learning-starts 10"])
def test_of_vectors_the_hidden_layers_are_begun_with(algo: str, tmp_path: Path) -> None:
    obs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    columns = {"observations": obs, "actions": np.arange(200) % 2, "rewards": np.ones(200)}
    np.savez(tmp_path / "d.npz", **columns, timeouts=np.arange(200) % 20 == 19)
    words = f"--algo pretrain --env CartPole-v1 --device cpu --data {tmp_path / 'd.npz'} -n 400 --net-arch 8 8"
    run = train(tmp_path, words)
    begun = train(tmp_path / "new", f"--env CartPole-v1 {algo} {NONE} -n 32 {SMALL} --from {run}")
    layers = {row["part"]: row["loaded"] for row in json.loads((begun / "origin.json").read_text())["layers"]}
    torsos = {part for part in layers if "torso" in part}
    assert torsos == {part for part, loaded in layers.items() if loaded}
    assert len(torsos) == (2 if algo else 4)


@pytest.mark.parametrize("objective", ["--objective autoencoder", CURL])
def test_half_a_training_gone_on_with_is_the_whole(objective: str, recorded: Path, tmp_path: Path) -> None:
    words = f"{WORDS} {objective} --data {recorded} -n 1500 --patience 0"
    whole = train(tmp_path / "whole", words)
    with stopped_at(Playback, "collect", 2):
        half = train(tmp_path / "half", words, code=130)
    gone_on = resume(half)
    assert_same(last_state(whole), last_state(gone_on))
    assert_same(read_tree(whole, "model")[0], read_tree(gone_on, "model")[0])
    assert rows(whole, "progress.csv") == rows(gone_on, "progress.csv")


def test_a_training_ends_when_held_out_observations_are_told_no_better(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{WORDS} --data {recorded} -n 100000 --patience 2 --learning-rate 0 --no-record --runs-dir {tmp_path}"
    assert main(words.split()) == 0
    run = find_latest_run(tmp_path)
    assert json.loads((run / "summary.json").read_text())["steps"] < 2_000
    assert "no better in 2 passes over the data (--patience): the training ends" in capsys.readouterr().out


@pytest.fixture(scope="module")
def pretrained(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("pretrained"), f"{WORDS} --data {recorded} -n 64")


@pytest.mark.parametrize("command", ["evaluate", "watch", "export", "record", "explain", "film", "distil", "prune"])
def test_nothing_plays_with_what_has_no_policy(
    command: str, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"prune": ["--sparsity", "0.5"]}.get(command, [])
    assert agents([command, str(pretrained), *more]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "pretrain learns no policy" in told


def test_what_is_said_at_the_end_asks_for_no_policy(pretrained: Path) -> None:
    summary = Summary(**json.loads((pretrained / "summary.json").read_text()))
    commands = last_screen(summary, None, None, True, env_flags(summary.env, {"size": 3}, []))[2]
    assert list(commands) == ["begin with it", "see its curves"]
    assert commands["begin with it"].endswith(f"--env Bricks-v0 --env-kwargs size=3 --from {summary.run}")
    assert seeds_row(summary).startswith("not evaluated, ")
    assert seeds_row(replace(summary, interrupted=True)).startswith("stopped early, ")


def test_the_python_class_refuses_to_act(pretrained: Path, recorded: Path) -> None:
    policy = load_policy(pretrained, acting=False).policy
    with pytest.raises(UserError, match="learns no policy"):
        policy.predict(torch.zeros(1, 10, 10, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--data {} --eval-freq 100", "eval_freq 100 asks for a policy"),
        ("--data {} --target-reward 1", "target_reward 1.0 asks for a policy"),
        ("--data {} --memory gru", "memory gru comes after"),
        ("--data {} --objective curl", "--augment crop"),
        ("--data {} --film", "--film: pretrain learns no policy"),
        ("", "which recorded episodes?"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    words: str, said: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agents(["train", *WORDS.split(), *words.format(recorded).split()]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told


def test_states_are_those_that_were_played(recorded: Path) -> None:
    data = load_dataset(recorded)
    states = native_states(data)
    assert states is not None
    seen = data.at(data.rows)
    where = seen[..., 1].reshape(len(seen), -1).argmax(1)  # the ball, alone in its channel
    assert (states[:, 2] * 10 + states[:, 1]).tolist() == where.tolist()
    other = data.take(range(data.episodes))
    other.reward = other.reward + 1
    assert native_states(other) is None
    other = data.take([0])
    other.env = "somebody.py:Env"
    assert native_states(other) is None
    other.env, other.seeds = "Bricks-v0", [None]
    assert native_states(other) is None


def test_quantities_belong_to_the_observation_that_a_transition_begins_with(recorded: Path) -> None:
    data = load_dataset(recorded)
    data.reward = np.arange(len(data), dtype=np.float32)
    found = quantities(data, 0.0)
    assert found["reward to come"][:, 0].tolist() == data.reward.tolist()
    assert found["action"].argmax(1).tolist() == data.action.tolist()
    few = data.take([0])
    few.action = np.zeros_like(few.action)
    assert quantities(few, 0.0)["action"].shape[1] == found["action"].shape[1], "whichever actions were taken"


def test_the_command_probes_any_encoder(
    pretrained: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ppo = "--env Bricks-v0 --n-envs 2 --n-steps 16 --batch-size 32 --n-epochs 1 -n 32"
    policy = train(tmp_path, f"{ppo} {NONE}")
    found = {}
    for run in (pretrained, policy):
        capsys.readouterr()
        assert agents(["probe", str(run), "--data", str(recorded), "--json"]) == 0
        found[run] = printed_json(capsys)["r2"]
        assert set(found[run]["state 1"]) == {"encoder", "untrained", "observation"}
    assert found[pretrained] == json.loads((pretrained / "probes.json").read_text())  # the same episodes are held out
    assert found[policy] != found[pretrained]
    assert agents(["probe", str(policy), "--data", str(recorded), "--held-out", "1"]) == 2
    assert "--held-out: 1.0 given" in capsys.readouterr().err


def test_large_observations_are_probed_on_fewer_steps(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset(recorded)
    learnt, held = data.split(0.5, 1)
    asked: list[int] = []
    at = Dataset.at
    monkeypatch.setattr("agents.run.probes.NUMBERS", 400 * 50)

    def noted(self: Dataset, rows: Any) -> Any:
        asked.append(len(rows))
        return at(self, rows)

    monkeypatch.setattr(Dataset, "at", noted)
    loaded = make_algorithm("pretrain", *data.own_spaces, PretrainConfig(), 0)
    asked.clear()
    found = probe(loaded.model, loaded.model, learnt, held, 0.99, 0)
    assert asked.count(50) == 2  # of 400 numbers each
    assert found["state 1"]["encoder"] == found["state 1"]["untrained"]
