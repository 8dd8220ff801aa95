"""What a committed notebook must be; each rule returns the problems it finds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.masking import contains_secret

IGNORE = "nbval-ignore-output"
TRY, TYPED = "a-vous", "a-taper"
# code cells whose outputs nbval may leave uncompared, a notebook
BUDGET = {
    "00-demarrer.ipynb": 1,  # progression: it depends on what was done before
    "01-introduction-a-swarm.ipynb": 5,
    "02-la-stack-example-voting-app.ipynb": 3,
    "03-debugger-la-stack.ipynb": 0,
    "04-clustering-avec-un-service.ipynb": 9,
    "05-clustering-avec-la-stack.ipynb": 1,
    "05b-clustering-noeuds-et-quorum.ipynb": 1,
    "06-introduction-a-kubernetes.ipynb": 0,
    "07-traefik-avec-swarm.ipynb": 3,
    "08-superviser-le-cluster.ipynb": 4,
    "09-portainer-et-haproxy.ipynb": 4,
}
COMPARED_SHARE = 0.6  # of the cells with outputs, at least

_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|tmp|work|opt|mnt)/\w")
_ADDRESS = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
# the guest's own network, and Swarm's overlays
_ALLOWED = re.compile(
    r"127\.0\.0\.11?$|127\.80\.0\.\d+$|0\.0\.0\.0$|192\.168\.77\.\d+$|10\.0\.\d+\.\d+$"
)
_INFORMAL = re.compile(r"\b(?:tu|toi|ton|tes)\b", re.IGNORECASE)
_WIDGET = "application/vnd.jupyter.widget-view+json"

Notebook = Mapping[str, Any]


def code_cells(notebook: Notebook) -> list[Any]:
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def tags(cell: Mapping[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def problems(name: str, notebook: Notebook) -> list[str]:
    """Return everything that is wrong with a notebook."""
    rules = (
        outputs, ignored, counts, secrets, widgets, verdicts, hidden_solutions, requests, commands,
        language,
    )  # fmt: skip
    return [f"{name}: {said}" for rule in rules for said in rule(name, notebook)]


def outputs(name: str, notebook: Notebook) -> Iterator[str]:
    """Without stored outputs nbval compares nothing and passes."""
    for cell in code_cells(notebook):
        silent = TRY in tags(cell) or cell["source"].startswith(("import ", "from "))
        if not silent and not cell["outputs"]:
            yield f"cell {cell['id']} has no stored output"
        if cell["outputs"] and not any(map(_said, cell["outputs"])):
            yield f"cell {cell['id']} has an output with nothing in it"
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"cell {cell['id']} ended in {output['ename']}"
    said = [c for c in code_cells(notebook) if c["outputs"]]
    compared = [c for c in said if IGNORE not in tags(c)]
    if not said or len(compared) < COMPARED_SHARE * len(said):
        yield f"only {len(compared)} of {len(said)} cells with outputs are compared"


def _said(output: Mapping[str, Any]) -> bool:
    """Tell whether an output says anything."""
    return bool(output.get("text", "").strip() or output.get("data") or output.get("ename"))


def ignored(name: str, notebook: Notebook) -> Iterator[str]:
    markers = re.compile(r"NBVAL_(?:IGNORE|SKIP)|nbval-(?:ignore|skip)")
    left = [c for c in code_cells(notebook) if markers.search(c["source"] + " ".join(tags(c)))]
    budget = BUDGET.get(name, 0)
    if len(left) > budget:
        yield f"{len(left)} cells are not compared, the budget is {budget}"


def counts(name: str, notebook: Notebook) -> Iterator[str]:
    found = [c["execution_count"] for c in code_cells(notebook)]
    if found != list(range(1, len(found) + 1)):
        yield f"not executed once from top to bottom: {found}"


def secrets(name: str, notebook: Notebook) -> Iterator[str]:
    for cell in notebook["cells"]:
        kept = [cell["source"], cell["metadata"]]
        for output in cell.get("outputs", ()):
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            kept += [data, output.get("text", ""), output.get("metadata", {})]
        text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", json.dumps(kept, ensure_ascii=False))
        if contains_secret(text):
            yield f"cell {cell['id']} holds a join token or a key"
        if _PATH.search(text):
            yield f"cell {cell['id']} holds a path of a machine: {_PATH.findall(text)[0]}"
        for address in _ADDRESS.findall(text):
            if not _ALLOWED.match(address):
                yield f"cell {cell['id']} holds the address {address}"


def widgets(name: str, notebook: Notebook) -> Iterator[str]:
    if "widgets" in notebook["metadata"]:
        yield "metadata.widgets is there"
    for cell in code_cells(notebook):
        if any(_WIDGET in output.get("data", {}) for output in cell["outputs"]):
            yield f"cell {cell['id']} refers to a widget that is gone"


def verdicts(name: str, notebook: Notebook) -> Iterator[str]:
    for cell in code_cells(notebook):
        text = json.dumps(cell["outputs"], ensure_ascii=False)
        if "à revoir" in text or "Déjà fait" in text:
            yield f"cell {cell['id']} was not run on a new cluster, or its check failed"
        if "elle se montre une fois" in text:
            yield f"cell {cell['id']} hides its measure: run it with LABKIT_FRESH=1"


def hidden_solutions(name: str, notebook: Notebook) -> Iterator[str]:
    """A solution is folded, and a cell checks what students type in its place."""
    everything = "\n".join(c["source"] for c in code_cells(notebook))
    for cell in code_cells(notebook):
        match = re.match(r"%%(solution|etape)[ \t]+(\S+)", cell["source"])
        if not match:
            continue
        kind, exercise = match.groups()
        if kind == "etape":
            continue
        if not re.search(rf'%%reponse {exercise}\n|verifier\("{exercise}"\)', everything):
            yield f"nothing checks {exercise}"
        folded = cell["metadata"].get("jupyter", {}).get("source_hidden")
        if not (folded and "hide-cell" in tags(cell)):
            yield f"the solution of {exercise} is not folded"


def requests(name: str, notebook: Notebook) -> Iterator[str]:
    """A command that students type is asked for in a comment, which does not give it."""
    for cell in code_cells(notebook):
        if TYPED not in tags(cell):
            continue
        asked = re.findall(r"^# .*$", cell["source"], re.MULTILINE)
        if not asked or not asked[0].startswith("# À vous"):
            yield f"cell {cell['id']} does not say what to type"
        if re.search(r"\b[a-z]\w* = ", cell["source"]):
            yield f"cell {cell['id']} sets a name, and students are to type it"


def commands(name: str, notebook: Notebook) -> Iterator[str]:
    """Nothing waits without an end, hides what docker says, or goes on after a failure."""
    for cell in code_cells(notebook):
        source = cell["source"]
        if re.search(r"^\s*(?:until|while)\b", source, re.MULTILINE):
            yield f"cell {cell['id']} has a loop without an end; « labkit wait » has one"
        if re.search(r"2> ?(?:/dev/null|&1)|&>", source):
            yield f"cell {cell['id']} hides errors"
        lines = [line for line in source.splitlines()[1:] if "docker" in line]
        if source.startswith("%%bash") and len(lines) > 1 and "\nset -e" not in source:
            yield f"cell {cell['id']} goes on after a command that fails: set -e"
        if re.search(r"\.leader\.\w", source):
            yield f"cell {cell['id']} takes a leader for granted; attendre_leader() waits for one"


def language(name: str, notebook: Notebook) -> Iterator[str]:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            prose = re.sub(r"```.*?```|`[^`]*`", "", cell["source"], flags=re.DOTALL)
            if found := _INFORMAL.findall(prose):
                yield f"cell {cell['id']} is on familiar terms with students: {found}"
            if "'" in re.sub(r"<[^>]*>", "", prose):
                yield f"cell {cell['id']} has a straight apostrophe"
