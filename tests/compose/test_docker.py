"""The docker command that labkit provides is of the mind that the unit tests say it is of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inputs import FILES, INPUTS, Input
from oracle import Oracle, docker, manager

from labkit.compose import Fate, explain, parse
from labkit.compose.stack_format import DOCKER, FORMAT

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """The command, with the files that the inputs name beside what it is asked about."""
    command = docker()
    if command is None:
        pytest.skip("the machine has not been built: labkit build")
    home = tmp_path_factory.mktemp("docker")
    for name, content in FILES.items():
        (home / name).write_bytes(content)
    with manager() as address:
        yield Oracle(command, address, home)


def test_its_version_is_the_one_that_is_named(oracle: Oracle) -> None:
    assert oracle.version().startswith(f"{DOCKER}.")


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: given.text)
def test_a_file_is_refused_or_taken(given: Input, oracle: Oracle) -> None:
    assert bool(oracle.text_refusal(given.text)) is bool(given.line)


def test_what_it_says_it_ignores(oracle: Oracle) -> None:
    """Every option of a service that it names as ignored is explained so, and no other."""
    options = FORMAT.keys["services"][1].names.keys  # type: ignore[index, union-attr]
    some = {"build": ".", "ports": "[80]", "networks": "[default]", "deploy": "{}",
            "healthcheck": "{}", "logging": "{}", "credential_spec": "{}", "ulimits": "{}",
            "stop_grace_period": "5s", "volumes": "[/x]", "command": "x"}  # fmt: skip
    lines = []
    for option, (_, form) in options.items():  # type: ignore[union-attr]
        value = some.get(option) or (
            "[]" if form.items else "true" if "boolean" in form.scalars else "x"
        )
        lines.append(f"    {option}: {value}\n")
    text = "services:\n  web:\n" + "".join(lines).replace("restart: x", "restart: always")
    path = oracle.home / "all.yml"
    path.write_text(text)
    answer = oracle.ask(path)
    assert answer.returncode == 0, answer.stderr
    said = {
        word.strip(" ,")
        for line in answer.stderr.splitlines()
        if line.startswith("Ignoring unsupported options:")
        for word in line.partition(":")[2].split(",")
    } | {
        line.partition(":")[0]
        for line in answer.stderr.splitlines()
        if line.startswith(("container_name:", "expose:"))
    }
    ours = {
        finding.option
        for finding in explain(parse(text)).of(Fate.IGNORED)
        if not finding.why.startswith("sans le dire")
    }
    assert ours == said
