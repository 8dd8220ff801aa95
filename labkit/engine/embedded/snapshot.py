"""The snapshot from which clusters start: a machine with the course's images, warmed up."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.models.images import Image as DockerImage
from requests.exceptions import RequestException

from labkit.engine.embedded import images
from labkit.engine.embedded.build.guest import build_guest, prune, remove_half_made
from labkit.engine.embedded.build.sealed import disk_error, invalidate, need_room, verify
from labkit.engine.embedded.build.shared_cache import damaged_error, find_guest, is_shared
from labkit.engine.embedded.directories import writable
from labkit.engine.embedded.driver import build_driver, driver_directory
from labkit.engine.embedded.images.making import STAND_INS, repository
from labkit.engine.embedded.lock import lock
from labkit.engine.embedded.machine import (
    Installation,
    Machine,
    find_installation,
    installation_of,
    snapshot_of,
)
from labkit.engine.embedded.online import go_on_line, hub_answers, watch
from labkit.engine.embedded.settings import MAX_NODES, MOST_MEMORY, Settings
from labkit.engine.progress import Report
from labkit.errors import MachineFailed
from labkit.polling import until

PREPARE_SECONDS = 120
PULL_SECONDS = 120
SHARE_SECONDS = 300
REGISTRY = "registry:5000"  # as the engines name it
REPOSITORIES = "/var/lib/registry/docker/registry/v2/repositories"
SNAPSHOT = 1_200_000_000  # bytes of disk that a snapshot takes at its largest, while it is made
WARM_SECONDS = 240


def build(
    settings: Settings,
    report: Report,
    *,
    remove_old: bool = False,
    thorough: bool = False,
    kernel: bool = False,
) -> Installation:
    """Build the guest and its snapshot unless they are there already, whole.

    ``remove_old`` also removes what other versions of labkit left in the cache; ``thorough`` reads
    every file of what is there, and makes again one that changed; ``kernel`` also builds that of
    User-Mode Linux, as is done where it alone is wanted.
    """
    settings.check()
    kernel = kernel or settings.accel == "uml"
    if thorough:
        _unseal_damaged_driver(settings)
    if kernel and not verify(driver_directory(settings)):
        ready = None
    else:
        ready, kernel = find_installation(settings, thorough=thorough), False
    if ready and not remove_old:
        return ready  # without a lock: the cache may be shared read-only
    if settings.shared and not ready:
        report.step(
            f"Le cache partagé {settings.shared} n’a pas tout : le reste est fait dans "
            f"{settings.cache}"
        )
    writable(settings.cache, "LABKIT_CACHE")
    with lock(settings.cache / "build.lock", report):
        try:
            remove_half_made(settings)
            guest = find_guest(settings)
            if not is_shared(settings, guest.directory):
                with safe_path():
                    guest = build_guest(
                        settings, step=report.step, progress=report.bytes, thorough=thorough
                    )
            if kernel:
                build_driver(settings, report)
            made = installation_of(settings, guest)
            if not verify(made.snapshot, thorough=thorough):
                _save(made, report)
        except OSError as error:
            raise disk_error(settings.cache, SNAPSHOT, error) from error
        if remove_old:
            kept = replace(settings, max_nodes=MAX_NODES, max_memory=MOST_MEMORY)
            sizes = (replace(kept, nodes=n) for n in range(1, MAX_NODES + 1))
            snapshots = {snapshot_of(guest, made.driver, s).name for s in sizes}
            programs = driver_directory(settings).name
            prune(settings, {guest.directory.name, programs, *snapshots})
        report.done()
        return made


def _unseal_damaged_driver(settings: Settings) -> None:
    """Break the seal of a driver of which a byte changed: sizes alone are looked at after this."""
    programs = driver_directory(settings)
    if not is_shared(settings, programs) and not verify(programs, thorough=True):
        invalidate(programs)


@contextmanager
def safe_path() -> Iterator[None]:
    """Keep every Python that is started from importing what lies in the current directory."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def built(settings: Settings) -> bool:
    """Tell whether the guest and its snapshot are there; raise ``MachineFailed`` if damaged."""
    guest = find_guest(settings)
    if not guest.directory.exists():
        return False
    what, where = "La machine construite est abîmée.", guest.directory
    if verify(guest.directory, thorough=True):
        snapshot = installation_of(settings, guest).snapshot
        if not snapshot.exists():
            return False
        if verify(snapshot, thorough=True):
            return True
        what, where = "L’instantané est abîmé.", snapshot
    if is_shared(settings, where):
        raise damaged_error(settings)
    raise MachineFailed(what, remedy="Lancez « labkit build », qui le refait.")


