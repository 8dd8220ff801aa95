"""The text is enough: who types exactly what it says, on a new account, passes every check."""

from __future__ import annotations

import re

import nbformat
import pytest
from student import NOTEBOOKS, Reader, as_typed, last_hint, new_account

from labkit.exercises import EXERCISES

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]
NAMES = [p.name for p in sorted(NOTEBOOKS.glob("0[1-9]*.ipynb"))]
CHECKS = re.compile(r"^%%(?:solution|etape) (\S+)", re.MULTILINE)
APART = {e.name for e in EXERCISES.values() if e.apart}
NEED_THE_HUB = {"portainer"}  # skipped, and said, where Docker Hub does not answer


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_enough(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    checks = [c for found in CHECKS.findall(code) if (c := "".join(found)) not in APART]
    checks += APART & set(re.findall(r'^verifier\("([^"]+)"\)', code, re.MULTILINE))
    assert checks
    with new_account() as environment, Reader.of(name, environment) as reader:
        reader.read()
    assert set(reader.skipped) <= NEED_THE_HUB
    assert sorted(reader.passed) == sorted(c for c in checks if c not in reader.skipped)
    asked = re.findall(r"^%%reponse (\S+)", code, re.MULTILINE)
    assert reader.answered == [name for name in asked if name not in EXERCISES]
    solutions = re.findall(r"^%%solution (\S+)", code, re.MULTILINE)
    assert len({cell for cell, _ in reader.typed}) >= len(solutions) / 2
    print(f"\n{name}: {len(reader.passed)} checks passed, {len(reader.typed)} commands typed")
    for cell, command in reader.typed:
        print(f"  {cell}: {command}")


def test_what_is_typed_is_what_the_text_says() -> None:
    hints = "<details><summary>Un indice (1/2)</summary>\n\n`!docker swarm --help`\n\n<details>"
    hints += "<summary>Encore un indice (2/2)</summary>\n\n{}\n\n</details>\n\n</details>"
    for text, commands in {
        "`!docker swarm init`": ["docker swarm init"],
        "`!a b`, puis `!c`, et enfin `!d`.": ["a b", "c", "d"],
        "`!a`, ou `!b`": ["a"],
        "`!a`, puis de même pour `node3`": [],
        "`!a …`": [],
        "`-p 9999:80`": [],
        "`!labkit node kill node1` suffit, si c’est lui.": [],
    }.items():
        assert last_hint(hints.format(text)) == commands
    assert as_typed("docker a\nsed -i 's/$x/y/' f\n") == ["!docker a", "!sed -i 's/$x/y/' f"]
    assert as_typed("x=$(docker a)\ndocker b $x\n") == ["%%bash\nx=$(docker a)\ndocker b $x"]
