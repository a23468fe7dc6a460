"""The servers of a QEMU that somebody else started, as users name them: a socket's path, or a TCP port."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from kgdbpatch.errors import Misuse, TargetLost

__all__ = ["gdb_server", "is_local", "unix_socket"]

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_TCP = re.compile(r"(?:tcp:)?(?:(?P<host>[^\s:\[\]/,]*)|\[(?P<six>[0-9A-Fa-f:.]+)\]):(?P<port>\d{1,5})")
_MOST = 65535


def gdb_server(text: str, *, remote: bool) -> str:
    """Return a GDB server as GDB is told of it: an absolute path, or ``HOST:PORT``.

    ``remote``: it may be another host's. Raises `Misuse` for what names no server, `TargetLost` where there
    is no socket.

    >>> gdb_server("tcp::1234", remote=False)
    'localhost:1234'
    """
    if text.startswith(("unix:", "/", ".")):
        return str(unix_socket(text, "--gdb"))
    tcp = _TCP.fullmatch(text)
    if tcp is None:
        raise Misuse(f"--gdb '{text}' is neither unix:PATH nor HOST:PORT")
    host, port = tcp["six"] or tcp["host"] or "localhost", int(tcp["port"])
    if not 0 < port <= _MOST:
        raise Misuse(f"--gdb '{text}': {port} is no TCP port")
    if not remote and not _LOOPBACK.fullmatch(host):
        raise Misuse(
            f"--gdb '{text}' is another host: QEMU's GDB server asks nobody who he is, so whoever reaches "
            "that port owns the guest, and what is sent can be read on the way; a tunnel to the loopback "
            "address (ssh -L) avoids both, --remote-host does it nevertheless"
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(server: str) -> bool:
    """Tell whether a server, as `gdb_server` returns it, is this machine's alone."""
    return server.startswith("/") or _LOOPBACK.fullmatch(server.rpartition(":")[0].strip("[]")) is not None


def unix_socket(text: str, option: str) -> Path:
    """Return the absolute path of a socket given as ``unix:PATH`` or as a path; errors as `gdb_server`'s."""
    name = text.removeprefix("unix:")
    if not name:
        raise Misuse(f"{option} '{text}' names no socket: unix:PATH")
    path = Path(name).absolute()
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise TargetLost(f"{option}: there is no socket {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise Misuse(f"{option}: {path} is no socket")
    return path
