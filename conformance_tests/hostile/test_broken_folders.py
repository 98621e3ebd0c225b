"""The page of broken folders says what happens here and now."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import transformers
from broken_folders import FOLDERS, HEAD, built, checked, loaded

PAGE = (Path(__file__).parents[2] / "docs" / "broken-folders.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]
COLUMNS = dict(zip(ROWS[0], zip(*ROWS[1:], strict=True), strict=True))
HERE = f"transformers {transformers.__version__}"


def test_the_page_holds_every_folder_in_order():
    assert PAGE.startswith(HEAD)
    assert list(COLUMNS["broken"]) == list(FOLDERS)
    assert len(FOLDERS) == 22


def test_fourteen_load_and_eight_do_not():
    outcomes = COLUMNS["transformers 5.23.0"]
    assert [one.startswith("loads") for one in outcomes] == [True] * 14 + [False] * 8


def test_one_requirement_fails_for_each():
    told = COLUMNS["slmconform"]
    assert all(re.fullmatch(r"FAIL SLM-[A-Z]{3}-\d{3} `[a-z-]+`", one) for one in told)


@pytest.mark.parametrize(("number", "name"), list(enumerate(FOLDERS)), ids=FOLDERS)
def test_a_check_says_what_the_page_says(number, name, tmp_path):
    FOLDERS[name](tmp_path / "package")
    assert checked(tmp_path / "package") == COLUMNS["slmconform"][number]


@pytest.mark.slow
@pytest.mark.skipif(HERE not in COLUMNS, reason=f"the page has no column for {HERE}")
def test_transformers_does_what_the_page_says(tmp_path):
    version, found = loaded(sys.executable, built(tmp_path))
    assert f"transformers {version}" == HERE
    assert found == dict(zip(FOLDERS, COLUMNS[HERE], strict=True))
