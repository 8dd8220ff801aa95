"""``labkit demo`` on a real cluster: a section is played, and the cluster has what it did."""

from __future__ import annotations

import re
import sys

import pexpect
import pytest

import labkit.engine
from labkit.state import capture

pytestmark = pytest.mark.engine


def test_a_section_is_played_on_the_cluster_that_runs() -> None:
    fleet = labkit.engine.reset(quiet=True)
    labkit.engine.up(quiet=True)
    demo = pexpect.spawn(
        sys.executable, ["-m", "labkit", "demo", "01", "Initialiser"],
        encoding="utf-8", timeout=240, dimensions=(50, 120),
    )  # fmt: skip
    said = ""
    try:
        while demo.expect(["q : arrêter", "Le cluster tourne toujours"]) == 0:
            said += demo.before
            demo.send(" ")
        said += demo.before
        demo.expect(pexpect.EOF)
    finally:
        demo.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert demo.exitstatus == 0
    assert "docker swarm init" in text and "SWMTKN-1-•••" in text  # the token stays masked
    assert "Fin." in text
    assert capture(fleet).active
