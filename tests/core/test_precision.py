"""The numbers that networks compute with: which, where, and that nothing else becomes coarser."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.utils._python_dispatch import TorchDispatchMode

from agents.algos.sac.config import SACConfig
from agents.core import precision
from agents.core.precision import resolved_precision, set_precision, use_products
from agents.lab.export.module import Exported
from agents.networks.heads import QHead
from agents.run.build import build
from agents.run.config import FLAGS, Layer, resolve
from agents.run.models import load_policy
from agents.train import main
from envs.errors import UserError
from tests.algos.making import BOX, Made, collect, make, make_batch, make_dqn, make_ppo, watch_losses, weights
from tests.run.running import read_config, resume, train

PIXELS = spaces.Box(0, 255, (10, 10, 4), np.uint8)
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn")


class Products(TorchDispatchMode):
    """Notes the dtypes that products are made of, and of everything else that is worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.products: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(word in function.__name__.split(".")[0] for word in PRODUCTS):
            self.products |= {leaf.dtype for leaf in args if isinstance(leaf, torch.Tensor)}
        return function(*args, **(kwargs or {}))


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this processor have bfloat16; it imitates it if it has not."""
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)


@pytest.fixture
def switches() -> Iterator[None]:
    """Put PyTorch's switches back."""
    yield
    use_products("float32")


@pytest.mark.parametrize(
    ("asked", "device", "comes_to"),
    [
        *[("auto", "cuda", "tf32"), ("auto", "cpu", "float32"), ("auto", "mps", "float32")],
        *[("float32", "cuda", "float32"), ("tf32", "cuda", "tf32"), ("bf16", "cpu", "bf16"), ("bf16", "cuda", "bf16")],
    ],
)
def test_what_precision_comes_to(asked: Any, device: str, comes_to: str, capable: None) -> None:
    assert resolved_precision(asked, torch.device(device)) == comes_to


@pytest.mark.parametrize(
    ("asked", "device", "message"),
    [
        ("tf32", "cpu", "--precision tf32 is of CUDA GPUs, and the networks are on cpu: take float32"),
        ("bf16", "cpu", "this cpu does not compute in bfloat16"),
        ("bf16", "mps", "this mps does not compute in bfloat16"),
    ],
)
def test_what_a_device_has_not_is_refused(
    asked: Any, device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: False, raising=False)
    with pytest.raises(UserError, match=message):
        resolved_precision(asked, torch.device(device))


def test_products_of_float32_on_cuda_are_exact_or_tf32(switches: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for asked, matmul, exact in (("tf32", "high", False), ("bf16", "highest", True), ("float32", "highest", True)):
            use_products(asked)  # type: ignore[arg-type]
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (matmul, not exact)
            assert torch.backends.cuda.matmul.allow_tf32 is not exact
            if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
                assert (torch.backends.cuda.matmul.fp32_precision == "tf32") is not exact


def updated(made: Made, data: Any, how: Any) -> tuple[Any, set[torch.dtype], set[torch.dtype]]:
    """Return an algorithm's weights after an update, the dtypes of its products, and those that its loss hands out."""
    handed: set[torch.dtype] = set()
    watch_losses(made, lambda minibatch, aux, constants: handed.update(leaf.dtype for leaf in aux.values()))
    set_precision(made.algorithm, how)
    with Products() as seen:
        made.update(data)
    return weights(made.algorithm), seen.products, handed


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}])
def test_ppo_in_bfloat16_is_near_and_all_but_products_is_float32(options: dict[str, Any]) -> None:
    (exact, same, near), rollout = (make_ppo(net_arch=(16, 16), **options) for _ in range(3)), collect(make_ppo())
    expected, products, _ = updated(exact, rollout, "float32")
    assert products == {torch.float32}
    assert updated(same, rollout, "float32")[0].equal(expected), "float32 is as it was, bit for bit"
    found, products, handed = updated(near, rollout, "bf16")
    assert torch.bfloat16 in products
    assert handed == {found.dtype} == {torch.float32}
    assert 0 < (found - expected).abs().max() < 0.01
    output = near.model(rollout.obs.flatten(0, 1))
    assert {output.distribution.logits.dtype, output.value.dtype} == {torch.float32}


@pytest.mark.parametrize(
    "options",
    [{}, {"noisy": True, "dueling": True, "distribution": "qr"}, {"distribution": "iqn"}, {"layer_norm": True}],
)
def test_dqn_in_bfloat16_is_near_and_its_target_is_in_bfloat16_too(options: dict[str, Any]) -> None:
    exact, near = make_dqn(**options), make_dqn(**options)
    expected, *_ = updated(exact, make_batch(), "float32")
    found, products, handed = updated(near, make_batch(), "bf16")
    assert torch.bfloat16 in products
    assert handed == {torch.float32}
    assert 0 < (found - expected).abs().max() < 0.03
    with Products() as seen:
        assert near.algorithm.target(make_batch().obs, (), None).q.dtype == torch.float32
    assert torch.bfloat16 in seen.products


