"""TensorBoard's event files: scalars, and what its other tabs show."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.run.sinks import Scalars
from agents.run.storage import disk

# what ranks runs: capitals come first among the metrics of the tab HPARAMS, which shows five at first
BEST, FINAL = "Score/best_mean_reward", "Score/final_mean_reward"
BINS = 30  # of a histogram, as TensorBoard's own have
TOGETHER = {  # scalars that one chart of the CUSTOM SCALARS tab shows: title -> tags
    "return, training and evaluation": ("rollout/ep_rew_mean", "eval/mean_reward"),
    "episode length, training and evaluation": ("rollout/ep_len_mean", "eval/mean_ep_length"),
    "success rate, training and evaluation": ("rollout/success_rate", "eval/success_rate"),
    "seconds of each part since the last row": ("time/act", "time/env", "time/copy", "time/learn"),
}
CATEGORIES = ("score", "losses", "learning", "speed", "doctor", "more")
CLOSED = ("doctor", "more")  # shown when they are clicked on
_file_number = count()


def category_of(tag: str) -> str:
    """Return under which heading of the CUSTOM SCALARS tab a scalar is shown."""
    part, _, name = tag.partition("/")
    if part in ("time", "doctor"):
        return "speed" if part == "time" else "doctor"
    if part in ("rollout", "eval") and name != "exploration_rate":
        return "score"
    if part in ("train", "rollout"):
        return "losses" if name.endswith("loss") else "learning"
    return "more"


def charts(tags: Collection[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield category, title and tags of each chart, those of one category together."""
    alone = set(tags).difference(*TOGETHER.values())
    found = [(title, tuple(tag for tag in group if tag in tags)) for title, group in TOGETHER.items()]
    found += [(tag, (tag,)) for tag in sorted(alone)]
    for category in CATEGORIES:
        yield from ((category, title, group) for title, group in found if group and category_of(group[0]) == category)


def record(content: bytes) -> bytes:
    """Return a record of an event file, a TFRecord: length, its checksum, content, and its checksum."""
    length = struct.pack("<Q", len(content))
    return length + _masked_checksum(length) + content + _masked_checksum(content)


def _masked_checksum(content: bytes) -> bytes:
    """Return CRC-32C (Castagnoli, RFC 3720), turned by 15 bits and moved on, as checksums of checksums go wrong."""
    table, crc = _checksums(), 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _checksums() -> list[int]:
    """Return what each byte adds to a checksum."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


class TensorBoardSink:
    """Writes an event file: scalars, text, hyperparameters, histograms and moving pictures.

    The tab CUSTOM SCALARS gets a layout of all scalars there are, which is written anew when one is new. The records
    are written here and now rather than by TensorBoard's own thread, so that a full disk is noticed, and without
    `torch.utils.tensorboard`, TensorBoard's `RecordWriter` and its functions for hyperparameters, which take long to
    import.
    """

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        """Open a new event file in `folder`; on resume, TensorBoard hides what was logged beyond `purge_step`."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(_file_number)}"
        self._path = folder / name
        with disk("write", self._path):
            self._file = self._path.open("wb")
        self._session = False
        self._tags: set[str] = set()
        self._add(Event(file_version="brain.Event:2"))
        if purge_step is not None:
            self._add(Event(step=purge_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, scalars: Scalars) -> None:
        """Log each scalar under its tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._add_summary(step, Summary(value=values))
        if not self._tags.issuperset(scalars):
            self._tags.update(scalars)
            self._write_layout()

    def _write_layout(self) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.custom_scalar import metadata
        from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent

        categories: dict[str, Any] = {}
        for category, title, tags in charts(self._tags):
            made = categories.setdefault(category, Category(title=category, closed=category in CLOSED))
            exactly = [f"{re.escape(tag)}$" for tag in tags]
            made.chart.append(Chart(title=title, multiline=MultilineChartContent(tag=exactly)))
        layout = Layout(category=categories.values()).SerializeToString()
        value = Summary.Value(
            tag=metadata.CONFIG_SUMMARY_TAG,
            metadata=metadata.create_summary_metadata(),
            tensor=TensorProto(dtype=DT_STRING, string_val=[layout]),
        )
        self._add_summary(0, Summary(value=[value]))

    def histogram(self, tag: str, step: int, values: NDArray[np.floating]) -> None:
        """Show how numbers are distributed, under the tabs HISTOGRAMS and DISTRIBUTIONS; NaN and infinity are left out.

        Args:
            values: of any shape.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_DOUBLE
        from tensorboard.plugins.histogram.metadata import create_summary_metadata

        finite = values[np.isfinite(values)].astype(np.float64)
        if not finite.size:
            return
        counts, edges = np.histogram(finite, BINS)
        rows = np.stack([edges[:-1], edges[1:], counts], axis=1)
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in rows.shape])
        tensor = TensorProto(dtype=DT_DOUBLE, tensor_shape=shape, tensor_content=rows.astype("<f8").tobytes())
        metadata = create_summary_metadata(display_name=tag, description="")
        self._add_summary(step, Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Show Markdown under the TEXT tab."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        value = Summary.Value(
            tag=tag,
            metadata=create_summary_metadata(display_name=tag, description=""),
            tensor=TensorProto(dtype=DT_STRING, string_val=[markdown.encode()]),
        )
        self._add_summary(step, Summary(value=[value]))

    def hparams(self, values: Mapping[str, Any]) -> None:
        """Show the run under the HPARAMS tab, beside `values` the last value of every scalar, sorted by name.

        The tab finds the columns itself; to name them here would limit them to the first run's in a folder of several.
        """
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        started = SessionStartInfo(group_name=self._path.parent.name, start_time_secs=time.time())
        for name, value in values.items():
            kind = "bool" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "string"
            setattr(started.hparams[name], f"{kind}_value", value if kind != "string" else str(value))
        self._add_session("start", HParamsPluginData(session_start_info=started))
        self._session = True

    def video(self, tag: str, step: int, gif: bytes) -> None:
        """Show an animated GIF under the IMAGES tab."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = struct.unpack("<HH", gif[6:10])
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        self._add_summary(step, Summary(value=[Summary.Value(tag=tag, image=image)]))

    def close(self) -> None:
        """Mark the session as ended and close the file."""
        from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        if self._file.closed:
            return
        if self._session:
            ended = SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=time.time())
            self._add_session("end", HParamsPluginData(session_end_info=ended))
        with suppress(OSError):  # every record was flushed, or its error was raised
            self._file.close()

    def _add_session(self, what: str, told: Any) -> None:
        """Log what the HPARAMS tab reads, as TensorBoard's own functions do, which take long to import."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_FLOAT

        plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=told.SerializeToString())
        nothing = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))
        content, tag = SummaryMetadata(plugin_data=plugin), f"_hparams_/session_{what}_info"
        self._add_summary(0, Summary(value=[Summary.Value(tag=tag, metadata=content, tensor=nothing)]))

    def _add_summary(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._add(Event(step=step, summary=summary))

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        with disk("write", self._path):
            self._file.write(record(event.SerializeToString()))
            self._file.flush()
