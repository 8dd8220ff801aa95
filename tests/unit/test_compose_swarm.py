"""What Swarm makes of options: the table, checked against the real docker command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from compose_stack import live_state

from labkit.compose import Verdict, explain, from_stack, parse
from labkit.compose.schema import published_schema
from labkit.compose.swarm_options import SINCE, TABLE
from labkit.errors import ComposeError

DOCKER = shutil.which("docker")
needs_docker = pytest.mark.skipif(not DOCKER, reason="needs the docker command")

# a value that the Specification takes, for each option whose schema does not give one away
VALUES: dict[str, Any] = {
    "blkio_config": {"weight": 300},
    "build": ".",
    "configs": ["c"],
    "credential_spec": {"file": "x"},
    "deploy": {},
    "develop": {"watch": []},
    "dns": ["1.1.1.1"],
    "env_file": [],
    "extends": "b",
    "gpus": "all",
    "logging": {"driver": "none"},
    "mem_swappiness": 1,
    "networks": ["n"],
    "provider": {"type": "x"},
    "secrets": ["s"],
    "stop_grace_period": "5s",
    "ulimits": {"nproc": 1},
    "volumes": ["v:/v"],
    "volumes_from": ["b"],
    "healthcheck": {"retries": 1},
    "ports": ["80:80"],
    "pre_start": [],
    "post_start": [{"command": "x"}],
    "pre_stop": [{"command": "x"}],
    "models": ["m"],
    "use_api_socket": True,
    "depends_on": ["b"],
    "cpu_period": 100000,
    "pull_policy": "always",
    "pull_refresh_after": "1h",
    "mac_address": "02:42:ac:11:65:43",
    "image": "x",
    "container_name": "xx",
    "cgroup": "host",
    "shm_size": "64m",
    "storage_opt": {"size": "1G"},
    "extra_hosts": ["a:1.2.3.4"],
}
DECLARED = {
    "networks": {"n": None},
    "volumes": {"v": None},
    "secrets": {"s": {"external": True}},
    "configs": {"c": {"external": True}},
}


def service_options() -> dict[str, Any]:
    definitions = published_schema().get("$defs") or published_schema()["definitions"]
    options: dict[str, Any] = {}

    def collect(schema: dict[str, Any]) -> None:
        options.update(schema.get("properties", {}))
        for part in schema.get("allOf", ()):
            collect(definitions[part["$ref"].rpartition("/")[2]])

    collect(definitions["service"])
    return options


def value_of(option: str, schema: dict[str, Any]) -> Any:
    if option in VALUES:
        return VALUES[option]
    text = json.dumps(schema)
    if '"boolean"' in text:
        return True
    if '"type": ["number"' in text or '"integer"' in text:
        return 1
    if '"array"' in text or "list_of_strings" in text or "list_or_dict" in text:
        return ["a=b"]
    return "x"


def deploy(data: dict[str, Any], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Let the real docker read a file; no engine is asked, because none is there."""
    path = tmp_path / "stack.json"
    path.write_text(json.dumps(data))
    assert DOCKER
    return subprocess.run(
        [DOCKER, "stack", "deploy", "-c", str(path), "labkit-test"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path),
             "DOCKER_HOST": f"unix://{tmp_path}/no.sock"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def taken(answer: subprocess.CompletedProcess[str]) -> bool:
    return "Cannot connect to the Docker daemon" in answer.stderr


def reread(data: dict[str, Any]) -> Any:
    return explain(parse(json.dumps(data), "stack.yml"))


def found(data: dict[str, Any], verdict: Verdict) -> set[str]:
    return {finding.option for finding in reread(data).of(verdict)}


@needs_docker
def test_every_option_of_a_service_is_treated_as_docker_does(tmp_path: Path) -> None:
    ignored_together: dict[str, Any] = {"image": "x"}
    for option, schema in service_options().items():
        value = value_of(option, schema)
        data = {"services": {"a": {"image": "x", option: value}, "b": {"image": "x"}}, **DECLARED}
        rejected = option in found(data, Verdict.REJECTED)
        if rejected:
            assert not taken(deploy(data, tmp_path)), option
        else:
            ignored_together[option] = value
    answer = deploy(
        {"services": {"a": ignored_together, "b": {"image": "x"}}, **DECLARED}, tmp_path
    )
    assert taken(answer), answer.stderr
    said = {
        word.strip(" ,")
        for line in answer.stderr.splitlines()
        if line.startswith("Ignoring unsupported options:")
        for word in line.partition(":")[2].split(",")
    } | {line.partition(":")[0] for line in answer.stderr.splitlines() if "etting the container"
         in line or "Exposing ports" in line}  # fmt: skip
    ours = {
        f.option
        for f in reread({"services": {"a": ignored_together, "b": {"image": "x"}}, **DECLARED}).of(
            Verdict.IGNORED
        )
        if not f.why.startswith("sans le dire")
    }
    assert ours == said


NESTED: list[tuple[str, Any]] = [
    ("name", "x"),
    ("include", ["a.yml"]),
    ("configs.c.content", "x"),
    ("configs.c.environment", "X"),
    ("secrets.s.environment", "X"),
    ("networks.n.enable_ipv4", True),
    ("networks.n.enable_ipv6", True),
    ("networks.n.ipam", {"config": [{"gateway": "10.0.0.1"}]}),
    ("networks.n.ipam", {"config": [{"ip_range": "10.0.0.0/24"}]}),
    ("networks.n.ipam", {"config": [{"aux_addresses": {"a": "10.0.0.1"}}]}),
    ("networks.n.ipam", {"options": {"a": "b"}}),
    ("networks.n.attachable", "true"),
    ("networks.n.labels", {"a": True}),
    ("services.a.networks", {"n": {"priority": 1}}),
    ("services.a.networks", {"n": {"gw_priority": 1}}),
    ("services.a.networks", {"n": {"mac_address": "02:42:ac:11:65:43"}}),
    ("services.a.networks", {"n": {"link_local_ips": ["169.254.8.8"]}}),
    ("services.a.networks", {"n": {"interface_name": "e0"}}),
    ("services.a.depends_on", {"b": {"condition": "service_healthy"}}),
    ("services.a.env_file", [{"path": "x.env"}]),
    ("services.a.devices", [{"source": "/dev/x"}]),
    ("services.a.environment", {"A": True}),
    ("services.a.labels", {"A": False}),
    ("services.a.init", "true"),
    ("services.a.healthcheck", {"retries": "3"}),
    ("services.a.healthcheck", {"interval": "10"}),
    ("services.a.stop_grace_period", "soon"),
    ("services.a.ports", [{"target": 80, "published": "8080"}]),
    ("services.a.ports", [{"target": 80, "host_ip": "127.0.0.1"}]),
    ("services.a.ports", [{"target": 80, "name": "web"}]),
    ("services.a.ports", [{"target": 80, "app_protocol": "http"}]),
    ("services.a.deploy", {"replicas": "2"}),
    ("services.a.deploy", {"update_config": {"parallelism": "2"}}),
    ("services.a.deploy", {"update_config": {"delay": "10"}}),
    ("services.a.deploy", {"restart_policy": {"max_attempts": "3"}}),
    ("services.a.deploy", {"placement": {"max_replicas_per_node": "1"}}),
    ("services.a.deploy", {"resources": {"limits": {"cpus": 0.5}}}),
    ("services.a.deploy", {"resources": {"limits": {"pids": "5"}}}),
    ("services.a.deploy",
     {"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}}),
    ("services.a.deploy", {"labels": {"a": True}}),
    ("services.a.ulimits", {"nproc": "5"}),
    ("services.a.shm_size", 64000000),
]  # fmt: skip


def nested(path: str, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "services": {"a": {"image": "x"}, "b": {"image": "x"}},
        "networks": {"n": {}},
        "volumes": {"v": {}},
        "secrets": {"s": {}},
        "configs": {"c": {}},
    }
    *around, last = path.split(".")
    inner = data
    for step in around:
        inner = inner[step]
    inner[last] = value
    for kind in ("secrets", "configs"):
        for options in data[kind].values():
            if not options:
                options["external"] = True
    return data


@needs_docker
def test_what_is_nested_is_rejected_as_docker_does(tmp_path: Path) -> None:
    for path, value in NESTED:
        data = nested(path, value)
        explanation = reread(data)
        assert not explanation.deployable, (path, value)
        assert not taken(deploy(data, tmp_path)), (path, value)


@needs_docker
def test_swarm_options_are_all_taken(tmp_path: Path) -> None:
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
    assert found(data, Verdict.SWARM) == {
        "deploy.mode", "deploy.replicas", "deploy.labels", "deploy.endpoint_mode",
        "deploy.update_config", "deploy.rollback_config", "deploy.restart_policy",
        "deploy.placement", "ports.mode", "networks.driver", "networks.attachable",
    }  # fmt: skip
    assert found(data, Verdict.IGNORED) == {
        "depends_on", "tmpfs", "networks.n.ipv4_address", "volumes.bind.create_host_path",
        "volumes.bind.selinux", "volumes.tmpfs.mode",
    }  # fmt: skip
    assert "stop_grace_period" in found(data, Verdict.SHARED)
    assert taken(deploy(data, tmp_path))


OLDER: dict[str, Any] = {
    "services.a.configs": ["c"],
    "services.a.secrets": ["s"],
    "services.a.credential_spec": {"file": "x"},
    "services.a.deploy": {"rollback_config": {"parallelism": 1}},
    "services.a.init": True,
    "services.a.isolation": "default",
    "services.a.oom_score_adj": 5,
    "services.a.healthcheck": {"start_interval": "5s"},
    "networks.n.attachable": True,
    "networks.n.name": "z",
    "volumes.v.name": "z",
}


@needs_docker
def test_older_versions_know_less(tmp_path: Path) -> None:
    for path, value in OLDER.items():
        data = nested(path, value)
        pattern = path.replace(".a.", ".*.").replace(".n.", ".*.").replace(".v.", ".*.")
        if isinstance(value, dict):
            pattern = next(p for p in (f"{pattern}.{next(iter(value))}", pattern) if p in SINCE)
        used = {path.split(".")[0]} | (set(path.split(".")) & {"configs", "secrets"})
        for kind in {"networks", "volumes", "secrets", "configs"} - used:
            del data[kind]
        since = SINCE[pattern]
        for minor, expected in ((since - 1, False), (since, True)):
            dated = {"version": f"3.{minor}", **data}
            assert reread(dated).deployable is expected, (path, minor)
            assert taken(deploy(dated, tmp_path)) is expected, (path, minor)


@needs_docker
@pytest.mark.parametrize("version", ["2.4", "3.14", "1", "3", "3.13", ""])
def test_versions(version: str, tmp_path: Path) -> None:
    data = {"version": version, "services": {"a": {"image": "x"}}}
    assert reread(data).deployable is taken(deploy(data, tmp_path))


def test_the_table_is_about_options_that_exist_and_says_why() -> None:
    options = service_options()
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
    rejected = {(f.option, f.line) for f in explanation.of(Verdict.REJECTED)}
    assert rejected == {("networks", 4), ("volumes", 5), ("secrets", 6), ("configs", 7),
                        ("image", 8)}  # fmt: skip
    assert [f.option for f in explanation.of(Verdict.IGNORED)] == ["ports"]


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
    assert explanation.deployable  # what a variable gives is converted by docker
    assert [f.option for f in explanation.of(Verdict.NOTE)] == ["${TAG}", "${U}"]


def test_a_live_stack_has_no_options() -> None:
    with pytest.raises(ComposeError, match="vivante"):
        explain(from_stack(live_state(), "vote"))
