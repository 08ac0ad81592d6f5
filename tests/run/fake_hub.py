"""A small Hugging Face hub on loopback: repositories in memory, and the few routes that pushing and pulling use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """Attributes: `files` by repository and name; `sizes` are told instead of the true ones; `asked` is every path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.sizes: dict[str, int] = {}
        self.asked: list[str] = []
        self.status = 200  # of everything, where it is an error

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _path(self) -> list[str]:
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        return [unquote(part) for part in path.strip("/").split("/")]

    def do_POST(self) -> None:
        path, body = self._path(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.status != 200:
            return self._answer({"error": "refused"}, self.server.status)
        match path:
            case ["api", "validate-yaml"]:
                return self._answer({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                repo = f"{asked['organization']}/{asked['name']}"
                self.server.files.setdefault(repo, {})
                self.server.private[repo] = "private" in (asked.get("visibility"), asked.get("private") and "private")
                return self._answer({"url": f"{self.server.endpoint}/{repo}"})
            case ["api", "models", _, _, "preupload", "main"]:
                files = [file["path"] for file in json.loads(body)["files"]]
                each = [{"path": file, "uploadMode": "regular", "shouldIgnore": False} for file in files]
                return self._answer({"files": each})
            case ["api", "models", user, name, "commit", "main"]:
                repo = f"{user}/{name}"
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        self.server.files[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                    elif entry["key"] == "deletedFile":
                        del self.server.files[repo][entry["value"]["path"]]
                return self._answer({"commitUrl": f"{self.server.endpoint}/{repo}/commit/{SHA}", "commitOid": SHA})
        return self._answer({"error": "no such route"}, 404)

    def do_GET(self) -> None:
        path = self._path()
        if self.server.status != 200:
            return self._answer({"error": "refused"}, self.server.status)
        match path:
            case ["api", "models", user, name, *_] if f"{user}/{name}" in self.server.files:
                files = self.server.files[f"{user}/{name}"]
                siblings = [
                    {"rfilename": file, "size": self.server.sizes.get(file, len(content)), "blobId": "0"}
                    for file, content in files.items()
                ]
                return self._answer({"id": f"{user}/{name}", "sha": SHA, "siblings": siblings, "tags": []})
            case [user, name, "resolve", _, *parts] if f"{user}/{name}" in self.server.files:
                content = self.server.files[f"{user}/{name}"]["/".join(parts)]
                etag = hashlib.sha256(content).hexdigest()
                return self._answer(content, headers={"ETag": f'"{etag}"', "X-Repo-Commit": SHA})
        return self._answer({"error": "no such route"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET


@contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """Serve one from a thread, as the one that the hub's library talks to; skip the test where there is no library."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with FakeHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)  # as HF_ENDPOINT does before the first import
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
