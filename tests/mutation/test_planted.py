"""The list of planted bugs fits the code as it is; `python -m tests.mutation` plants them."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.mutation.bugs import BUGS
from tests.mutation.planting import ROOT


def test_every_planted_bug_changes_one_place_of_the_code_and_names_its_tests():
    texts = {bug.file: (ROOT / bug.file).read_text(encoding="utf-8") for bug in BUGS}
    for bug in BUGS:
        ast.parse(bug.planted(texts[bug.file]))  # it is still Python
        assert bug.old.split() != bug.new.split(), bug.what
        assert all((ROOT / file).is_file() for file in bug.tests.split()), bug.tests


def test_the_list_is_long_and_of_both_kinds():
    assert len({(bug.file, bug.old, bug.new) for bug in BUGS}) == len(BUGS)
    kinds = Counter(bool(bug.source) for bug in BUGS)
    assert kinds[True] >= 30
    assert kinds[False] >= 30


@pytest.mark.parametrize("text", ["a = 1\n", "a = 2\nb = a\na = 2\n"])
def test_a_bug_whose_place_is_gone_or_there_twice_is_refused(text):
    with pytest.raises(ValueError, match=r"agents/core/tree.py holds 'a = 2' \d times"):
        BUGS[0]._replace(file="agents/core/tree.py", old="a = 2").planted(text)
