"""The folder of a worker's temporary files, beside those of others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asyncjobs.worker.workspace import PREFIX, NoWorkspaceError, workspace

WORKER = """
import sys
from pathlib import Path
from asyncjobs.worker.workspace import workspace

with workspace(Path(sys.argv[1])) as folder:
    (folder / "payload").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def start(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    command = [sys.executable, "-c", WORKER, str(parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_gone_with_its_worker(tmp_path: Path):
    with workspace(tmp_path) as folder:
        (folder / "1").mkdir()
        (folder / "1" / "payload").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_worker_left_is_cleared_by_the_next(tmp_path: Path):
    process, left = start(tmp_path)
    process.kill()
    process.communicate()
    assert (left / "payload").exists()
    with workspace(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_the_folder_of_a_worker_that_lives_is_left_alone(tmp_path: Path):
    process, theirs = start(tmp_path)
    with workspace(tmp_path) as folder:
        assert folder != theirs
        assert (theirs / "payload").exists()
    process.communicate("")
    assert not theirs.exists()


def test_what_is_not_a_worker_s_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "asyncjobs-of-somebody").mkdir()
    (tmp_path / f"{PREFIX}file").write_bytes(b"x")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "asyncjobs-of-somebody")
    before = sorted(tmp_path.iterdir())
    with workspace(tmp_path):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_where_nothing_can_be_written_it_says_what_to_do(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(NoWorkspaceError, match=r"file: Not a directory\. .*`VOLUME /tmp`"), workspace(file):
        pass
