"""Commands that halt a guest and let it go on: pause, resume."""

from __future__ import annotations

from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import json_line, tell, told_of

__all__ = ["pause", "resume"]


def pause(name: Name, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Halt a guest until 'kgdbpatch resume'; its time stands still.

    Other commands work on it meanwhile and leave it paused, but for those that wait for something that
    the guest does: call, and an update that waits for a safe moment.

    \b
    Examples:
      kgdbpatch pause darwin
      kgdbpatch bt darwin
      kgdbpatch resume darwin
    """
    with attach(name, image, wait, dead=True) as kernel:
        ran = kernel.pause()
        told = told_of(kernel, "paused")
    if as_json:
        json_line(told)
    else:
        tell(f"{name} is paused" if ran else f"{name} was paused already")


def resume(name: Name, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Let a paused guest go on.

    \b
    Example:
      kgdbpatch resume darwin
    """
    with attach(name, image, wait, dead=True) as kernel:
        was_paused = kernel.resume()
        told = told_of(kernel, "running")
    if as_json:
        json_line(told)
    else:
        tell(f"{name} goes on" if was_paused else f"{name} was running already")