def _save(made_of: Installation, report: Report) -> None:
    """Boot a machine, prepare its engines and freeze it into a snapshot."""
    snapshot, machine = made_of.snapshot, Machine(made_of.settings.build_run, made_of)
    if snapshot.exists():
        report.step("L’instantané est abîmé : il est refait")
    need_room(snapshot.parent, SNAPSHOT)
    try:
        try:
            machine.boot(report.step)
        except MachineFailed:  # emulated on a starved host, a kernel may hang: one in five, once
            report.step("La machine n’a pas démarré : nouvel essai")
            machine.boot(report.step)
        report.step("Chargement des images du cours")
        origins = _load_images(machine)
        report.step("Échauffement des moteurs")
        try:
            _warm(machine)
        except APIError as error:
            raise MachineFailed(f"L’échauffement a échoué : {error.explanation}") from error
        report.step("Enregistrement de l’instantané")
        machine.save(snapshot, origins)
    except (DockerException, RequestException) as error:  # the latter are OSErrors, too
        raise MachineFailed(
            f"Un moteur a refusé ou s’est tu : {error}", remedy="Relancez."
        ) from error
    finally:
        machine.stop()


def _load_images(machine: Machine) -> list[dict[str, Any]]:
    """Give images to every engine, or to the registry if rarely used; return where each is from."""
    with closing(machine.endpoints[0].client(timeout=PULL_SECONDS)) as client:
        online = hub_answers(client)
        watch(machine.run, "")
        if online:
            go_on_line(machine.instance)
        origins = []
        missing = machine.made_of.guest.missing
        for image in images.catalogue():
            origin, loaded, why = image.origin, image.loaded, ""
            real = origin == "hub" and online and _pull(client, image.name)
            if not real and image.name in missing:
                origin, loaded, why = "missing", False, missing[image.name]
            elif origin == "hub" and not real:
                origin = "stand-in"
            if not image.loaded and origin != "missing":
                _shelve(machine, client, image, real)
            elif loaded and not real:
                _take(client, image)
            origins.append({"name": image.name, "origin": origin, "loaded": loaded, "why": why})
        machine.shell(": >/etc/resolv.conf; fstrim /var")  # what was shelved is not saved twice
    machine.shell(f"share-images {machine.settings.nodes}", SHARE_SECONDS)  # without a copy
    machine.shell("sync; echo 1 >/proc/sys/vm/drop_caches")  # of all that, little is read again
    return origins


def _pull(client: docker.DockerClient, name: str) -> bool:
    with suppress(DockerException, OSError):
        client.images.pull(name)
        return True
    return False


def _shelve(machine: Machine, client: docker.DockerClient, image: images.Image, real: bool) -> None:
    """Put an image into the registry under its own name, and onto no engine.

    A stand-in is in the registry already, aside: it is moved there, which takes no time.
    """
    path, tag = repository(image)
    public = path.removeprefix(f"{STAND_INS}/")
    if real:
        client.images.get(image.name).tag(f"{REGISTRY}/{public}", tag)
        client.images.push(f"{REGISTRY}/{public}", tag=tag)
        for name in (f"{REGISTRY}/{public}:{tag}", image.name):
            client.images.remove(name)
    else:
        machine.shell(
            f"cd {REPOSITORIES} && mkdir -p {PurePosixPath(public).parent} && mv {path} {public}"
        )


