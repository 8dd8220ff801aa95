"""The committed notebooks are executed, compared, and clean; and the guard that says so works."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.exercises.catalogue import EXERCISES, MEASURES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "notebooks"))

import guard  # noqa: E402
import regenerate  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted((ROOT / "notebooks").glob("*.md"))
INTRO = ROOT / "notebooks" / "01-introduction-a-swarm.ipynb"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def cell(notebook: Any, name: str) -> Any:
    return next(c for c in notebook.cells if c["id"] == name)


def test_there_are_notebooks() -> None:
    assert {p.name for p in NOTEBOOKS} == set(guard.BUDGET)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_is_fit_to_be_committed(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert guard.problems(path.name, notebook) == []


def _anchors(path: Path) -> set[str]:
    """Return what a link may name inside a page: as JupyterLab does, by headings or cells."""
    if path.suffix == ".ipynb":
        return {f"cell-id={c['id']}" for c in read(path).cells}
    if path.suffix != ".md":
        return set()
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {h.replace("`", "").replace(" ", "-") for h in headings}


def _broken(path: Path, prose: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    broken = []
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose):
        name, _, anchor = target.partition("#")
        page = path.parent / name if name else path
        if not page.exists() or (anchor and anchor not in _anchors(page)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    prose = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        prose = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    assert _broken(path, prose) == []


@pytest.mark.parametrize(
    "target",
    ["nowhere.md", "glossaire.md#ipvs", "glossaire.md#nulle-part", "#nulle-part",
     "01-introduction-a-swarm.ipynb#cell-id=nowhere"],
)  # fmt: skip
def test_a_broken_link_is_seen(target: str) -> None:
    assert _broken(INTRO, f"[a](glossaire.md#IPVS), [b]({target})") == [target]


def test_every_exercise_stands_in_a_notebook() -> None:
    sources = "\n".join(c.source for p in NOTEBOOKS for c in read(p).cells)
    for name in EXERCISES:
        assert re.search(rf"%%(?:solution|etape) {name}\n", sources)


def test_every_prediction_is_confronted_later() -> None:
    for path in NOTEBOOKS:
        asked: list[str] = []
        for cell in (c for c in read(path).cells if c.cell_type == "code"):
            asked += re.findall(r'predire\(\s*"([^"]+)"', cell.source)
            for name in _confronted(cell.source):
                if name in asked:  # an exercise of several notebooks may have been predicted in one
                    asked.remove(name)
        assert asked == []


def _confronted(source: str) -> list[str]:
    """Return the predictions that a cell may set against a measure."""
    found = re.findall(r'confronter\(\s*"([^"]+)"', source)
    checks = re.findall(r'%%(?:solution|etape|reponse) (\S+)\n|verifier\("(\S+)"\)', source)
    for name in ("".join(pair) for pair in checks):
        measures = EXERCISES[name].measures if name in EXERCISES else ()
        measures = (MEASURES[name],) if name in MEASURES else measures
        if not source.startswith("%%solution") or not EXERCISES[name].apart:
            found += [m.prediction for m in measures]
    return found


# -- the guard can fail ---------------------------------------------------------------------


def _no_outputs(notebook: Any) -> None:
    for c in guard.code_cells(notebook):
        c["outputs"] = []


def _one_without_output(notebook: Any) -> None:
    cell(notebook, "joindre-ls")["outputs"] = []


def _all_ignored(notebook: Any) -> None:
    for c in guard.code_cells(notebook):
        c["metadata"]["tags"] = [*guard.tags(c), guard.IGNORE]


def _a_loop_without_an_end(notebook: Any) -> None:
    cell(notebook, "init-solution")["source"] += "\nuntil docker node ls; do sleep 1; done"


def _an_error_hidden(notebook: Any) -> None:
    cell(notebook, "init-solution")["source"] += "\ndocker node ls > /dev/null 2>&1"


def _commands_that_go_on(notebook: Any) -> None:
    cell(notebook, "joindre-ls")["source"] = "%%bash\ndocker service rm a\ndocker ps"


def _a_leader_taken_for_granted(notebook: Any) -> None:
    cell(notebook, "joindre-ls")["source"] = "capture().leader.name"


def _one_more_ignored(notebook: Any) -> None:
    cell(notebook, "joindre-ls")["source"] += "  # NBVAL_IGNORE_OUTPUT"


def _not_executed(notebook: Any) -> None:
    cell(notebook, "joindre-ls")["execution_count"] = None


def _error(notebook: Any) -> None:
    output = nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])
    cell(notebook, "joindre-ls")["outputs"] = [output]


def _an_empty_output(notebook: Any) -> None:
    output = nbformat.v4.new_output("stream", name="stdout", text="\n")
    cell(notebook, "creer-ls")["outputs"] = [output]


def _stream(text: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
        cell(notebook, "creer-ls")["outputs"].append(output)

    change.__name__ = text.split(maxsplit=1)[0]
    return change


def _token_in_source(notebook: Any) -> None:
    cell(notebook, "init-essai")["source"] = "!docker swarm join --token SWMTKN-1-0a1b2c"


def _widget_state(notebook: Any) -> None:
    notebook["metadata"]["widgets"] = {}


def _widget_view(notebook: Any) -> None:
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": "x"}
    output = nbformat.v4.new_output("display_data", data)
    cell(notebook, "scaler")["outputs"].append(output)


def _unfolded(notebook: Any) -> None:
    cell(notebook, "init-solution")["metadata"] = {}


def _unchecked(notebook: Any) -> None:
    cell(notebook, "creer-essai")["source"] = "1"


def _familiar(notebook: Any) -> None:
    cell(notebook, "titre")["source"] += "\nAs-tu compris ?"


def _straight(notebook: Any) -> None:
    cell(notebook, "titre")["source"] += "\nL'apostrophe"


@pytest.mark.parametrize(
    "spoil",
    [
        _no_outputs,
        _one_without_output,
        _all_ignored,
        _one_more_ignored,
        _not_executed,
        _error,
        _an_empty_output,
        _stream("SWMTKN-1-0a1b2c"),
        _stream("SWMKEY-1-0a/B+c"),
        _stream(f"-----BEGIN{' '}PRIVATE KEY-----\nMIGH"),
        _stream("/home/someone/course"),
        _stream("192.168.1.7 is an address"),
        _stream("Mesure : elle se montre une fois votre prédiction faite"),
        _stream("✘ Créer le service : 1 point à revoir"),
        _token_in_source,
        _widget_state,
        _widget_view,
        _unfolded,
        _unchecked,
        _a_loop_without_an_end,
        _an_error_hidden,
        _commands_that_go_on,
        _a_leader_taken_for_granted,
        _familiar,
        _straight,
    ],
    ids=lambda f: f.__name__,
)
def test_the_guard_refuses(spoil: Callable[[Any], None]) -> None:
    notebook = copy.deepcopy(read(INTRO))
    assert guard.problems(INTRO.name, notebook) == []
    spoil(notebook)
    assert guard.problems(INTRO.name, notebook) != []


def test_outputs_that_are_not_compared_do_not_grow_old() -> None:
    """Figures may be those of another run; words, and the nodes' addresses, are today's."""

    def cell(text: str, *tags: str) -> nbformat.NotebookNode:
        output = nbformat.v4.new_output("stream", text=text)
        return nbformat.v4.new_code_cell("x", metadata={"tags": tags}, outputs=[output])

    free = "nbval-ignore-output"
    assert regenerate.same(cell("5.0  45 échecs", free), cell("5.0  9 échecs", free))
    assert not regenerate.same(cell("<Sample : 45 échecs>", free), cell("45 échecs", free))
    assert not regenerate.same(cell("http://127.0.0.1:80/"), cell("http://127.80.0.2:80/"))
    seen = regenerate.clean(nbformat.v4.new_output("stream", text="127.96.246.3 127.0.0.11:53"))
    assert seen.text == "127.80.0.3 127.0.0.11:53"


# -- sanitising -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "overall progress: 0 out of 5 tasks\noverall progress: 5 out of 5 tasks\nverify",
            "overall progress: 3 out of 5 tasks\nverify",
        ),
        ("node (xt53ku5y5xvsuav7rw9gc2hro) is", "node (pkms6tpwwe2k3okppg3z4ima3) is"),
        (
            "o9vs95dlzczs   whoami.1   traefik/whoami:latest   node3     Running",
            "ymnoah9csysa   whoami.1   traefik/whoami:latest   node1     Running",
        ),
        ("Running 25 seconds ago   ", "Running about a minute ago".replace("about", "About")),
        (
            "$ x\nimage a/b:latest could not be accessed on a registry to record\nits digest. "
            "Each\nversions of the image.\n\nid\n",
            "$ x\nid\n",
        ),
        ("Docker Engine 28.5.2+dfsg4, ready", "Docker Engine 26.1.5, ready"),
        ("and follow the instructions.\n", "and follow the instructions.\n\n"),
        ("http://127.0.0.1:9999/", "http://127.7.4.1:20080/"),
        ("http://127.0.0.1:80/", "http://127.7.4.1:8080/"),  # root may bind 80
        ("http://essai.localhost:8000/", "http://essai.localhost:18000/"),
        ("href='/cluster/node1/80/'", "href='/user/ada/cluster/node1/80/'"),
        ("href='/domaines/80/a.localhost/'", "href='/user/ada/domaines/80/a.localhost/'"),
        ("Leader : node1, au bout de 0 s.", "Leader : node3, au bout de 41 s."),
        ("Votes refusés avant celui-ci : 0\n", "Votes refusés avant celui-ci : 11\n"),
        ("     20 200\n", "      2 000\n     18 200\n"),
        (
            "o9vs95dlzczsuav7rw9gc2hro *   node1   Ready   Active   Leader   26.1.5",
            "xt53ku5y5xvsuav7rw9gc2hro *   node1   Ready   Active   Reachable   26.1.5",
        ),
        (
            "whoami scaled to 5\n",
            "Error: The swarm does not have a leader. More\n… on attend un leader\n"
            "whoami scaled to 5\n",
        ),
        (
            "$ docker x\nx\n",
            "$ docker x\nError: The swarm does not have a leader. More\n… on attend un leader\n"
            "$ docker x\nx\n",
        ),
        (
            "This node joined a swarm as a worker.\n",
            "Error response from daemon: Timeout was reached before node joined. The attempt …\n",
        ),
        (
            "Node left the swarm.\n$ docker x",
            "Error response from daemon: context deadline exceeded\nNode left the swarm.\n"
            "$ docker x",
        ),
        ("$ labkit wait\n$ docker", "$ labkit wait\n… on attend que node3 sache\n$ docker"),
        (
            "$ docker service rollback x\noverall progress: rolling back update: 1 out of 4 tasks\n"
            "overall progress: rolling back update: 4 out of 4 tasks\nverify",
            "$ docker service rollback x\noverall progress: rolling back update: 4 out of 4 tasks\n"
            "verify",
        ),
        (
            "$ docker stack deploy x\nUpdating service vote_db (id: xt53ku5y5xvsuav7rw9gc2hro)\n"
            "Creating service vote_whoami\nUpdating service vote_vote (id: "
            "pkms6tpwwe2k3okppg3z4ima3)\n",
            "$ docker stack deploy x\nCreating service vote_whoami\n",
        ),
        (
            "ma-stack.yml est écrit.",
            "ma-stack.yml est écrit. L’ancien fichier s’appelle maintenant autre.yml.",
        ),
        (
            "stack-a-debugger.yml est écrit.",
            "stack-a-debugger.yml est écrit. L’ancien fichier s’appelle maintenant autre.yml.",
        ),
        (
            "$ docker stack deploy x\nSince --detach=false was not specified, tasks will be "
            "created in the background.\nIn a future release, --detach=false will become the "
            "default.\n"
            "Creating network vote_backend\nCreating service vote_db\n"
            "Creating service vote_vote\n",
            "$ docker stack deploy x\n"
            "Creating network vote_frontend\nCreating service vote_vote\n"
            "Creating service vote_db\n",
        ),
        (
            "Vérification, 150 s au plus…\n… tasks : 0 en marche, 7 en route\n",
            "Vérification, 150 s au plus…\n",
        ),
        (
            "Vérification, 60 s au plus…\n",
            "Vérification, 60 s au plus…\n… on attend un leader\n… tasks : 0 en marche\n",
        ),
        (
            "vote_vote.1   examplevotingapp_vote:1   node2   Running 3 seconds ago",
            "vote_vote.1   examplevotingapp_vote:1   node3   Running 9 seconds ago",
        ),
        (
            "debug_result.1.xt53ku5y5xvs@node2    | Waiting for db",
            "debug_result.1.o9vs95dlzczs@node1    | Waiting for db",
        ),
        (
            "| 2026-11-24 09:12:01.123 UTC [1] LOG:  ready",
            "| 2026-12-01 10:00:59.001 UTC [27] LOG:  ready",
        ),
        (
            "o9vs95dlzczs   whoami.1   a   node3   Running\n"
            "ymnoah9csysa    \\_ whoami.1   a   node1   Shutdown   Failed 2 minutes ago\n",
            "o9vs95dlzczs   whoami.1   a   node2   Running\n",
        ),
        (
            'node2 {"Leader":true,"Reachability":"reachable"}\nnode3 {"Reachability":"reachable"}',
            'node2 {"Reachability":"reachable"}\nnode3 {"Leader":true,"Reachability":"reachable"}',
        ),
        (
            "13:55:44 info    raft: raft.node: 1b23106e (node3) elected leader 5329797a (node1) "
            "at term 8",
            "09:01:02 info    raft: raft.node: 42ab (node3) changed leader from 5a (node1) to 6b "
            "(node2) at term 12",
        ),
        ("Heure de l’élection : 13:55:44", "Heure de l’élection : 09:01:02"),
    ],
)
def test_what_may_differ_is_sanitised(one: str, other: str) -> None:
    assert regenerate.sanitize(one) == regenerate.sanitize(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("whoami   replicated   5/5", "whoami   replicated   4/5"),
        (
            "o9vs95dlzczs   whoami.1   a   node3   Running",
            "o9vs95dlzczs   whoami.1   a   node3   Failed",
        ),
        ("Replicas demandés : 5", "Replicas demandés : 8"),
        ("*:9999->80/tcp", "*:9998->80/tcp"),
        ("✔ node1:9999 répond", "✘ node1:9999 connexion refusée"),
        ("node2     Ready     Active", "node2     Down     Active"),
        ("Leader : aucun", "Leader : node1"),
        ("whoami scaled to 5\n", "Error: The swarm does not have a leader. More\n"),
        (
            "o9vs95dlzczsuav7rw9gc2hro   node1   Ready   Active   Leader   26.1.5",
            "o9vs95dlzczsuav7rw9gc2hro   node1   Ready   Active   Unreachable   26.1.5",
        ),
        ("vote_db.1   postgres:17   node1   Running", "vote_db.1   postgres:17   node2   Running"),
        ("Creating service vote_db\n", "Creating network vote_db\n"),
        ("debug_db.1.o9vs95dlzczs@node1    | x", "debug_db.1.o9vs95dlzczs@node2    | x"),
        ("Waiting for db: no password", "Waiting for db: no such table"),
        ("vote_vote   replicated   2/2", "vote_vote   replicated   1/2"),
        (
            'node2 {"Leader":true,"Reachability":"reachable"}',
            'node2 {"Leader":true,"Reachability":"unreachable"}',
        ),
        ("$ x\nUpdating service vote_db (id: y)\n", "$ x\nfailed to update service vote_db\n"),
    ],
)
def test_what_must_not_differ_is_kept(one: str, other: str) -> None:
    assert regenerate.sanitize(one) != regenerate.sanitize(other)
