"""What `asyncjobs init` writes, and when it refuses to."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from asyncjobs import config
from asyncjobs.errors import UsageError
from asyncjobs.names import STACK_PATTERN
from asyncjobs.scaffold import stack_name_for, write_project


def test_a_project_is_written_with_everything_up_needs(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "project"
    written = write_project(directory, stack="texts")

    assert sorted(path.name for path in written) == sorted(path.name for path in directory.iterdir())
    assert {path.name for path in written} >= {
        "asyncjobs.toml",
        "handler.py",
        "requirements.txt",
        "Dockerfile",
        ".dockerignore",
        "sample.txt",
        "README.md",
    }
    assert not any(path.suffix == ".pyc" or path.is_dir() for path in directory.rglob("*"))


def test_the_configuration_is_valid_and_names_the_stack(tmp_path: Path) -> None:
    write_project(tmp_path, stack="texts")
    loaded = config.load(tmp_path / "asyncjobs.toml", env={}, overrides={})

    assert loaded.stack.name == "texts"
    assert loaded.worker.handler == "handler:handle"
    commented = (tmp_path / "asyncjobs.toml").read_text().replace("# [worker.env]", "[worker.env]")
    commented = commented.replace("# PACE", "PACE").replace("# region", "region")
    (tmp_path / "asyncjobs.toml").write_text(commented)
    with_the_rest = config.load(tmp_path / "asyncjobs.toml", env={}, overrides={})
    assert with_the_rest.worker.env == {"PACE_SECONDS_PER_1000_WORDS": "10"}
    assert with_the_rest.stack.region == "eu-central-1"


def test_the_readme_shows_commands_as_they_are_typed(tmp_path: Path) -> None:
    write_project(tmp_path, stack="texts")
    readme = (tmp_path / "README.md").read_text()

    assert readme.startswith("# texts\n")
    assert "JOB=$(asyncjobs submit sample.txt)" in readme
    for name in ("handler.py", "analysis.py", "stopwords.txt", "requirements.txt", "Dockerfile", "sample.txt"):
        assert f"`{name}`" in readme
        assert (tmp_path / name).is_file()


def test_the_image_runs_as_a_user_without_rights(tmp_path: Path) -> None:
    write_project(tmp_path, stack="texts")
    lines = (tmp_path / "Dockerfile").read_text().splitlines()

    user = next(number for number, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user].split()[1] not in ("0", "root")
    assert lines.index('CMD ["python", "-m", "asyncjobs.worker"]') > user
    requirements = next(number for number, line in enumerate(lines) if line.startswith("COPY .asyncjobs/*.whl requir"))
    assert requirements < lines.index("COPY . ./")


def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("mine")
    (tmp_path / "Dockerfile").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError) as refusal:
        write_project(tmp_path, stack="texts")

    assert "handler.py" in refusal.value.what
    assert "Dockerfile" in refusal.value.what
    assert "asyncjobs.toml" not in refusal.value.what
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Dockerfile", "handler.py"]
    assert (tmp_path / "handler.py").read_text() == "mine"


def test_other_files_in_the_directory_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    write_project(tmp_path, stack="texts")
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_a_directory_that_is_a_file_is_explained(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        write_project(place, stack="texts")
    assert place.read_text() == "mine"


@pytest.mark.parametrize("stack", ["", "Texts", "1st", "ends-", "a" * 25, 'a"\n[x]'])
def test_a_stack_name_that_is_none_is_refused(tmp_path: Path, stack: str) -> None:
    with pytest.raises(UsageError, match="not a stack name"):
        write_project(tmp_path, stack=stack)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("directory", "stack"),
    [
        ("texts", "texts"),
        ("My Project", "my-project"),
        ("Côte d'Azur Jobs", "cote-d-azur-jobs"),
        ("2026_reports", "jobs-2026-reports"),
        ("--.x.--", "x"),
        ("日本語", "jobs"),
        ("", "jobs"),
        ("a-very-long-directory-name-indeed", "a-very-long-directory-na"),
        ("twenty-three-letters-abc-d", "twenty-three-letters-abc"),
        ("exactly-twenty-three-ab-cd", "exactly-twenty-three-ab"),
    ],
)
def test_a_stack_is_named_after_its_directory(directory: str, stack: str) -> None:
    assert stack_name_for(directory) == stack
    assert STACK_PATTERN.match(stack)


def test_a_dollar_in_the_handler_is_left_alone(tmp_path: Path) -> None:
    write_project(tmp_path, stack="texts")
    source = Path(__file__).parents[2] / "templates" / "project"
    for name in ("handler.py", "analysis.py", "Dockerfile"):
        assert (tmp_path / name).read_bytes() == (source / name).read_bytes()
    assert tomllib.loads((tmp_path / "asyncjobs.toml").read_text())["scaling"] == {"min": 0, "max": 10}