def _take(client: docker.DockerClient, image: images.Image) -> None:
    """Take an image from the machine's registry, and make its short name found there.

    Others are pulled under the registry's name first: the engine then knows that the registry
    has their layers, and what students build upon them is pushed without these.
    """
    if image.origin == "course":
        client.images.pull(image.name)
        return
    path, tag = repository(image)
    made = client.images.pull(f"{REGISTRY}/{path}", tag=tag)
    names = [f"{REGISTRY}/{path}:{tag}"]
    if image.prepare:
        made = _prepared(client, image, made)
    if image.origin == "hub":
        public = f"{REGISTRY}/{path.removeprefix(f'{STAND_INS}/')}"
        made.tag(public, tag)
        client.images.push(public, tag=tag)
        names.append(f"{public}:{tag}")
    client.images.pull(image.name)
    for name in names:
        client.images.remove(name)


def _prepared(client: docker.DockerClient, image: images.Image, made: DockerImage) -> DockerImage:
    """Return an image after the command that prepares it."""
    container = client.containers.run(
        made, image.prepare, entrypoint=[], detach=True, network_mode="none"
    )
    try:
        if container.wait(timeout=PREPARE_SECONDS)["StatusCode"]:
            said = container.logs(tail=5).decode(errors="replace")
            raise MachineFailed(f"La préparation de {image.name} a échoué : {said}")
        return container.commit(conf=dict(image.config))
    finally:
        container.remove(force=True, v=True)  # a volume that nobody asked for is not left


def _warm(machine: Machine) -> None:
    """Run a service in a swarm once before the snapshot, so that nothing is slow the first time.

    The first task on a node costs three times the second: bridges, iptables chains, pages of
    the programs, translated code.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(e.client(timeout=60))) for e in machine.endpoints]
        first, others = clients[0], clients[1:]
        first.swarm.init(advertise_addr=machine.endpoints[0].swarm_address)
        first.swarm.reload()
        token = first.swarm.attrs["JoinTokens"]["Worker"]
        for client, endpoint in zip(others, machine.endpoints[1:], strict=True):
            client.swarm.join([str(machine.endpoints[0].swarm_address)], token,
                              advertise_addr=endpoint.swarm_address)  # fmt: skip
        service = first.services.create(
            images.WHOAMI.name,
            name="warm",
            mode=docker.types.ServiceMode("replicated", replicas=2 * len(clients)),
            endpoint_spec=docker.types.EndpointSpec(ports={9999: 80}),
        )

        def tasks_run() -> bool:
            running = service.tasks({"desired-state": "running"})
            up = [t for t in running if t["Status"]["State"] == "running"]
            return len(up) == 2 * len(clients)

        def out_of_swarm(client: docker.DockerClient) -> bool:
            return bool(client.info()["Swarm"]["LocalNodeState"] == "inactive")

        deadline = time.monotonic() + WARM_SECONDS
        _reach(tasks_run, deadline, "les premières tasks n’ont pas démarré")
        service.remove()
        _reach(
            lambda: not any(client.api.containers() for client in clients),
            deadline,
            "les premières tasks ne se sont pas arrêtées",
        )
        for client in (*others, first):
            client.swarm.leave(force=True)
        for client in clients:
            _reach(partial(out_of_swarm, client), deadline, "un moteur reste dans le swarm")
            client.containers.prune()
        machine.end_gossip()


def _reach(reached: Callable[[], bool], deadline: float, otherwise: str) -> None:
    """Wait for a state of the machine, but not beyond ``deadline`` (monotonic seconds)."""
    if not until(reached, bool, deadline - time.monotonic()):
        raise MachineFailed(f"L’échauffement a échoué : {otherwise}.", remedy="Relancez.")
