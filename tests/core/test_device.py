"""Which device is chosen, why, and what is said where there is none."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.core import device as device_module
from agents.core.config import NetworkConfig
from agents.core.device import Laps, choose_device, use_threads
from agents.networks.encoders import Encoder
from envs.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with or without a GPU."""

    def pretend(cuda=False, mps=False, built=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", built)

    return pretend


def choose(requested, env_on_gpu=False, flops=10_000, batch_size=64):
    return choose_device(requested, env_on_gpu=env_on_gpu, flops=flops, batch_size=batch_size)


def mlp(inputs, *widths, torsos=2):
    """Return the multiply-adds of a policy's and a value function's torsos, or of one."""
    return torsos * sum(i * o for i, o in itertools.pairwise((inputs, *widths)))


def picture(shape, encoder="auto", *widths):
    """Return the multiply-adds of an encoder and two torsos over it."""
    made = Encoder(spaces.Box(0, 255, shape, np.uint8), NetworkConfig(encoder=encoder))
    return made.flops + mlp(made.features, *widths)


SMALL = {  # one thread, and no GPU for their sake
    "64-64": mlp(4, 64, 64),
    "256-256": mlp(17, 256, 256),
    "256-256, value function only": mlp(8, 256, 256, torsos=1),
    "small CNN": picture((10, 10, 4), "small", 64),
    "small CNN of many channels, wide torsos": picture((10, 10, 10), "small", 256, 256),
}
HEAVY = {
    "nature CNN": picture((84, 84, 4), "auto", 64),
    "the smallest nature CNN": picture((36, 36, 1)),
    "impala ResNet": picture((84, 84, 4), "impala"),
    "impala ResNet on a few pixels": picture((10, 10, 4), "impala"),
    "small CNN on many pixels": picture((35, 35, 3), "small"),
    "1024-1024": mlp(17, 1024, 1024),
}


def test_cuda_without_a_gpu_is_refused(machine):
    machine(built="12.8")
    with pytest.raises(UserError, match=r"--device cuda: no CUDA GPU was found.*--device cpu"):
        choose("cuda")
    machine(built=None)
    with pytest.raises(UserError, match="this PyTorch was built without CUDA"):
        choose("cuda")


def test_mps_without_an_apple_gpu_is_refused(machine):
    machine()
    with pytest.raises(UserError, match=r"--device mps: no Apple GPU was found.*--device cpu"):
        choose("mps")


def test_what_was_asked_for_is_given_where_it_is(machine):
    machine(cuda=True, mps=True)
    for name in ("cpu", "cuda", "mps"):
        assert choose(name, flops=10**9) == (torch.device(name), "as set")


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        ({"env_on_gpu": True}, "environment"),
        ({"env_on_gpu": True, "flops": 10**7}, "environment"),
        ({"batch_size": 8192}, "large batches"),
        *[({"flops": flops}, f"{flops / 1e6:.1f}M multiply-adds") for flops in HEAVY.values()],
    ],
)
def test_auto_takes_a_gpu_for_what_gains_by_it(machine, workload, reason):
    for gpu in ("cuda", "mps"):
        machine(**{gpu: True})
        device, why = choose("auto", **workload)
        assert device == torch.device(gpu)
        assert reason in why
    machine()
    assert choose("auto", **workload) == (torch.device("cpu"), "no GPU was found")


@pytest.mark.parametrize("name", SMALL)
def test_auto_leaves_small_networks_on_the_cpu(machine, name):
    machine(cuda=True)
    device, why = choose("auto", flops=SMALL[name], batch_size=8191)
    assert device == torch.device("cpu")
    assert "faster" in why


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("device", "flops", "batch_size", "threads"),
    [
        *[("cpu", flops, 32, 1) for flops in SMALL.values()],
        *[("cpu", flops, 1, 4) for flops in HEAVY.values()],
        ("cpu", SMALL["64-64"], 1024, 1),
        ("cpu", SMALL["64-64"], 2048, 2),
        ("cpu", SMALL["64-64"], 3000, 3),
        ("cpu", SMALL["64-64"], 8192, 4),
        ("cpu", SMALL["256-256"], 128, 2),
        ("cpu", SMALL["256-256"], 512, 4),
        ("cuda", SMALL["64-64"], 64, 4),
    ],
)
def test_no_more_threads_than_there_is_work_for(device, flops, batch_size, threads):
    assert use_threads(torch.device(device), flops=flops, batch_size=batch_size) == threads
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(sys.platform != "linux" or os.confstr("CS_GNU_LIBC_VERSION") is None, reason="glibc's allocator")
def test_memory_that_is_freed_is_there_for_the_next_tensor():
    program = """
import resource, torch
from agents.core.device import keep_freed_memory
keep_freed_memory()
for turn in range(25):
    if turn == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.zeros(2**22) for _ in range(4)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 100, "pages were asked for anew; there are 327,680 in all"


class FakeEvent:
    """A CUDA event of a device whose clock is moved on by hand."""

    now = 0.0  # milliseconds
    done = False

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = FakeEvent.now

    def synchronize(self) -> None:
        FakeEvent.done = True

    def elapsed_time(self, end: FakeEvent) -> float:
        assert FakeEvent.done, "what is not over yet has no time"
        return end.at - self.at


def test_phases_on_a_gpu_have_the_devices_seconds_and_not_the_hosts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    laps = Laps(torch.device("cuda"))
    for moved in (30.0, 250.0):
        FakeEvent.now += moved
        laps.end()
    assert laps.seconds() == pytest.approx([0.03, 0.25])


def test_phases_on_the_cpu_have_the_clocks(monkeypatch):
    monkeypatch.setattr(device_module, "perf_counter", iter((1.0, 1.5, 4.0)).__next__)
    laps = Laps(torch.device("cpu"))
    laps.end()
    laps.end()
    assert laps.seconds() == [0.5, 2.5]
