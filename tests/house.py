"""Print the sizes that say how easy labkit is to read: ``python tests/house.py``.

Each line is a number and the goal it is held to; imports are timed in seconds of processor.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMED = "import time; start = time.process_time()\n{}\nprint(time.process_time() - start)"
IMPORTS = {"import labkit": 0.15, "from labkit.exercises import verifier": 0.8}


def main() -> None:
    """Measure this checkout."""
    files = {p: p.read_text("utf-8") for p in sorted((ROOT / "labkit").rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in files.items()}
    lines = {str(p.relative_to(ROOT)): text.count("\n") for p, text in files.items()}
    long = sorted((name for name, n in lines.items() if n > 450), key=lines.__getitem__)
    called = [name for tree in trees.values() for name in calls(tree)]
    whoami = (ROOT / "labkit/engine/embedded/images/whoami.c").read_text("utf-8")
    back = sorted(arrows_back({room(p): set() for p in files}, trees))
    say("lines of Python in labkit/", sum(lines.values()), 21_000)
    say("lines of whoami.c", whoami.count("\n"), 850)
    say("files over 450 lines", len(long), 3, *(f"{lines[n]} {n}" for n in long))
    say("lines of the largest file", max(lines.values()), 600)
    say("arrows back up", len(back), 0, *back)
    say("hand-built Row(...)", called.count("Row"), 39)
    say("time.sleep in labkit/", called.count("time.sleep"), 7)
    for line, goal in IMPORTS.items():
        command = [sys.executable, "-c", TIMED.format(line)]
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        best = min(float(subprocess.check_output(command, cwd=ROOT, env=kept)) for _ in range(3))
        say(f"s of processor, {line}", round(best, 2), goal)


def say(what: str, found: float, goal: float, *details: str) -> None:
    print(f"{found:>8,}  {what} (goal: at most {goal:,})")
    for detail in details:
        print(f"{'':12}{detail}")


def calls(tree: ast.AST) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def room(path: Path) -> str:
    """The room of a file: a module of the top level, or a folder of it."""
    return path.relative_to(ROOT / "labkit").with_suffix("").parts[0]


def arrows_back(rooms: dict[str, set[str]], trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Each two rooms that import each other, directly or through others."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and path.stem != "__init__":
                inside, _, rest = node.module.partition(".")
                names = [rest] if rest else [alias.name for alias in node.names]
                if inside == "labkit":
                    rooms[room(path)] |= {name.partition(".")[0] for name in names}
    for name, below in rooms.items():
        for other in below & rooms.keys() - {name}:
            if name < other and name in reached(other, rooms):
                yield f"{name} and {other}"


def reached(start: str, rooms: dict[str, set[str]]) -> set[str]:
    """Return every room that this one imports, itself or through others."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in rooms.get(todo.pop(), set()) - seen:
            seen.add(name)
            todo.append(name)
    return seen


if __name__ == "__main__":
    main()
