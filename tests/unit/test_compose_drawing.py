"""Architectures drawn, files compared, and both with a live stack."""

from __future__ import annotations

import hashlib
import itertools
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from compose_stack import STACK, live_state
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from labkit import cli
from labkit.compose import ComposeFile, compare, draw, from_stack, parse
from labkit.compose.lettering import width
from labkit.errors import NoSuchStack, NoSwarm, SettingError
from labkit.state import ClusterState, Mount, Network, service_from_raw
from labkit.views.picture import Box, Text


def twenty(seed: int, networks: int) -> ComposeFile:
    """Return a file of twenty services on random networks, some of which nobody declares."""
    rng = random.Random(seed)
    names = [f"reseau-{i}" for i in range(networks)]
    lines = ["services:"]
    for i in range(20):
        chosen = rng.sample(names, rng.randint(1, min(3, networks)))
        volumes = [f'"v{i}-{j}:/v{j}"' for j in range(rng.choice([0, 0, 1, 7]))]
        ports = [f'"{8000 + 10 * i + j}:80"' for j in range(rng.choice([0, 0, 1, 6]))]
        lines += [
            f"  service-numero-{i}:",
            f"    image: registry.example.org/equipe/une-image-au-nom-long-{i}:1.2.3",
            f"    networks: [{', '.join(chosen)}]",
            f"    volumes: [{', '.join(volumes)}]",
            f"    ports: [{', '.join(ports)}]",
        ]
    return parse("\n".join([*lines, f"networks: {{{names[0]}: }}"]), "vingt.yml")


def few(count: int) -> ComposeFile:
    file = twenty(count, 3)
    return replace(file, services=file.services[:count])


FILES = [
    parse(STACK, "docker-stack.yml"),
    parse("services: {}", "vide.yml"),
    parse("services: {a: {image: x, network_mode: host, volumes: ['data:/d']}}", "un.yml"),
    *(few(n) for n in (3, 9, 10, 11)),
    *(twenty(seed, networks) for seed, networks in ((1, 1), (2, 4), (3, 6), (4, 25))),
    from_stack(live_state(), "vote"),
]


def boxes(file: ComposeFile) -> list[Box]:
    """Return the boxes with a border: what lines do not have."""
    return [s for s in draw(file).picture.shapes if isinstance(s, Box) and s.stroke]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.name}-{len(f.services)}")
def test_no_boxes_overlap_and_all_is_inside(file: ComposeFile) -> None:
    picture = draw(file).picture
    for a, b in itertools.combinations(boxes(file), 2):
        apart = (
            a.x + a.width <= b.x or b.x + b.width <= a.x
            or a.y + a.height <= b.y or b.y + b.height <= a.y
        )  # fmt: skip
        assert apart, (a, b)
    for shape in picture.shapes:
        assert 0 <= shape.x <= picture.width and 0 <= shape.y <= picture.height
        if isinstance(shape, Box):
            assert shape.width >= 0 and shape.height >= 0
            assert shape.x + shape.width <= picture.width + 0.01
        elif shape.anchor == "start":
            end = shape.x + width(shape.text, shape.size, bold=shape.bold)
            assert end <= picture.width + 0.01, shape
    ET.fromstring(picture.svg())


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.name}-{len(f.services)}")
def test_texts_do_not_meet(file: ComposeFile) -> None:
    texts = [s for s in draw(file).picture.shapes if isinstance(s, Text)]
    for text in texts:
        assert text.size >= 17  # readable on a projector
    spans = []
    for text in texts:
        wide = width(text.text, text.size, bold=text.bold)
        left = text.x - {"start": 0.0, "middle": wide / 2, "end": wide}[text.anchor]
        spans.append((left, left + wide, text.y - 0.75 * text.size, text.y + 0.2 * text.size))
    for a, b in itertools.combinations(spans, 2):
        assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2], (a, b)


LOUD = parse(
    "services:\n"
    + "".join(
        f"  WEB-WITH-A-LONG-NAME-{i}-MMMWWW:\n"
        f"    image: '{{image}}'\n"
        f"    ports: ['{8000 + i}:80']\n"
        f"    volumes: ['DATA_WITH_CAPITALS_MM_{i}:/v', './WWW:/w']\n"
        "    networks: [FRONT-WWMM, BACK]\n"
        "    deploy: {placement: {constraints: [node.labels.MMMMMMMMMMM == WWWWWWWWWWWWW]}}\n"
        for i in range(60)
    ).replace("{image}", f"registry/{'MW' * 20}:LATEST")
    + "networks: {FRONT-WWMM: , BACK: }\n",
    "CAPITALES.yml",
)


