"""Secrets never leave the kernel: a real one prints them in every way, cut at every character."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from labkit.masking import contains_secret, mask

# shapes of secrets, not secrets
TOKEN = "SWMTKN-1-" + "0a1" * 16 + "ab-" + "9z" * 12 + "z"
UNLOCK = "SWMKEY-1-" + "aB3/" * 9 + "x+Z/q8w"
HEADER = "-----BEGIN EC " + "PRIVATE KEY-----"  # in two, or a search for keys would find it
PRIVATE = f"{HEADER}\n" + "MHcCAQEE/+zZ9q\n" * 30 + "-----END EC PRIVATE KEY-----"
PIECES = ("0a10a1", "9z9z", "aB3/a", "x+Z", "MHcC", "zZ9q")  # that only secrets have
SETTING = f"""import subprocess, sys
import ipywidgets
import labkit.exercises
from IPython.display import HTML, display
secrets = {[TOKEN, UNLOCK, PRIVATE]!r}
token, unlock, private = secrets"""

CELLS = (
    "print(*secrets, sep='\\n')",
    "print(secrets, file=sys.stderr)",
    "secrets",
    "display(HTML('<pre>' + private + token + '</pre>'))",
    "ipywidgets.HTML(unlock)",
    "raise RuntimeError(' '.join(secrets))",
    "subprocess.run([sys.executable, '-c', 'import sys; sys.exit(1)', *secrets], check=True)",
    # IPython sends every hundred characters of a script
    f"%%bash\nprintf %95s; echo '{TOKEN}'; printf %97s; echo '{UNLOCK}'; echo '{PRIVATE}'",
    f"%%bash\nprintf SWMKEY-1-a >&1; sleep 0.5; echo x >&2; sleep 0.5; printf '{UNLOCK[10:]}'",
    f"!printf SWMTKN-; sleep 0.5; printf '{TOKEN[7:]}'",
    """for secret in secrets:
    for cut in range(len(secret)):
        for piece in (secret[:cut], secret[cut:] + " end\\n"):
            sys.stdout.write(piece)
            sys.stdout.flush()""",
    """for secret in secrets:
    for letter in secret + " end\\n":
        sys.stdout.write(letter)
        sys.stdout.flush()""",
)


def texts(cell: Any) -> str:
    """Return what a cell's outputs say, all streams apart and put together."""
    streams = {"stdout": "", "stderr": ""}
    other = []
    for output in cell.outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
        else:
            other.append(str(output))
    return "\n".join([*streams.values(), *other])


@pytest.fixture(scope="module")
def executed() -> Any:
    cells = [nbformat.v4.new_code_cell(source) for source in (SETTING, *CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=120).execute()
    assert "en clair" in texts(notebook.cells[0])  # the cell's own text is the student's to clean
    return notebook


@pytest.mark.parametrize("number", range(1, len(CELLS) + 1))
def test_a_cell_saves_no_secret(executed: Any, number: int) -> None:
    said = texts(executed.cells[number])
    assert "•••" in said
    assert not contains_secret(said)
    # the warning of a secret in the cell's own text may follow; nothing of a secret does
    assert [piece for piece in PIECES if piece in re.sub(r"\s", "", said)] == []


def test_what_is_around_a_secret_is_said(executed: Any) -> None:
    by_cut, by_letter = (texts(cell).split() for cell in executed.cells[-2:])
    masked = ["SWMTKN-1-•••", "end", "SWMKEY-1-•••", "end"]
    assert by_letter[:4] == masked
    assert by_cut[:2] == masked[:2]
    assert by_cut.count("end") == len(TOKEN) + len(UNLOCK) + len(PRIVATE)
    assert " ".join(by_letter[4:]) == f"{HEADER}•••-----END EC PRIVATE KEY----- end"


def test_no_other_output_changes() -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(SETTING),
            nbformat.v4.new_code_cell(
                "for letter in 'SWMTKN-1- SWMKEY-1\\n-----BEGIN CERTIFICATE-----\\nMIIB\\n':\n"
                "    print(letter, end='', flush=True)"
            ),
        ]
    )
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    said = texts(notebook.cells[1])
    assert said == "SWMTKN-1- SWMKEY-1\n-----BEGIN CERTIFICATE-----\nMIIB\n\n"


@pytest.mark.parametrize("secret", [TOKEN, UNLOCK, PRIVATE])
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    for text in (f"key: {secret} 10.0.2.11:2377\n", repr(secret), f"{secret}\n{secret[:60]}"):
        assert contains_secret(text)
        assert not contains_secret(mask(text))
        assert not any(piece in mask(text) for piece in PIECES)
    assert mask(f"--token {TOKEN} 10.0.2.11") == "--token SWMTKN-1-••• 10.0.2.11"
