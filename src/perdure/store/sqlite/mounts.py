"""Network file systems, which SQLite cannot be kept on.

The log's index is memory shared between processes, which machines do not share, and locks over a network are known to
be granted twice. Either tears the file.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from perdure.core.errors import StoreUnavailable

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.blobfuse",
        "fuse.blobfuse2",
        "fuse.ceph",
        "fuse.davfs2",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.nfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.smbnetfs",
        "fuse.sshfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
    }
)


def read_mounts() -> str:
    """The kernel's table of mounts, in the form of Linux' `mountinfo`; empty where it cannot be had.

    Elsewhere than on Linux, and in a sandbox without /proc, it is up to the user to choose a local disk.
    """
    if sys.platform != "linux":
        return ""
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def file_system_of(path: Path, mountinfo: str) -> str | None:
    """The type of the file system that holds `path`, which must be absolute and free of links; None if unknown."""
    deepest = -1
    found = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescape(before.split(" ")[4]))
        # Of two mounts on one point, the later one covers the other.
        if len(point.parts) >= deepest and path.is_relative_to(point):
            deepest = len(point.parts)
            found = after.split(" ")[0]
    return found


def refuse_network(path: Path, mountinfo: str) -> None:
    """Raises StoreUnavailable if the directory `path` is on a network file system."""
    kind = file_system_of(path, mountinfo)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnavailable(
            f"{path} is on a network file system ({kind}), where SQLite's locks and shared memory do not hold "
            "and the store would be damaged. Put it on a local disk."
        )


def _unescape(text: str) -> str:
    """Blanks, tabs, line ends and backslashes are in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
