"""The viewer as a page: the same pictures and keys for a browser, where there is no display, and the run's curves.

It listens on this machine alone unless told otherwise, and then wants a token from whoever asks.
"""

from __future__ import annotations

import io
import json
import secrets
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agents.run.curves import read_curves
from agents.run.lock import trainer_of
from agents.view.keys import STRIP
from agents.view.player import Player
from agents.view.viewer import paint
from envs.errors import UserError

HERE = ("127.0.0.1", "localhost")
POLICY = "default-src 'none'; connect-src 'self'; img-src blob:; style-src 'unsafe-inline'"
CURVES = {"progress.csv": ("rollout/ep_rew_mean", "rollout/ep_len_mean"), "evaluations.csv": ("eval/mean_reward",)}
POINTS = 400  # of a curve
RATE = 20  # pictures per second at most
WAIT = 2.0  # seconds that a request for the next picture waits
LOOKED = 5.0  # seconds after which nobody looks any more, and nothing is played
LINGER = 600.0  # seconds that it stays after the training, with nobody looking
LONGEST = 64  # bytes of what a browser sends


class Page:
    """A web server and what it hands out.

    Args:
        run: whose curves are shown; None for none.
        host: address to listen on.
        port: 0 for any that is free.

    Attributes:
        url: where to look.

    Raises:
        UserError: nothing can listen there.
    """

    def __init__(self, run: Path | None, host: str = HERE[0], port: int = 0) -> None:
        self.run = run
        self.token = None if host in HERE else secrets.token_urlsafe(16)
        self.events: Queue[tuple[str, Any]] = Queue(100)
        self.looked = time.monotonic()
        self._frame, self._number = b"", 0
        self._newer = threading.Condition()
        handler = type("Handler", (_Handler,), {"page": self})
        try:
            self._server = _Server((host, port), handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"--page: nothing can listen on {host}, port {port}: {error}") from error
        query = "" if self.token is None else f"?token={self.token}"
        self.url = f"http://{host}:{self._server.server_address[1]}/{query}"
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()

    def show(self, frame: bytes) -> None:
        """Hand out another picture from now on."""
        with self._newer:
            self._frame, self._number = frame, self._number + 1
            self._newer.notify_all()

    def newer(self, seen: int) -> tuple[bytes, int] | None:
        """Return the newest picture and its number, as soon as it is another than `seen`; None if none comes soon."""
        self.looked = time.monotonic()
        with self._newer:
            self._newer.wait_for(lambda: self._number not in (0, seen), WAIT)
            self.looked = time.monotonic()
            return (self._frame, self._number) if self._number not in (0, seen) else None

    def curves(self) -> dict[str, Any]:
        """Return what is shown below the picture."""
        found: dict[str, Any] = {}
        if self.run is None:
            return {"run": "watching", "curves": found}
        for name, tags in CURVES.items():
            with suppress(UserError):
                curves = read_curves(self.run / name)
                found |= {tag: curves[tag].thinned(POINTS)._asdict() for tag in tags if tag in curves}
        return {"run": self.run.name, "curves": found}

    def admits(self, headers: Any, token: str) -> bool:
        """Whether who asks may: by name of this machine alone, or with the token where others can ask."""
        if self.token is not None:
            return secrets.compare_digest(token.encode(), self.token.encode())
        host = headers.get("Host") or ""  # without a port where that is 80
        return host.partition(":")[0] in HERE  # or another site sent the browser

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has gone; anything else is a fault of the page."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """What browsers ask for: the page, the next picture, the curves; and what they send: keys and clicks."""

    page: Page
    timeout = 30
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        whole = address.path == "/"
        if not self.page.admits(self.headers, query.get("token", "") if whole else self.headers.get("X-Watch", "")):
            self._answer(HTTPStatus.FORBIDDEN, b"forbidden", "text/plain")
        elif whole:
            nonce = secrets.token_urlsafe(16)
            html = files("agents.view").joinpath("page.html").read_text("utf-8").replace("NONCE", nonce)
            policy = {"Content-Security-Policy": f"{POLICY}; script-src 'nonce-{nonce}'"}
            self._answer(HTTPStatus.OK, html.encode(), "text/html; charset=utf-8", policy)
        elif address.path == "/frame":
            seen = query.get("seen", "0")
            found = self.page.newer(int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 16 else 0)
            if found is None:
                self._answer(HTTPStatus.NO_CONTENT, b"", "image/jpeg")
            else:
                self._answer(HTTPStatus.OK, found[0], "image/jpeg", {"X-Frame": str(found[1])})
        elif address.path == "/curves":
            self._answer(HTTPStatus.OK, json.dumps(self.page.curves()).encode(), "application/json")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"not found", "text/plain")

    def do_POST(self) -> None:
        self.close_connection = True
        sent = self.headers.get("X-Watch")  # which no form of another site can send
        if sent is None or not self.page.admits(self.headers, sent):
            self._answer(HTTPStatus.FORBIDDEN, b"forbidden", "text/plain")
            return
        length = self.headers.get("Content-Length") or ""
        kind = self.path.strip("/")
        short = length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= LONGEST
        if not short or kind not in ("key", "click"):
            self._answer(HTTPStatus.BAD_REQUEST, b"bad request", "text/plain")
            return
        try:
            event = read_event(kind, self.rfile.read(int(length)))
        except (ValueError, TypeError, RecursionError):
            self._answer(HTTPStatus.BAD_REQUEST, b"bad request", "text/plain")
            return
        if not self.page.events.full():
            self.page.events.put((kind, event))
        self._answer(HTTPStatus.NO_CONTENT, b"", "text/plain")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        for name, value in {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def read_event(kind: str, body: bytes) -> Any:
    """Return the key, or where a click was as shares of the picture's width and height.

    Raises:
        ValueError, TypeError: it is neither.
    """
    if kind == "key":
        return body.decode()[:10]
    x, y = json.loads(body)
    if not (0 <= float(x) <= 1 and 0 <= float(y) <= 1):
        raise ValueError("outside")
    return float(x), float(y)


def run_page(page: Page, player: Player, size: tuple[int, int], *, lingers: bool) -> None:
    """Play for browsers until a key ends it or the last episode is over; while nobody looks, time stands still.

    Args:
        size: of the picture without its strip of keys.
        lingers: whether it ends some time after the training, once nobody looks.
    """
    import pygame

    surface = pygame.Surface((size[0], size[1] + STRIP))
    before = time.monotonic()
    while player.running:
        _hear(page, player, surface.get_size())
        now = time.monotonic()
        unseen = now - page.looked
        if unseen < LOOKED:
            if player.changed and player.running:
                page.show(window_jpeg(player, surface))
            player.tick(now - before)
        elif lingers and unseen > LINGER and (page.run is None or trainer_of(page.run) is None):
            return
        before = now
        time.sleep(max(1 / RATE - (time.monotonic() - now), 0.001))


def _hear(page: Page, player: Player, size: tuple[int, int]) -> None:
    for _ in range(page.events.qsize()):
        try:
            kind, event = page.events.get_nowait()
        except Empty:
            return
        if kind == "key":
            player.press(event)
        else:
            player.click(size, (round(event[0] * (size[0] - 1)), round(event[1] * (size[1] - 1))))


def window_jpeg(player: Player, surface: Any) -> bytes:
    """Return what a window would show as a JPEG file."""
    import pygame

    paint(surface, *player.states())
    file = io.BytesIO()
    pygame.image.save(surface, file, "frame.jpg")
    return file.getvalue()
