"""`python -m agents.explain` as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agents.acting.policies import ActorCriticPolicy
from agents.explain import main
from tests.marks import long_test
from tests.run.running import train

CARTPOLE = "--env CartPole-v1 --env-kwargs max_episode_steps=30 --n-envs 4 --n-steps 32 --batch-size 128 -n 256"
CARTPOLE += " --target-reward none --eval-freq 0 --final-eval-episodes 0"
FEW = ["--episodes", "3", "--states", "40", "--json"]


def explain(run: Path, capsys, *words: str) -> tuple[dict, str, str]:
    """Return the JSON, what else was printed, and the page."""
    capsys.readouterr()
    assert main([str(run), *FEW, *words]) == 0
    *printed, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    return told, "\n".join(printed), Path(told["page"]).read_text(encoding="utf-8")


def test_a_run_is_explained_and_hostile_names_are_text(tmp_path, capsys):
    hostile = "<script>alert(1)</script>"
    words = ["--observation-names", hostile, "\x1b[2Jspeed", "angle", "turn"]
    run = train(tmp_path, CARTPOLE)
    config = run / "config.yaml"
    told, printed, page = explain(run, capsys)
    assert {one["name"] for one in told["features"]} == {"cart", "cart speed", "pole angle", "pole speed"}
    changed = [one["changed"] for one in told["features"]]
    assert changed == sorted(changed, reverse=True)
    assert [one["name"] for one in told["effects"]] == [told["features"][0]["name"], told["features"][-1]["name"]]
    assert told["states"] == 40
    assert told["page"] == str(run / "explanation" / "index.html")
    assert told["features"][0]["name"] in printed
    assert "What counts most is " + told["features"][0]["name"] in " ".join(printed.split())
    assert page.count("data:image/png;base64,") > 4
    assert not re.search(r"<script|src=.http|href=.http", page)
    for kind, moments in told["moments"].items():
        for moment in moments:
            assert f"Step {moment['step']}: {kind}" in page
    assert words[1] not in page
    text = config.read_text(encoding="utf-8")
    assert text.count("observation_names: []") == 1
    config.write_text(
        text.replace("observation_names: []", f"observation_names: {json.dumps(words[1:])}"), encoding="utf-8"
    )
    run = train(tmp_path / "hostile", f"--config {config}")
    told, printed, page = explain(run, capsys)
    assert hostile in {one["name"] for one in told["features"]}
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    "words",
    [
        "--env Pendulum-v1 --algo sac -n 300 --learning-starts 100",
        "--env Pendulum-v1 --n-steps 32 --batch-size 64 -n 256",
        "--env CartPole-v1 --algo dqn -n 300 --learning-starts 100 --preset rainbow",
        "--env CartPole-v1 --algo pqn -n 512",
        "--env Corridor-v0 -n 512 --env-kwargs length=5",
        "--env Bricks-v0 -n 1024",
        "--env Taxi-v4 -n 512 --n-envs 4 --n-steps 32 --batch-size 64",
        "--env Blackjack-v1 -n 512 --n-envs 4 --n-steps 32 --batch-size 64",
    ],
)
@long_test
def test_every_kind_of_policy_is_explained(tmp_path, capsys, words):
    run = train(tmp_path, f"{words} --eval-freq 0 --final-eval-episodes 0 --target-reward none")
    for more in ([], ["--stochastic"]):
        told, _, page = explain(run, capsys, *more)
        assert told["features"]
        assert all(one["changed"] >= 0 for one in told["features"])
        assert "Every decision" in page
        for method in ("occlusion", "integrated gradients", "gradient") if "Bricks" in words else ():
            assert f"worth by {method}: from" in page


def test_a_policy_that_says_nothing_of_its_actions_is_refused(tmp_path, capsys, monkeypatch):
    run = train(tmp_path, CARTPOLE.replace("-n 256", "-n 128"))
    monkeypatch.setattr(ActorCriticPolicy, "describe", lambda self, obs, carry: {"value": self.model.value(obs, carry)})
    assert main([str(run), *FEW]) == 2
    assert "says neither probabilities nor action values" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere is no run folder"),
        (["--episodes", "0"], "--episodes: 0 given, 1 to "),
        (["--states", "1"], "--states: 1 given, 2 to 1,000,000 expected"),
        (["--seed", "-1"], "--seed: -1 given, 0 to "),
        (["--epsiodes", "3"], "Did you mean --episodes"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
