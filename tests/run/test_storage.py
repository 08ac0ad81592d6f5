"""Trees come back as they were, and nothing spoilt is ever loaded."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.run import trees
from agents.run.storage import atomic_folder, disk, tidy, write_text
from agents.run.trees import read_tree, remove_tree, write_tree
from envs.errors import UserError


def same(a: Any, b: Any) -> bool:
    """Whether two trees agree in type, dtype, shape and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b or (a != a and b != b)


def tree() -> dict[Any, Any]:
    big = torch.arange(10.0)
    return {
        "weights": {"torso.0.weight": torch.randn(3, 4), "bf16": torch.ones(2, dtype=torch.bfloat16)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0)}, 1: {}},
            "groups": [{"betas": (0.9, 0.999), "lr": 1e-4}],
        },
        "aliased": {"whole": big, "again": big, "part": big[2:5], "transposed": torch.randn(2, 3).T},
        "odd": {
            "": torch.zeros(1),
            "a/b": torch.ones(1),
            "a": {"b": torch.zeros(2)},
            "#0": torch.ones(3),
            0: torch.zeros(0, 3),
            "0": torch.full((2,), 5.0),
            "~": torch.tensor(7),
            "$array": "text",
            "é\n": 1,
        },
        "numpy": {
            "uint8": np.arange(6, dtype=np.uint8).reshape(2, 3),
            "int64": np.array(-(2**63)),
            "bool": np.array([True, False]),
            "float64": np.array([math.pi, math.inf, -0.0]),
            "uint32": np.array([2**32 - 1], dtype=np.uint32),
            "empty": np.zeros((0, 4), np.float32),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "reversed": np.arange(5)[::-1],
            "scalar": np.float64(0.1),
            "flag": np.bool_(True),
        },
        "plain": [1, -(2**127), 10**5000, 0.1, math.inf, -math.inf, math.nan, True, None, "text", [], {}, ()],
        "tensors in lists": [torch.ones(1), (np.zeros(1),)],
    }


