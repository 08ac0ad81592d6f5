"""A function of tensors as loops over arrays, in the statements that C and JavaScript share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.lab.export.expressions import EXPRESSIONS
from agents.lab.export.folds import FOLDS
from agents.lab.export.places import PLACES
from agents.lab.export.products import PRODUCTS
from agents.lab.export.views import VIEWS
from agents.lab.export.writer import Language, Writer, WrittenFunction


def write_plain(
    module: nn.Module, example: tuple[Tensor, ...], names: Sequence[str], language: Language
) -> WrittenFunction:
    """Return what a module does with inputs of fixed shapes.

    Args:
        example: inputs, whose shapes and dtypes are those that the program takes.
        names: of the inputs, as identifiers.

    Raises:
        UserError: an operation has no form here.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        exported = torch.export.export(module, example, strict=False).run_decompositions()
    return Writer(language, VIEWS, EXPRESSIONS, {**PRODUCTS, **FOLDS, **PLACES}).write(exported, names)
