"""The recipe of the machine: all that shapes it, and the key that this makes.

Docstrings, comments and names of functions are no part of it: an edit of those builds nothing
again.
"""

import hashlib
import json
import re
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from labkit.engine.embedded import images

KERNEL = "linux-image-cloud-amd64"  # small, and known to boot under TCG
ROOT = (
    "busybox-static", "ca-certificates", "conntrack", "containerd", "crun", "docker-registry",
    "docker.io", "iproute2", "iptables", "ipvsadm", "qemu-guest-agent", "runc", "stunnel4", "tini",
)  # fmt: skip
HOST = ("qemu-system-x86", "docker-cli", "docker-buildx", "docker-compose", "e2fsprogs")
PLUGINS = ("docker-buildx", "docker-compose")
COMPILER = ("tcc", "musl-dev", "libc6")
FOLLOW = re.compile(
    r"lib(?!perl|pam|db5|gdbm|audit|semanage|sepol|debconf)|zlib1g|seabios|ipxe-qemu"
    r"|qemu-system-(data|common)|musl$"
)
DROP = re.compile(
    r"usr/share/(?!ca-certificates)|usr/libexec|usr/lib/systemd|usr/lib/cni|lib/systemd"
    r"|usr/lib/x86_64-linux-gnu/(gconv|perl|libmvec)|etc/(init\.d|default|apparmor|logrotate)"
    r"|usr/s?bin/(localedef|iconv|ctr$|containerd-stress|dockerd-rootless|rootlesskit|tc$|bash"
    r"|docker-proxy|containerd-shim$|containerd-shim-runc-v1|iconvconfig)"
)
FOLLOW_IN_IMAGES = re.compile(
    r"lib(?!perl|db5|gdbm|semanage|sepol|debconf|llvm|z3|xslt|gcrypt|gpg-error|pam-|gprofng|js-)"
    r"|zlib1g|python3\.13-minimal"
)
DROP_IN_IMAGES = re.compile(
    r"usr/share/(?!lua|postgresql|dpkg|zoneinfo/(UTC|Europe/Paris)$"
    r"|prometheus/web|javascript/(?!dojox|yui3|moment-timezone/data)|nodejs/[\w.]+/dist"
    r"|fonts-glyphicons|fonts/truetype/glyphicons)"
    r"|usr/share/.*\.map$|usr/lib/systemd|etc/(init\.d|default|logrotate|cron|pam)"
    r"|usr/lib/x86_64-linux-gnu/(gconv|libmvec|systemd)|usr/lib/(udev|tmpfiles|sysusers|apt/apt-h)"
    r"|usr/lib/postgresql/17/lib/(bitcode|llvmjit|pgxs)|usr/lib/python3\.13/(EXTERNALLY|pydoc_data)"
)
NOTHING = re.compile(r"(?!)")
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
EARLY = ("virtio_pci", "virtio_blk", "ext4")
LATE = tuple(
    """virtio_net virtio_rng virtio_console virtio_balloon overlay bridge br_netfilter veth vxlan
    dummy ip_vs ip_vs_rr nf_nat nf_conntrack nf_conntrack_netlink nfnetlink nf_tables nft_compat
    nft_chain_nat nft_ct nft_masq nft_nat nft_fib nft_fib_ipv4 xt_addrtype xt_conntrack
    xt_MASQUERADE xt_ipvs xt_nat xt_mark xt_REDIRECT xt_tcpudp xt_comment xt_u32 xt_bpf
    xt_policy xt_set xt_multiport ip_set ip_set_hash_net ip_tables iptable_nat iptable_filter
    iptable_mangle ipt_REJECT esp4 xfrm_user seqiv gcm aesni_intel ghash_clmulni_intel macvlan
    ipvlan 8021q""".split()
)
ALWAYS = frozenset({"whoami", "debian"})  # layers without which there is no course
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\ndocker:x:101:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
RECIPE = 1
"""Version of how the parts that :func:`_recipe` lists are put together. Raise it when a function
makes another machine or another image of the same parts: functions are not part of the key.
``tests/unit/test_recipe.py`` names them, and fails when one changes."""
EARLY_INIT = "initrd-init"  # of the scripts in guest/, what the kernel starts first
DISK = 4 << 30  # bytes that the machine's data disk may hold, and so the most that it may grow to


def guest_key(suite: str) -> str:
    """Return the key of the guest that this suite and this version of labkit make."""
    digest = hashlib.sha256(json.dumps(_recipe(suite), sort_keys=True).encode())
    return f"{suite}-{digest.hexdigest()[:12]}"


def _recipe(suite: str) -> dict[str, Any]:
    """List all that shapes the guest: a change of it is another guest, any other edit is not."""
    from labkit import __version__  # here: labkit itself imports this module

    here = files("labkit.engine.embedded")
    return {
        "versions": [__version__, RECIPE],
        "packages": [suite, KERNEL, ROOT, HOST, COMPILER],
        "patterns": [p.pattern for p in (FOLLOW, DROP, FOLLOW_IN_IMAGES, DROP_IN_IMAGES)],
        "modules": [EARLY, LATE],
        "disk": DISK,
        "files": [FILES, scripts()],
        "whoami": (here / "images/whoami.c").read_text(),
        "layers": {name: _listed(layer) for name, layer in images.LAYERS.items()},
        "images": [_listed(image) for image in images.catalogue()],
    }


def scripts() -> dict[str, str]:
    """Return the guest's own programs, by name."""
    directory = Path(str(files("labkit.engine.embedded") / "guest"))
    return {p.name: p.read_text() for p in sorted(directory.iterdir()) if p.is_file()}


def _listed(part: images.Layer | images.Image) -> dict[str, Any]:
    """Return the fields of a part of the images, with the contents of its files."""
    found = asdict(part)
    for name, content in part.files.items():
        if isinstance(content, Path):
            found["files"][name] = hashlib.sha256(content.read_bytes()).hexdigest()
    return found
