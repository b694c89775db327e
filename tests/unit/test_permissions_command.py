"""`asyncjobs permissions`: what it prints for what it is told, without asking anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from asyncjobs.cli import app, hoist
from asyncjobs.names import Names
from asyncjobs.permissions.calls import COMMANDS
from asyncjobs.permissions.policy import MOST_CHARACTERS, document, size

KNOWN = ("--account", "123456789012", "--region", "eu-west-1", "--stack", "demo")
NAMES = Names("demo", "123456789012", "eu-west-1")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in ("ASYNCJOBS_STACK", "ASYNCJOBS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str, check: int = 0) -> Result:
        result = CliRunner().invoke(app, hoist(["permissions", *args]))
        assert result.exit_code == check, result.output
        return result

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_the_policy_of_a_command_is_on_standard_output_alone(run: Any, command: Any):
    result = run(command, *KNOWN)
    assert json.loads(result.stdout) == document(NAMES, [command])
    assert result.stderr == ""


def test_without_a_command_it_is_all_of_them_in_parts(run: Any):
    result = run(*KNOWN)
    whole = json.loads(result.stdout)
    assert whole == document(NAMES, COMMANDS)
    assert f"{size(whole)} characters" in result.stderr
    assert "`--part 1` and `--part 2`" in result.stderr
    pieces = [json.loads(run(*KNOWN, "--part", number).stdout) for number in "12"]
    assert [one for piece in pieces for one in piece["Statement"]] == whole["Statement"]
    assert all(size(piece) <= MOST_CHARACTERS for piece in pieces)
    assert "there are 2" in run(*KNOWN, "--part", "3", check=2).stderr


@pytest.mark.parametrize(("region", "characters"), [("eu-west-1", 8), ("us-east-1", 8)])
def test_names_that_fit_into_one_policy_as_the_page_says(region: str, characters: int):
    names = Names("a" * characters, "123456789012", region)
    assert all(size(document(names, [command])) <= MOST_CHARACTERS for command in COMMANDS)


def test_what_is_not_known_is_left_open_and_said(run: Any):
    result = run("down", "--json")
    assert "--account and --region" in result.stderr
    assert json.loads(result.stdout) == document(Names("default", "*", "*"), ["down"])


def test_names_come_from_the_project_and_the_region_from_where_boto3_has_it(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "asyncjobs.toml").write_text('[stack]\nname = "demo"\n')
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert json.loads(run("up", "--account", "123456789012").stdout) == document(NAMES, ["up"])


def test_partitions_other_than_aws_have_their_own_arns(run: Any):
    text = run("up", "--account", "123456789012", "--region", "us-gov-west-1").stdout
    assert "arn:aws-us-gov:" in text
    assert "arn:aws:" not in text


@pytest.mark.parametrize("wrong", [("sideways",), ("up", "--account", "12"), ("up", "--account", "12345678901x")])
def test_what_makes_no_sense_is_a_usage_error(run: Any, wrong: tuple[str, ...]):
    assert run(*wrong, check=2).stdout == ""
