"""Traefik's domains through the notebook server: asked by name, the dashboard alive.

What passes through at all, and what does not, is in tests/security/test_pages.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from actions import deploy, remove_stack
from playwright.sync_api import Browser, expect
from real_lab import ARTEFACTS, ROOT, Lab
from voters import until

from labkit.engine.endpoint import Fleet
from labkit.exercises import preparer_traefik

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_traefik_through_the_notebook_server(
    chromium: Browser, lab: Lab, fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "traefik"
    shutil.copytree(ROOT / "notebooks/traefik", folder)
    preparer_traefik(folder)
    password = (folder / "mot-de-passe.txt").read_text().strip()
    context = chromium.new_context(
        viewport={"width": 1280, "height": 720},
        http_credentials={"username": "ada", "password": password},
    )
    try:
        deploy("web", folder / "stack-traefik.yml", fleet)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{lab.url}/lab?token={lab.token}")
        domain = f"{lab.url}/domaines/8000/whoami.localhost/"
        until("the route", lambda: page.goto(domain).status == 200, 60)  # read every five seconds
        expect(page.locator("body")).to_contain_text("Host: whoami.localhost")
        assert "_xsrf" not in page.inner_text("body")
        page.goto(f"{lab.url}/domaines/8000/traefik.localhost/dashboard/")
        expect(page.locator("body")).to_contain_text("Routers")
        page.goto(f"{lab.url}/domaines/8000/traefik.localhost/dashboard/#/http/routers")
        expect(page.locator("body")).to_contain_text("Host(`essai.localhost`)")
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTEFACTS / "1280x720-traefik.png")
    finally:
        context.close()
        remove_stack("web", fleet)
