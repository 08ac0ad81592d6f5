"""Videos are written, read back, and refused."""

from __future__ import annotations

import io
import os
import re

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from agents.run import video
from agents.run.video import gif_bytes, read_video, write_video
from envs.errors import UserError


def moving(count: int, height: int = 48, width: int = 64):
    """A red square that goes from left to right over grey."""
    for i in range(count):
        frame = np.full((height, width, 3), 120, np.uint8)
        left = round(i / max(count - 1, 1) * (width - 12))
        frame[10:22, left : left + 12] = (220, 30, 30)
        yield frame


def read(path):
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(raw, np.uint8).reshape(height, width, 3) for raw in reader]


def red_columns(frame):
    red = (frame[..., 0].astype(int) - frame[..., 1]) > 90
    return red.any(axis=0).nonzero()[0]


def test_mp4_keeps_every_frame_its_order_and_its_speed(tmp_path):
    path = tmp_path / "deep" / "video.mp4"
    assert write_video(path, moving(24), fps=12) == 24
    meta, frames = read(path)
    assert (meta["size"], meta["fps"], len(frames)) == ((64, 48), 12, 24)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert red_columns(frames[0]).max() < 16
    assert red_columns(frames[-1]).min() > 46
    np.testing.assert_allclose(frames[0][40, 30], 120, atol=6)
    assert os.listdir(path.parent) == ["video.mp4"]


def test_odd_sizes_are_padded_to_even_ones(tmp_path):
    write_video(tmp_path / "odd.mp4", map(np.asfortranarray, moving(3, 47, 63)), fps=10)  # in any order of axes
    meta, frames = read(tmp_path / "odd.mp4")
    assert meta["size"] == (64, 48)
    np.testing.assert_allclose(frames[0][47], 120, atol=6)
    np.testing.assert_allclose(frames[0][:8, 63], 120, atol=6)


def test_gif_keeps_size_and_duration_and_loses_no_colour(tmp_path):
    path = tmp_path / "video.GIF"
    write_video(path, moving(20), fps=10)
    with Image.open(path) as image:
        assert (image.size, image.n_frames) == ((64, 48), 20)
        assert image.info["duration"] == 100
        first = np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(first[16, 5], (220, 30, 30), atol=8)
    np.testing.assert_allclose(first[40, 30], 120, atol=8)


def test_fast_gifs_are_thinned_out_to_last_as_long(tmp_path):
    write_video(tmp_path / "fast.gif", moving(100), fps=50)
    with Image.open(tmp_path / "fast.gif") as image:
        assert image.n_frames == pytest.approx(50, abs=1)
        assert image.info["duration"] == 40


def test_gif_bytes_shrinks_wide_frames_and_leaves_narrow_ones():
    assert Image.open(io.BytesIO(gif_bytes(moving(3, 100, 200), 10, max_width=100))).size == (100, 50)
    assert Image.open(io.BytesIO(gif_bytes(moving(3, 48, 64), 10, max_width=100))).size == (64, 48)


def test_frames_are_taken_one_at_a_time(tmp_path):
    """Not more than one frame is alive beside the one being written, however long the episode."""
    import weakref

    alive, most = [], 0

    def frames():
        nonlocal most
        for _ in range(30):
            frame = np.full((16, 16, 3), 90, np.uint8)
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame
            del frame

    write_video(tmp_path / "a.mp4", frames(), 30)
    assert most <= 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("video.mp5", r"'\.mp5'; .*\.mp4 or \.gif.*Did you mean \.mp4\?"),
        ("video", r"without a format"),
        ("video.avi", r"'\.avi'; .*\.mp4 or \.gif"),
    ],
)
def test_unknown_formats_are_refused_before_a_frame_is_asked_for(tmp_path, name, message):
    def frames():
        pytest.fail("a frame was asked for")
        yield

    with pytest.raises(UserError, match=message):
        write_video(tmp_path / name, frames(), 30)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "there are no frames"),
        ([np.zeros((4, 4), np.uint8)], r"\[H, W, 3\].*uint8 \[4, 4\]"),
        ([np.zeros((4, 4, 3))], "float64"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((6, 4, 3), np.uint8)], r"\[4, 4, 3\], as the first"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_what_is_no_video_leaves_no_file(tmp_path, frames, message, suffix):
    with pytest.raises(UserError, match=message):
        write_video(tmp_path / f"a{suffix}", iter(frames), 30)
    assert os.listdir(tmp_path) == []


def test_a_failure_in_the_middle_leaves_the_old_video(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, moving(3), 30)
    before = path.read_bytes()

    def broken():
        yield from moving(5)
        raise RuntimeError("the environment broke")

    with pytest.raises(RuntimeError, match="the environment broke"):
        write_video(path, broken(), 30)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=re.escape(f"cannot write {tmp_path / 'file' / 'a.mp4'}")):
        write_video(tmp_path / "file" / "a.mp4", moving(3), 30)


def test_ffmpegs_own_failure_is_reported(tmp_path, monkeypatch):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho 'No space left on device' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    with pytest.raises(UserError, match=r"ffmpeg could not write a\.mp4: No space left on device"):
        write_video(tmp_path / "a.mp4", moving(500), 30)


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_a_video_that_is_black_or_cannot_be_read_back_is_no_video(tmp_path, monkeypatch, name):
    black = np.zeros((32, 48, 3), np.uint8)
    light = black.copy()
    light[:8, :8] = 200
    with pytest.raises(UserError, match="would be black from beginning to end"):
        write_video(tmp_path / name, [black] * 3, 10)
    assert not list(tmp_path.iterdir())
    assert write_video(tmp_path / name, [black, light, black], 10) == 3
    (tmp_path / name).unlink()

    def lose(path, *args, **more):
        path.write_bytes(b"")
        return 3

    monkeypatch.setattr(video, "_encode_gif" if name.endswith("gif") else "_encode", lose)
    with pytest.raises(UserError, match="0 of 3 frames can be read back"):
        write_video(tmp_path / name, [light] * 3, 10)
    assert not list(tmp_path.iterdir())


def test_a_video_that_lacks_a_frame_is_refused(tmp_path, monkeypatch):
    encode = video._encode
    monkeypatch.setattr(video, "_encode", lambda *args, **more: encode(*args, **more) + 1)
    with pytest.raises(UserError, match="5 of 6 frames can be read back"):
        write_video(tmp_path / "a.mp4", moving(5), 10)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="cannot be read as a video"):
        list(read_video(tmp_path / "a.mp4"))
