"""What TensorBoard is given, read back by TensorBoard."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_ndarray

from agents.run.histograms import histograms
from agents.run.tensorboard import BEST, BINS, FINAL, TensorBoardSink, charts, record
from envs.errors import UserError
from tests.algos.making import collect, make_ppo
from tests.browser import in_a_browser, near, pixels
from tests.run.running import train
from tests.waiting import wait_for

ORANGE = (255, 112, 67)  # of the first run in TensorBoard


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = events(folder)
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


@pytest.mark.parametrize("content", [b"", b"123456789", bytes(range(256)) * 3])
def test_records_are_those_of_tensorboards_own_writer(content: bytes, tmp_path: Path) -> None:
    with (tmp_path / "events").open("wb") as file:
        RecordWriter(file).write(content)
    assert record(content) == (tmp_path / "events").read_bytes()


class TestTensorBoard:
    def test_scalars(self, tmp_path: Path) -> None:
        sink = TensorBoardSink(tmp_path)
        sink.write(8, {"rollout/ep_rew_mean": 1.5, "time/fps": 1e6})
        sink.write(16, {"rollout/ep_rew_mean": -2})
        assert scalars(tmp_path, "rollout/ep_rew_mean") == [(8, 1.5), (16, -2.0)]  # readable while the run goes on
        sink.close()
        sink.close()
        assert scalars(tmp_path, "time/fps") == [(8, 1e6)]

    def test_resuming_hides_what_lies_beyond_the_checkpoint(self, tmp_path: Path) -> None:
        before = TensorBoardSink(tmp_path)
        for step in (10, 20, 30):
            before.write(step, {"a": step})
        before.close()
        after = TensorBoardSink(tmp_path, purge_step=20)
        after.write(25, {"a": 0.25})
        after.close()
        assert scalars(tmp_path, "a") == [(10, 10.0), (20, 20.0), (25, 0.25)]

    def test_text(self, tmp_path: Path) -> None:
        sink = TensorBoardSink(tmp_path)
        sink.text("config", "```yaml\nénv: x\n```")
        sink.close()
        accumulator = events(tmp_path)
        content = accumulator.SummaryMetadata("config").plugin_data.plugin_name
        assert content == "text"
        assert accumulator.Tensors("config")[0].tensor_proto.string_val[0].decode() == "```yaml\nénv: x\n```"

    def test_hparams(self, tmp_path: Path) -> None:
        sink = TensorBoardSink(tmp_path)
        values = {"gamma": 0.9, "norm_obs": True, "algo": "ppo", "target_kl": None, "net_arch": (64, 64)}
        sink.hparams(values)
        sink.close()
        content = events(tmp_path).summary_metadata
        started = hparams_metadata.parse_session_start_info_plugin_data(
            content[hparams_metadata.SESSION_START_INFO_TAG].plugin_data.content
        )
        assert started.group_name == tmp_path.name  # so that runs with equal settings are not merged into one
        assert started.hparams["gamma"].number_value == 0.9
        assert started.hparams["norm_obs"].bool_value is True
        assert started.hparams["target_kl"].string_value == "None"
        assert started.hparams["net_arch"].string_value == "(64, 64)"
        assert hparams_metadata.SESSION_END_INFO_TAG in content
        plain = values | {"target_kl": "None", "net_arch": "(64, 64)"}
        tensorboards = hparams_pb(plain, tmp_path.name, started.start_time_secs).value[0]
        its = tensorboards.metadata.plugin_data
        assert content[tensorboards.tag].plugin_data.plugin_name == its.plugin_name
        # settings lie in a map, which has no order: so the bytes of two may differ
        assert started == hparams_metadata.parse_session_start_info_plugin_data(its.content)
        assert events(tmp_path).Tensors(tensorboards.tag)[0].tensor_proto == tensorboards.tensor

    def test_video(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (30, 20), (shade, 0, 0)) for shade in (0, 100, 200)]
        gif = io.BytesIO()
        frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
        sink = TensorBoardSink(tmp_path)
        sink.video("eval/video", 40, gif.getvalue())
        sink.close()
        [event] = events(tmp_path).Images("eval/video")
        assert (event.step, event.width, event.height) == (40, 30, 20)
        assert event.encoded_image_string == gif.getvalue()

    def test_resuming_after_a_record_was_torn(self, tmp_path: Path) -> None:
        before = TensorBoardSink(tmp_path)
        for step in (10, 20):
            before.write(step, {"a": step})
        before.close()
        [file] = tmp_path.iterdir()
        file.write_bytes(file.read_bytes()[:-5])
        file.rename(tmp_path / "events.out.tfevents.1000000000.host.1.0")
        after = TensorBoardSink(tmp_path, purge_step=20)
        after.write(30, {"a": 30})
        after.close()
        assert scalars(tmp_path, "a") == [(10, 10.0), (30, 30.0)]

    def test_two_sinks_in_one_second_do_not_share_a_file(self, tmp_path: Path) -> None:
        for step in range(3):
            sink = TensorBoardSink(tmp_path)
            sink.write(step, {"a": step})
            sink.close()
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"cannot write .*events.*: no such file or directory"):
            TensorBoardSink(tmp_path / "nowhere")

    def test_histograms(self, tmp_path: Path) -> None:
        sink = TensorBoardSink(tmp_path)
        sink.histogram("parameters/weight", 40, np.array([[0.0, 30.0, 30.0], [np.nan, 10.4, np.inf]], np.float32))
        sink.histogram("parameters/none", 40, np.array([np.nan]))
        sink.close()
        accumulator = events(tmp_path)
        [event] = accumulator.Tensors("parameters/weight")
        rows = make_ndarray(event.tensor_proto)
        assert (event.step, rows.shape) == (40, (BINS, 3))
        assert rows[10].tolist() == [10.0, 11.0, 1.0], "left, right and count"
        assert (rows[:, 2].sum(), rows[-1, 2]) == (4, 2)
        assert accumulator.SummaryMetadata("parameters/weight").plugin_data.plugin_name == "histograms"
        assert accumulator.Tags()["tensors"] == ["parameters/weight"]


def layout(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return the layout written last: category -> title -> tags."""
    *_, event = events(folder).Tensors(layout_metadata.CONFIG_SUMMARY_TAG)
    found: Any = Layout.FromString(event.tensor_proto.string_val[0])
    return {
        category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
        for category in found.category
    }


