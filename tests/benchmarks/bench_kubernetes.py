"""How long 3,000 Kubernetes objects take: read, checked, translated, drawn. ::

    python tests/benchmarks/bench_kubernetes.py [--objects 3000]

The voting app's manifest, repeated with other names. Processor time, so that a busy machine says
the same as a quiet one; and the ratio to a tenth of the objects, which is 10 where the time is
linear. Prints a table in Markdown, of one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit import kubernetes

TEXT = (
    Path(__file__).parents[2] / "notebooks" / "example-voting-app" / "kube-deployment.yml"
).read_text(encoding="utf-8")


def manifest(objects: int) -> str:
    apps = "redis", "db", "vote", "result", "worker"
    parts = []
    for i in range(objects // TEXT.count("apiVersion:")):
        text = TEXT
        for app in apps:
            text = text.replace(f"name: {app}", f"name: {app}{i}")
            text = text.replace(f"app: {app}", f"app: {app}{i}")
        parts.append(text)
    return "\n---\n".join(parts)


def clock(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    done = work()
    return time.process_time() - start, done


def steps(objects: int) -> dict[str, float]:
    text = manifest(objects)
    taken: dict[str, float] = {}
    taken["read"], read = clock(lambda: kubernetes.parse(text))
    taken["checked"], checked = clock(lambda: kubernetes.validate(read))
    assert checked.ok
    taken["translated"], _ = clock(lambda: kubernetes.as_compose(read))
    taken["drawn, as SVG"], _ = clock(lambda: kubernetes.draw(read).svg())
    return taken | {"all": sum(taken.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=3000)
    objects = parser.parse_args().objects
    loaded, _ = clock(lambda: steps(120))  # the schema is loaded once
    few, many = steps(objects // 10), steps(objects)
    print(f"The schema loaded, and 120 objects: {loaded:.1f} s.\n")
    print(f"| {objects} objects | s | to a tenth of them |\n|---|---|---|")
    for step, taken in many.items():
        print(f"| {step} | {taken:.2f} | {taken / max(few[step], 0.001):.1f} |")


if __name__ == "__main__":
    main()
