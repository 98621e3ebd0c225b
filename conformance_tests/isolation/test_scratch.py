"""A scratch folder is removed, whatever a job made of it."""

from __future__ import annotations

import os
from pathlib import Path

from slmconform.isolation.scratch import scratch_folder


def test_a_deep_a_locked_and_a_linked_folder_are_removed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    with scratch_folder() as scratch:
        folder = os.open(scratch, os.O_RDONLY)
        for _ in range(1500):  # deeper than python recurses, its path longer than the system takes
            os.mkdir("d" * 100, dir_fd=folder)
            below = os.open("d" * 100, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
        os.close(folder)
        locked = Path(scratch, "locked", "inner")
        locked.mkdir(parents=True)
        (locked / "file").write_text("x")
        locked.chmod(0)
        locked.parent.chmod(0)
        Path(scratch, "link").symlink_to(kept)
        os.mkfifo(Path(scratch, "fifo"))
        Path(scratch).chmod(0)
    assert not Path(scratch).exists()
    assert (kept / "file").read_text() == "x"


def test_what_was_put_in_the_place_of_the_folder_is_not_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("mine")
    with scratch_folder() as folder:
        Path(folder).rmdir()
        Path(folder).symlink_to(tmp_path)
    assert kept.read_text() == "mine"
    Path(folder).unlink()
