"""A run goes to the hub and comes back able to play, and nothing else goes with it either way."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.evaluate import main as evaluate
from agents.hub import main
from agents.record import main as record
from agents.run.folder import RunFolder
from agents.run.hub import FILES, model_card, portable, pull, push
from agents.run.models import load_policy
from agents.run.trees import read_tree
from envs.errors import UserError
from tests.printed import printed_json
from tests.run.fake_hub import FakeHub, fake_hub
from tests.run.running import USER_ENVS, assert_same, train

SMALL = "--n-envs 2 --n-steps 16 --batch-size 16 --n-epochs 1 -n 64 --eval-freq 32 --eval-episodes 2"
SMALL += " --final-eval-episodes 3"
MODELS = {"model.json", "model.safetensors", "best/model.json", "best/model.safetensors"}
NUMBERS = {"final_episodes.json", "evaluations.csv", "progress.csv"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), f"--env CartPole-v1 --seed 3 {SMALL}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with fake_hub(monkeypatch, tmp_path / "cache") as server:
        yield server


def head_of(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_a_run_goes_and_comes_back(run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "--repo", "me/cart-pole"]) == 0
    assert capsys.readouterr().out.startswith(f"{hub.endpoint}/me/cart-pole: README.md, best/model.json, ")
    files = hub.files["me/cart-pole"]
    assert files.keys() == MODELS | NUMBERS | {"README.md", "config.yaml", "summary.json"}
    assert not hub.private["me/cart-pole"]

    assert main(["pull", "me/cart-pole"]) == 0
    assert "python -m agents.evaluate runs/cart-pole" in capsys.readouterr().out
    pulled = Path("runs/cart-pole")
    found = {file.relative_to(pulled).as_posix() for file in pulled.rglob("*") if file.is_file()}
    assert found == files.keys()
    for which in ("", "best"):
        assert_same(read_tree(pulled / which, "model"), read_tree(run / which, "model"))
    assert RunFolder.open(pulled).config() == RunFolder.open(run).config()
    for name in NUMBERS:
        assert (pulled / name).read_bytes() == (run / name).read_bytes()
    scores = []
    for folder in (run, pulled):
        assert evaluate([str(folder), "--episodes", "3", "--json"]) == 0
        scores.append(printed_json(capsys)["mean"])
    assert scores[0] == scores[1]


def test_a_run_without_a_policy_goes_and_comes_back(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path("data")
    assert record(["random", "--env", "Bricks-v0", "--episodes", "2", "--out", str(data)]) == 0
    words = f"--algo pretrain --env Bricks-v0 --data {data} -n 64 --device cpu"
    run = train(tmp_path / "trained", words)
    assert main(["push", str(run), "--repo", "me/eyes"]) == 0
    begin = "python -m agents.train --env Bricks-v0 --from runs/eyes"
    card = hub.files["me/eyes"]["README.md"].decode()
    assert f"pull me/eyes\n{begin}\n" in card
    assert "no policy" in card
    capsys.readouterr()
    assert main(["pull", "me/eyes"]) == 0
    assert capsys.readouterr().out.endswith(f"  begin with it   {begin}\n")
    assert_same(read_tree(Path("runs/eyes"), "model")[0], read_tree(run, "model")[0])


def test_what_is_there_already_is_not_written_over(run: Path, hub: FakeHub) -> None:
    push(run, "me/twice", replays_dir=Path("replays"))
    assert pull("me/twice", Path("runs"))[0] == Path("runs/twice")
    with pytest.raises(UserError, match="twice is there already: take it away, or give another --name"):
        pull("me/twice", Path("runs"))
    path, notes = pull("me/twice", Path("runs"), name="again", revision="main")
    assert (path, notes) == (Path("runs/again"), [])


def test_a_second_push_takes_away_what_the_first_one_left(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    push(run, "me/name", replays_dir=Path("replays"))
    hub.files["me/name"]["notes.txt"] = b"kept"
    later = shutil.copytree(run, tmp_path / "later")
    shutil.rmtree(later / "best")
    push(later, "me/name", replays_dir=Path("replays"))
    assert hub.files["me/name"].keys() == FILES.keys() - {"replay.mp4", *MODELS} | {
        "model.json",
        "model.safetensors",
        "notes.txt",
    }


def test_the_newest_recording_goes_with_it(run: Path, hub: FakeHub) -> None:
    replays = Path("replays/CartPole-v1") / run.name
    replays.mkdir(parents=True)
    (replays / "step64-seed1.mp4").write_bytes(b"video")
    push(run, "me/video", replays_dir=Path("replays"), private=True)
    assert hub.files["me/video"]["replay.mp4"] == b"video"
    assert b"(replay.mp4)" in hub.files["me/video"]["README.md"]
    assert hub.private["me/video"]


def test_the_card_says_what_the_run_reached(run: Path, hub: FakeHub) -> None:
    push(run, "me/card", replays_dir=Path("replays"))
    card = hub.files["me/card"]["README.md"].decode()
    summary = json.loads((run / "summary.json").read_text())
    score = f"{summary['eval_mean']:.2f} +/- {summary['eval_std']:.2f}"
    head = head_of(card)
    assert head["library_name"] == "deep-rl-suite"
    assert head["tags"] == [
        "CartPole-v1",
        "deep-reinforcement-learning",
        "reinforcement-learning",
        "ppo",
        "deep-rl-suite",
    ]
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["dataset"]["name"] == "CartPole-v1"
    assert result["metrics"] == [{"type": "mean_reward", "value": score, "name": "mean_reward"}]
    assert f"over 3 fresh greedy episodes: **{score}**" in card
    assert "python -m agents.hub pull me/card" in card
    assert "seed: 3" in card


def test_a_run_that_was_not_evaluated_claims_nothing() -> None:
    card = model_card({"env": "CartPole-v1", "algo": "dqn", "seed": 0}, {}, "me/card", video=False)
    assert "model-index" not in head_of(card)
    assert "was not evaluated" in card


@pytest.mark.parametrize(
    "summary",
    [{"eval_mean": 1.0}, {"eval_mean": "x", "eval_std": 1.0, "eval_episodes": 3}, {"eval_mean": 1.0, "eval_std": None}],
)
def test_a_summary_with_a_score_that_is_none_is_refused(summary: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"summary.json is malformed: eval_mean, eval_std and eval_episodes must be"):
        model_card({"env": "CartPole-v1", "algo": "dqn", "seed": 0}, summary, "me/card", video=False)


def test_nothing_sent_names_a_place_on_this_machine(hub: FakeHub, tmp_path: Path) -> None:
    mine = tmp_path / "my_envs.py"
    shutil.copyfile(USER_ENVS, mine)
    own = train(tmp_path / "runs", f"--env {mine}:Signs {SMALL}")
    told = push(own, "me/own", replays_dir=Path("replays"))
    assert told[1:] == ["it needs code that is not in it: my_envs.py:Signs"]
    assert b"\nIt needs code that is not in it: my_envs.py:Signs.\n" in hub.files["me/own"]["README.md"]
    for name, content in hub.files["me/own"].items():
        assert str(tmp_path).encode() not in content, name
    path, notes = pull("me/own", Path("pulled"))
    assert notes == ["it needs code that is not in it: my_envs.py:Signs"]
    with pytest.raises(UserError, match=r"my_envs\.py:Signs' is code outside the package"):
        load_policy(path)  # as it comes from the hub
    assert load_policy(path, trust=True).env == f"{mine}:Signs"  # found in the working directory
    assert evaluate([str(path), "--episodes", "2", "--trust"]) == 0  # from here, where the file is


def test_paths_become_names_and_secrets_are_refused() -> None:
    paths = {"xml": "/home/me/ant.xml", "deep": [{"file": r"C:\Users\me\a.py:B"}], "home": "~/x.yaml"}
    assert portable(paths) == {"xml": "ant.xml", "deep": [{"file": "a.py:B"}], "home": "x.yaml"}
    assert portable({"wrappers": [{"/home/me/w.py:W": {"k": 1}}]}) == {"wrappers": [{"w.py:W": {"k": 1}}]}
    plain = {"env": "ALE/Pong-v5", "n_tokens": 3, "token": "", "file": "sub/a.py", "low": [-1.0, "-inf"], "none": None}
    assert portable(plain) == plain
    for name, value in {"api_key": "x", "hub_token": "y", "PASSWORD": "z", "url": "to hf_abcdefghijklmnopqrst"}.items():
        with pytest.raises(UserError, match=f"^{name} looks like a secret, and nothing was sent"):
            portable({"env_kwargs": {name: value}})


def test_a_home_folder_in_the_middle_of_a_setting_is_found(
    run: Path, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("env_kwargs: {}", "env_kwargs: {where: 'in=/home/me/x'}"))
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    with pytest.raises(UserError, match=r"^README.md would name /home/me, and nothing was sent"):
        push(copy, "me/name", replays_dir=Path("replays"))
    assert hub.files == {}
    assert hub.asked == []
    monkeypatch.setattr(Path, "home", lambda: Path("/"))  # as that of a service
    push(run, "me/name", replays_dir=Path("replays"))
    assert hub.files["me/name"]


def test_only_the_files_of_a_run_are_taken(run: Path, hub: FakeHub) -> None:
    push(run, "me/more", replays_dir=Path("replays"))
    for name in ("../evil.py", "best/../../evil.py", "/etc/passwd", "evil.py", "best/evil.pkl", ".gitattributes"):
        hub.files["me/more"][name] = b"no"
    path, notes = pull("me/more", Path("deep/runs"))
    assert notes == [
        "left there, as no run has them: ../evil.py, /etc/passwd, best/../../evil.py, best/evil.pkl, evil.py"
    ]
    assert {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} <= FILES.keys()
    assert not list(Path().rglob("evil*"))
    assert not any("evil" in asked or "passwd" in asked for asked in hub.asked)


def test_what_is_too_large_is_not_begun(run: Path, hub: FakeHub) -> None:
    push(run, "me/large", replays_dir=Path("replays"))
    hub.sizes["best/model.safetensors"] = 5 * 2**30
    with pytest.raises(
        UserError, match=r"me/large: best/model.safetensors has 5,368,709,120 bytes; at most 4,294,967,296"
    ):
        pull("me/large", Path("runs"))
    assert not any("resolve" in asked for asked in hub.asked)
    assert not Path("runs/large").exists()


def test_what_is_larger_than_was_told_is_refused(run: Path, hub: FakeHub) -> None:
    push(run, "me/liar", replays_dir=Path("replays"))
    hub.sizes["config.yaml"] = 100
    hub.files["me/liar"]["config.yaml"] = b"# " + b"x" * 70_000
    with pytest.raises(UserError, match=r"me/liar: config.yaml has 70,002 bytes; at most 65,536 are allowed"):
        pull("me/liar", Path("runs"))
    assert not list(Path("runs").iterdir())


def test_a_damaged_model_is_not_kept(run: Path, hub: FakeHub) -> None:
    push(run, "me/torn", replays_dir=Path("replays"))
    hub.files["me/torn"]["model.safetensors"] = b"\0" * 100
    with pytest.raises(UserError, match=r"model.safetensors is torn or was altered"):
        pull("me/torn", Path("runs"))
    assert not list(Path("runs").iterdir())


def test_a_repository_of_something_else_is_told(hub: FakeHub) -> None:
    hub.files["some/bert"] = {"pytorch_model.bin": b"", "config.json": b"{}"}
    with pytest.raises(
        UserError, match=r"some/bert holds no run of this suite, .*; it holds config.json, pytorch_model.bin"
    ):
        pull("some/bert", Path("runs"))


@pytest.mark.parametrize(("status", "told"), [(401, "log in with `hf auth login`"), (403, "log in"), (500, "500")])
def test_what_the_hub_refuses_is_told(status: int, told: str, run: Path, hub: FakeHub) -> None:
    hub.status = status
    for call in (lambda: push(run, "me/no", replays_dir=Path("replays")), lambda: pull("me/no", Path("runs"))):
        with pytest.raises(UserError, match=rf"^cannot (push to|pull from) me/no: .*{re.escape(told)}"):
            call()


def test_a_repository_that_is_not_there_and_a_hub_that_is_not_there(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["pull", "me/nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot pull from me/nothing: ")
    with socket.socket() as bound:  # whose port nobody listens on
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(UserError, match=r"^cannot pull from me/nothing: "):
        pull("me/nothing", Path("runs"))


@pytest.mark.parametrize("repo", ["name", "a/b/c", "../x", "me/..", "me/", "/x", "me/x y", "me/a--b"])
def test_names_that_are_no_repository(repo: str, run: Path) -> None:
    for call in (lambda: push(run, repo, replays_dir=Path("replays")), lambda: pull(repo, Path("runs"))):
        with pytest.raises(UserError, match="given, a repository expected, such as user/name"):
            call()


@pytest.mark.parametrize("name", ["..", "", ".hidden", "a/b", r"a\b", "C:x", "a\n"])
def test_names_that_are_no_folder(name: str) -> None:
    with pytest.raises(UserError, match="the name of a folder expected"):
        pull("me/x", Path("runs"), name=name)


def test_without_the_library_it_says_how_to_get_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: push(run, "me/x", replays_dir=Path("replays")), lambda: pull("me/x", Path("nowhere"))):
        with pytest.raises(UserError, match=re.escape('pip install -e ".[hub]"')):
            call()


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "push|pull" in capsys.readouterr().out
    assert main(["psh"]) == 2
    assert capsys.readouterr().err == "error: 'psh' given, push or pull expected. Did you mean push?\n"
    assert main(["push", "--help"]) == 0
    assert "--repo USER/NAME" in capsys.readouterr().out
