"""The widgets in a real JupyterLab on a real swarm: clicked, dragged, typed at, looked at."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect
from real_lab import ARTEFACTS, Lab

from labkit.engine.endpoint import Fleet
from labkit.nodes import Activate, kill, start
from labkit.services import Scale
from labkit.state import capture

pytestmark = pytest.mark.browser

CELLS = (
    "import labkit.engine\nfrom labkit.views import ClusterView, Repartition, Scaler\n"
    "fleet = labkit.engine.up(quiet=True)",
    "vue = ClusterView()\nvue",
    "curseur = Scaler('whoami')\ncurseur",
    "mesure = Repartition(9999)\nmesure",
)
VIEW, SCALER, SPREAD = 1, 2, 3  # indices of cells


MORE_CELLS = (
    "from labkit.exercises import *\n"
    "predire('combien', 'Combien de replicas répondront ?', ['1', '2', '5'])",
    "verifier('creer-service')",
    "adresses(9999)",
    "confronter('combien', '5')",
    "cocher_reseaux('reseaux', __import__('labkit.compose').compose.read(FILE), ['a', 'b'])",
    "associer_equivalences('equivalences')",
    "Rattrapage('widgets.ipynb')",
    "progression()",
)
# ipywidgets gives the knob of its slider no name; the buttons beside it do the same
NAMELESS = [("aria-input-field-name", [".noUi-handle"])]
STACK = Path(__file__).parents[2] / "notebooks" / "example-voting-app" / "docker-stack.yml"


def open_notebook(page: Page, lab: Lab, more: Sequence[str] = ()) -> None:
    cells = [nbformat.v4.new_code_cell(c) for c in (*CELLS, *more)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.home / "work" / "widgets.ipynb")
    page.goto(f"{lab.url}/lab/tree/widgets.ipynb?token={lab.token}")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
    page.evaluate("window.jupyterapp.shell.collapseLeft()")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    expect(output(page, SPREAD)).to_be_visible()


def output(page: Page, cell: int) -> Locator:
    return page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".labkit").first


def shoot(page: Page, widget: Locator, name: str, wait: float = 0.5) -> None:
    """Keep a screenshot of the whole page with the widget at the top of it."""
    ARTEFACTS.mkdir(exist_ok=True)
    widget.evaluate("e => e.scrollIntoView({block: 'start'})")
    time.sleep(wait)
    size = page.viewport_size
    assert size
    page.screenshot(path=ARTEFACTS / f"{size['width']}x{size['height']}-{name}.png")


def test_widgets(page: Page, lab: Lab, whoami: str, fleet: Fleet) -> None:
    open_notebook(page, lab)
    view, scaler, spread = (output(page, c) for c in (VIEW, SCALER, SPREAD))

    # the cluster, live
    for node in ("node1", "node2", "node3"):
        expect(view.locator("svg text", has_text=re.compile(f"^{node}$"))).to_be_visible()
    tasks = view.locator("svg text", has_text=re.compile(r"^whoami\.\d+$"))
    expect(tasks).to_have_count(5)
    shoot(page, view, "cluster-5")

    # one run with a new connection each, then both side by side
    spread.get_by_role("button", name="Lancer").click()
    expect(spread.locator("table tbody tr")).to_have_count(5)
    expect(spread.get_by_role("status")).to_contain_text("✔ 200 requêtes sur 200")
    shares = [int(t.split()[0]) for t in spread.locator("td:nth-child(2)").all_inner_texts()]
    assert sum(shares) == 200
    assert min(shares) >= 30, "the mesh gives each replica about its share"
    shoot(page, spread, "repartition")
    spread.get_by_role("button", name="Les deux, côte à côte").click()
    spread.get_by_role("button", name="Lancer").click()
    expect(spread.get_by_role("status")).to_contain_text("✔ 400 requêtes sur 400")
    expect(spread.locator("thead th")).to_have_count(5)
    image = spread.locator("img")
    assert image.evaluate("e => e.complete && e.naturalWidth") > 1000
    shoot(page, spread, "repartition-both")

    # the scaler, dragged to 8
    handle = scaler.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    track, knob = scaler.locator(".noUi-base").bounding_box(), handle.bounding_box()
    assert track and knob
    y = knob["y"] + knob["height"] / 2
    page.mouse.move(knob["x"] + knob["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * 0.6, y, steps=4)
    page.mouse.move(track["x"] + track["width"] * 0.8, y, steps=4)
    page.mouse.up()
    expect(scaler).to_contain_text("docker service scale whoami=8")
    expect(scaler.get_by_role("status")).to_contain_text("8")
    shoot(page, view, "converging", wait=3.0)
    expect(scaler.get_by_role("status")).to_contain_text("✔ 8 sur 8 tasks en marche")
    expect(scaler.locator("li")).to_have_count(8)
    expect(tasks).to_have_count(8)
    assert len(capture(fleet).running("whoami")) == 8
    shoot(page, scaler, "scaler-8")
    shoot(page, view, "cluster-8")

    # by keyboard, faster than the cluster follows: only the last value is asked for
    handle.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    expect(scaler.get_by_role("status")).to_contain_text("✔ 4 sur 4 tasks en marche")
    assert capture(fleet).service("whoami").replicas == 4

    # scaled from elsewhere: the slider follows, and sends nothing itself
    version = Scale("whoami", 6).apply(fleet).service("whoami").version
    expect(scaler.locator(".widget-readout")).to_have_text("6")
    expect(scaler.get_by_role("status")).to_contain_text("✔ 6 sur 6")
    time.sleep(2)
    assert capture(fleet).service("whoami").version == version


def test_nodes_are_managed_from_the_view(page: Page, lab: Lab, whoami: str, fleet: Fleet) -> None:
    for node in capture(fleet).nodes:  # another test may have been interrupted
        if node.availability != "active":
            Activate(node.name).apply(fleet)
    open_notebook(page, lab)
    view = output(page, VIEW)
    said = view.get_by_role("status")
    choice = view.get_by_label("Nœud")
    roles = view.locator("svg text")

    choice.select_option(label="node2 — worker, active, ready")
    view.get_by_role("button", name="Promouvoir").click()
    expect(view).to_contain_text("docker node promote node2")
    expect(said).to_contain_text("✔ node2 : manager reachable, active, ready")
    expect(roles.get_by_text("manager reachable")).to_be_visible()
    shoot(page, view, "promoted")

    # by keyboard alone
    view.get_by_role("button", name="Rétrograder").focus()
    page.keyboard.press("Enter")
    expect(said).to_contain_text("✔ node2 : worker, active, ready")

    # the last manager is refused, with what to do first
    choice.select_option(label="node1 — leader, active, ready")
    view.get_by_role("button", name="Rétrograder").click()
    expect(said).to_contain_text("dernier manager")
    expect(said).to_contain_text("docker node promote")
    shoot(page, view, "refused")

    choice.select_option(label="node3 — worker, active, ready")
    view.get_by_role("button", name="Vider").click()
    expect(view).to_contain_text("docker node update --availability drain node3")
    expect(said).to_contain_text("✔ node3 : worker, drain, ready")
    assert capture(fleet).tasks_on("node3") == ()
    shoot(page, view, "drained")
    view.get_by_role("button", name="Activer").click()
    expect(said).to_contain_text("✔ node3 : worker, active, ready")

    # a node that falls and comes back, seen without a click
    kill("node3", fleet, quiet=True)
    expect(roles.get_by_text("✖ down")).to_be_visible()
    shoot(page, view, "down")
    start("node3", fleet, quiet=True)
    expect(roles.get_by_text("✖ down")).to_have_count(0)


def test_a_view_is_live_only_while_it_is_seen(page: Page, lab: Lab, whoami: str) -> None:
    open_notebook(page, lab)
    view = output(page, VIEW)
    expect(view.locator("svg")).to_be_visible()
    listeners = "print(len(vue._watch._listeners), vue._watch.alive)"
    expect_kernel(lab, listeners, "2 True")

    # paused and resumed by keyboard
    pause = view.get_by_role("button", name="Pause")
    pause.focus()
    page.keyboard.press("Space")
    expect(view).to_contain_text("en pause depuis")
    expect_kernel(lab, listeners, "1 True")
    page.keyboard.press("Space")
    expect(view).to_contain_text("suivi en direct")
    expect_kernel(lab, listeners, "2 True")

    # run again: the new views are told, those that they replace no longer are
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    time.sleep(5)
    expect_kernel(lab, listeners, "2 True")
    page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    expect_kernel(lab, listeners, "0 False")


@pytest.mark.parametrize("page", [(1280, 720)], indirect=True)
def test_no_serious_finding_of_accessibility(page: Page, lab: Lab, whoami: str) -> None:
    """What labkit shows, looked at by axe-core; the Lab around it is not ours."""
    more = [c.replace("FILE", repr(str(STACK))) for c in MORE_CELLS]
    open_notebook(page, lab, more)
    expect(page.locator(".jp-Notebook .jp-Cell").last).to_contain_text("exercice")
    for cell in page.locator(".jp-Notebook .jp-Cell").all():
        cell.scroll_into_view_if_needed()
    expect(page.locator(".jp-RenderedHTMLCommon, .labkit, .widget-box").first).to_be_visible()
    assert page.locator(".jp-OutputArea-output").count() >= len(more)
    found = Axe().run(page, context=".jp-OutputArea-output")
    assert found.response["passes"], "axe looked at nothing"
    serious = [
        f"{rule['id']}: {node['target']} {node['html'][:200]} {node['failureSummary']}"
        for rule in found.response["violations"]
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
        if (rule["id"], node["target"]) not in NAMELESS
    ]
    assert serious == []


def expect_kernel(lab: Lab, code: str, expected: str) -> None:
    limit = time.monotonic() + 30
    while (said := lab.ask_kernel(code)) != expected:
        assert time.monotonic() < limit, said
        time.sleep(0.5)


def test_artefacts_are_not_committed() -> None:
    ignored = Path(ARTEFACTS.parent / ".gitignore").read_text().split()
    assert "artefacts/" in ignored
