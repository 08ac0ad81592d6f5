"""What the default run leaves out."""

import os

import pytest

LONG = "LONG_TESTS" in os.environ
long_test = pytest.mark.skipif(not LONG, reason="takes long: set LONG_TESTS=1")
