"""The viewer as a page: who may ask, what is handed out, and what keys and clicks do."""

from __future__ import annotations

import http.client
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from agents.view import page as pages
from agents.view.keys import STRIP
from agents.view.page import Page, run_page
from agents.view.player import Player
from agents.view.viewer import SIZE
from envs.errors import UserError
from tests.browser import dom, in_a_browser, near, pixels
from tests.marks import long_test
from tests.view.fake_show import FakeShow
from tests.waiting import HANGS, wait_for


class Browser:
    """Asks a page as a browser does."""

    def __init__(self, page: Page, token: str = "1", host: str | None = None) -> None:
        address = urlsplit(page.url)
        self.at = ("127.0.0.1", address.port)
        self.headers = {"X-Watch": token} | ({} if host is None else {"Host": host})

    def ask(self, path: str, body: str | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection(*self.at, timeout=HANGS)
        kind = "GET" if body is None else "POST"
        connection.request(kind, path, body, {**self.headers, **headers})
        answer = connection.getresponse()
        found = answer.status, answer.read(), dict(answer.getheaders())
        connection.close()
        return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "progress.csv").write_text("step,rollout/ep_rew_mean,time/fps\n10,1.5,9\n20,nan,9\n30,2.5,9\n40,3")
    (tmp_path / "evaluations.csv").write_text("step,eval/mean_reward\n30,7.0\n30,8.0\nx,9\n")
    return tmp_path


@pytest.fixture
def served(run: Path) -> Iterator[tuple[Page, Player, Browser]]:
    """A page that plays, and who looks at it."""
    page, player = Page(run), Player(FakeShow(50), fps=1)
    player.press(" ")
    thread = threading.Thread(target=run_page, args=(page, player, SIZE), kwargs={"lingers": True})
    thread.start()
    yield page, player, Browser(page)
    player.running = False
    thread.join(HANGS)
    assert not thread.is_alive()
    page.close()


def test_pictures_follow_keys_and_clicks(served) -> None:
    _, player, browser = served
    status, picture, headers = browser.ask("/frame?seen=0")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (SIZE[0], SIZE[1] + STRIP)
        assert image.convert("L").getextrema()[1] > 200, "it is not black"
    seen = headers["X-Frame"]
    assert browser.ask("/key", "right")[0] == 204
    status, other, headers = browser.ask(f"/frame?seen={seen}")
    assert status == 200
    assert int(headers["X-Frame"]) > int(seen)
    assert other != picture
    assert player.lanes[0].at == 1
    assert browser.ask("/click", json.dumps([0.0, (SIZE[1] + 2) / (SIZE[1] + STRIP)]))[0] == 204
    browser.ask(f"/frame?seen={headers['X-Frame']}")
    assert player.lanes[0].at == 0, "the click was on the first step"
    assert browser.ask("/key", "q")[0] == 204


def test_nothing_new_is_said_after_a_while(served, monkeypatch) -> None:
    _, _, browser = served
    monkeypatch.setattr(pages, "WAIT", 0.2)
    seen = browser.ask("/frame?seen=0")[2]["X-Frame"]
    assert browser.ask(f"/frame?seen={seen}")[:2] == (204, b"")


