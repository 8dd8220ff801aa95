"""An example for one machine whose students have accounts on it: JupyterHub's own default.

``jupyterhub --config binder/jupyterhub_config.py``, as root; tests/hub runs it. What it says of the
course holds for other spawners, too; the network is of use only where students share a kernel:
each container has a loopback of its own.
"""

import asyncio
import fcntl
import os
import pwd
import subprocess
import sys
from pathlib import Path

c = get_config()  # type: ignore[name-defined]  # noqa: F821

c.JupyterHub.shutdown_on_logout = True  # else a server outlives its student's leaving
c.Spawner.notebook_dir = "~/cours"
c.Spawner.default_url = "/lab/tree/00-demarrer.ipynb"
c.Spawner.start_timeout = 180
c.Spawner.http_timeout = 180
c.Spawner.environment = {
    "LABKIT_SHARED_CACHE": "/opt/labkit/cache",  # where tests/hub/install built the machine
    "LABKIT_MAX_NODES": "5",
    "LABKIT_MAX_MEMORY": "1536",  # MiB, a cluster
    "LABKIT_NICE": "5",  # notebooks come before clusters
    "LABKIT_IDLE_STOP": "30",  # minutes
}


# Whose loopback addresses are whose: a line for each account, which keeps its addresses for ever
# (take out the lines of accounts that are gone when all 16128 are given away).
NETWORKS = Path(os.environ.get("LABKIT_NETWORKS", "/var/lib/labkit/networks"))


def network_of(uid):
    """Return the addresses of an account, such as 127.80.3; no two accounts have the same."""
    NETWORKS.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with NETWORKS.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        given = dict(line.split() for line in file)
        if str(uid) not in given:
            every = (f"127.{64 + n // 256}.{n % 256}" for n in range(63 * 256))
            taken = set(given.values())
            given[str(uid)] = next(network for network in every if network not in taken)
            file.write(f"{uid} {given[str(uid)]}\n")
        return given[str(uid)]


def own_network(spawner):
    """Give a student loopback addresses of their own, closed both ways to all other accounts."""
    uid = pwd.getpwnam(spawner.user.name).pw_uid
    network = network_of(uid)
    spawner.environment = spawner.environment | {"LABKIT_NETWORK": network}
    there, back = ["-d", f"{network}.0/24"], ["-s", f"{network}.0/24"]
    others = ["-m", "owner", "!", "--uid-owner", str(uid), "-j", "REJECT"]
    for fence in (
        ["-p", "tcp", "--syn", *there],  # nobody else connects to them
        ["-p", "tcp", "--tcp-flags", "SYN,ACK", "SYN,ACK", *back],  # nor answers in their place
        ["-p", "udp", *there],
        ["-p", "udp", *back],
    ):
        rule = ["OUTPUT", *fence, *others]
        if subprocess.run(["iptables", "-w", "-C", *rule], capture_output=True).returncode:
            subprocess.run(["iptables", "-w", "-A", *rule], check=True)


async def course(spawner):
    """Write the student's edition to their ~/cours, as the student, or bring it up to date."""
    account = pwd.getpwnam(spawner.user.name)
    writing = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("labkit"), "course", Path(account.pw_dir, "cours"),
        user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd=account.pw_dir,
        env={"HOME": account.pw_dir, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await writing.communicate()
    if writing.returncode:  # such as a full disk: what is there already can still be used
        spawner.log.warning("The course of %s: %s", account.pw_name, said.decode(errors="replace"))


async def prepare(spawner):
    """Do both before a student's server starts."""
    own_network(spawner)
    await course(spawner)


c.Spawner.pre_spawn_hook = prepare
