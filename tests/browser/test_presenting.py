"""The projector: a notebook as its own slides, and the cockpit; alive, legible, driven by keys.

Longer than tests/run has time for: ``pytest tests/browser/test_presenting.py``, on a cluster that
is up. artefacts/ keeps what was seen.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect
from real_lab import ARTEFACTS, ROOT, Lab

from labkit.engine.endpoint import Fleet
from labkit.nodes import Activate
from labkit.state import capture

sys.path.insert(0, str(ROOT / "tests/notebooks"))
import slides

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

COURSE = ROOT / "notebooks"
NAME = "01-introduction-a-swarm.ipynb"
RUN = ("imports", "commencer", "vue", "neuves-mesurer", "gardee-mesurer", "figure", "repartition",
       "scaler")  # fmt: skip
KEPT = ("titre", "creer", "creer-solution", "vue", "figure", "repartition", "scaler-mot", "trop-ps",
        "trop-solution", "questions")  # fmt: skip
FOCUS = """([at]) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.deselectAll(); notebook.activeCellIndex = at;
}"""
# what a slide shows: ids of visible cells, notes among them, what is wider than the page, whether
# the last of the cells is whole in it, and the smallest letters
SEEN = """() => {
  const panel = window.jupyterapp.shell.currentWidget, page = panel.content;
  const cells = page.widgets.filter((w) => w.node.getClientRects().length);
  const box = page.node.querySelector('.jp-WindowedPanel-outer') ?? page.node;
  const heights = cells.map((w) => w.node.getBoundingClientRect());
  const wide = [...page.node.querySelectorAll('.jp-RenderedHTMLCommon, .labkit, img, table, pre')]
    .filter((e) => e.getClientRects().length)
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1
      && getComputedStyle(e).overflowX === 'visible')
    .map((e) => e.outerHTML.slice(0, 80));
  const small = cells.flatMap((w) => [...w.node.querySelectorAll('p, li, td, pre, button, label')])
    .filter((e) => e.getClientRects().length && e.innerText.trim())
    .map((e) => parseFloat(getComputedStyle(e).fontSize) * (e.currentCSSZoom ?? 1));
  return {
    cells: cells.map((w) => w.model.id),
    notes: cells.filter((w) => w.node.classList.contains('labkit-note')).map((w) => w.model.id),
    wide, small: Math.min(99, ...small),
    last: heights.at(-1).height, room: box.clientHeight,
    below: heights.at(-1).bottom - box.getBoundingClientRect().bottom,
    foot: panel.node.querySelector('.labkit-slide-foot')?.innerText.split('\\n') ?? [],
  };
}"""


def keep(page: Page, name: str) -> None:
    """Keep a screenshot."""
    ARTEFACTS.mkdir(exist_ok=True)
    size = page.viewport_size
    assert size
    page.screenshot(path=ARTEFACTS / f"{size['width']}x{size['height']}-{name}.png")


def command(page: Page, name: str) -> None:
    page.evaluate("name => window.jupyterapp.commands.execute(name)", name)


def cell(page: Page, at: int) -> Locator:
    return page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{at}']")


def opened(page: Page, lab: Lab) -> tuple[Any, dict[str, int]]:
    """Open notebook 01 and run those of its cells that make widgets and figures."""
    shutil.copy(COURSE / NAME, lab.home / "work" / NAME)
    notebook = nbformat.read(COURSE / NAME, as_version=4)
    at = {c["id"]: i for i, c in enumerate(notebook.cells)}
    page.goto(f"{lab.url}/lab/tree/{NAME}?token={lab.token}")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
    for name in RUN:
        page.evaluate(FOCUS, [at[name]])
        command(page, "notebook:run-cell")
    return notebook, at


def told(page: Page, decks: list[Any]) -> list[str]:
    """Turn each slide in, step by step to the last; return what of them is cut, or too small."""
    page.evaluate(FOCUS, [0])
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+r")
    expect(page.locator(".labkit-presenting")).to_be_visible()
    page.keyboard.press("Home")

    # each cell has its turn, none of the hidden ones does; what is higher than the page scrolls
    found, told = [], []
    for number, cells in enumerate(decks, 1):
        foot, name = f"{number} / {len(decks)}", cells[0]["id"]
        seen = now = page.evaluate(SEEN)
        for _ in range(40):
            if now["foot"][-1] != foot:
                break
            seen = now
            told += [f"{name}: {what} is cut at the right" for what in seen["wide"]]
            if seen["notes"]:
                told.append(f"{name}: shows notes, {seen['notes']}")
            if seen["small"] < 13:
                told.append(f"{name}: letters of {seen['small']:.0f} px")
            if name in KEPT and seen["cells"] == [c["id"] for c in cells]:
                time.sleep(1)
                keep(page, f"slide-{number:02}-{name}")
            page.keyboard.press("PageDown")
            now = page.evaluate(SEEN)
            if now["foot"][-1] == foot and now == seen:  # the last of all
                break
        found.append(seen["cells"])
        if seen["below"] > 1:
            told.append(f"{name}: {seen['below']:.0f} px of what was just shown are below the page")
    assert found == [[c["id"] for c in cells] for cells in decks]
    return told


@pytest.mark.parametrize("name", sorted(p.name for p in COURSE.glob("*.ipynb")))
def test_what_each_slide_shows_last_is_whole(page: Page, lab: Lab, name: str) -> None:
    shutil.copy(COURSE / name, lab.home / "work" / name)
    page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
    assert told(page, slides.slides(nbformat.read(COURSE / name, as_version=4))) == []


def test_a_notebook_is_its_own_slides(page: Page, lab: Lab, whoami: str, fleet: Fleet) -> None:
    notebook, at = opened(page, lab)
    decks = slides.slides(notebook)
    panel = page.locator(".labkit-presenting")
    assert told(page, decks) == []

    # backwards, and notes from the first step on
    page.keyboard.press("Home")
    assert page.evaluate(SEEN)["cells"] == ["titre"]
    go(page, [deck[:1] for deck in decks], "init")
    page.keyboard.press("n")
    seen = page.evaluate(SEEN)
    assert seen["cells"] == ["init", "init-indices"] and seen["notes"] == ["init-indices"]
    keep(page, "slide-notes")
    page.keyboard.press("n")
    assert page.evaluate(SEEN)["cells"] == ["init"]
    page.keyboard.press("PageUp")
    assert page.evaluate(SEEN)["cells"] == ["vue"]

    # the widgets are alive, and keys that are theirs turn no slide
    go(page, decks, "repartition")
    measure = cell(page, at["repartition"])
    measure.get_by_role("button", name="Lancer").click()
    expect(measure.get_by_role("status")).to_contain_text("✔ 200 requêtes sur 200")
    keep(page, "slide-measured")
    go(page, decks, "scaler-mot")
    scaler = cell(page, at["scaler"])
    scaler.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(scaler).to_contain_text("docker service scale whoami=6")
    expect(scaler.get_by_role("status")).to_contain_text("✔ 6 sur 6 tasks en marche")
    assert page.evaluate(SEEN)["cells"] == ["scaler-mot", "scaler"]
    assert capture(fleet).service("whoami").replicas == 6
    keep(page, "slide-scaled")

    # a cell runs on its slide
    go(page, decks, "creer-lire")
    page.keyboard.press("Shift+Enter")
    expect(cell(page, at["creer-ls"])).to_contain_text(re.compile(r"whoami\s+replicated\s+6/6"))
    assert page.evaluate(SEEN)["cells"] == ["creer-lire", "creer-ls"]

    # and the notebook is as it was
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(cell(page, at["imports"])).to_be_visible()
    assert page.locator(".labkit-off, .labkit-note, .labkit-slide-foot").count() == 0


def go(page: Page, decks: list[Any], name: str) -> None:
    """Turn to the slide that a cell begins, until all these cells of it show."""
    wanted = next([c["id"] for c in cells] for cells in decks if cells[0]["id"] == name)
    command(page, "labkit:slides-first")
    for _ in range(200):
        if page.evaluate(SEEN)["cells"] == wanted:
            return
        command(page, "labkit:slides-next")
    raise AssertionError(f"no slide shows {wanted}")


# what of the cockpit is cut: parts beside which it scrolls, and those that lie over one another
CUT = """() => {
  const found = [];
  for (const name of ['bar', 'view', 'side', 'events', 'commands']) {
    const part = document.querySelector(`.labkit-cockpit > .labkit-${name}`);
    const box = part.getBoundingClientRect();
    if (box.right > innerWidth + 1 || box.bottom > innerHeight + 1) found.push(`${name} leaves`);
    const scrolls = name === 'side' && innerHeight < 900; // the form, on a small projector
    if (part.scrollHeight > part.clientHeight + 3 && !scrolls
        && !['events', 'commands'].includes(name))
      found.push(`${name}: ${part.scrollHeight} px high in ${part.clientHeight}`);
    if (part.scrollWidth > part.clientWidth + 6)
      found.push(`${name}: ${part.scrollWidth} px wide in ${part.clientWidth}`);
  }
  const side = document.querySelector('.labkit-side').getBoundingClientRect();
  const form = innerHeight < 900 ? '.labkit-side > :has(> img) > .widget-hbox *' : 'no-form';
  const seen = [...document.querySelectorAll(
    '.labkit-side .noUi-handle, .labkit-side button, .labkit-side img')]
    .filter(e => e.style.display !== 'none' && !e.matches(form));
  if (seen.length < 3) found.push('no scaler');
  for (const e of seen) {
    if (!e.getClientRects().length) found.push(`not there: ${e.innerText || e.className}`);
    else if (e.getBoundingClientRect().bottom > side.bottom
        || e.closest('.widget-box').getBoundingClientRect().height < 24)
      found.push(`squeezed: ${e.innerText || e.className}`);
  }
  for (const e of document.querySelectorAll('.labkit-cockpit button, .labkit-cockpit p, '
      + '.labkit-cockpit li, .labkit-cockpit label, .labkit-cockpit td')) {
    const box = e.getBoundingClientRect(), size = parseFloat(getComputedStyle(e).fontSize);
    if (box.width && e.innerText.trim() && size < 12)
      found.push(`letters of ${size} px: ${e.innerText.slice(0, 40)}`);
  }
  return found;
}"""


def test_the_cockpit(page: Page, lab: Lab, whoami: str, fleet: Fleet) -> None:
    shutil.copytree(COURSE / "cockpit", lab.home / "work/cockpit")
    page.goto(f"{lab.url}/lab?token={lab.token}")
    with page.context.expect_page() as event:
        page.locator(".jp-LauncherCard", has_text="Cockpit").first.click()
    stage = event.value
    stage.set_default_timeout(60_000)
    status = stage.locator(".labkit-bar").get_by_role("status")
    choice = stage.locator(".labkit-view").get_by_label("Nœud")
    expect(stage.locator(".labkit-side")).to_contain_text("Service whoami")
    expect(stage.locator(".labkit-view svg text", has_text=re.compile(r"^whoami\.\d$"))
           ).to_have_count(5)  # fmt: skip
    time.sleep(1)
    keep(stage, "cockpit-dark")
    cut: list[str] = []
    cut += stage.evaluate(CUT)

    # by keys alone
    stage.keyboard.press("+")
    expect(stage.locator(".labkit-side")).to_contain_text("docker service scale whoami=6")
    expect(stage.locator(".labkit-side").get_by_role("status").first).to_contain_text("6 sur 6")
    stage.keyboard.press("e")
    expect(stage.locator(".labkit-side")).to_contain_text("✔ 200 requêtes sur 200")
    keep(stage, "cockpit-traffic")
    cut += stage.evaluate(CUT)

    stage.keyboard.press("3")
    expect(choice.locator("option:checked")).to_contain_text("node3")
    stage.keyboard.press("d")
    expect(stage.locator(".labkit-view")).to_contain_text("✔ node3 : worker, drain, ready")
    expect(stage.locator(".labkit-cockpit > .labkit-events")).to_contain_text(
        "node3 passe en drain"
    )
    stage.keyboard.press("t")
    expect(stage.locator(".labkit-cockpit.labkit-light")).to_be_visible()
    time.sleep(2)
    keep(stage, "cockpit-light-drained")
    stage.keyboard.press("a")
    expect(stage.locator(".labkit-view")).to_contain_text("✔ node3 : worker, active, ready")

    stage.keyboard.press("k")
    expect(stage.locator(".labkit-view svg text", has_text="✖ down")).to_be_visible()
    expect(stage.locator(".labkit-cockpit > .labkit-commands")).to_contain_text(
        "labkit node kill node3"
    )
    keep(stage, "cockpit-light-killed")
    stage.keyboard.press("r")
    expect(stage.locator(".labkit-view svg text", has_text="✖ down")).to_have_count(0)

    # new engines only after a second press
    stage.keyboard.press("z")
    expect(status).to_contain_text("Encore la touche z")
    keep(stage, "cockpit-sure")
    cut += stage.evaluate(CUT)
    time.sleep(6)
    assert capture(fleet).has_service("whoami")
    for node in capture(fleet).nodes:
        if node.availability != "active":
            Activate(node.name).apply(fleet)
    stage.close()
    assert cut == [], "\n".join(cut)
