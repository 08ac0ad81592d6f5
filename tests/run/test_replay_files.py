"""Replay buffers on the disk, and checkpoints of large ones: what has changed is written, and no kill harms them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.core import chunks
from agents.core.chunks import Chunks, Marked
from agents.data.replay import ReplayBuffer
from agents.data.storage import on_disk
from agents.run import memory, trees
from agents.run.folder import RunFolder
from agents.run.memory import Place, free_on_disk, refuse_too_large_on_disk
from agents.run.storage import atomic_folder
from agents.run.trees import read_tree, write_tree
from envs.errors import UserError
from tests.marks import long_test
from tests.run.running import assert_same_run, killed_after, resume, signals_at, train
from tests.run.test_build import DQN_VALUES, built
from tests.run.test_resume import assert_killed

FILM = f"--env {Path(__file__).with_name('film_env.py')}:Film --vec sync"
DQN = "--algo dqn --n-envs 2 --learning-starts 40 --buffer-size 120 --batch-size 8 --train-freq 8 --encoder flat"
SHORT = "-n 240 --net-arch 8 --eval-freq 200 --eval-episodes 1 --final-eval-episodes 0 --save-freq 60 --device cpu"
SHORT += " --prioritized-replay"
WORDS = f"{FILM} {DQN} {SHORT}"
CPU = torch.device("cpu")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 40_000)  # about 30 frames


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.part")}


def make(rows: int = 1_000) -> tuple[torch.Tensor, Marked, Chunks]:
    tensor, marked = torch.arange(rows * 100, dtype=torch.int64).view(rows, 100), Marked(rows)
    return tensor, marked, Chunks(tensor, marked)


def written(folder: Path, made: Chunks, count: int, earlier: Path | None = None) -> Path:
    folder.mkdir()
    write_tree(folder, "state", {"large": made.first(count)}, earlier=earlier)
    return folder


def read(folder: Path) -> torch.Tensor:
    stored = read_tree(folder, "state")[0]["large"]
    into = torch.zeros(stored.shape, dtype=stored.dtype)
    stored.read(into)
    return into


def test_only_chunks_that_have_changed_are_written(tmp_path: Path, small_chunks: None) -> None:
    tensor, marked, made = make()
    assert made.rows == 48
    one = written(tmp_path / "1", made, 600)
    assert len(names(one)) == 13
    tensor[140] = -1
    marked.note(140)
    tensor[600:610] = -2
    marked.note(slice(600, 610))
    two = written(tmp_path / "2", made, 610, one)
    assert len(names(two) - names(one)) == 2, "the chunk with row 140, and the last"
    for name in names(two) & names(one):
        assert os.path.samefile(one / name, two / name)
    assert read(two).equal(tensor[:610])
    assert not read(one)[140].equal(tensor[140])
    assert read(one)[141:].equal(tensor[141:600]), "what was saved stays as it was"


def test_chunks_that_lie_nowhere_any_more_are_written_anew(tmp_path: Path, small_chunks: None) -> None:
    tensor, _, made = make()
    one = written(tmp_path / "1", made, 1_000)
    for file in one.glob("*.part"):
        file.unlink()
    two = written(tmp_path / "2", made, 1_000, one)
    assert read(two).equal(tensor)


def test_what_was_read_is_not_written_again(tmp_path: Path, small_chunks: None) -> None:
    tensor, _, made = make()
    one = written(tmp_path / "1", made, 1_000)
    _, marked, again = make()
    again._tensor.zero_()
    again.fill(read_tree(one, "state")[0]["large"])
    assert again._tensor.equal(tensor)
    again._tensor[0] = -1
    marked.note(0)
    two = written(tmp_path / "2", again, 1_000, one)
    assert len(names(two) & names(one)) == 20
    assert all(os.path.samefile(one / name, two / name) for name in names(two) & names(one))
    assert read(two)[1:].equal(tensor[1:])


def test_a_chunk_that_becomes_equal_to_another_writes_no_earlier_file(tmp_path: Path, small_chunks: None) -> None:
    tensor, marked, made = make()
    tensor.zero_()
    one = written(tmp_path / "1", made, 1_000)
    file = next(one.glob("*.part"))
    os.utime(file, ns=(0, 0))
    marked.note(500)  # its chunk is written again, with what those before it have too
    two = written(tmp_path / "2", made, 1_000, one)
    assert os.path.samefile(file, two / file.name)
    assert file.stat().st_mtime_ns == 0, "written through its second name"
    assert read(two).equal(tensor)


def test_few_bytes_are_saved_as_they_are(tmp_path: Path) -> None:
    tensor, _, made = make()
    folder = written(tmp_path / "1", made, 10)
    assert not names(folder)
    assert read_tree(folder, "state")[0]["large"].equal(tensor[:10])


def spoil(folder: Path, **content: Any) -> None:
    """Change what state.json says of the chunks, its checksum included."""
    body = json.loads((folder / "state.json").read_text())
    body["tree"]["large"]["$parts"] |= content
    del body["checksum"]
    body["checksum"] = trees._json_sha256(body)
    (folder / "state.json").write_text(json.dumps(body))


@pytest.mark.parametrize(
    "content",
    [
        {"rows": 0},
        {"rows": -5},
        {"rows": 1},
        {"shape": [2**62, 100]},
        {"shape": []},
        {"shape": [1000.0, 100]},
        {"dtype": "load"},
        {"dtype": ["uint8"]},
        {"files": ["../../etc/passwd"] * 21},
        {"files": 5},
        {"files": []},
    ],
    ids=str,
)
def test_chunks_that_are_not_ours_are_refused(content: dict[str, Any], tmp_path: Path, small_chunks: None) -> None:
    folder = written(tmp_path / "1", make()[2], 1_000)
    spoil(folder, **content)
    with pytest.raises(UserError, match=r"state.json is malformed"):
        read_tree(folder, "state")


@pytest.mark.parametrize("change", ["torn", "longer", "flipped", "missing", "linked"])
def test_spoilt_chunks_are_refused(change: str, tmp_path: Path, small_chunks: None) -> None:
    folder = written(tmp_path / "1", make()[2], 1_000)
    file = next(folder.glob("*.part"))
    content = file.read_bytes()
    changes = {"torn": content[:-1], "longer": content + b"0", "flipped": content[:-1] + bytes([content[-1] ^ 1])}
    file.unlink()
    if change == "linked":
        file.symlink_to(os.devnull)
    elif change != "missing":
        file.write_bytes(changes[change])
    with pytest.raises(UserError, match=file.name):
        read(folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its transitions on the device, whose checkpoints are not cut into chunks."""
    return train(tmp_path_factory.mktemp("unbroken"), WORDS)


