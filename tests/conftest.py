"""What every test runs under: one thread, as small networks train fastest, draws of its own, and no window."""

from __future__ import annotations

import io
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.utils import seeding

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
if not torch.cuda.is_available():  # kernels run on the CPU then; Triton reads this as it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True, scope="session")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user's folders of the tests' own: settings, in which the key of signatures is made, and what is compiled.

    The latter is shared by processes that run tests, so that nothing is compiled twice. Child processes import this
    checkout wherever they are started.
    """
    root, own = Path(__file__).parents[1], tmp_path_factory.getbasetemp()
    cache = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    cache.mkdir(exist_ok=True)
    path = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "APPDATA"):
            patch.setenv(name, str(tmp_path_factory.mktemp("settings")))
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(cache))
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed what a test draws without a generator of its own from the test's name, so that it draws the same each time.

    `TEST_SEED=N` gives all of them other draws: a test that passes by luck is found so.
    """
    seed = zlib.crc32(f"{os.environ.get('TEST_SEED', '')}{request.node.nodeid}".encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    made, seeds = seeding.np_random, random.Random(seed)

    def seeded(given: int | None = None) -> tuple[np.random.Generator, int]:
        return made(seeds.getrandbits(32) if given is None else given)

    monkeypatch.setattr(seeding, "np_random", seeded)  # of environments and spaces that are given no seed


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memories take sequences in step by step, as where what is captured may look at no value, and work out other
    recurrences with few operations, as where each is a kernel.
    """
    monkeypatch.setattr("agents.core.device.LOOKED_AT", ())


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in a comparison's report, which takes most of its time, where nobody looks at its pictures."""
    from PIL import Image

    from agents.lab.drawing import Picture

    png = io.BytesIO()
    Image.new("RGB", (1, 1)).save(png, "PNG")

    def make_picture(name: str, alt: str, *_: object) -> Picture:
        return Picture(f"{name}.png", png.getvalue(), alt, 1, 1)

    monkeypatch.setattr("agents.lab.comparison.figures.make_picture", make_picture)
