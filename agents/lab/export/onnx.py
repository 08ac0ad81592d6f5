"""A policy as an ONNX file."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.lab.export.check import Runner
from agents.lab.export.module import Exported
from agents.run.storage import write_bytes
from envs.errors import UserError

MISSING = "writing ONNX needs the packages onnx and onnxscript: pip install 'deep-rl-suite[export]'"
RUNTIME = "checking an ONNX file needs the package onnxruntime: pip install 'deep-rl-suite[export]'"


def write_onnx(exported: Exported, about: dict[str, Any], path: Path) -> None:
    """Write the policy with a free number of rows; `about` is kept in the file as metadata, in JSON.

    Raises:
        UserError: a package is missing, or a part of the policy has no form in ONNX.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(MISSING) from error
    example = tuple(exported.example(2).values())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch about itself
            program = torch.onnx.export(
                exported,
                example,
                dynamo=True,
                input_names=list(exported.inputs),
                output_names=exported.outputs,
                dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in example),),
                verbose=False,
                optimize=False,  # runtimes do it, and this one fails on some constants
            )
    except Exception as error:
        raise UserError(f"PyTorch cannot put this policy into ONNX: {' '.join(str(error).split())[:300]}") from error
    assert program is not None
    model = program.model_proto
    for name, value in about.items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())


def onnx_runner(exported: Exported, path: Path) -> Runner:
    """Return what works the file out by onnxruntime.

    Raises:
        UserError: onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(RUNTIME) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run
