"""Finds the files under `templates/`, in a wheel and in an editable install."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def templates_dir() -> Path:
    """The directory that holds `api/`, `frontend/` and `project/`.

    A wheel carries the templates as `asyncjobs/_templates` (hatch's force-include, which editable installs do not
    apply); a checkout has them beside the package.
    """
    packaged = _PACKAGE / "_templates"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "templates"


def read_template(name: str) -> str:
    """The text of one template, such as `api/get-job.vtl`."""
    return (templates_dir() / name).read_text(encoding="utf-8")
