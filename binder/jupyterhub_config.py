"""An example for one machine whose students have accounts on it: JupyterHub's own default.

``jupyterhub --config binder/jupyterhub_config.py``, as root; tests/hub runs it. What it says of the
course holds for other spawners, too; the network is of use only where students share a kernel:
each container has a loopback of its own.
"""

import pwd
import subprocess

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


def own_network(spawner):
    """Give a student loopback addresses that only the student's processes can reach."""
    uid = pwd.getpwnam(spawner.user.name).pw_uid
    network = f"127.{64 + uid // 256 % 63}.{uid % 256}"
    spawner.environment = spawner.environment | {"LABKIT_NETWORK": network}
    hosts = ["localhost", "127.0.0.1", f"{network}.1"]
    spawner.args = [f"--ServerProxy.host_allowlist={hosts}"]
    fence = ["OUTPUT", "-p", "tcp", "--syn", "-d", f"{network}.0/24"]
    fence += ["-m", "owner", "!", "--uid-owner", str(uid), "-j", "REJECT"]
    if subprocess.run(["iptables", "-w", "-C", *fence], capture_output=True).returncode:
        subprocess.run(["iptables", "-w", "-A", *fence], check=True)


c.Spawner.pre_spawn_hook = own_network
