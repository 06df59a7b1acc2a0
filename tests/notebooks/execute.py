"""Execute a notebook where there is no network: unshare --net python execute.py NOTEBOOK EXECUTED KERNEL SECONDS.

A process of its own, which leaves the test's network alone. The executed notebook is written even if a cell failed.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def bring_loopback_up() -> None:
    """Give a new network namespace the one interface over which a notebook and its kernel talk."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name, flags = struct.unpack("16sh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0)))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", name, flags | IFF_UP))


def main(notebook: str, executed: str, kernel: str, seconds: str) -> None:
    bring_loopback_up()
    cells = nbformat.read(notebook, as_version=4)
    client = NotebookClient(cells, kernel_name=kernel, timeout=int(seconds), resources={"metadata": {"path": "."}})
    try:
        client.execute()
    except CellExecutionError as error:
        print(error.ename, error.evalue)
        raise SystemExit(1) from None
    finally:
        nbformat.write(cells, Path(executed))


if __name__ == "__main__":
    main(*sys.argv[1:])
