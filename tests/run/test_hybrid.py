"""Memory, masks and actions of several parts together: trained, resumed, measured, watched, written down, compared."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents import load
from agents.compare import main as compare
from agents.evaluate import main as evaluate
from agents.run.models import load_policy
from agents.run.recording import episode_env, load_episode, record_episode, replay
from agents.train import main
from agents.watch import main as watch
from envs.errors import UserError
from tests.marks import long_test
from tests.printed import printed_json
from tests.run.hybrid_env import STEPS, Signal
from tests.run.running import train

SIGNAL = f"{Path(__file__).with_name('hybrid_env.py')}:Signal"
GRU = f"--env {SIGNAL} --memory gru --memory-size 16 --n-envs 8 --n-steps 32 --batch-size 64 --n-epochs 4 --device cpu"
GRU += " --learning-rate lin_1e-2 --net-arch 32 --log-std-init -1 --ent-coef 0.005"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 512 steps, in which the environment has seen no illegal action."""
    folder = tmp_path_factory.mktemp("signal")
    return train(folder, f"{GRU} --vec sync -n 512 --eval-freq 0 --final-eval-episodes 4")


def test_an_episode_is_recorded_and_played_again(run: Path, tmp_path: Path) -> None:
    video = tmp_path / "episode.mp4"
    assert watch([str(run), "--record", str(video)]) == 0
    assert video.stat().st_size > 1000
    loaded = load_policy(run, trust=True)
    assert loaded.own_spaces[1] == Signal.action_space
    file = record_episode(loaded, 5, tmp_path, deterministic=False).file
    episode = load_episode(file, trust=True)
    assert (episode.length, len(episode.actions[0])) == (STEPS, 1 + 1 + 2 + 2)
    env = episode_env(episode, render=False)
    again = [moment.reward for moment in replay(env, episode, loaded.policy, render=False)]
    env.close()
    assert again == episode.rewards
    way = [row[1] for row in episode.actions]
    assert all(float(choice).is_integer() for choice in way)
    broken = episode.model_copy(update={"actions": [[*row[:1], 4.0, *row[2:]] for row in episode.actions]})
    env = episode_env(episode, render=False)
    with pytest.raises(UserError, match="the recorded actions do not fit"):
        next(replay(env, broken, render=False))
    env.close()


def test_predict_takes_and_gives_what_the_environment_does(run: Path) -> None:
    model = load(str(run), trust=True)
    env, state, steps = Signal(), None, 0
    obs, info = env.reset(seed=1)
    ended = False
    while not ended:
        action, state = model.predict(
            obs, state, episode_start=not steps, deterministic=False, action_masks=info["action_mask"]
        )
        assert action in env.action_space
        obs, _, ended, _, info = env.step(action)  # an illegal one is an error
        steps += 1
    assert steps == STEPS
    batch = {name: np.stack([leaf, leaf]) for name, leaf in obs.items()}
    mask = {"do": tuple(None if part is None else np.stack([part, part]) for part in info["action_mask"]["do"])}
    actions, _ = model.predict(batch, action_masks=mask)
    assert gymnasium.vector.utils.batch_space(env.action_space, 2).contains(actions)


@long_test
def test_it_is_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([str(run), "--episodes", "8", "--json", "--stochastic"]) == 0
    assert printed_json(capsys)["length_mean"] == STEPS


@pytest.mark.parametrize("algo", ["dqn", "pqn", "sac"])
def test_who_cannot_take_it_says_so_in_one_line(algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--env {SIGNAL} --algo {algo} --vec sync -n 64 --runs-dir {tmp_path}"
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "Dict('aim': Box(" in line
    assert "--algo ppo" in line


@long_test
def test_it_is_learnt_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be had without a memory is about -0.2 a step after the first; with it, 1."""
    runs = [
        train(tmp_path, f"{GRU} --vec {vec} -n 8000 --final-eval-episodes 50")
        for vec in ("sync --seed 1", "async --seed 2")
    ]
    scores = [json.loads((run / "summary.json").read_text())["eval_mean"] for run in runs]
    assert min(scores) > 2.6
    assert compare([*map(str, runs), "--trust", "--out", str(tmp_path / "out"), "--json", "--no-video"]) == 0
    (report,) = printed_json(capsys)["reports"]
    assert report["env"].endswith("Signal")