def test_the_layout_has_charts_for_what_there_is_and_follows(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.write(1, {"rollout/ep_rew_mean": 1.0, "time/fps": 2.0, "time/act": 0.1, "time/learn": 0.1})
    assert list(layout(tmp_path)) == ["score", "speed"]
    sink.write(2, {"train/value_loss": 1.0, "eval/mean_reward": 2.0, "rollout/exploration_rate": 0.1})
    sink.write(3, {"train/value_loss": 1.0, "goals/left": 2.0})
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    sink.write(4, {"train/value_loss": 1.0})
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < size + 100, "written anew only with a new scalar"
    assert layout(tmp_path) == {
        "score": {"return, training and evaluation": ["rollout/ep_rew_mean$", "eval/mean_reward$"]},
        "losses": {"train/value_loss": ["train/value_loss$"]},
        "learning": {"rollout/exploration_rate": ["rollout/exploration_rate$"]},
        "speed": {
            "seconds of each part since the last row": ["time/act$", "time/learn$"],
            "time/fps": ["time/fps$"],
        },
        "more": {"goals/left": ["goals/left$"]},
    }
    sink.close()


def test_every_scalar_has_one_chart() -> None:
    tags = {"train/loss", "train/loss_2", "eval/mean_reward", "eval/std_reward", "rollout/ep_rew_mean", "time/env"}
    tags |= {"doctor/dead_units", "faults/nan", "a", "train/kl", "time/fps", "rollout/success_rate", "rollout/x"}
    shown = [tag for _, _, group in charts(tags) for tag in group]
    assert sorted(shown) == sorted(tags)


def test_a_run_ends_with_what_it_is_ranked_by(tmp_path: Path) -> None:
    run = train(tmp_path, "--env CartPole-v1 -n 256 --n-envs 2 --n-steps 32 --batch-size 64 --final-eval-episodes 3")
    summary = json.loads((run / "summary.json").read_text())
    assert scalars(run, "Score/final_mean_reward") == [(256, np.float32(summary["eval_mean"]))]
    best = max(value for _, value in scalars(run, "eval/mean_reward"))
    assert scalars(run, "Score/best_mean_reward") == [(256, best)]
    first, second, *_ = sorted(events(run).Tags()["scalars"])
    assert {first, second} == {BEST, FINAL}, "as the tab HPARAMS sorts them"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--env CartPole-v1 --n-envs 2 --n-steps 32 --batch-size 64", {"parameters", "gradients", "actions"}),
        ("--env CartPole-v1 --algo dqn --learning-starts 50 --optimizer sgd", {"parameters", "actions"}),
    ],
)
def test_histograms_of_a_training(words: str, shown: set[str], tmp_path: Path) -> None:
    run = train(tmp_path, f"{words} -n 256 --histogram-freq 128 --final-eval-episodes 0 --eval-freq 0")
    found = events(run)
    tags = [
        tag for tag in found.Tags()["tensors"] if found.SummaryMetadata(tag).plugin_data.plugin_name == "histograms"
    ]
    assert {tag.partition("/")[0] for tag in tags} == shown
    assert all([event.step for event in found.Tensors(tag)] == [128, 256] for tag in tags)
    actions = make_ndarray(found.Tensors("actions")[-1].tensor_proto)
    assert (actions[0, 0], actions[-1, 1]) == (0, 1)