@pytest.mark.parametrize("count", [4, 60])
def test_no_text_leaves_its_box(count: int) -> None:
    """The letters are measured in the font of the picture, not by labkit's own table."""
    file = replace(LOUD, services=LOUD.services[:count])
    shapes = draw(file).picture.shapes
    fonts = {bold: FT2Font(findfont(FontProperties(
        family="DejaVu Sans", weight="bold" if bold else "normal"))) for bold in (False, True)
    }  # fmt: skip
    inside = 0
    for text in (s for s in shapes if isinstance(s, Text)):
        fonts[text.bold].set_size(100, 72)
        advance = sum(fonts[text.bold].load_char(ord(c)).linearHoriAdvance for c in text.text)
        wide = text.size * advance / 65536 / 100
        left = text.x - {"start": 0.0, "middle": wide / 2, "end": wide}[text.anchor]
        assert "……" not in text.text
        around = [b for b in shapes if isinstance(b, Box) and b.width > 20
                  and b.x <= text.x <= b.x + b.width
                  and b.y < text.y <= b.y + b.height]  # fmt: skip
        for box in around:
            inside += 1
            assert box.x <= left and left + wide <= box.x + box.width, text
    assert inside >= 4 * count


def test_the_same_file_gives_the_same_bytes_everywhere() -> None:
    code = (
        "import sys, hashlib\n"
        "from compose_stack import STACK\n"
        "from labkit.compose import draw, parse\n"
        "picture = draw(parse(STACK, 'docker-stack.yml'))\n"
        "print(hashlib.sha256(picture.svg().encode() + picture.png()).hexdigest())\n"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={"PYTHONHASHSEED": "2", "PYTHONPATH": ":".join(sys.path)},
    ).stdout  # fmt: skip
    picture = draw(parse(STACK, "docker-stack.yml"))
    here = hashlib.sha256(picture.svg().encode() + picture.png()).hexdigest()
    assert elsewhere.strip() == here


def test_the_order_in_the_file_does_not_matter() -> None:
    file = parse(STACK, "docker-stack.yml")
    other = replace(file, services=file.services[::-1], networks=file.networks[::-1])
    assert draw(file).svg() == draw(other).svg()


def test_every_service_has_its_networks_ports_and_volumes() -> None:
    picture = draw(parse(STACK)).picture
    texts = [s for s in picture.shapes if isinstance(s, Text)]

    def row(name: str) -> set[str]:
        card = next(s for s in picture.shapes if isinstance(s, Box) and s.tip.startswith(name))
        return {t.text for t in texts if card.y <= t.y <= card.y + card.height}

    assert {"vote", "2 replicas", "5000→80", "frontend"} <= row("vote")
    assert {"worker", "frontend", "backend", "node.role == manager"} <= row("worker")
    assert {"db", "db-data", "backend"} <= row("db")
    assert {"visualizer", "default", "/var/run/docker.sock", "8080→8080"} <= row("visualizer")
    assert "frontend" not in row("db") | row("result")


def test_networks_of_no_one_are_marked() -> None:
    architecture = draw(parse("services: {a: {image: x, networks: [ghost]}}"))
    assert "Déclaré nulle part (tirets) : réseau ghost." in architecture.svg()
    assert any(box.border == "dashed" for box in boxes(parse(
        "services: {a: {image: x, networks: [ghost]}}")))  # fmt: skip
    assert "ghost (non déclaré)" in str(architecture)


def test_hostile_names_are_escaped() -> None:
    text = """services:
  a:
    image: "</text><script>alert(1)</script>"
    volumes: ["<b>$$x$$:/v"]
    labels: {l: "]]>"}
"""
    architecture = draw(parse(text, "<svg onload=x>.yml"))
    assert "<script" not in architecture.svg() and "<svg onload" not in architecture.svg()
    ET.fromstring(architecture.svg())
    assert architecture.png().startswith(b"\x89PNG")


def test_shown_and_saved(tmp_path: Path) -> None:
    architecture = draw(parse(STACK))
    assert set(architecture._repr_mimebundle_()) == {"text/plain", "image/svg+xml", "image/png"}
    assert architecture.save(tmp_path / "a.svg").read_text() == architecture.svg()
    assert architecture.save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SettingError, match="ni par"):
        architecture.save(tmp_path / "a.jpg")
    with pytest.raises(SettingError, match="écrit"):
        architecture.save(tmp_path / "no" / "a.svg")
    assert draw(parse(STACK), dark=True).svg() != architecture.svg()


