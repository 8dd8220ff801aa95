"""The shell that runs in the machine and its images, read by shellcheck."""

import shutil
import subprocess
from pathlib import Path

import pytest

EMBEDDED = Path(__file__).parents[2] / "labkit/engine/embedded"
SCRIPTS = [*EMBEDDED.glob("guest/*"), *EMBEDDED.glob("images/entrypoints/*")]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True)
    assert len(SCRIPTS) > 8 and not done.stdout
