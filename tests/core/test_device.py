"""Which device is chosen, why, and what is said where there is none."""

from __future__ import annotations

import pytest
import torch

from agents.core.device import choose_device, use_threads
from envs.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with or without a GPU."""

    def pretend(cuda=False, mps=False, built=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", built)

    return pretend


def choose(requested, env_on_gpu=False, pixels=False, batch_size=64):
    return choose_device(requested, env_on_gpu=env_on_gpu, pixels=pixels, batch_size=batch_size)


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
        assert choose(name, pixels=True) == (torch.device(name), "as asked")


@pytest.mark.parametrize(
    ("workload", "reason"),
    [({"env_on_gpu": True}, "environment"), ({"pixels": True}, "images"), ({"batch_size": 8192}, "large batches")],
)
def test_auto_takes_a_gpu_for_what_gains_by_it(machine, workload, reason):
    for gpu in ("cuda", "mps"):
        machine(**{gpu: True})
        device, why = choose("auto", **workload)
        assert device == torch.device(gpu)
        assert reason in why
    machine()
    assert choose("auto", **workload) == (torch.device("cpu"), "no GPU was found")


def test_auto_leaves_small_networks_on_the_cpu(machine):
    machine(cuda=True)
    device, why = choose("auto")
    assert device == torch.device("cpu")
    assert "faster" in why


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("device", "workload", "threads"),
    [
        ("cpu", {"pixels": False, "width": 64, "batch_size": 64}, 1),
        ("cpu", {"pixels": False, "width": 1024, "batch_size": 1024}, 2),
        ("cpu", {"pixels": True, "width": 64, "batch_size": 64}, 2),
        ("cuda", {"pixels": False, "width": 64, "batch_size": 64}, 2),
    ],
)
def test_one_thread_for_small_matrices_on_the_cpu(device, workload, threads):
    assert use_threads(torch.device(device), **workload) == threads
    assert torch.get_num_threads() == threads