def test_round_trip_keeps_kind_dtype_shape_and_value(tmp_path: Path) -> None:
    before = tree()
    write_tree(tmp_path, "state", before, {"step": 2**70, "note": "ü"})
    after, meta = read_tree(tmp_path, "state")
    assert same(after, before)
    assert meta == {"step": 2**70, "note": "ü"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.json", "state.safetensors"]


def test_a_view_is_saved_without_the_rest_of_its_storage(tmp_path: Path) -> None:
    write_tree(tmp_path, "state", {"view": torch.zeros(1_000_000)[:2]})
    assert (tmp_path / "state.safetensors").stat().st_size < 1000


def test_what_is_loaded_survives_the_file(tmp_path: Path) -> None:
    write_tree(tmp_path, "state", {"a": torch.arange(1000), "b": np.arange(1000)})
    after, _ = read_tree(tmp_path, "state")
    write_tree(tmp_path, "state", {"a": torch.zeros(1000), "b": np.zeros(1000)})
    (tmp_path / "state.safetensors").unlink()
    after["b"][0] = 5  # arrays are writable, as they were
    assert after["a"].sum() == 499_500
    assert after["b"].sum() == 499_505


def test_an_optimizer_goes_on_from_what_was_stored(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    write_tree(tmp_path, "adam", optimizer.state_dict())
    fresh = torch.optim.Adam(layer.parameters())
    fresh.load_state_dict(read_tree(tmp_path, "adam")[0])
    assert same(fresh.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize(
    "bad", [{"a": object()}, {"a": {1, 2}}, {1.5: 1}, {True: 1}, {"a": np.array(["text"])}, {"a": np.array([None])}]
)
def test_what_cannot_be_stored_is_refused_and_leaves_nothing(tmp_path: Path, bad: dict[Any, Any]) -> None:
    with pytest.raises(TypeError):
        write_tree(tmp_path, "state", bad)
    assert list(tmp_path.iterdir()) == []


def test_meta_holds_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="meta/mean"):
        write_tree(tmp_path, "state", {}, {"mean": np.zeros(2)})


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_tree(tmp_path, "model", {"w": torch.arange(20.0), "n": {"i": 3}}, {"step": 7})
    return tmp_path


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
class TestSpoiltFiles:
    def test_missing(self, stored: Path, file: str) -> None:
        (stored / file).unlink()
        with pytest.raises(UserError, match=rf"cannot read .*{file}: no such file"):
            read_tree(stored, "model")

    def test_torn_anywhere(self, stored: Path, file: str) -> None:
        content = (stored / file).read_bytes()
        for length in range(0, len(content) - 1, 7):
            (stored / file).write_bytes(content[:length])
            with pytest.raises(UserError, match=rf"{file} (is torn|was altered|is foreign)"):
                read_tree(stored, "model")

    def test_any_flipped_bit(self, stored: Path, file: str) -> None:
        content = (stored / file).read_bytes()
        for position in range(len(content) - 1):  # the last byte of the JSON is a newline
            spoilt = bytearray(content)
            spoilt[position] ^= 1 << position % 8
            if file.endswith("json") and _same_json(bytes(spoilt), content):
                continue
            (stored / file).write_bytes(spoilt)
            with pytest.raises(UserError, match=file):
                read_tree(stored, "model")

    def test_grown(self, stored: Path, file: str) -> None:
        with (stored / file).open("ab") as stream:
            stream.write(b"x")
        with pytest.raises(UserError, match=file):
            read_tree(stored, "model")

    def test_a_folder_in_its_place(self, stored: Path, file: str) -> None:
        (stored / file).unlink()
        (stored / file).mkdir()
        with pytest.raises(UserError, match=rf"cannot read .*{file}: it is no file, but a folder"):
            read_tree(stored, "model")

    def test_from_another_save(self, stored: Path, file: str) -> None:
        (stored / "other").mkdir()
        write_tree(stored / "other", "model", {"w": torch.arange(20.0) + 1, "n": {"i": 3}}, {"step": 8})
        os.replace(stored / "other" / file, stored / file)
        with pytest.raises(UserError, match=r"model.safetensors is torn or was altered"):
            read_tree(stored, "model")


def _same_json(a: bytes, b: bytes) -> bool:
    """Whether a flipped bit fell on blank space, or made one kind of blank another."""
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


def forge(folder: Path, **changes: Any) -> None:
    """Rewrite the JSON half with a checksum that fits, as someone would who means harm."""
    body = json.loads((folder / "model.json").read_text())
    body.pop("checksum")
    body |= changes
    body = {key: value for key, value in body.items() if value != "DROP"}
    body["checksum"] = trees._json_sha256(body)
    (folder / "model.json").write_text(json.dumps(body))


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}", '{"format": "other"}', '{"weights": [1, 2]}'])
def test_foreign_json(stored: Path, content: str) -> None:
    (stored / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model.json is foreign"):
        read_tree(stored, "model")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_version(stored: Path, version: object) -> None:
    forge(stored, version=version)
    with pytest.raises(UserError, match=r"format version .*; this program reads version 1"):
        read_tree(stored, "model")


@pytest.mark.parametrize(
    "changes",
    [
        {"tree": "DROP"},
        {"meta": "DROP"},
        {"tensors_sha256": "DROP"},
        {"tree": []},
        {"tree": 3},
        {"meta": [1]},
        {"tree": {"w": {"$array": "nowhere", "kind": "torch"}}},
        {"tree": {"w": {"$array": ["w"], "kind": "torch"}}},
        {"tree": {"w": {"$array": "w", "kind": "pickle"}}},
        {"tree": {"w": {"$array": "w"}}},
        {"tree": {"$int": "0x1"}},
        {"tree": {"a": {"$int": 5}}},
        {"tree": {"a": {"$float": []}}},
        {"tree": {"a": {"$tuple": 5}}},
        {"tree": {"a": {"$items": [[1, 2, 3]]}}},
        {"tree": {"a": {"$items": [[{}, 2]]}}},
        {"tree": {"a": {"$call": "os.system"}}},
        {"meta": {"w": {"$array": "w", "kind": "torch"}}},
    ],
)
def test_forged_json_is_malformed(stored: Path, changes: dict[str, Any]) -> None:
    forge(stored, **changes)
    with pytest.raises(UserError, match=r"model.json is malformed"):
        read_tree(stored, "model")


def test_json_nested_beyond_reason(stored: Path) -> None:
    # As much as json can write and decoding cannot take: two calls for each level, from Python 3.12 on one.
    share = 0.7 if sys.version_info < (3, 12) else 1.2
    deep: Any = 0
    for _ in range(int(sys.getrecursionlimit() * share)):
        deep = {"a": deep}
    forge(stored, tree=deep)
    with pytest.raises(UserError, match=r"model.json is malformed"):
        read_tree(stored, "model")
    (stored / "model.json").write_text('{"tree":' + "[" * 100_000)
    with pytest.raises(UserError, match=r"model.json is torn or malformed"):
        read_tree(stored, "model")


def tensor_file(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


BEYOND = tensor_file({"a": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}})


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\xff" * 64, b"\x80\x04K\x01.", BEYOND])
def test_foreign_tensor_file_with_a_fitting_checksum(stored: Path, content: bytes) -> None:
    file = stored / "model.safetensors"
    file.write_bytes(content)
    forge(stored, tensors_sha256=trees._file_sha256(file))
    with pytest.raises(UserError, match=r"model.safetensors is malformed"):
        read_tree(stored, "model")


def test_write_text_replaces_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old ü")

    def crash(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(UserError, match=r"cannot write .*a.txt: no space left on device"):
        write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "old ü"
    assert [left.name for left in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_told_for_tensors_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(*_: object) -> None:
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*state.safetensors: no space left on device"):
        write_tree(tmp_path, "state", {"a": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_tensors_is_cleared_away(tmp_path: Path) -> None:
    code = """if True:
        import os, pathlib, sys, safetensors.torch, torch
        from agents.run.trees import write_tree

        def die(tensors, file):
            pathlib.Path(file).with_name(".tmpAbCdEf").touch()  # as the library's own
            os._exit(9)

        safetensors.torch.save_file = die
        write_tree(pathlib.Path(sys.argv[1]), "state", {"a": torch.zeros(1)})
    """
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
    assert list(tmp_path.rglob(".tmpAbCdEf"))
    tidy(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*nowhere/state.safetensors: no such file or directory"):
        write_tree(tmp_path / "nowhere", "state", {"a": torch.zeros(1)})


def test_what_cannot_be_cleared_away_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/a.txt: not a directory"):
        write_text(tmp_path / "file" / "a.txt", "")

    def crash(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read only")

    write_tree(tmp_path, "state", {})
    monkeypatch.setattr(Path, "unlink", crash)
    with pytest.raises(UserError, match=r"cannot remove .*state.json: read-only file system"):
        remove_tree(tmp_path, "state")


def test_disk_passes_other_errors_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), disk("write", tmp_path):
        raise ValueError("mine")
    with pytest.raises(UserError, match=r"cannot create .*: permission denied"), disk("create", tmp_path):
        raise PermissionError(errno.EACCES, "no")


def content(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "checkpoints" / "5"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert content(target) == ["a"]
    assert content(target.parent) == ["5"]


def test_atomic_folder_replaces(tmp_path: Path) -> None:
    target = tmp_path / "best"
    for name in ("a", "b"):
        with atomic_folder(target) as folder:
            (folder / name).write_text("1")
    assert content(target) == ["b"]
    assert content(tmp_path) == ["best"]


def test_atomic_folder_leaves_the_old_one_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "best"
    with atomic_folder(target) as folder:
        (folder / "old").write_text("1")

    def interrupted() -> None:
        with atomic_folder(target) as folder:
            (folder / "new").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content(target) == ["old"]
    assert content(tmp_path) == ["best"]


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders to sync them")
def test_what_takes_its_place_is_on_the_disk_before_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    moved = []
    fsync, replace, rename = os.fsync, os.replace, Path.rename

    def syncing(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def in_place(source: Path, target: Path) -> None:
        parts = [source, *source.rglob("*")] if source.is_dir() else [source]
        assert {part.stat().st_ino for part in parts} <= synced, f"{target.name} is not on the disk yet"
        moved.append(target.name)
        synced.discard(target.parent.stat().st_ino)

    def replacing(source: Path, target: Path) -> None:
        in_place(source, target)
        replace(source, target)

    def renaming(source: Path, target: Path) -> Path:
        in_place(source, target)
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(Path, "rename", renaming)
    write_text(tmp_path / "a.txt", "text")
    assert tmp_path.stat().st_ino in synced
    with atomic_folder(tmp_path / "best") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "plain").write_text("written without a sync of its own")
    assert tmp_path.stat().st_ino in synced
    assert moved == ["a.txt", "best"]


@pytest.mark.parametrize("dies_at", [0, 1])
def test_tidy_mends_what_a_killed_replacement_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    target = tmp_path / "best"
    with atomic_folder(target) as folder:
        (folder / "old").write_text("1")
    renames = []
    rename = Path.rename

    def dying(self: Path, to: Path) -> Path:
        if len(renames) == dies_at:
            raise OSError(errno.EIO, "killed")
        renames.append(to)
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(UserError), atomic_folder(target) as folder:
            (folder / "new").write_text("1")
    (tmp_path / ".best.tmp-0123").mkdir()
    (tmp_path / ".a.txt.tmp-0123").write_text("half")
    tidy(tmp_path)
    assert content(tmp_path) == ["best"]
    assert content(target) == ["old"]
