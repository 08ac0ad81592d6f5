"""The page of all runs: what is in it, what it makes of hostile names, and that a browser sorts and plays it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from agents.gallery import main
from agents.run.video import write_video
from tests.browser import dom, in_a_browser
from tests.lab.run_folders import write_folder
from tests.printed import printed_json

HOSTILE = "<!--<script>alert(1)"


@pytest.fixture
def page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The gallery of three runs with videos, and one that is damaged."""
    runs, replays = tmp_path / "runs", tmp_path / "replays"
    for seed, (name, best, time) in enumerate(
        ((HOSTILE, 5.0, "20260101-120000"), ("b", 50.0, "20260102-120000"), ("c", -1.0, "20260103-120000"))
    ):
        run = write_folder(runs, seed, name=name, time=time, curve=((100, best - 9), (200, best)))
        write_video(replays / "CartPole-v1" / run.name / "a #1.mp4", [np.full((16, 16, 3), 99, np.uint8)] * 20, 10)
    damaged = runs / "damaged"
    damaged.mkdir()
    (damaged / "config.yaml").write_text("[")
    assert main(["--runs-dir", str(runs), "--replays-dir", str(replays), "--json"]) == 0
    told = printed_json(capsys)
    assert told == {"gallery": str(runs / "gallery.html"), "runs": 4}
    return runs / "gallery.html"


def test_it_holds_every_run_as_data_and_nothing_of_theirs_as_markup(page: Path) -> None:
    text = page.read_text("utf-8")
    scripts = re.findall("<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    assert "<!--<" not in text
    found = {row["run"]: row for row in json.loads(scripts[0])}
    assert {row["state"] for row in found.values()} == {"finished", "damaged"}
    (hostile,) = (row for name, row in found.items() if HOSTILE in name)
    assert (hostile["best"], hostile["curve"]) == (5.0, {"steps": [100, 200], "values": [-4.0, 5.0]})
    assert found["damaged"]["video"] is None
    for name, row in found.items():
        if name != "damaged":
            assert "#" not in row["video"]
            assert (page.parent / unquote(row["video"])).is_file()
    digest = base64.b64encode(hashlib.sha256(scripts[1].encode()).digest()).decode()
    assert f"default-src 'none'; media-src *; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_of_no_runs_there_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs-dir", str(tmp_path / "none")]) == 2
    assert "holds no run" in capsys.readouterr().err


TRY = """{
const rows = () => [...document.querySelectorAll("tbody tr")];
const best = () => rows().map((row) => row.children[5].textContent);
const said = { first: rows().length };
const sort = () => document.querySelectorAll("th button")[5].click();
sort(); said.falling = best(); sort(); said.rising = best();
rows()[0].click(); rows()[2].click();
said.curves = document.querySelectorAll("polyline").length;
const filter = document.getElementById("filter");
filter.value = "finished B";
filter.dispatchEvent(new Event("input"));
said.filtered = rows().map((row) => row.children[3].textContent);
const film = document.querySelector("video");
film.play().then(() => { said.played = true; }, (error) => { said.played = String(error); }).then(() => {
  document.title = JSON.stringify(said);
});
}"""


@in_a_browser
def test_a_browser_sorts_filters_compares_and_plays(page: Path) -> None:
    """With the page's own rules, its script runs; to be pressed, a copy has another script at its end."""
    shown = dom(page.as_uri())
    assert "<title>Runs</title>" in shown
    assert "Runs: 4 of 4" in shown
    tried = page.with_name("tried.html")
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    tried.write_text(text.replace("</body>", f"<script>{TRY}</script></body>"), "utf-8")
    (title,) = re.findall("<title>(.*?)</title>", dom(tried.as_uri()))
    assert json.loads(unescape(title)) == {
        "first": 4,
        "falling": ["50", "5", "-1", ""],
        "rising": ["-1", "5", "50", ""],
        "curves": 2,
        "filtered": ["1"],
        "played": True,
    }