QS = [{}, {"dueling": True}, {"noisy": True}, {"distribution": "iqn"}, {"distribution": "qr", "dueling": True}]


@pytest.mark.parametrize("options", [*QS, {"net_arch": ()}, {"net_arch": (), "dueling": True}, None])
def test_values_that_differ_by_less_than_bfloat16_can_tell_do_differ(options: dict[str, Any] | None) -> None:
    """In all networks the last layers, and the sum of two streams, are float32: of critics too."""
    obs = make_batch(64).obs
    if options is None:
        made = make(SACConfig.model_validate({"net_arch": (16,)}), BOX)
        layers, action = [made.model.critics.layers[-1]], torch.linspace(-1, 1, 128).view(64, 2)
    else:
        made = make_dqn(**{"net_arch": (16, 16), **options})
        head = made.model.head
        layers = [stream.layers[-1] for stream in head.streams] if isinstance(head, QHead) else [head]
    for layer in layers:
        torch.nn.init.constant_(getattr(layer, "mean", layer).bias, 1000.0)
    found = []
    for how in ("float32", "bf16"):
        set_precision(made.algorithm, how)  # type: ignore[arg-type]
        with torch.no_grad():
            found.append(made.model.critics(obs, action)[0] if options is None else made.model(obs).q)
    exact, near = found
    torch.testing.assert_close(near, exact, rtol=0, atol=0.02)
    assert len(near.unique()) > 100 if options is not None else len(near.unique()) == 64


def test_pictures_are_looked_at_in_bfloat16() -> None:
    made = make_ppo(obs_space=PIXELS)
    obs = torch.randint(0, 256, (6, *PIXELS.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    exact = made.model(obs).value
    set_precision(made.algorithm, "bf16")
    with Products() as seen:
        near = made.model(obs).value
    assert torch.bfloat16 in seen.products
    torch.testing.assert_close(near, exact, rtol=0, atol=0.03)
    set_precision(made.algorithm, "float32")
    assert made.model(obs).value.equal(exact)


def test_acting_is_in_bfloat16_and_not_by_numpy() -> None:
    made, obs = make_ppo(net_arch=(16, 16)), np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    by_numpy = made.policy.actor()(obs, (), None)
    assert made.policy._forward is not None
    set_precision(made.algorithm, "bf16")
    with Products() as seen:
        acted = made.policy.actor()(obs, (), None)
    assert made.policy._forward is None
    assert torch.bfloat16 in seen.products
    assert acted.env_action.dtype == torch.int64
    assert by_numpy.env_action.shape == tuple(acted.env_action.shape)


WORDS = "--env CartPole-v1 --n-envs 4 --n-steps 32 --batch-size 64 --n-epochs 1 --net-arch 16 --eval-freq 0"


def test_what_auto_came_to_is_kept() -> None:
    flags = {"env": "CartPole-v1", "algo": "dqn", "device": "cpu"}
    assert build(resolve([Layer(FLAGS, flags)])).config.precision == "float32"


def test_a_run_in_bfloat16_goes_on_and_acts_in_it(tmp_path: Path, capable: None) -> None:
    words = f"{WORDS} --final-eval-episodes 2 --precision bf16 --target-reward none"
    whole = load_policy(train(tmp_path / "whole", f"{words} -n 512"), "latest")
    half = train(tmp_path / "half", f"{words} -n 256 --schedule-total 512")
    kept = read_config(half / "config.yaml")
    assert (kept.precision, kept.compile) == ("bf16", "off")
    resumed = load_policy(resume(half, "-n 512"), "latest")
    assert weights(resumed.policy.model).equal(weights(whole.policy.model))
    obs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    with Products() as seen:
        resumed.policy.predict(obs)
    assert torch.bfloat16 in seen.products
    exported = Exported(resumed)
    with Products() as seen:
        exported(*(torch.zeros(2, *shape, dtype=dtype) for shape, dtype in exported.inputs.values()))
    assert seen.products == {torch.float32}, "files know no bfloat16"


def test_what_the_processor_has_not_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    words = f"{WORDS} -n 128 --precision tf32 --runs-dir {folder}"
    assert main(words.split()) == 2
    assert "--precision tf32 is of CUDA GPUs" in capsys.readouterr().err
    assert not folder.exists()
