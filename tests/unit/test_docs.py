"""The documentation is true to the program: help, keys, exit codes, links and command lines.

`python tests/unit/test_docs.py` writes the generated parts of docs/commands.md and docs/permissions.md anew.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from typer.main import get_command

from asyncjobs import __version__, errors
from asyncjobs.cli import app as typer_app
from asyncjobs.cli import hoist
from asyncjobs.client import JobsClient
from asyncjobs.config import Config
from asyncjobs.names import Names
from asyncjobs.permissions import calls as permissions
from asyncjobs.permissions.policy import document

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ROOT / "docs" / "commands.md"
PERMISSIONS = ROOT / "docs" / "permissions.md"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

GENERATED = re.compile(r"<!-- generated: (?P<words>[a-z ]+) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
POLICY = re.compile(r"<!-- policy: (?P<command>[a-z]+) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
# A command line as it stands in a shell: at the start, after a prompt, in $(...), behind && or a pipe.
COMMAND_LINE = re.compile(r"(?:^|\$ |\$\(|&& |\| |; )asyncjobs(?P<words>(?: [^|;&#)\n]*)?)", re.MULTILINE)


# Help, from what the parser knows: its own layout changes from one version to the next. Typed loosely, because the
# classes that typer makes of the commands are its own in some versions and click's in others.
app: Any = get_command(typer_app)


def command(words: str) -> Any:
    """The command of "asyncjobs up"; "asyncjobs" alone is the group."""
    names = words.split()[1:]
    return app.commands[names[0]] if names else app


def generate(words: str) -> str:
    it = command(words)
    help_text = inspect.cleandoc(it.help or "").replace("\b\n", "")
    usage = " ".join([words, *it.collect_usage_pieces(typer.Context(it))])
    if it is app:
        rows = [
            f"| [`{name}`](#asyncjobs-{name}) | {one.get_short_help_str(99)} |" for name, one in app.commands.items()
        ]
        head = ["", "| option | |", "| --- | --- |", *map(row, options(it)), "", "| command | |", "| --- | --- |"]
        return "\n".join([*head, *rows, "", ""])
    about, _, example = help_text.partition("Example:")
    return "\n".join(
        ["", about.strip(), "", f"    {usage}", "", "| | |", "| --- | --- |"]
        + [row(parameter) for parameter in options(it)]
        + ["", f"Example: `{example.strip()}`", "", ""]
    )


def options(it: Any) -> list[Any]:
    return [parameter for parameter in it.params if not getattr(parameter, "hidden", False)]


def row(parameter: Any) -> str:
    text: str = parameter.help or ""
    if parameter.param_type_name == "option":
        value = "" if parameter.is_flag else f" {parameter.metavar}"
        name = ", ".join(f"`{flag}{value}`" for flag in sorted(parameter.opts, key=len, reverse=True))
        if parameter.show_default and not parameter.is_flag:
            text += f" Default: {parameter.default}."
        if isinstance(parameter.envvar, str):
            text += f" Variable: `{parameter.envvar}`."
    else:
        name = f"`{parameter.metavar}`"
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in (name, text)) + " |"


def regenerated(text: str) -> str:
    def fill(match: re.Match[str]) -> str:
        return f"<!-- generated: {match['words']} -->\n{generate(match['words'])}<!-- end -->"

    return GENERATED.sub(fill, text)


def test_help_in_the_docs_is_the_programs_own() -> None:
    text = COMMANDS.read_text(encoding="utf-8")
    assert regenerated(text) == text, "run: python tests/unit/test_docs.py"


def with_policies(text: str) -> str:
    """The page with each policy as `asyncjobs permissions` prints it for the page's example."""
    names = Names("demo", "123456789012", "eu-west-1")

    def fill(match: re.Match[str]) -> str:
        (command,) = [one for one in permissions.COMMANDS if one == match["command"]]
        printed = json.dumps(document(names, [command]), indent=2)
        return f"<!-- policy: {command} -->\n\n{textwrap.indent(printed, '    ')}\n\n<!-- end -->"

    return POLICY.sub(fill, text)


def test_policies_in_the_docs_are_those_that_are_printed() -> None:
    text = PERMISSIONS.read_text(encoding="utf-8")
    assert with_policies(text) == text, "run: python tests/unit/test_docs.py"
    assert [match["command"] for match in POLICY.finditer(text)] == list(permissions.COMMANDS)


