"""What cannot be attached to, said in one line with the right exit code; nothing is left of the attempt."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.errors import KgdbPatchError, Misuse, TargetBusy, TargetLost
from kgdbpatch.vm import runtime
from kgdbpatch.vm.contact import meet
from kgdbpatch.vm.peer import holders, listeners, peer_of
from kgdbpatch.vm.server import gdb_server, is_local


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KGDBPATCH_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr("kgdbpatch.vm.contact.WATCHED", 0.0)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, socket.socket]]:
    """A UNIX socket that listens, bound by a relative name as QEMU may be told to."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("gdb")
        made.listen()
        yield tmp_path / "gdb", made


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (":1234", "localhost:1234"),
        ("tcp::1234", "localhost:1234"),
        ("localhost:1", "localhost:1"),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("[::1]:1234", "[::1]:1234"),
    ],
)
def test_tcp_servers_of_this_host(text: str, meant: str) -> None:
    assert gdb_server(text, remote=False) == meant
    assert is_local(meant)


@pytest.mark.parametrize("text", ["10.0.0.1:1234", "board.example:1234", "0.0.0.0:1234", "[fe80::1]:1"])
def test_another_host_needs_to_be_meant(text: str) -> None:
    with pytest.raises(Misuse, match=r"asks nobody who he is.*--remote-host"):
        gdb_server(text, remote=False)
    assert not is_local(gdb_server(text, remote=True))


@pytest.mark.parametrize("text", ["", "1234", "host", "host:", "host:x", ":0", ":65536", "a b:1", "unix:"])
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(Misuse, match="--gdb"):
        gdb_server(text, remote=True)


def test_a_socket_is_a_socket(tmp_path: Path, server: tuple[Path, socket.socket]) -> None:
    assert gdb_server(f"unix:{server[0]}", remote=False) == str(server[0])
    (tmp_path / "file").touch()
    with pytest.raises(Misuse, match="no socket"):
        gdb_server(f"unix:{tmp_path / 'file'}", remote=False)
    with pytest.raises(TargetLost, match="No such file"):
        gdb_server(f"unix:{tmp_path / 'none'}", remote=False)


def test_whose_a_socket_is_by_any_name_of_it(tmp_path: Path, server: tuple[Path, socket.socket]) -> None:
    path, listening = server
    link = tmp_path / "link"
    link.symlink_to(path)
    inode = os.fstat(listening.fileno()).st_ino
    assert listeners(path) == listeners(link) == [inode]
    assert os.getpid() in [pid for pid, _ in holders(listeners(link))]
    assert peer_of(link) is None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        served, _ = listening.accept()
        with served:
            found = peer_of(link)
        assert found is not None
        assert found[0] == os.getpid()
    listening.close()
    assert listeners(link) == []


def test_whose_a_port_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        address = Path(f"localhost:{port}")
        assert listeners(address) == [os.fstat(listening.fileno()).st_ino]
        with socket.create_connection(("127.0.0.1", port)):
            found = peer_of(address)
            assert found is not None
            assert found[0] == os.getpid()
    assert listeners(address) == []


def refused(gdb: str, **more: str) -> KgdbPatchError:
    """Return the error of an attempt to attach, of which nothing is left."""
    with pytest.raises(KgdbPatchError) as error:
        meet("mine", gdb=gdb, **more)  # type: ignore[arg-type]
    assert runtime.guests() == runtime.ended() == []
    assert not (runtime.private_directory() / "mine").exists()
    return error.value


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    error = refused(f":{port}")
    assert (error.exit_code, f"nobody listens at localhost:{port}" in str(error)) == (4, True)


def test_a_socket_that_nobody_serves(server: tuple[Path, socket.socket]) -> None:
    server[1].close()
    error = refused(str(server[0]))
    assert error.exit_code == 4
    assert "refused" in str(error)


def test_a_server_of_something_else(server: tuple[Path, socket.socket]) -> None:
    def answer() -> None:
        connection, _ = server[1].accept()
        with connection:
            connection.sendall(b"220 mail.example ESMTP\r\n")

    serving = threading.Thread(target=answer)
    serving.start()
    error = refused(str(server[0]))
    serving.join()
    assert error.exit_code == 4
    assert "no GDB server of a PowerPC QEMU answers at" in str(error)


def test_another_client_holds_the_server(
    server: tuple[Path, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgdbpatch.vm.contact.GREETING", 0.0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server[0]))
        served, _ = server[1].accept()
        with served:
            error = refused(str(server[0]))
    assert isinstance(error, TargetBusy)
    assert f"process {os.getpid()}" in str(error)


def test_what_else_is_named_must_be_there(tmp_path: Path, server: tuple[Path, socket.socket]) -> None:
    assert refused(str(server[0]), qmp=str(tmp_path / "none")).exit_code == 4
    assert refused(str(server[0]), console=str(tmp_path / "none")).exit_code == 2
    assert refused(str(server[0]), console="unix:/none").exit_code == 4
    assert refused(str(server[0]), console="10.0.0.1:1").exit_code == 2
    with pytest.raises(Misuse, match="not of the form"):
        meet("a/b", gdb=str(server[0]))
