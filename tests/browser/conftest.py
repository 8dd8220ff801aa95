"""A real JupyterLab, a real Chromium and a real swarm with whoami on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from actions import create, remove
from playwright.sync_api import Browser, Page, expect, sync_playwright
from real_lab import ARTEFACTS, Lab, running_lab
from swarms import make_clean

import labkit.engine
from labkit.engine.endpoint import Fleet
from labkit.services import Scale
from labkit.state import capture

expect.set_options(timeout=60_000)
CHROMIUM = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync " \
    "--disable-background-networking --disable-component-update".split()  # fmt: skip


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """One manager and two workers, ready and active, whatever an earlier test left."""
    fleet = labkit.engine.up()
    make_clean(fleet)
    return fleet


@pytest.fixture
def whoami(fleet: Fleet) -> Iterator[str]:
    """A service of five tasks on port 9999."""
    state = capture(fleet)
    for service in state.services:
        if service.name != "whoami":
            remove(service.name, fleet)
    if state.has_service("whoami"):
        Scale("whoami", 5).apply(fleet)
    else:
        create("whoami", "--replicas", "5", "--publish", "9999:80", fleet=fleet)
    yield "whoami"
    remove("whoami", fleet)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with running_lab(tmp_path) as lab:
        yield lab


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        missing = "no chromium on this machine (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 720), (1920, 1080)], ids=["1280x720", "1920x1080"])
def page(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Page]:
    """A page as large as a projector; what goes wrong in it fails the test."""
    width, height = request.param
    context = chromium.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(60_000)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    yield page
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{width}x{height}-end.png")
    context.close()
    assert not broken
