"""The servers of a QEMU that somebody else started, as users name them: a socket's path, or a TCP port."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from kgdbpatch.errors import Misuse, TargetLost

__all__ = ["PTY", "UNIX", "console_place", "gdb_server", "is_local", "unix_socket"]

UNIX, PTY = "unix:", "pty:"

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
    if _TCP.fullmatch(text) is None:
        raise Misuse(f"--gdb '{text}' is neither unix:PATH nor HOST:PORT")
    return _tcp_server(text, "--gdb", "QEMU's GDB server", "owns the guest", remote)


def _tcp_server(text: str, option: str, who: str, may: str, remote: bool) -> str:
    tcp = _TCP.fullmatch(text)
    assert tcp is not None  # the caller has looked
    host, port = tcp["six"] or tcp["host"] or "localhost", int(tcp["port"])
    if not 0 < port <= _MOST:
        raise Misuse(f"{option} '{text}': {port} is no TCP port")
    if not remote and not _LOOPBACK.fullmatch(host):
        raise Misuse(
            f"{option} '{text}' is another host: {who} asks nobody who he is, so whoever reaches "
            f"that port {may}, and what is sent can be read on the way; a tunnel to the loopback "
            "address (ssh -L) avoids both, --remote-host does it nevertheless"
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def console_place(text: str, *, remote: bool) -> str:
    """Return where a guest's console is, as users name it.

    A file that QEMU writes comes back as its absolute path, what is to be connected to as ``unix:PATH``,
    ``pty:PATH`` or ``HOST:PORT``. Errors as of `gdb_server`.
    """
    name = text.removeprefix("file:")
    path = Path(name.removeprefix(UNIX).removeprefix(PTY)).absolute()
    try:
        mode = path.stat().st_mode if name else 0
    except OSError:
        mode = 0
    if name.startswith(UNIX) or (stat.S_ISSOCK(mode) and not name.startswith(PTY)):
        return f"{UNIX}{unix_socket(name, '--console')}"
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode) and name == text and _TCP.fullmatch(name):
        return _tcp_server(name, "--console", "QEMU", "types what he likes", remote)
    if stat.S_ISCHR(mode):
        return f"{PTY}{path.resolve()}"
    if not stat.S_ISREG(mode) or name.startswith(PTY):
        raise Misuse(
            f"--console {text}: there is no such file, terminal or socket; FILE is what QEMU writes "
            "(logfile=), unix:PATH and HOST:PORT are its servers, /dev/pts/N is what '-serial pty' has made"
        )
    if not os.access(path, os.R_OK):
        raise Misuse(f"--console {path} cannot be read")
    return str(path)


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