def test_what_is_allowed_on_everything_is_explained() -> None:
    everything = {
        action
        for command in permissions.COMMANDS
        for statement in document(Names("demo", "123456789012", "eu-west-1"), [command])["Statement"]
        if statement["Resource"] == "*"
        for action in statement["Action"]
    }
    rows = re.search(
        r"^\| `\*` \|.*?(?=^\| all REST)", PERMISSIONS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert rows
    assert set(re.findall(r"`([a-z0-9-]+:[A-Za-z]+)`", rows[0])) == everything


@pytest.mark.parametrize("name", app.commands)
def test_every_command_has_a_section_and_an_example(name: str) -> None:
    text = COMMANDS.read_text(encoding="utf-8")
    assert f"\n## `asyncjobs {name}`\n\n<!-- generated: asyncjobs {name} -->\n" in text
    assert "Example:  asyncjobs" in (app.commands[name].help or "") or "$(asyncjobs" in (app.commands[name].help or "")


# Links.


def prose(page: Path) -> str:
    """A page without its code, where brackets mean other things."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^ {4,}.*$", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(prose(page)):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("https://", "http://")):
            continue
        file = (page.parent / target).resolve() if target else page
        missing_anchor = anchor and file.suffix == ".md" and file.is_file() and anchor not in anchors(file)
        if not file.exists() or missing_anchor:
            broken.append(match["target"])
    assert not broken


def test_the_readme_leads_to_every_page() -> None:
    linked = {match["target"].partition("#")[0] for match in LINK.finditer(prose(ROOT / "README.md"))}
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked


# Command lines.


def code(page: Path) -> Iterator[str]:
    """Lines of code blocks, and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    for fence in re.findall(r"^```.*?\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        yield from fence.splitlines()
    for line in text.splitlines():
        if line.startswith("    "):
            yield line.strip()
        else:
            yield from re.findall(r"`([^`]+)`", line)


def command_lines(page: Path) -> list[str]:
    # A usage line, with its brackets and dots, is a pattern and no command line.
    return [
        match["words"].strip()
        for text in code(page)
        for match in COMMAND_LINE.finditer(text)
        if not re.search(r"\[[A-Z-]|\.\.\.|COMMAND", match["words"])
    ]


def parse(words: str) -> None:
    """Have the parser take a command line, as far as running it."""
    group = typer.Context(app, info_name="asyncjobs")
    _, rest, _ = app.make_parser(group).parse_args(hoist(shlex.split(words, comments=True)))
    name, it, rest = app.resolve_command(group, rest)
    assert it is not None
    it.make_context(name, rest, parent=group).close()


PARSED = [(page.name, words) for page in PAGES for words in command_lines(page)]


@pytest.mark.parametrize(("page", "words"), sorted(set(PARSED)))
def test_command_lines_parse(page: str, words: str) -> None:
    if not words or words in app.commands or {"--help", "--version"} & set(words.split()):
        return  # a command that is only named may lack its arguments; help and version end the parsing
    parse(words)  # a usage error names what is wrong; the test's id names the page


def test_the_readme_begins_with_the_demo_and_the_tests() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in readme.splitlines() if re.match(r" {4}(make|asyncjobs|pipx|\$) ?", line)]
    assert commands[:2] == ["make demo", "make test"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    used = {match for page in PAGES for text in code(page) for match in re.findall(r"^make ([a-z]+)$", text)}
    assert used <= set(targets)


# Configuration, exit codes, dependencies, the client, the version.


def keys() -> Iterator[tuple[str, str, Any]]:
    for section, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for key, info in model.model_fields.items():
            yield section, key, info.default


@pytest.mark.parametrize(("section", "key", "default"), list(keys()), ids=lambda value: str(value))
def test_every_key_is_documented(section: str, key: str, default: Any) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    part = re.search(rf"^## `\[{section}\]`\n(.*?)(?=^## |\Z)", text, flags=re.DOTALL | re.MULTILINE)
    assert part
    (line,) = [line for line in part[1].splitlines() if line.startswith(f"| `{key}` |")]
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    assert cells[2] == ("none" if default is None else f"`{json.dumps(default)}`")
    assert f"`ASYNCJOBS_{section}_{key}`".upper() in cells[4].upper()


def test_no_key_is_documented_that_does_not_exist() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section, part in re.findall(r"^## `\[(\w+)\]`\n(.*?)(?=^## |\Z)", text, flags=re.DOTALL | re.MULTILINE):
        documented = set(re.findall(r"^\| `([a-z_]+)` \| ", part, flags=re.MULTILINE))
        assert documented <= {key for name, key, _ in keys() if name == section}


def test_every_exit_code_and_error_is_documented() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = {int(code): names for code, names in re.findall(r"^\| (\d+) \| ([^|]*)\|", text, flags=re.MULTILINE)}
    codes = {value for name, value in vars(errors.ExitCode).items() if name.isupper()}
    assert set(rows) == codes
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.AsyncJobsError):
            assert f"`{error.__name__}`" in rows[error.exit_code]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in wanted}
    assert not {name for name in names if not re.search(rf"`{re.escape(name)}(\[[^\]]*\])?`", text)}


def test_the_clients_page_is_true_to_the_client() -> None:
    page = ROOT / "docs" / "python-client.md"
    text = page.read_text(encoding="utf-8")
    methods = {name for name, value in vars(JobsClient).items() if callable(value) and not name.startswith("_")}
    documented = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", text, flags=re.MULTILINE))
    assert set(documented) == methods
    for name, arguments in documented.items():
        shown = [word.split("=")[0].strip() for word in arguments.split(",") if word.strip() != "*"]
        assert shown == list(inspect.signature(getattr(JobsClient, name)).parameters)[1:]
    for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, flags=re.MULTILINE):
        ast.parse(textwrap.dedent(block))


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\]", text, flags=re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert __version__ in headings


if __name__ == "__main__":
    for page, made_new in ((COMMANDS, regenerated), (PERMISSIONS, with_policies)):
        page.write_text(made_new(page.read_text(encoding="utf-8")), encoding="utf-8")
        sys.stdout.write(f"{page} is up to date\n")
