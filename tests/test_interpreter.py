"""A command's process ends at once, and loses nothing by it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_NOTED = "import atexit; from kgdbpatch import interpreter; atexit.register(print, 'noted')\n"
_THREAD = (
    "import threading; go_on = threading.Event()\n"
    "threading.Thread(target=lambda: (go_on.wait(), print('worked'))).start()\n"
    "threading._register_atexit(go_on.set)\n"
)


def _run(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _NOTED + text], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("code", [0, 3])
def test_output_and_what_was_to_be_done_at_the_end_are_not_lost(code: int) -> None:
    done = _run(f"print('x' * 200_000); interpreter.leave({code})")
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == "x" * 200_000 + "\nnoted\n"


def test_another_thread_is_waited_for() -> None:
    done = _run(_THREAD + "interpreter.leave(4)")
    assert (done.returncode, done.stderr) == (4, "")
    assert done.stdout.split() == ["worked", "noted"]


def test_objects_are_not_taken_down() -> None:
    text = "class Slow:\n    def __del__(self): print('taken down')\n"
    done = _run(text + "kept = Slow(); kept.it = kept; interpreter.leave(0)")
    assert done.stdout.split() == ["noted"]


def test_a_command_sets_what_the_user_set_not_again() -> None:
    text = "import os; os.environ['OPENBLAS_NUM_THREADS'] = '2'; interpreter.set_up()\n"
    assert _run(text + "print(os.environ['OPENBLAS_NUM_THREADS'])").stdout.split() == ["2", "noted"]


def test_a_library_changes_nothing_of_its_users_process() -> None:
    text = "import gc, os; before = gc.get_threshold(), dict(os.environ)\n"
    text += "import kgdbpatch.cli, kgdbpatch.kernel\n"
    done = _run(text + "print((gc.get_threshold(), dict(os.environ)) == before)")
    assert (done.stderr, done.stdout.split()) == ("", ["True", "noted"])


def test_the_program_is_found_by_its_name_too() -> None:
    command = [sys.executable, "-m", "kgdbpatch", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "No such command" in done.stderr
