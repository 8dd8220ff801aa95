"""Ask the docker command that labkit provides about every option, and keep its answers.

Run ``python tests/compose/record.py`` after the command has changed; what differs is then seen in
``answers.tsv``, and ``tests/unit/test_compose_docker.py`` says where labkit is of another mind.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oracle import Oracle, docker, manager
from probes import ANSWERS, VALUES, asked, file_with, options


def answers(oracle: Oracle, asked_options: Iterable[str]) -> dict[str, str]:
    """Return what docker says of options, as they are recorded."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {
            option: [pool.submit(oracle.text_refusal, file_with(option, VALUES[name]))
                     for name in asked(option)]
            for option in asked_options
        }  # fmt: skip
        return {
            option: "".join("-" if future.result() else "+" for future in row)
            for option, row in futures.items()
        }


def main() -> None:
    """Write the record."""
    command = docker()
    if command is None:
        sys.exit("The machine has not been built: labkit build.")
    with manager() as address, tempfile.TemporaryDirectory() as home:
        found = answers(Oracle(command, address, Path(home)), options())
    head = "# " + " ".join(VALUES)
    lines = [head, *(f"{option}\t{row}" for option, row in found.items())]
    ANSWERS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
