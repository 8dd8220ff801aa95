"""What Swarm makes of options, and how students read it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from compose_stack import live_state

from labkit.compose import Fate, explain, from_stack, parse
from labkit.compose.schema import published_schema
from labkit.compose.stack_format import FORMAT
from labkit.compose.swarm_options import TABLE
from labkit.errors import ComposeError


def service_options() -> dict[str, Any]:
    definitions = published_schema().get("$defs") or published_schema()["definitions"]
    options: dict[str, Any] = {}

    def collect(schema: dict[str, Any]) -> None:
        options.update(schema.get("properties", {}))
        for part in schema.get("allOf", ()):
            collect(definitions[part["$ref"].rpartition("/")[2]])

    collect(definitions["service"])
    return options


def reread(data: dict[str, Any]) -> Any:
    return explain(parse(json.dumps(data), "stack.yml"))


def found(data: dict[str, Any], verdict: Fate) -> set[str]:
    return {finding.option for finding in reread(data).of(verdict)}


def test_swarm_options_are_told_apart() -> None:
    data = {
        "services": {
            "a": {
                "image": "x",
                "stop_grace_period": "1m30s",
                "networks": {"n": {"ipv4_address": "10.0.0.9", "aliases": ["z"]}},
                "ports": [{"target": 80, "published": 80, "mode": "host"}],
                "tmpfs": "/t",
                "volumes": [
                    {
                        "type": "bind",
                        "source": "/x",
                        "target": "/x",
                        "bind": {"create_host_path": True, "selinux": "z"},
                    },
                    {"type": "tmpfs", "target": "/y", "tmpfs": {"mode": 493}},
                ],
                "depends_on": ["a"],
                "deploy": {
                    "mode": "replicated",
                    "replicas": 2,
                    "labels": {"a": "b"},
                    "endpoint_mode": "dnsrr",
                    "update_config": {"parallelism": 2, "delay": "10s", "order": "start-first"},
                    "rollback_config": {"parallelism": 1},
                    "restart_policy": {"condition": "on-failure"},
                    "placement": {"constraints": ["node.role == manager"]},
                    "resources": {"limits": {"cpus": "0.5"}, "reservations": {"memory": "5M"}},
                },
            }
        },
        "networks": {"n": {"driver": "overlay", "attachable": True}},
    }
    explanation = reread(data)
    assert explanation.deployable
    assert found(data, Fate.SWARM) == {
        "deploy.mode", "deploy.replicas", "deploy.labels", "deploy.endpoint_mode",
        "deploy.update_config", "deploy.rollback_config", "deploy.restart_policy",
        "deploy.placement", "ports.mode", "networks.driver", "networks.attachable",
    }  # fmt: skip
    assert found(data, Fate.IGNORED) == {
        "depends_on", "tmpfs", "networks.n.ipv4_address", "volumes.bind.create_host_path",
        "volumes.bind.selinux", "volumes.tmpfs.mode",
    }  # fmt: skip
    assert "stop_grace_period" in found(data, Fate.SHARED)


def test_the_table_is_about_options_that_exist_and_says_why() -> None:
    own = FORMAT.keys["services"][1].names.keys  # type: ignore[index, union-attr]
    options = {*service_options(), *own}  # type: ignore[misc]
    for row in TABLE:
        assert row.why.endswith(".") and "  " not in row.why
        steps = row.pattern.split(".")
        if steps[0] == "services":
            assert steps[2] in options, row.pattern


def test_references_that_lead_nowhere() -> None:
    text = """services:
  a:
    image: x
    networks: [ghost]
    volumes: ["void:/v"]
    secrets: [s]
    configs: [{source: c}]
  b:
    ports: ["127.0.0.1:80:80"]
"""
    explanation = explain(parse(text))
    rejected = {(f.option, f.line) for f in explanation.of(Fate.REJECTED)}
    assert rejected == {("networks", 4), ("volumes", 5), ("secrets", 6), ("configs", 7),
                        ("image", 8)}  # fmt: skip
    assert [f.option for f in explanation.of(Fate.IGNORED)] == ["ports"]


def test_what_a_student_reads() -> None:
    text = "services:\n  a: {image: x, deploy: {replicas: 2}, restart: always}\n  b: {image: x}\n"
    explanation = explain(parse(text, "web.yml"))
    assert explanation.conclusion == "Fichier pour Swarm (options : 1 ignorée, 1 propre à Swarm)."
    shown = str(explanation).replace("\u00a0", " ")
    assert "a (l. 2) = 2" in shown and "Ignoré par docker stack deploy" in shown
    assert max(map(len, shown.splitlines())) <= 120
    page = explain(parse("services: {a: {image: x, restart: '<script>'}}"))._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_lines_shared_by_an_anchor_are_said_once() -> None:
    services = "".join(f"  s{i}: {{<<: *d}}\n" for i in range(20))
    text = f"x-d: &d\n  image: x\n  restart: always\nservices:\n{services}"
    assert "s0, s1, s2, 17 autres (l. 3) = always" in str(explain(parse(text))).replace(
        "\u00a0", " "
    )


def test_variables_are_said() -> None:
    text = "services: {a: {image: 'x:${TAG}', user: '${U:?}', deploy: {replicas: '${N:-2}'}}}"
    explanation = explain(parse(text))
    assert [f.option for f in explanation.of(Fate.NOTE)] == ["${TAG}"]
    assert [f.option for f in explanation.of(Fate.REJECTED)] == ["${U}"]
    assert "refuse ce fichier" in explanation.conclusion
    given = explain(parse(text, environment={"U": "root"}))
    assert given.deployable  # what a variable gives is converted by docker


def test_a_live_stack_has_no_options() -> None:
    with pytest.raises(ComposeError, match="vivante"):
        explain(from_stack(live_state(), "vote"))
