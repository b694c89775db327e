"""Loads a project's `handler.py` as the worker does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]


def load(directory: Path, module: str = "handler") -> ModuleType:
    """Import a module of a project directory and leave nothing of it behind: the next one has the same names."""
    sys.path.insert(0, str(directory))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(str(directory))
        for name in ("handler", "analysis"):
            sys.modules.pop(name, None)
