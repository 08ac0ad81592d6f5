"""Pictures in motion: frames to .mp4 or .gif, one at a time, through the ffmpeg that imageio-ffmpeg brings."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from agents.run.storage import disk
from envs.errors import UserError, did_you_mean
from envs.processes import APART

Frame = np.ndarray  # uint8 [H, W, 3]

FORMATS = (".mp4", ".gif")
GIF_FPS = 25  # browsers slow down what is faster than 50, and half of that halves the file
GIF_WIDTH = 640
LOOK, BLACK = 16, 2  # pixels of each side of a frame that is read back; the most that counts as black, of 255
H264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]


def check_format(path: Path) -> None:
    """Raise a UserError unless `write_video` can write a file of this name."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        given = f"the format {path.suffix!r}" if suffix else "a name without a format"
        hint = did_you_mean(suffix, FORMATS) if suffix else ""
        raise UserError(f"{path}: cannot record to {given}; a video's name ends in .mp4 or .gif.{hint}")


def write_video(path: Path, frames: Iterable[Frame], fps: float, gif_width: int = GIF_WIDTH) -> int:
    """Write a video in one pass over `frames`, which are all of one size; it appears only when it is whole.

    An .mp4 is H.264 in yuv420p, which every player shows; an odd size gets one more row or column, like the last. A
    .gif shares one palette made for all its frames, and is at most `gif_width` pixels wide and 25 frames a second.

    Args:
        path: where to; its folder is made.
        frames: uint8 `[H, W, 3]`, at least one.
        fps: frames per second at which they were taken.

    Returns:
        How many frames were written.

    Raises:
        UserError: an unknown suffix, no frames, frames that are no pictures of one size, or all of them black; or a
            file that cannot be written, or does not hold what was written.
    """
    check_format(path)
    with disk("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".video-", dir=path.parent) as folder:
            whole = Path(folder).absolute() / path.name  # beginning with a slash it is no option of ffmpeg's
            if path.suffix.lower() == ".gif":
                count = _encode_gif(whole, frames, fps, gif_width)
            else:
                count = _encode(whole, frames, fps, H264, even=True)
            _check_written(whole, count)
            whole.replace(path)
    return count


def read_video(path: Path) -> Iterator[Frame]:
    """Yield the frames of a video, uint8 `[H, W, 3]`, as a player would show them.

    Raises:
        UserError: it cannot be read.
    """
    import imageio_ffmpeg

    try:
        reader = imageio_ffmpeg.read_frames(str(path.absolute()), pix_fmt="rgb24")
        width, height = next(reader)["size"]
        for raw in reader:
            yield np.frombuffer(raw, np.uint8).reshape(height, width, 3)
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        raise UserError(f"{path} cannot be read as a video: {' '.join(str(error).split())[:200]}") from error


def _check_written(path: Path, count: int) -> None:
    """Read a video back: as many frames as were written, and not all of them black.

    Raises:
        UserError: that is not so.
    """
    import imageio_ffmpeg

    small = ["-vf", f"scale={LOOK}:{LOOK}:flags=area", "-fps_mode", "passthrough"]
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), *small, *raw]
    read = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, **APART).stdout
    found = len(read) // LOOK**2
    # a .gif has other frames, as it is slowed down and those alike are one
    if found != count and not (path.suffix.lower() == ".gif" and found):
        raise UserError(f"{path.name}: {found:,} of {count:,} frames can be read back from the video that was written")
    if max(read) <= BLACK:
        raise UserError(f"{path.name} would be black from beginning to end: the environment draws nothing here")


def gif_bytes(frames: Iterable[Frame], fps: float, max_width: int = 320) -> bytes:
    """Return `frames` as an animated GIF at most `max_width` pixels wide, as TensorBoard shows videos.

    Raises:
        UserError: no frames, or frames that are no pictures of one size.
    """
    with tempfile.TemporaryDirectory(prefix="video-") as folder:
        path = Path(folder) / "video.gif"
        _encode_gif(path, frames, fps, max_width)
        return path.read_bytes()


def _encode_gif(path: Path, frames: Iterable[Frame], fps: float, max_width: int) -> int:
    # The palette needs all frames before the first can be written, so they wait in a lossless file, not in memory.
    clip, palette = path.with_name("clip.mkv"), path.with_name("palette.png")
    shrink = f"fps={min(fps, GIF_FPS)},scale='min({max_width},iw)':-1:flags=lanczos"
    count = _encode(clip, frames, fps, ["-vf", shrink, "-c:v", "ffv1"])
    with _ffmpeg(["-i", str(clip), "-vf", "palettegen=stats_mode=diff", str(palette)]):
        pass
    use = "paletteuse=dither=bayer:bayer_scale=5:diff_mode=rectangle"
    with _ffmpeg(["-i", str(clip), "-i", str(palette), "-lavfi", use, str(path)]):
        pass
    return count


def _encode(path: Path, frames: Iterable[Frame], fps: float, options: list[str], even: bool = False) -> int:
    """Pipe raw frames into ffmpeg, `even`ly sized if so asked; return how many."""
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise UserError(f"cannot record {path.name}: there are no frames")
    shape = _checked(first, None).shape
    more = [(0, side % 2 if even else 0) for side in shape[:2]]
    size = f"{shape[1] + more[1][1]}x{shape[0] + more[0][1]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "-"]
    count = 0
    with _ffmpeg([*raw, *options, str(path)]) as pipe:
        for frame in itertools.chain([first], stream):
            even_sized = np.pad(_checked(frame, shape), [*more, (0, 0)], mode="edge")
            pipe.write(np.ascontiguousarray(even_sized).data)
            count += 1
    return count


def _checked(frame: Frame, shape: tuple[int, ...] | None) -> Frame:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or shape not in (None, frame.shape):
        wanted = "[H, W, 3]" if shape is None else f"{list(shape)}, as the first frame"
        raise UserError(f"a frame must be uint8 {wanted}; the environment rendered {frame.dtype} {list(frame.shape)}")
    return frame


@contextmanager
def _ffmpeg(arguments: list[str]) -> Iterator[IO[bytes]]:
    """Run ffmpeg with its standard input as a pipe, and wait for it to finish.

    Raises:
        UserError: it failed; with its own words.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    with tempfile.TemporaryFile() as log:
        # In a session of its own, Ctrl-C reaches only us and what was recorded can still be completed.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, **APART)
        assert process.stdin is not None
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended before us: its exit code and its words say why
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
        if code:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
            raise UserError(
                f"ffmpeg could not write {Path(arguments[-1]).name}: {said[-1] if said else f'code {code}'}"
            )
