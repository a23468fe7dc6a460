"""Init calls of patches, before anybody can reach them, and exit calls, when nobody is inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import starmap
from typing import TYPE_CHECKING

from kgdbpatch.component import Header
from kgdbpatch.component.kernel_calls import pending
from kgdbpatch.component.stages import Calls, exit_calls, set_stage
from kgdbpatch.errors import KgdbPatchError, Outdated, Refused, TargetLost, TargetTimeout
from kgdbpatch.kernel.held_modules import Held, counts, give_back, hold
from kgdbpatch.patch.trap import Hook
from kgdbpatch.variables import Stage

if TYPE_CHECKING:
    from kgdbpatch.component.table import Record
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.patch.plan import Plan
    from kgdbpatch.patch.planned import First

__all__ = ["begin", "check_callable", "end", "make_exit_calls", "put_in"]

_CALL = 10.0  # seconds that one call may take


def put_in(
    kernel: Kernel, header: Header, plans: Sequence[tuple[int, Plan]], hook: Hook | None, basis: bytes
) -> list[int]:
    """Put patches in, as `ComponentClient.apply`, their init calls first; the guest is held.

    Those run once all is written, in a process, before the first splice. Raises `Refused` (rule ``veto``) for
    one of Linux's that returns other than 0, `TargetTimeout` for one that does not return: the patches are
    out again then, what the calls have done stays done.
    """
    component = kernel._component
    component.due = []
    firsts = [plan.first for _, plan in plans if plan.first is not None]
    if not firsts:
        ids = component.apply(header, plans, hook, basis)
        end(kernel, header)
        return ids
    check_callable(kernel, firsts)
    application = component.application(header, plans, hook, basis)
    with component.stop(header.arena, anywhere=True) as stop:
        application.write(stop, kept=True)
    try:
        for first in firsts:
            begin(kernel, header, first)
        with component.stop(header.arena) as stop:
            application.splice(stop)
            if application.retired:
                component.collect(header, stop)
    except BaseException as error:
        table = component.arena(header.arena).table()
        component.remove(header, table, set(application.ids))
        with suppress(KgdbPatchError):
            end(kernel, header)
        if isinstance(error, Outdated):  # the calls must not be made anew
            raise Refused("module", str(error)) from error
        raise
    end(kernel, header)
    return application.ids


def check_callable(kernel: Kernel, firsts: Iterable[First]) -> None:
    """Raise `TargetLost` for a paused guest, `Refused` where this kernel's functions cannot be called.

    Nothing is called to keep a Darwin's extensions loaded.
    """
    if not any(first.calls for first in firsts) and counts(kernel):
        return
    if not kernel.qemu.runs():
        raise TargetLost(
            f"guest '{kernel.name}' is paused; the payload has init calls, which nobody runs before 'resume'"
        )
    try:
        kernel._calls.prepare()
    except Refused as refused:
        raise Refused(refused.rule, f"the payload has init calls (constructors), and {refused}") from refused


def begin(kernel: Kernel, header: Header, first: First) -> None:
    """Make the init calls of a patch that is written, not spliced; its modules stay loaded from then on."""
    held = list[Held]()
    try:
        for one in starmap(Held, first.holds):
            hold(kernel, header, one)
            held.append(one)
        _call_first(kernel, first)
    except BaseException:
        for one in held:
            with suppress(KgdbPatchError):
                give_back(kernel, header, one)
        raise
    component = kernel._component
    arena = component.arena(header.arena)
    set_stage(component, arena, kernel._qemu.ram, first.stage, Stage.BEGUN)


def _call_first(kernel: Kernel, first: First) -> None:
    for call in first.calls:
        try:
            answer = kernel._calls.own(call.address, deadline=_CALL)
        except TargetTimeout as error:
            kernel.assure_alive()  # it may have died of the call
            raise TargetTimeout(f"the payload's init call {call.name}: {error}") from error
        if call.heeded and answer:
            number = answer - (1 << 32) if answer >> 31 else answer
            raise Refused("veto", f"the payload's init call {call.name} says no: it returned {number}")


def end(kernel: Kernel, header: Header) -> None:
    """Make the exit calls of the removed patches that wait for nothing else, the newest first; collect then.

    Where the kernel cannot run them now (it is paused, nobody makes a system call), they wait for whoever
    changes patches next.
    """
    due, component = component_due(kernel), kernel._component
    if not due or not kernel.qemu.runs():
        return
    for record in sorted(due, key=lambda one: -one.id):
        if not _ended(kernel, header, record):
            return
    with component.stop(header.arena) as stop:
        component.collect(header, stop)
    if component.due:  # they were in use by those that have gone now
        end(kernel, header)


def component_due(kernel: Kernel) -> Iterable[Record]:
    """Return what is due and forget it."""
    due, kernel._component.due = kernel._component.due, []
    return due


def _ended(kernel: Kernel, header: Header, record: Record) -> bool:
    calls = exit_calls(kernel._component.arena(header.arena), record)
    assert calls is not None  # that is why it is due
    return make_exit_calls(kernel, header, calls)


def make_exit_calls(kernel: Kernel, header: Header, calls: Calls) -> bool:
    """Make the exit calls of a payload, unless they were made; tell whether they are made now."""
    component, ram = kernel._component, kernel._qemu.ram
    arena = component.arena(header.arena)
    if int.from_bytes(arena.read(calls.stage, 4), "big") != Stage.BEGUN:
        return True
    set_stage(component, arena, ram, calls.stage, Stage.ENDED)  # once and no more, whatever comes
    for number, function in enumerate(calls.last):
        try:
            kernel._calls.own(function, deadline=_CALL)
        except KgdbPatchError:
            kernel.assure_alive()
            if not number and pending(ram, header.arena.physical) is None:  # it was not even begun
                set_stage(component, arena, ram, calls.stage, Stage.BEGUN)
                return False
    for held in starmap(Held, calls.holds):
        with suppress(KgdbPatchError):
            give_back(kernel, header, held)
    return True