# -- the live stack -------------------------------------------------------------------------


def test_file_and_stack_give_the_same_picture() -> None:
    file, stack = parse(STACK, "docker-stack.yml"), from_stack(live_state(), "vote")
    assert stack.live and stack.title == "Stack «\u00a0vote\u00a0»"
    silent = replace(
        stack, name=file.name, live=False,
        services=tuple(replace(s, running=None) for s in stack.services),
    )  # fmt: skip
    assert draw(silent).svg() == draw(file).svg()
    assert "2 replicas, 1 en marche" in draw(stack).svg()


def test_file_and_stack_are_compared() -> None:
    file = parse(STACK, "docker-stack.yml")
    assert compare(file, from_stack(live_state(), "vote")).equal
    comparison = compare(file, from_stack(live_state(vote=5), "vote"))
    assert [(d.place, d.option, d.left, d.right) for d in comparison.differences] == [
        ("service\u00a0«\u00a0vote\u00a0»", "deploy.replicas", "2", "5"),
    ]
    assert "Stack" in str(comparison) and "5" in comparison._repr_html_()


def test_what_docker_completes_is_no_difference() -> None:
    state = live_state()
    bind = Mount("bind", "/home/eleve/tp/site", "/www")
    web = replace(state.services[0], name="vote_web", image="nginx:latest", mounts=(bind,),
                  constraints=(), networks=("vote_default",))  # fmt: skip
    stack = from_stack(replace(state, services=(web,)), "vote")
    file = parse("services: {web: {image: 'nginx@sha256:0', volumes: ['./site:/www']}}")
    assert [d.option for d in compare(file, stack).differences] == ["image"]
    file = parse("services: {web: {image: nginx, volumes: ['./site:/www']}}")
    assert compare(file, stack).equal, str(compare(file, stack))


def test_networks_and_volumes_of_others_keep_their_names() -> None:
    state = live_state()
    service = replace(
        state.services[0], networks=("vote_backend", "proxy"),
        mounts=(Mount("volume", "shared", "/s"), Mount("tmpfs", "", "/t")),
    )  # fmt: skip
    proxy = Network("id-proxy", "proxy", "overlay", "swarm")
    stack = from_stack(
        replace(state, services=(service,), networks=(*state.networks, proxy)), "vote"
    )
    assert [(n.name, n.external) for n in stack.networks] == [("backend", False), ("proxy", True)]
    assert [(v.name, v.external) for v in stack.volumes] == [("shared", True)]
    file = parse(
        """
services:
  db: {image: "postgres:9.4", networks: [backend, edge], volumes: ["sh:/s"], tmpfs: /t,
       deploy: {placement: {constraints: [node.role==manager]}}}
networks: {backend: , edge: {external: true, name: proxy}}
volumes: {sh: {external: {name: shared}}}
"""
    )
    assert compare(file, stack).equal, str(compare(file, stack))


def test_a_stack_that_is_not_there() -> None:
    with pytest.raises(NoSuchStack, match="autre") as caught:
        from_stack(live_state(), "autre")
    assert "vote" in caught.value.remedy
    empty = ClusterState(live_state().captured_at, "inactive", None)
    with pytest.raises(NoSwarm):
        from_stack(empty, "vote")


def test_mounts_of_a_service() -> None:
    raw = {
        "ID": "s",
        "Version": {"Index": 1},
        "Spec": {
            "Name": "vote_db",
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "postgres@sha256:0",
                    "Mounts": [
                        {"Type": "volume", "Source": "vote_db-data", "Target": "/d",
                         "VolumeOptions": {"Labels": {"com.docker.stack.namespace": "vote"}}},
                        {"Type": "bind", "Source": "/x", "Target": "/y", "ReadOnly": True},
                    ],
                }
            },
        },
    }  # fmt: skip
    assert service_from_raw(raw, {}).mounts == (
        Mount("volume", "vote_db-data", "/d", stack="vote"),
        Mount("bind", "/x", "/y", read_only=True),
    )


# -- two files ------------------------------------------------------------------------------


def test_syntax_makes_no_difference() -> None:
    left = parse(
        """services:
  a:
    image: x
    command: echo "a b"
    environment: [A=1, B]
    labels: {k: v}
    ports: ["80:80"]
    env_file: x.env
    depends_on: [b]
  b: {image: x}
"""
    )
    right = parse(
        """services:
  b: {image: x}
  a:
    image: x
    command: [echo, a b]
    environment: {A: 1, B: }
    labels: [k=v]
    ports: [{target: 80, published: 80}]
    env_file: [x.env]
    depends_on: {b: {condition: service_started}}
"""
    )
    comparison = compare(left, right)
    assert comparison.equal, str(comparison)
    assert "Aucune différence" in comparison._repr_html_()