def test_gradients_are_the_mean_of_the_latest_ones() -> None:
    made = make_ppo()
    made.update(data := collect(made))
    found = dict(histograms(made.learner, data))
    moment = made.learner.optimizer.moments[0]
    parts = [found[tag] for tag in found if tag.startswith("gradients/")]
    assert np.array_equal(np.concatenate([part.ravel() for part in parts]), moment.numpy())
    assert (min(part.min() for part in parts)) < 0
    assert found["actions"].shape == (data.action.numel(),)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """TensorBoard's, of two short runs."""
    for seed in (0, 1):
        words = f"--env CartPole-v1 -n 2048 --n-envs 2 --n-steps 32 --batch-size 64 --seed {seed}"
        train(tmp_path, f"{words} --final-eval-episodes 3 --eval-episodes 1 --histogram-freq 512")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0", "--load_fast=false"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = next((found for line in process.stderr if (found := re.search(r"http://localhost:\d+/", line))), None)
        yield found[0] if found else ""
        process.terminate()


@in_a_browser
def test_a_browser_shows_layout_ranking_and_histograms(address: str, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{address}data/plugin/custom_scalars/layout") as answer:
        wait_for(lambda: json.load(urllib.request.urlopen(answer.url)).get("category"))
    size = "--window-size=1900,1000"
    for tab in ("custom_scalars", "hparams", "histograms"):
        picture = pixels(f"{address}#{tab}", tmp_path / f"{tab}.png", size, seconds=25)
        shown = picture[150:, 400:]  # below the bar and beside the list of runs
        if tab == "hparams":
            assert (shown.sum(axis=2) < 450).sum() > 1_000, "a table of text"
        else:
            assert near(shown, ORANGE) > 100, tab
    with urllib.request.urlopen(
        urllib.request.Request(
            f"{address}data/plugin/hparams/experiment",
            json.dumps({"experimentName": "", "includeMetrics": True}).encode(),
            {"Content-Type": "application/json"},
        )
    ) as answer:
        metrics = [info["name"]["tag"] for info in json.load(answer)["metricInfos"]]
    assert metrics[:2] == [BEST, FINAL], "the first columns beside the settings"
