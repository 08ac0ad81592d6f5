"""Processes run to their end: what they print is kept, and none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from agents.core.signals import handling, terminated_as_interrupted
from agents.lab.processes import last_json, run_process
from envs.errors import UserError


def test_a_program_that_is_not_there_is_told():
    with pytest.raises(UserError, match="cannot start no-such-program: no such file"):
        run_process(["no-such-program"], {})


def test_a_program_that_never_ends_is_given_up():
    with pytest.raises(UserError, match="too slow"):
        run_process([sys.executable, "-S", "-c", "import time; time.sleep(10**6)"], {}, patience=0.2)


def test_no_child_is_left_behind(tmp_path):
    file = tmp_path / "pid"
    code = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(10**6)"

    def interrupt() -> None:
        while not (file.exists() and file.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with terminated_as_interrupted(), pytest.raises(KeyboardInterrupt):
        run_process([sys.executable, "-S", "-c", code], {})
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_child_is_left_behind_that_was_just_starting(number, monkeypatch):
    children = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *words, **options):
            super().__init__(*words, **options)
            children.append(self.pid)
            signal.raise_signal(number)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with handling(signal.default_int_handler, signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            run_process([sys.executable, "-S", "-c", "import time; time.sleep(10**6)"], {})
        assert signal.getsignal(number) is signal.default_int_handler
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_peak_memory_is_the_childs_own():
    code = """if True:
        import sys
        from agents.lab.processes import run_process
        for code in ("pass", "bytearray(200 * 2**20)"):
            print(run_process([sys.executable, "-S", "-c", code], {}).peak_mb)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large = done.stdout.split()
    assert small == "None"  # below what the process that measures takes itself
    assert 200 < float(large) < 260


def test_the_last_line_counts():
    assert last_json('{"a": 1}\nthen\n {"a": 2, "b": NaN} \n\n') == {"a": 2, "b": None}
    assert last_json(json.dumps({"deep": {"x": [1]}})) == {"deep": {"x": [1]}}
