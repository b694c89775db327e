"""Drives the frontend page in a real Chromium, whatever serves it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--no-sandbox",  # CI runs as root, where Chromium's sandbox refuses to start
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def launch_chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window. Skips the test where there is none.

    Its own headless build if it is there: a test takes a third of the processor time of the whole browser then.

    Keep it within one test module: while it is open, Playwright's event loop runs in this thread, and
    `asyncio.run` elsewhere would fail.
    """
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium-headless-shell)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the PyPI package playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def give_key(page: Page, key: str) -> None:
    """Answer the dialog that asks for the API key."""
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def drive_page(page: Page, url: str, key: str, text: str, *, seconds: float = 60) -> str:
    """Open the page, submit a text, give the key when it asks, wait for the end.

    Args:
        url: Where the page is, such as `http://127.0.0.1:4566/v1/`.
        seconds: How long the job may take.

    Returns:
        The result as the page shows it: JSON text.
    """
    from playwright.sync_api import expect

    page.goto(url)
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Submit").click()
    if key:
        give_key(page, key)
    expect(page.locator("#state")).to_have_text("Succeeded", timeout=seconds * 1000)
    return page.locator("#result").inner_text()
