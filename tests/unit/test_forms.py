"""The forms on compose files: ticked, corrected, drawn; by clicks and in plain Python."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labkit import compose, course
from labkit.errors import SettingError
from labkit.exercises import (
    Form,
    cocher_options,
    cocher_reseaux,
    copies,
    corriger,
    dessiner,
    forms,
    preparer_panne,
    preparer_stack,
    repondre,
    souffler,
)
from labkit.exercises.copies import write_copy
from labkit.exercises.course import nb03_breakdown as breakdown
from labkit.exercises.course.nb03_breakdown import stale
from labkit.exercises.forms import as_answered, network_form, option_form
from labkit.state import ClusterState

APP = Path(__file__).parents[2] / "notebooks" / "example-voting-app"
FILES = [
    compose.read(APP / f"{name}.yml")
    for name in ("docker-compose-simple", "docker-compose", "docker-stack-simple", "docker-stack")
]
STACK = FILES[-1]
NETWORKS = ["frontend", "backend", "default"]
NO_SWARM = ClusterState(datetime(2026, 11, 24, tzinfo=UTC), "inactive", None)


@pytest.fixture(autouse=True)
def no_forms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(forms, "_forms", {})
    yield


def own(form: Form) -> set[str]:
    return {row for row, ticked in form.truth.items() if ticked}


def test_the_options_that_the_tp_wants_to_be_found() -> None:
    form = option_form(FILES)
    assert own(form) == {
        f"deploy.{key}"
        for key in ("mode", "replicas", "labels", "update_config", "restart_policy", "placement")
    }
    traps = {"stop_grace_period", "healthcheck", "depends_on", "build", "deploy.resources"}
    assert traps <= set(form.rows)
    assert all(form.hints[row] for row in form.rows)
    assert own(option_form(FILES[:2])) == set()


def test_the_networks_of_each_service() -> None:
    form = network_form(STACK, NETWORKS)
    assert form.truth["worker"] == {"frontend", "backend"}
    assert form.truth["visualizer"] == {"default"}
    simple = network_form(FILES[0], NETWORKS)
    assert set(simple.truth.values()) == {frozenset({"default"})}


def test_a_correction_points_at_what_is_wrong() -> None:
    form = network_form(STACK, NETWORKS)
    assert not form.correction().ok
    form.tick({**form.truth, "vote": ["frontend", "backend"]})
    verdict = form.correction()
    (wrong,) = (row for row in verdict.rows if not row.ok)
    assert (wrong.what, wrong.expected, wrong.found) == ("vote", "frontend", "frontend et backend")
    assert "docker-stack.yml" in wrong.hint
    form.tick(form.truth)
    assert form.correction().ok


def test_a_click_answers() -> None:
    form = cocher_reseaux("r", STACK, NETWORKS)
    form._boxes["redis", "frontend"].value = True
    assert form.answer["redis"] == {"frontend"}
    assert next(row for row in corriger("r").rows if row.what == "redis").ok


def test_the_same_in_plain_python() -> None:
    form = cocher_options("o", *FILES)
    assert repondre("o", form.truth) is form
    assert corriger("o").ok
    with pytest.raises(SettingError, match=r"deploy\.replica"):
        repondre("o", {"deploy.replica": ["propre à Swarm"]})
    with pytest.raises(SettingError, match="Kubernetes"):
        repondre("o", {"ports": ["propre à Kubernetes"]})
    for call in (corriger, souffler, dessiner):
        with pytest.raises(SettingError, match="absent"):
            call("absent")


def test_an_answer_survives_its_cell_and_the_solution(capsys: pytest.CaptureFixture[str]) -> None:
    cocher_reseaux("r", STACK, NETWORKS)
    repondre("r", {"vote": ["backend"]})
    again = cocher_reseaux("r", STACK, NETWORKS)
    assert again.answer["vote"] == {"backend"}
    souffler("r")
    assert again.answer["vote"] == {"backend"}
    assert not corriger("r").ok
    said = capsys.readouterr().out
    repondre("r", {})
    souffler("r")
    assert corriger("r").ok
    assert capsys.readouterr().out == said
    scope = {"repondre": repondre}
    exec(said, scope)  # what is printed can be run
    assert corriger("r").ok


def test_a_form_is_a_widget_with_a_static_fallback() -> None:
    form = network_form(STACK, NETWORKS)
    data, _ = form._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<table>" in data["text/html"] and "visualizer" in data["text/html"]
    form.tick(form.truth)
    assert form._repr_mimebundle_()[0]["text/html"] == data["text/html"]  # the same in each run


def test_the_answer_is_drawn_as_it_is() -> None:
    cocher_reseaux("r", STACK, NETWORKS)
    repondre("r", {"vote": ["default"], "redis": ["frontend", "backend"]})
    drawn = as_answered(STACK, forms._form("r").answer)
    assert drawn.service("vote").networks == ("default",)  # type: ignore[union-attr]
    assert {n.name for n in drawn.networks} == set(NETWORKS)
    assert "Votre dessin" in dessiner("r").svg()
    right = as_answered(STACK, network_form(STACK, NETWORKS).truth)
    networks = [d for d in compose.compare(right, STACK).differences if d.option == "networks"]
    assert networks == []
    # networks that the file does not know are drawn too
    cocher_reseaux("s", FILES[0], NETWORKS)
    repondre("s", {"vote": ["frontend"]})
    assert "frontend" in dessiner("s").svg()
    cocher_options("o", *FILES)
    with pytest.raises(SettingError, match="réseaux"):
        dessiner("o")


def test_the_stack_to_debug_differs_by_two_images() -> None:
    text = (APP / "docker-stack.yml").read_text(encoding="utf-8")
    broken = compose.parse(stale(text), "docker-stack.yml")
    found = [(d.option, d.left, d.right) for d in compose.compare(STACK, broken).differences]
    assert sorted(found) == [
        ("image", f"examplevotingapp_{name}:1", f"examplevotingapp_{name}:before")
        for name in ("result", "worker")
    ]


def test_a_working_copy_keeps_what_students_wrote(tmp_path: Path) -> None:
    copy = tmp_path / "stack.yml"
    assert write_copy(copy, "new", deployed=False) == "stack.yml est écrit."
    copy.write_text("mine")
    assert "conservé" in write_copy(copy, "new", deployed=True)
    assert copy.read_text() == "mine"
    said = write_copy(copy, "new", deployed=False)
    assert (
        said == "stack.yml est écrit. L’ancien fichier s’appelle maintenant stack.precedente.yml."
    )
    assert copy.read_text() == "new"
    assert write_copy(copy, "new", deployed=False) == "stack.yml est écrit."


def test_no_earlier_copy_is_written_over(tmp_path: Path) -> None:
    copy = tmp_path / "stack.yml"
    for text in ("mine", "solution", "solution", "mine"):
        copy.write_text(text)
        write_copy(copy, "new", deployed=False)
    kept = {p.name: p.read_text() for p in tmp_path.glob("*precedente*")}
    assert kept == {"stack.precedente.yml": "mine", "stack.precedente-2.yml": "solution"}


def test_both_copies_start_from_the_app_and_leave_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "example-voting-app"
    app.mkdir()
    text = (APP / "docker-stack.yml").read_text("utf-8")
    (app / "docker-stack.yml").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    state = NO_SWARM
    for module in (breakdown, copies):
        monkeypatch.setattr(module, "capture", lambda: state)
    assert preparer_panne() == f"{breakdown.COPY} est écrit."
    assert preparer_stack() == f"{copies.COPY} est écrit."
    assert Path(breakdown.COPY).read_text("utf-8").count(":before") == 2
    assert Path(copies.COPY).read_text("utf-8") == text
    Path(copies.COPY).write_text("mine")
    state = replace(state, swarm="no-quorum")  # the stack may well be there
    assert "conservé" in preparer_stack()
    assert Path(copies.COPY).read_text() == "mine"
    assert (app / "docker-stack.yml").read_text("utf-8") == text


def test_the_nodes_start_from_the_file_that_the_solutions_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(copies, "capture", lambda: NO_SWARM)
    Path(copies.COPY).write_text((APP / "docker-stack.yml").read_text("utf-8"), "utf-8")
    for cell in course.corrected("05-clustering-avec-la-stack.ipynb").cells:
        if cell.source.startswith("%%solution"):
            edits = [text for text in cell.source.splitlines() if text.startswith(("sed", "grep"))]
            subprocess.run("\n".join(edits), shell=True, check=True)
    made = Path(copies.COPY).read_text("utf-8")
    Path(copies.COPY).unlink()
    preparer_stack("solution-ma-stack.yml")
    assert Path(copies.COPY).read_text("utf-8") == made
