"""The report of one run: its figures, what it makes of hostile names, and how a browser shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from agents.lab.words import interval
from agents.report import main
from agents.run.config import Layer, resolve
from agents.run.video import write_video
from agents.train import main as train
from tests.browser import browse, dom, in_a_browser, near, pixels
from tests.lab.run_folders import write_folder
from tests.printed import printed_json


def report(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[dict, str]:
    assert main([str(run), "--json", "--replays-dir", str(run.parent / "replays"), *more]) == 0
    told = printed_json(capsys)
    return told, Path(told["report"]).read_text("utf-8")


def test_it_says_what_the_run_reached(tmp_path, capsys) -> None:
    run = write_folder(tmp_path, final=(10.0, 40.0, 25.0), name="<script>alert(1)</script>")
    said = {"step": 150, "illness": "<b>collapsed</b>", "badness": 1.0, "evidence": "0.1 bits", "fix": "--ent-coef"}
    (run / "doctor.jsonl").write_text(json.dumps(said) + "\n{torn")
    (run / "progress.csv").write_text("step,rollout/ep_rew_mean,<img src=x>\n100,1,2\n200,3,4\n")
    told, page = report(run, capsys)
    assert (told["mean"], told["episodes"], told["best"], told["state"]) == (25.0, 3, 30.0, "finished")
    assert told["low"] < 25 < told["high"]
    assert told["report"] == str(run / "report" / "index.html")
    assert "best episode: 40.0 (number 2); worst: 10.0 (number 1)" in page
    assert "best evaluation: 30.0 at step 200" in page
    assert "&lt;b&gt;collapsed&lt;/b&gt; at step 150: 0.1 bits. Try: --ent-coef" in page
    assert re.findall("<(?:script|b>|img src=x)", page) == []
    assert 'alt="&lt;img src=x&gt;: 4.00 at the end"' in page
    assert "They cannot be shown:" in page, "there is no model"


def test_it_shows_network_settings_and_the_recorded_episode(tmp_path, capsys) -> None:
    words = "--env CartPole-v1 --n-envs 4 --n-steps 16 --batch-size 64 -n 256 --eval-freq 64 --eval-episodes 2"
    words += f" --gamma 0.5 --net-arch 8 --no-record --quiet --final-eval-episodes 3 --runs-dir {tmp_path / 'runs'}"
    assert train(words.split()) == 0
    (run,) = (tmp_path / "runs").iterdir()
    film = run.parent / "replays" / "CartPole-v1" / run.name / "step256-seed1.mp4"
    write_video(film, [np.full((20, 30, 3), shade, np.uint8) for shade in (0, 250) * 10], 10)
    (run / "videos").mkdir()
    (run / "videos" / "000000000256.mp4").write_bytes(b"no video")
    told, page = report(run, capsys)
    assert told["video"] == str(film)
    assert page.count("data:video/mp4;base64,") == 1
    rows = [re.findall("<td[^>]*>([^<]*)</td>", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    packaged: Any = resolve([Layer("", {"env": "CartPole-v1"})]).params
    assert ["gamma", "0.5", str(packaged.gamma)] in rows
    assert ["policy_head", "Linear", "2", "18", "16"] in rows
    assert not any(row[:1] == ["save_freq"] and len(row) == 3 for row in rows), "which is the packaged one"
    evaluations = [row for row in rows if row and row[0] in ("64", "128", "192", "256")]
    assert len(evaluations) == 4


def test_an_evaluations_interval_is_students_t(tmp_path, capsys) -> None:
    returns = np.array([10.0, 14.0, 30.0, 22.0, 19.0])
    run = write_folder(tmp_path, eval_episodes=5)
    header = "step,eval/mean_reward,eval/std_reward,time/time_elapsed"
    (run / "evaluations.csv").write_text(f"{header}\n100,{returns.mean()},{returns.std()},1.0\n")
    _, page = report(run, capsys)
    low, high = ttest_1samp(returns, 0).confidence_interval(0.95)
    assert f">{interval(low, high)}</td>" in page


def test_curves_from_elsewhere_are_for_comparisons(tmp_path, capsys) -> None:
    assert main([str(write_folder(tmp_path)), "--import", "x.csv"]) == 2
    assert "is a run; results from elsewhere join a comparison" in capsys.readouterr().err


@in_a_browser
def test_a_browser_shows_the_curve_and_reports_nothing_refused(tmp_path, capsys) -> None:
    run = write_folder(tmp_path)
    told, _ = report(run, capsys)
    url, file = f"file://{told['report']}", tmp_path / "shot.png"
    assert "Refused" not in browse(url, "--enable-logging=stderr").stderr
    assert near(pixels(url, file), (0, 114, 178)) > 100, "the curve in its colour"


PLAY = """
const film = document.querySelector("video");
document.body.replaceChildren(film);
const said = (text) => { document.title = text; };
film.play().then(() => said(film.duration), said);
"""


@in_a_browser
def test_a_browser_plays_its_video(tmp_path, capsys) -> None:
    """The page runs no script; a copy without its rules has one that begins to play."""
    run = write_folder(tmp_path)
    film = tmp_path / "replays" / "CartPole-v1" / run.name / "step150-seed1.mp4"
    write_video(film, [np.full((32, 32, 3), (0, 200, 0), np.uint8)] * 10, 10)
    _, page = report(run, capsys)
    tried = tmp_path / "tried.html"
    page = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    tried.write_text(page.replace("</body>", f"<script>{PLAY}</script></body>"), "utf-8")
    (title,) = re.findall("<title>(.*?)</title>", dom(tried.as_uri()))
    assert float(title) == pytest.approx(1)
    assert near(pixels(tried.as_uri(), tmp_path / "shot.png"), (0, 200, 0)) > 500