@pytest.mark.parametrize("place", ["device", pytest.param("memory", marks=long_test), "disk"])
def test_wherever_transitions_lie_a_run_stopped_and_resumed_ends_as_an_unbroken_one(
    place: str, tmp_path: Path, unbroken: Path, small_chunks: None
) -> None:
    with signals_at(171, signal.SIGINT):
        run = train(tmp_path, f"{WORDS} --replay-storage {place}", code=130)
    resume(run)
    assert_same_run(unbroken, run)
    (old, one), (new, two) = [(folder, names(folder)) for _, folder in RunFolder(run).checkpoints()[-2:]]
    assert one & two
    assert all(os.path.samefile(old / name, new / name) for name in one & two)
    assert not any(names(folder) for _, folder in RunFolder(run).checkpoints()[:-2]), "what nobody needs is removed"
    assert not list(run.rglob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("call", [pytest.param(6, marks=long_test), 14])
def test_killed_while_a_checkpoint_is_written_a_run_goes_on_from_the_one_before(
    call: int, tmp_path: Path, unbroken: Path, small_chunks: None
) -> None:
    words = f"{WORDS} --replay-storage disk --runs-dir {tmp_path / 'killed'} --no-record --quiet"
    assert_killed(words.split(), killed_after(call, trees, "_chunk_file"), tmp_path / "said")
    (run,) = (tmp_path / "killed").iterdir()
    assert list((run / "checkpoints").glob(".*")), "it died in the middle"
    assert RunFolder(run).resumable()
    resume(run)
    assert_same_run(unbroken, run)
    assert not list(run.rglob(".*"))


def transitions(start: int, count: int) -> dict[str, torch.Tensor]:
    """Return ticks of one environment whose observations are two frames that say which they are."""
    number = torch.arange(start, start + count + 2)
    frames = torch.stack([number % 251 + 1, number // 251 % 251, number // 63_001], 1).to(torch.uint8)
    no = torch.zeros(count, 1, dtype=torch.bool)
    obs, following = (torch.stack([frames[i : i + count], frames[i + 1 : i + 1 + count]], 1)[:, None] for i in (0, 1))
    return {"obs": obs, "action": no, "reward": number[:count, None].float(), "next_obs": following} | {
        "terminated": no,
        "truncated": no,
    }


def large(size: int, folder: Path) -> ReplayBuffer:
    return ReplayBuffer(size, 1, CPU, {"": 0}, lambda shape, dtype: on_disk(folder, shape, dtype))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize(
    "size",
    [
        2_000,
        pytest.param(1_000_000, marks=long_test),
    ],
)
def test_a_buffer_killed_while_it_is_saved_loads_as_it_was_saved_before(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing

    monkeypatch.setattr(chunks, "CHUNK_BYTES", size)
    step = size // 10

    def fill() -> None:
        replay, earlier = large(size, tmp_path), None
        for k in range(13):  # beyond a lap
            replay.extend(transitions(k * step, step))
            if k > 8:
                kill = killed_after(3, trees, "_chunk_file") if k == 12 else nullcontext()
                with kill, atomic_folder(tmp_path / f"saved-{k}") as folder:
                    write_tree(folder, "state", replay.state_dict(), earlier=earlier)
                earlier = tmp_path / f"saved-{k}"

    child = multiprocessing.get_context("fork").Process(target=fill)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.glob("saved-*")) == ["saved-10", "saved-11", "saved-9"]
    assert len(list(tmp_path.glob(".saved-12.tmp-*"))) == 1
    both = [names(tmp_path / f"saved-{k}") for k in (10, 11)]
    assert len(both[1] - both[0]) < len(both[1]) / 2, "most is not written again"
    loaded = large(size, tmp_path)
    tick = {key: value[0] for key, value in transitions(0, 1).items()}
    loaded.load_state_dict(read_tree(tmp_path / "saved-11", "state")[0], tick)
    assert len(loaded) == size
    index = torch.arange(size)
    number = loaded.flat["reward"].long()
    assert number.sort().values.equal(torch.arange(2 * step, 12 * step))
    for key, first in (("obs", 0), ("next_obs", 1)):
        pixels = loaded.flat[key].take(index).long()
        for i in range(2):
            said = pixels[:, i, 0] - 1 + pixels[:, i, 1] * 251 + pixels[:, i, 2] * 63_001
            assert said.equal(number + first + i), "every transition, with its own frames"


def test_what_it_takes_is_said_and_refused_where_the_disk_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = built(DQN_VALUES | {"replay_storage": "disk", "buffer_size": 100_000, "save_freq": 1_000})
    training.keep_files_in(tmp_path)
    assert training.replay_said() == [
        f"replay buffer: 99,999 transitions of 46 bytes, 0.00 GB on the disk of {tmp_path}"
    ]
    needed = 46 * (2 * 100_000 + 2 * 1_000)
    monkeypatch.setattr(memory, "free_on_disk", lambda folder: needed)
    training.refuse_too_large_on_disk(tmp_path, resumed=False)
    monkeypatch.setattr(memory, "free_on_disk", lambda folder: needed - 1)
    with pytest.raises(UserError) as caught:
        training.refuse_too_large_on_disk(tmp_path, resumed=False)
    assert str(caught.value) == (
        f"buffer_size 100000: so many transitions of 46 bytes and their checkpoints take 0.0 GB on the disk of "
        f"{tmp_path}, and 0.0 GB are free: buffer_size 89000 would fit"
    )
    refuse_too_large_on_disk(46, training.config.params, tmp_path, resumed=True)


def test_free_is_what_is_free_on_the_disk_of_the_nearest_folder_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, asked = shutil.disk_usage, list[Path]()

    def disk_usage(folder: Path) -> Any:
        usage = really(folder)
        asked.append(folder)
        return usage._replace(free=12_345)

    monkeypatch.setattr(memory.shutil, "disk_usage", disk_usage)
    assert free_on_disk(tmp_path / "not" / "there") == free_on_disk(tmp_path) == 12_345
    assert asked == [tmp_path, tmp_path]


def test_a_full_disk_or_memory_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("disk", CPU)
    place.folder = tmp_path
    assert place((3, 2), torch.float32).fill_(7).sum() == 42
    monkeypatch.setattr(memory, "free_on_disk", lambda folder: 10)
    with pytest.raises(UserError, match=r"needs 0.0 GB on the disk of .*: lower buffer_size"):
        place((3, 2), torch.float32)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10)
    with pytest.raises(UserError, match=r"needs 0.0 GB in memory \(cpu\)"):
        Place("memory", torch.device("cuda"))((3, 2), torch.float32)
    monkeypatch.setattr(memory, "on_disk", lambda *args: (_ for _ in ()).throw(OSError(28, "full")))
    monkeypatch.setattr(memory, "free_on_disk", lambda folder: None)
    with pytest.raises(UserError, match="no space left on device"):
        place((3, 2), torch.float32)


def test_a_file_of_a_buffer_has_its_room_reserved_and_no_name(tmp_path: Path) -> None:
    tensor = on_disk(tmp_path, (1_000, 10), torch.int64)
    assert tensor.shape == (1_000, 10)
    tensor[:] = 3
    assert tensor.sum() == 30_000
    if sys.platform == "linux":
        assert not list(tmp_path.iterdir())
    assert on_disk(tmp_path, (0, 4), torch.bool).shape == (0, 4)
