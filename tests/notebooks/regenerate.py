"""Run the notebooks on a new cluster and store their outputs.

    python tests/notebooks/regenerate.py [--all] [notebook …]

A cell whose outputs differ only in what nbval leaves out (see sanitize.cfg) keeps those it had,
so that running this changes nothing when nothing changed; ``--all`` stores every output anew. One
that nbval does not compare keeps them as long as only figures differ, and never an address of
another node's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

sys.path.insert(0, str(Path(__file__).parent))
from guard import IGNORE, problems, tags

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent.parent / "notebooks"
CELL_TIMEOUT = 300  # seconds, as nbval has it
_WIDGET = "application/vnd.jupyter.widget-view+json"
# a node's on this machine: 127.A.B.N, where A and B are the account's and the cluster's
_LOOPBACK = re.compile(r"\b127\.(?!0\.0\.)\d{1,3}\.\d{1,3}\.(\d{1,3})\b")
_REGISTRY = re.compile(r"\bdocker\.io/(?:library/)?")  # docker build names images in full


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of them if none is named")
    parser.add_argument("--all", action="store_true", help="store every output anew")
    options = parser.parse_args()
    os.environ["LABKIT_FRESH"] = "1"
    wrong = []
    for path in options.notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        regenerate(path, anew=options.all)
        wrong += problems(path.name, nbformat.read(path, as_version=4))
        print(f"{path.name} : fait")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return bool(wrong)


def regenerate(path: Path, *, anew: bool) -> None:
    """Execute one notebook and write it back."""
    before = nbformat.read(path, as_version=4)
    notebook = nbformat.from_dict(json.loads(json.dumps(before)))
    with TemporaryDirectory() as folder:
        os.environ["LABKIT_PROGRESS"] = f"{folder}/progression.jsonl"  # a student's, who begins
        NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    old = {cell["id"]: cell for cell in before.cells}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        cell.outputs = [clean(output) for output in merged(cell.outputs)]
        was = old[cell["id"]]
        if not anew and was.outputs and same(was, cell):
            cell.outputs = was.outputs
    write(notebook, path)


def write(notebook: Any, path: Path) -> None:
    """Write a notebook as the others are: keys in order, nothing that one run alone knows."""
    nbformat.validate(notebook)
    text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    nbformat.write(nbformat.from_dict(json.loads(text)), path)


def merged(outputs: list[Any]) -> list[Any]:
    """Join the pieces in which a stream happened to arrive."""
    kept: list[Any] = []
    for output in outputs:
        if (
            kept
            and output.output_type == "stream"
            and kept[-1].output_type == "stream"
            and kept[-1].name == output.name
        ):
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def clean(output: Any) -> Any:
    """Leave out what belongs to one run of one machine; widgets keep their static fallback."""
    data = output.get("data", {})
    data.pop(_WIDGET, None)
    for kind, value in data.items():
        if isinstance(value, str) and not kind.startswith("image/"):
            data[kind] = _general(value)
    if output.output_type == "stream":
        output.text = _general(output.text)
    return output


def _general(text: str) -> str:
    return _REGISTRY.sub("", _LOOPBACK.sub(r"127.80.0.\1", text))


def same(old: Any, new: Any) -> bool:
    """Whether a cell says what it said, as nbval compares it."""
    if old.source != new.source:
        return False
    was, now = comparable(old.outputs), comparable(new.outputs)
    if IGNORE in tags(new):
        was, now = ([re.sub(r"[\d\s]+", " ", str(output)) for output in one] for one in (was, now))
    return was == now and _addresses(old) == _addresses(new)


def _addresses(cell: Any) -> list[str]:
    return re.findall(r"\b127(?:\.\d+){3}", json.dumps(cell.outputs))


def comparable(outputs: list[Any]) -> list[Any]:
    found = []
    for output in outputs:
        texts = {"text": output.get("text", ""), **output.get("data", {})}
        found.append(
            {
                kind: sanitize(text) if isinstance(text, str) else text
                for kind, text in texts.items()
                if not kind.startswith("image/") and kind != _WIDGET
            }
        )
    return found


def sanitize(text: str) -> str:
    for regex, replacement in patterns():
        text = re.sub(regex, replacement, text)
    return text


def patterns() -> list[tuple[str, str]]:
    """Return the rules of sanitize.cfg, read as nbval reads them."""
    rules = (HERE / "sanitize.cfg").read_text(encoding="utf-8")
    return re.findall(r"^regex: (.*)$\n^replace: (.*)$", rules, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
