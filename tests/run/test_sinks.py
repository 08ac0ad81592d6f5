"""What the sinks write, read back by the programs that are meant to read it."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from agents.run import sinks
from agents.run.sinks import ConsoleSink, CsvSink, Working
from agents.run.terminal import console as new_console
from envs.errors import UserError


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


class TestCsv:
    def test_rows_are_there_at_once_and_columns_may_come_later(self, tmp_path: Path) -> None:
        path = tmp_path / "progress.csv"
        sink = CsvSink(path)
        sink.write(8, {"a": 1})
        assert rows(path) == [{"step": "8", "a": "1.0"}]
        sink.write(16, {"b": 0.1, "a": math.inf})
        sink.write(24, {"b": math.nan})
        assert rows(path) == [
            {"step": "8", "a": "1.0", "b": ""},
            {"step": "16", "a": "inf", "b": "0.1"},
            {"step": "24", "a": "", "b": "nan"},
        ]
        sink.close()
        assert [file.name for file in tmp_path.iterdir()] == ["progress.csv"]

    def test_a_tag_does_not_take_the_steps_place(self, tmp_path: Path) -> None:
        sink = CsvSink(tmp_path / "progress.csv")
        sink.write(8, {"step": 3.0, "a": 1})
        sink.close()
        assert rows(tmp_path / "progress.csv") == [{"step": "8", "a": "1.0"}]

    def test_resuming_drops_what_lies_beyond_the_checkpoint(self, tmp_path: Path) -> None:
        path = tmp_path / "progress.csv"
        sink = CsvSink(path)
        for step in (8, 16, 24):
            sink.write(step, {"a": step})
        sink.close()
        again = CsvSink(path, resume_step=16)
        again.write(20, {"a": 0.5, "b": 1})
        again.close()
        assert [(row["step"], row["a"], row["b"]) for row in rows(path)] == [
            ("8", "8.0", ""),
            ("16", "16.0", ""),
            ("20", "0.5", "1.0"),
        ]

    @pytest.mark.parametrize("torn", ["24,3", "24,", "2", '24,"3', "24,3.0,", "x,y\n", "\x00\n", "24,1,2,3\n"])
    def test_a_torn_last_row_is_dropped(self, tmp_path: Path, torn: str) -> None:
        path = tmp_path / "progress.csv"
        path.write_text("step,a\n8,1.0\n16,2.0\n" + torn)
        CsvSink(path, resume_step=100).close()
        assert rows(path) == [{"step": "8", "a": "1.0"}, {"step": "16", "a": "2.0"}]

    def test_a_file_that_is_not_ours_or_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "progress.csv"
        path.write_bytes(b"\xff\xfenothing\nhere\n")
        for _ in range(2):
            sink = CsvSink(path, resume_step=5)
            sink.write(6, {"a": 1})
            sink.close()
            assert [(row["step"], row["a"]) for row in rows(path)] == [("6", "1.0")]
            path.unlink()

    def test_a_new_run_begins_a_new_file(self, tmp_path: Path) -> None:
        path = tmp_path / "progress.csv"
        for _ in range(2):
            sink = CsvSink(path)
            sink.write(8, {"a": 1})
            sink.close()
        assert len(rows(path)) == 1

    def test_nowhere_to_write(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"cannot write .*progress.csv: no such file or directory"):
            CsvSink(tmp_path / "nowhere" / "progress.csv")


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(sinks.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def console(terminal: bool = False, width: int = 120) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return new_console(file=text, force_terminal=terminal, width=width, color_system=None), text


class TestConsole:
    def test_plain_lines_now_and_then(self, clock: Clock) -> None:
        out, text = console()
        sink = ConsoleSink(10_000, console=out)
        for step in range(100, 10_001, 100):
            clock.now += 0.5
            sink.write(step, {"rollout/ep_rew_mean": step / 100})
        lines = text.getvalue().splitlines()
        assert len(lines) == 10  # one every 5 s, which is also every 10%
        assert lines[0] == "1,000/10,000 steps · 200 steps/s · 0:45 left · return 10.0"

    def test_a_quick_run_says_nothing_in_between(self, clock: Clock) -> None:
        out, text = console()
        sink = ConsoleSink(10_000, console=out)
        for step in range(100, 10_001, 100):
            clock.now += 0.04
            sink.write(step, {})
        assert text.getvalue() == ""

    @pytest.mark.parametrize(
        ("width", "said"),
        [
            (40, "500,000/1,000,000 steps"),
            (60, "500,000/1,000,000 steps · return 123.4"),
            (80, "500,000/1,000,000 steps · 0:10 left · return 123.4"),
            (110, "500,000/1,000,000 steps · 0:10 left · return 123.4 · best evaluation 456.7"),
            (140, "500,000/1,000,000 steps · 50,000 steps/s · 0:10 left · return 123.4 · best evaluation 456.7"),
        ],
    )
    def test_bar_and_share_stay_on_a_narrow_terminal(self, clock: Clock, width: int, said: str) -> None:
        out, text = console(terminal=True, width=width)
        sink = ConsoleSink(1_000_000, console=out)
        clock.now += 10
        sink.write(500_000, {"rollout/ep_rew_mean": 123.4, "eval/mean_reward": 456.7})
        shown = text.getvalue().rpartition("\x1b[2K")[2]
        assert re.fullmatch(rf"━+ +50% {re.escape(said)} *", shown)
        assert len(shown) <= width
        sink.close()

    def test_a_long_run_speaks_every_tenth(self, clock: Clock) -> None:
        out, text = console()
        sink = ConsoleSink(10_000, console=out)
        for step in range(100, 10_001, 100):
            clock.now += 60
            sink.write(step, {})
        assert len(text.getvalue().splitlines()) == 10

    def test_speed_counts_from_where_a_resumed_run_began(self, clock: Clock) -> None:
        out, text = console()
        sink = ConsoleSink(10_000, initial=8_000, best=50.0, console=out)
        clock.now = 10.0
        sink.write(9_000, {"eval/mean_reward": 30.0})
        assert text.getvalue() == "9,000/10,000 steps · 100 steps/s · 0:10 left · best evaluation 50.0\n"

    def test_the_best_evaluation_is_kept(self, clock: Clock) -> None:
        out, text = console()
        sink = ConsoleSink(1000, console=out)
        for mean in (-5.0, -3.0, -4.0):
            sink.write(1, {"eval/mean_reward": mean})
        clock.now = 3600.0
        sink.write(500, {})
        assert text.getvalue() == "500/1,000 steps · 0 steps/s · 1:00:00 left · best evaluation -3.0\n"

    def test_a_bar_on_a_terminal(self, clock: Clock) -> None:
        out, text = console(terminal=True)
        sink = ConsoleSink(1000, console=out)
        for step in range(10, 1001, 10):
            clock.now += 0.05
            sink.write(step, {"rollout/ep_rew_mean": step})
        sink.say("[red].py:Pick: [/] [checkpoint]")
        sink.close()
        sink.close()
        assert text.getvalue().count("\r") < 120  # drawn a few times a second, not at every write
        assert "1,000/1,000 steps" in text.getvalue()
        assert "[red].py:Pick: [/] [checkpoint]" in text.getvalue()

    def test_quiet_prints_nothing(self, clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
        sink = ConsoleSink(1000, quiet=True)
        clock.now = 100.0
        sink.write(500, {"rollout/ep_rew_mean": 1})
        sink.say("hello")
        sink.final_table("Done", {"a": "b"}, {"watch": "python"})
        sink.close()
        assert capfd.readouterr() == ("", "")

    def test_the_last_screen(self) -> None:
        out, text = console()
        sink = ConsoleSink(1000, console=out)
        sink.final_table(
            "Done [1] :pick:",
            {"mean": "475.0", "run": "runs/[x]:pick:"},
            {"watch it": "python -m agents.watch runs/[x]:pick:"},
        )
        shown = text.getvalue()
        assert "Done [1] :pick:" in shown
        assert shown.count("runs/[x]:pick:") == 2
        assert "watch it  python -m agents.watch runs/[x]:pick:" in shown


class TestWorking:
    def test_what_is_quick_is_not_shown(self, clock: Clock) -> None:
        for terminal in (False, True):
            out, text = console(terminal)
            with Working("evaluation", "episodes", out) as report:
                for done in range(20):
                    clock.now += 0.09
                    report(done, 20)
            assert text.getvalue() == ""

    def test_plain_lines_after_two_seconds_and_then_every_tenth(self, clock: Clock) -> None:
        out, text = console()
        with ConsoleSink(1_000, console=out).working("final evaluation", "episodes") as report:
            for _ in range(40):  # nothing is done for 20 s
                clock.now += 0.5
                report(0, 100)
            for done in range(1, 101):
                clock.now += 1
                report(done, 100)
        assert text.getvalue().splitlines() == [
            "final evaluation: 0 of 100 episodes",
            *(f"final evaluation: {done} of 100 episodes" for done in range(10, 101, 10)),
        ]

    def test_a_slow_one_says_no_more_than_a_line_in_five_seconds(self, clock: Clock) -> None:
        out, text = console()
        with Working("recording", "steps", out) as report:
            for done in range(1, 11):
                clock.now += 2
                report(done, 10)
        assert [line.split()[1] for line in text.getvalue().splitlines()] == ["1", "4", "7", "10"]

    def test_a_terminal_shows_a_bar_beside_that_of_the_training_and_takes_it_away(self, clock: Clock) -> None:
        out, text = console(terminal=True)
        sink = ConsoleSink(1_000, console=out)
        with sink.working("evaluation", "episodes") as report:
            for done in range(1, 41):
                clock.now += 0.1
                report(done, 40)
            assert 5 <= text.getvalue().count("of 40 episodes") <= 12  # from 2 s on, five times a second
        before = len(text.getvalue())
        sink.close()
        assert "evaluation" not in text.getvalue()[before:]

    def test_a_terminal_without_a_training_has_a_bar_too(self, clock: Clock) -> None:
        out, text = console(terminal=True)
        with Working("evaluation", "episodes", out) as report:
            clock.now = 3.0
            report(7, 10)
        assert "evaluation: 7 of 10 episodes" in text.getvalue()

    def test_quiet_prints_nothing(self, clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
        with ConsoleSink(10, quiet=True).working("evaluation", "episodes") as report:
            clock.now = 60.0
            report(1, 2)
        assert capfd.readouterr() == ("", "")