def test_only_the_whole_file_may_differ() -> None:
    left, right = (parse(f"version: '{v}'\nservices: {{a: {{image: x}}}}") for v in ("3", "3.8"))
    assert "version" in str(compare(left, right))


SPELLED = (
    """secrets: [s]
    healthcheck: {test: curl x, interval: 60s}
    deploy: {resources: {limits: {memory: 1G, cpus: '0.50'}}}
    volumes: ['data:/x:nocopy']
    extra_hosts: ['a:1.2.3.4']
    ulimits: {nproc: 5}
    build: .
    command: a 'b c'
    depends_on: [web]
""",
    """secrets: [{source: s, target: s}]
    healthcheck: {test: [CMD-SHELL, curl x], interval: 1m}
    deploy: {resources: {limits: {memory: 1024M, cpus: '0.5'}}}
    volumes: [{type: volume, source: data, target: /x, volume: {nocopy: true}}]
    extra_hosts: {a: 1.2.3.4}
    ulimits: {nproc: {soft: 5, hard: 5}}
    build: {context: .}
    command: [a, b c]
    depends_on: {web: {condition: service_started}}
""",
)
DECLARED = "secrets: {s: {external: true}}\nvolumes: {data: }\nnetworks: {net: }\n"


def test_a_spelling_is_no_difference() -> None:
    left, right = (
        parse(f"services:\n  web:\n    image: x\n    {options}{DECLARED}") for options in SPELLED
    )
    assert compare(left, right).differences == ()


@pytest.mark.parametrize(
    ("left", "right", "option"),
    [
        ("networks: [net]", "networks: {net: {aliases: [www]}}", "networks.net.aliases"),
        ("volumes: ['data:/x']", "volumes: ['data:/x:nocopy']", "volumes./x.volume.nocopy"),
        ("build: .", "build: {context: ., target: dev}", "build.target"),
        ("healthcheck: {interval: 60s}", "healthcheck: {interval: 61s}", "healthcheck.interval"),
        ("environment: {memory: 1G}", "environment: {memory: 1024M}", "environment.memory"),
        ("secrets: [s]", "secrets: [{source: s, mode: 0400}]", "secrets"),
    ],
)
def test_what_a_long_form_adds_is_a_difference(left: str, right: str, option: str) -> None:
    one, other = (
        parse(f"services:\n  web:\n    image: x\n    {options}\n{DECLARED}")
        for options in (left, right)
    )
    assert [d.option for d in compare(one, other).differences] == [option]


def test_differences_are_named() -> None:
    left = parse(STACK, "a.yml")
    right = parse(
        STACK.replace("replicas: 2", "replicas: 3")
        .replace("delay: 10s", "delay: 5s")
        .replace("  frontend:\n", "  frontend: {driver: overlay}\n")
        .replace("visualizer:\n    image", "autre:\n    image"),
        "a.yml",
    )
    found = {(d.place.replace("\u00a0", " "), d.option): (d.left, d.right)
             for d in compare(left, right).differences}  # fmt: skip
    assert found == {
        ("service « vote »", "deploy.replicas"): ("2", "3"),
        ("service « redis »", "deploy.update_config.delay"): ("10s", "5s"),
        ("réseau « frontend »", "driver"): (None, "overlay"),
        ("service « visualizer »", ""): ("présent", None),
        ("service « autre »", ""): (None, "présent"),
    }
    assert "a.yml (1)" in str(compare(left, right))  # two files of the same name


# -- the command ----------------------------------------------------------------------------


def test_from_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack, bad = tmp_path / "docker-stack.yml", tmp_path / "bad.yml"
    stack.write_text(STACK)
    bad.write_text("services:\n  web:\n    imge: x\n")
    assert cli.main(["compose", "explain", str(stack)]) == 0
    assert "Propre à Swarm" in capsys.readouterr().out
    assert cli.main(["compose", "diff", str(stack), str(stack)]) == 0
    assert "Aucune différence" in capsys.readouterr().out
    out = tmp_path / "out.svg"
    assert cli.main(["compose", "draw", str(stack), "-o", str(out)]) == 0
    assert out.read_text().startswith("<svg") and str(out) in capsys.readouterr().out
    for action in (["explain", str(bad)], ["diff", str(stack), str(bad)]):
        assert cli.main(["compose", *action]) == 1
        assert "bad.yml, ligne 3" in capsys.readouterr().err