def test_the_page_runs_its_own_script_alone_and_shows_the_curves_there_are(served, run) -> None:
    _, _, browser = served
    status, html, headers = browser.ask("/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    nonce = policy.rpartition("'nonce-")[2].rstrip("'")
    assert f'<script nonce="{nonce}">'.encode() in html
    assert policy.startswith("default-src 'none'")
    assert (
        browser.ask("/curves")[1]
        == json.dumps(
            {
                "run": run.name,
                "curves": {
                    "rollout/ep_rew_mean": {"steps": [10, 30], "values": [1.5, 2.5]},
                    "eval/mean_reward": {"steps": [30], "values": [7.0]},
                },
            }
        ).encode()
    )
    (run / "progress.csv").unlink()
    (run / "progress.csv").mkdir()
    assert json.loads(browser.ask("/curves")[1])["curves"].keys() == {"eval/mean_reward"}
    assert browser.ask("/config.yaml")[0] == 404


def test_other_sites_cannot_ask_or_press(served) -> None:
    page, player, browser = served
    port = urlsplit(page.url).port
    assert Browser(page, host=f"evil.example:{port}").ask("/frame?seen=0")[0] == 403, "a name bound to this machine"
    assert Browser(page, host=f"localhost:{port}").ask("/curves")[0] == 200
    for host, status in (("127.0.0.1", 200), ("evil.example", 403), (f"[::1]:{port}", 403), ("[::1]", 403), (":", 403)):
        assert Browser(page, host=host).ask("/curves")[0] == status, "no port is named where it is 80"
    browser.headers = {}
    assert browser.ask("/key", "right")[0] == 403, "a form of another site has no such header"
    assert browser.ask("/click", "x" * 65, **{"X-Watch": "1"})[0] == 400
    for length in ("0000000640000000000", "0" * 5000, "-1", "1_0"):  # of which a part is a small number
        assert browser.ask("/key", "r", **{"X-Watch": "1", "Content-Length": length})[0] == 400
    for body in ("[2, 0]", "[0]", "{}", "[" * 60, "nonsense", '["a", null]'):
        assert browser.ask("/click", body, **{"X-Watch": "1"})[0] == 400
    assert browser.ask("/else", "x", **{"X-Watch": "1"})[0] == 400
    assert player.lanes[0].at == 0


def test_where_others_can_ask_there_is_a_token() -> None:
    assert Page(None).url.startswith("http://127.0.0.1:")
    page = Page(None, "0.0.0.0")
    token = urlsplit(page.url).query.removeprefix("token=")
    assert len(token) > 20
    assert Browser(page, "").ask("/")[0] == 403
    assert Browser(page).ask("/curves")[0] == 403
    assert Browser(page, token).ask("/curves")[0] == 200
    assert Browser(page, "").ask(f"/?token={token}")[0] == 200
    assert Browser(page, "wrong").ask("/key", "q")[0] == 403
    assert Browser(page, token).ask("/key", "q")[0] == 204
    page.close()


def test_a_port_that_is_taken_is_told() -> None:
    page = Page(None)
    with pytest.raises(UserError, match=r"--page: nothing can listen on 127\.0\.0\.1, port"):
        Page(None, port=urlsplit(page.url).port)
    page.close()


def test_while_nobody_looks_time_stands_still_and_after_the_training_it_ends(run, monkeypatch) -> None:
    show = FakeShow(50)
    page, player = Page(run), Player(show, fps=1000)
    monkeypatch.setattr(pages, "LOOKED", -1.0)
    monkeypatch.setattr(pages, "LINGER", 0.2)
    run_page(page, player, SIZE, lingers=True)
    assert player.running
    assert (player.lanes[0].at, page.newer(0)) == (0, None)
    page.close()


@long_test
def test_neither_the_viewers_end_nor_the_trainings_ends_the_other(tmp_path) -> None:
    words = "--env CartPole-v1 -n 60000 --target-reward none --no-record --final-eval-episodes 0 --watch"
    command = [sys.executable, "-m", "agents.train", *words.split(), "--runs-dir", str(tmp_path)]
    surroundings = {**os.environ, "SDL_VIDEODRIVER": "dummy", "PYTHONUNBUFFERED": "1"}
    said = tmp_path / "said"
    with said.open("w") as errors:
        training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=surroundings)
    wait_for(lambda: "watch it on http" in said.read_text() and said.read_text().endswith("\n"))
    browser = Browser(SimpleNamespace(url=said.read_text().split()[-1]))
    assert browser.ask("/frame?seen=0")[0] == 200
    rest, _ = training.communicate(timeout=HANGS)
    assert training.returncode == 0
    assert "run folder" in rest
    status, picture, headers = browser.ask("/frame?seen=0")
    assert (status, picture[:2]) == (200, b"\xff\xd8"), "it goes on after the training"
    browser.ask("/key", "n")
    assert browser.ask(f"/frame?seen={headers['X-Frame']}")[0] == 200
    assert browser.ask("/key", "q")[0] == 204


QUIET = """"use strict";
// a browser's own clock stands still while a page waits for an answer: after two pictures it asks for no more
const really = window.fetch.bind(window);
let asked = 0;
window.fetch = (...of) => String(of[0]).startsWith("frame") && ++asked > 2 ? new Promise(() => {}) : really(...of);
"""


@in_a_browser
def test_a_browser_shows_pictures_and_curves(served, tmp_path: Path, monkeypatch) -> None:
    page, _, _ = served
    html = Path(pages.__file__).with_name("page.html").read_text("utf-8")
    place = tmp_path / "agents.view"
    place.mkdir()
    (place / "page.html").write_text(html.replace('"use strict";', QUIET), "utf-8")
    monkeypatch.setattr(pages, "files", tmp_path.joinpath)
    shown = dom(page.url)
    assert f"<title>{tmp_path.name}</title>" in shown
    assert 'src="blob:' in shown
    assert [f'data-tag="{tag}"' in shown for tag in ("rollout/ep_rew_mean", "eval/mean_reward")] == [True, True]
    assert '<p id="said">Keys work here' in shown, "it does not say that the viewer has ended"
    picture = pixels(page.url, tmp_path / "page.png", "--window-size=1000,1200")
    height = picture.shape[0]
    assert near(picture[height // 2 :], (94, 206, 190)) > 100, "the curves in their colour"
    assert len(np.unique(picture[: height // 2].reshape(-1, 3), axis=0)) > 20, "the viewer's picture"
