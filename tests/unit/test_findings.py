"""The table of findings in tests/security names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS / "security" / "README.md"


def test_every_finding_has_a_test_that_exists() -> None:
    rows = [line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line[:2] == "| "]
    findings = [(what, where) for what, where in rows if where.strip() != "Tests"]
    assert {n for what, _ in findings for n in re.findall(r"^ (\d+)\.", what)} == set(
        map(str, range(1, 24))
    )
    for what, where in findings:
        named = re.findall(r"([\w/]+\.py)::(\w+)", where)
        assert len(named) == len(where.split(",")), what
        for file, test in named:
            found = TESTS / (file if "/" in file else f"security/{file}")
            assert re.search(rf"^def {test}\(", found.read_text(), re.MULTILINE), (what, test)
