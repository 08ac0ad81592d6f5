"""The confusion matrix on a run's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.lab.foretold import confusion_picture, read_confusion
from agents.report import main
from tests.lab.run_folders import write_folder
from tests.printed import printed_json


def test_a_clones_page_has_its_confusion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_folder(tmp_path, final=(1.0, 2.0))
    (run / "held_out.json").write_text(json.dumps({"confusion": [[6, 2], [1, 1]]}))
    assert main([str(run), "--json"]) == 0
    page = Path(printed_json(capsys)["report"]).read_text("utf-8")
    assert "Of 10 actions in episodes that it never learnt from it foretells 70.0%; macro F1 0.600." in page
    assert "Confusion of 2 actions: 70.0% of all are foretold rightly" in page
    assert "0.857" in page


@pytest.mark.parametrize(
    "confusion", [[], [[1, 2]], [[1.5]], [[-1]], [["a"]], [[2**50]], {}, [[0]], "x", [[1], [1, 2]]]
)
def test_what_is_no_matrix_is_left_out(confusion: Any, tmp_path: Path) -> None:
    (tmp_path / "held_out.json").write_text(json.dumps({"confusion": confusion}))
    assert read_confusion(tmp_path / "held_out.json") is None


def test_the_picture_is_one() -> None:
    assert confusion_picture(np.eye(20, dtype=int)).png.startswith(b"\x89PNG")
