"""What a command printed."""

from __future__ import annotations

import json
from typing import Any

import pytest


def printed_json(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what `--json` printed: the last line."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])
