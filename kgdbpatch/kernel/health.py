"""How a guest's kernel is: running, paused, panicked, hung, reset or ended; found without a stop.

Most is read from files and from its memory; QEMU is asked only whether one that stands still hangs.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kgdbpatch.errors import BadInput, DeadKernel, TargetLost, TargetTimeout
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel import family
from kgdbpatch.personality.base import Vitals
from kgdbpatch.vm.cpus import Glance, glances
from kgdbpatch.vm.lock import held
from kgdbpatch.vm.qemu import Qemu, Since

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu

__all__ = ["Health", "Watch"]

_NEVER_INTERRUPTIBLE = 1.0  # seconds of QEMU's processor time that no sound kernel keeps interrupts off
_MISSED_BEATS = 3.0  # heartbeats, of the guest's time, after which it has none
_REPORTS = 4.0  # times as much: Linux waits a second or more between an oops and the panic it leads to
_LEAST = 8  # glances that a verdict needs
_LATEST = 16  # of the glances tell whether it lives now
_STACK = 0x4000  # bytes: places so far apart are on two threads' stacks, or an interrupt's
_STARVES = 0.8  # of the glances see the same thread where others hardly run
_BATCH = 4  # glances at once
_LONGEST = 10.0  # seconds of looking, on a host that has other things to do
_QMP = 2.0  # seconds to wait for whoever talks to QEMU's monitor
_JUST_STRUCK = 0.1  # heartbeats, of the guest's time, in which something done to it takes effect
_LAST_WORDS = 3.0  # seconds for which a kernel that has panicked is listened to
_SILENT = 0.25  # seconds after which it has said what it had to say
_QUICK = 0.05  # seconds that sound kernels' counters stand still at most, most often


@dataclass(frozen=True, slots=True)
class Health:
    """How a kernel is and why; the panic's ``line``, lines of ``oopses``, who does not leave a patch."""

    state: str
    reason: str = ""
    line: str = ""
    oopses: tuple[str, ...] = ()
    endless: str = ""

    @property
    def dead(self) -> bool:
        """Whether nothing can be done with the kernel any more."""
        return self.state in ("panicked", "hung", "reset", "ended")

    @property
    def words(self) -> str:
        """What is to be said of a kernel that is not running, after its name."""
        if self.state == "panicked":
            return f"has panicked: {self.reason}"
        return f"hangs: {self.reason}" if self.state == "hung" else f"is {self.state}: {self.reason}"


class Watch:
    """Watch one guest; ``image`` gives its kernel when that is needed, ``place`` names an address in it."""

    def __init__(
        self,
        qemu: Qemu,
        recipe: Recipe,
        image: Callable[[], Image],
        place: Callable[[int], str] | None = None,
    ) -> None:
        self._qemu, self._recipe, self._image = qemu, recipe, image
        self._personality = recipe.personality
        self._name = place
        self._heartbeat = None if qemu.metadata.get("icount") else recipe.heartbeat
        self._since: Since | None = None  # the life that the following is of
        self._read = self._size = -1  # as far as the console is known
        self._panic, self._oopses = "", list[str]()
        self._beats = 0  # lines of its workload's
        self._last_beat: float | None = None  # by the guest's clock: of such a line, else of the first one
        self._last_time = 0.0  # of any line
        self._untimed = False  # lines without a time came since it beat
        self._seen: tuple[bytes, ...] = ()  # the counters when they were looked at last
        self._proved = 0.0  # when the kernel was last seen to do something

    @cached_property
    def _cpu(self) -> Cpu:
        return family.noted(self._qemu.directory)

    @cached_property
    def _vitals(self) -> Vitals:
        noted: Any = self._qemu.metadata.get("vitals")
        try:
            return Vitals(
                tuple(noted["ticks"]),
                tuple(noted["switches"]),
                tuple(noted["idle"]) if noted["idle"] else None,
                noted["panic"],
                noted["no_panic"],
            )
        except (KeyError, TypeError):  # another version's, or nobody's
            return self._personality.vitals(self._image())

    def _word(self, physical: int) -> bytes:
        return self._qemu.ram.read(physical, 4)

    # ---- what is seen at once ------------------------------------------------------------

    def glance(self) -> Health:
        """Tell what is known without waiting; ``running`` may be a kernel that hangs."""
        qemu = self._qemu
        if not qemu.alive():
            return Health("ended", str(qemu.lost()), self._panic)
        self._read_console()
        oopses = tuple(self._oopses)
        since = qemu.since
        resets = [why for place, why in qemu.events.update().resets if place >= since.events]
        if resets:
            after = f" after '{self._panic}'" if self._panic else ""
            reason = f"it was reset ({resets[0]}){after}; its patches are gone, boot it again"
            return Health("reset", reason, self._panic, oopses)
        if self._has_panicked():
            return Health("panicked", self._panic or "it says so in its memory", self._panic, oopses)
        if qemu.process.suspended():
            return Health("paused", f"QEMU (process {qemu.pid}) was stopped by a signal", "", oopses)
        if qemu.events.stopped:
            note = qemu.directory / "debugged"
            found_running = note.exists() and note.read_text() == "running"
            if found_running and held(qemu.directory / "lock"):
                return Health("running", "a debugger is at work", "", oopses)
            reason = "a debugger that was killed left it stopped" if found_running else "it was told to pause"
            return Health("paused", reason, "", oopses)
        return Health("running", "", "", oopses)

    def _read_console(self) -> None:
        since = self._qemu.since
        if self._since != since:
            self._panic, self._oopses, self._read, self._size = "", [], since.console, -1
            self._last_beat, self._last_time, self._untimed = None, 0.0, False
            self._since = since
        console = self._qemu.heard
        size = console.size()
        if size == self._size:
            return
        self._size, end = size, console.position()
        if end <= self._read:
            return
        for line in console.lines(self._read):
            if not self._panic and re.search(self._personality.panic, line):
                self._panic = line.strip()
            if re.search(f"{self._personality.oops}|{self._personality.complaint}", line):
                self._oopses.append(line.strip())
            self._note_beat(line)
        self._read = end

    def _note_beat(self, line: str) -> None:
        parsed = self._personality.parse_log(line)
        at = self._personality.log_seconds(parsed.time) if parsed else None
        self._last_time = self._last_time if at is None else at
        beat = re.search(self._recipe.beat, line) is not None
        self._beats += beat
        self._untimed = not beat and (self._untimed or at is None)
        if beat or (self._last_beat is None and at is not None):
            self._last_beat = self._last_time

    def _silent(self) -> float:
        """Return for how long nothing is heard of the workload; the kernel's own lines are none of it."""
        self._read_console()
        since = self._last_time if self._last_beat is None else self._last_beat
        return self._qemu.heard.silent() + max(self._last_time - since, 0.0)

    def _has_panicked(self) -> bool:
        """Tell whether the kernel gave itself up: by its own word for it if that is known, else its line."""
        if self._vitals.panic is None:
            return bool(self._panic)
        return int.from_bytes(self._word(self._vitals.panic), "big") != self._vitals.no_panic

    # ---- what takes a look ---------------------------------------------------------------

    def assure(self, every: float = 1.0) -> Health:
        """Raise `DeadKernel` when the kernel is dead; whether it hangs is looked at every so many seconds."""
        found = self._listened(self.glance())
        if found.state == "running" and time.monotonic() - self._proved >= every:
            found = self.examine(found)
        return self._alive(found)

    def assure_seen(self) -> Health:
        """Raise `DeadKernel` when the kernel is known to be dead; one that hangs may pass."""
        return self._alive(self._listened(self.glance()))

    def _alive(self, found: Health) -> Health:
        if found.state == "ended":
            raise self._qemu.lost()
        if found.dead:
            raise DeadKernel(f"guest '{self._qemu.name}' {found.words}", found.state)
        return found

    def examine(self, found: Health | None = None, *, prove: bool = False) -> Health:
        """Tell how the kernel is; a hang takes seconds. ``prove``: its next line is waited for."""
        found = found or self._listened(self.glance())
        if found.state != "running" or found.reason:
            return found
        beat = self._heartbeat
        fresh = beat is None or (self._silent() < _MISSED_BEATS * beat and not self._untimed)
        if fresh and not prove and self._counts():
            self._proved = time.monotonic()
            return found
        known = self._remembered()
        reason = known if known is not None else self._observe(need_line=prove)
        if reason is None:
            self._proved = time.monotonic()
            return self._listened(self.glance())
        again = self._listened(self.glance())  # it may have panicked, or been paused, meanwhile
        runs = again.state == "running" and not again.reason
        return Health("hung", reason, "", found.oopses) if runs else again

    def _listened(self, found: Health) -> Health:
        """Return how a kernel is once it has said why it panicked, if it has just begun to."""
        console, until = self._qemu.heard, time.monotonic() + _LAST_WORDS
        try:
            while found.state == "panicked" and (not self._panic or console.silent() < _SILENT):
                if time.monotonic() >= until:
                    break
                for _ in console.follow(console.position(), _SILENT):
                    pass
                found = self.glance()
        except TargetLost:
            return self.glance()
        return found

    def _counts(self) -> bool:
        """Tell whether the kernel's counters go on, by what they were the last time or soon."""
        if not self._vitals.ticks + self._vitals.switches:
            return False
        until = time.monotonic() + _QUICK
        before = self._seen or self._counters()
        while self._counters() == before:
            if time.monotonic() > until:
                return False
            time.sleep(0.002)  # nothing tells that a guest wrote to its memory; half a tick of 250 Hz
        return True

    def _counters(self) -> tuple[bytes, ...]:
        self._seen = tuple(self._word(place) for place in self._vitals.ticks + self._vitals.switches)
        return self._seen

    def counts(self) -> tuple[int | None, int | None]:
        """Return the clock's ticks and the changes of threads so far, modulo 2^32; None: not known."""
        vitals = self._vitals
        words = [
            [int.from_bytes(self._word(at), "big") for at in one] for one in (vitals.ticks, vitals.switches)
        ]
        ticks, switches = (sum(one) % (1 << 32) if one else None for one in words)
        return ticks, switches

    def _changes(self, seen: list[Glance], before: tuple[bytes, ...]) -> bool:
        """Tell whether threads or processes are seen to take turns, or the CPU to be idle."""
        vitals = self._vitals
        if any(self._cpu.in_process(cpu.msr) for cpu in seen) or (
            not vitals.switches and vitals.idle is None
        ):
            return True
        if vitals.idle is not None:
            low, high = vitals.idle
            return len({cpu.r2 for cpu in seen}) > 1 or any(low <= cpu.sp < high for cpu in seen)
        stacks = [cpu.sp // _STACK for cpu in seen]  # a thread that starves others lets some run for moments
        most = max(map(stacks.count, set(stacks)))
        return self._seen[len(vitals.ticks) :] != before[len(vitals.ticks) :] and most <= _STARVES * len(seen)

    def _observe(self, *, need_line: bool) -> str | None:
        """Return why the kernel seems to hang, or None when it does something, or nothing is known.

        One with a heartbeat has time to show it, else turns of its threads must do. ``need_line``: a new one.
        """
        process, beat = self._qemu.process, self._heartbeat
        spent, began = process.cpu_seconds(), time.monotonic()
        seen: list[Glance] = []
        counters = self._counters()
        history = [counters]
        prints = self._proof_in_print(seen) if need_line and beat is not None else self._prints()
        while True:
            try:
                rows = glances(self._qemu, _BATCH, _QMP)
            except TargetTimeout:
                return None
            except TargetLost:
                if self._qemu.alive():
                    raise
                return None
            seen += [cpu for row in rows for cpu in row]
            goes_on = self._counters() != counters
            interruptible = goes_on or any(self._cpu.interruptible(cpu.msr) for cpu in seen)
            if prints():
                return None
            history.append(self._seen)
            # an idle kernel whose clock stands still waits for a tick that never comes
            lives = len(seen) >= _LEAST and (goes_on or not counters)
            lives = lives and self._changes(seen, history[0])  # and not only because of what came and went
            lives = lives and self._changes(seen[-_LATEST:], history[-_LATEST // _BATCH :][0])
            if interruptible and beat is None:
                return None
            used, waited = process.cpu_seconds() - spent, time.monotonic() - began
            enough = len(seen) >= _LEAST and (used >= _NEVER_INTERRUPTIBLE or waited > _LONGEST)
            if enough and not interruptible and used >= self._patience():
                return self._verdict(f"interrupts are off and stay so, the CPU is at {self._place(seen)}")
            hz = self._recipe.machine.timebase_hz
            beats = (seen[-1].timebase - seen[0].timebase) / hz if seen and hz else waited if seen else 0.0
            if enough and beat is not None and beats >= _MISSED_BEATS * beat:
                if lives:  # if slowly
                    return None
                silent = self._silent()
                known = f" for {silent:.0f} s" if silent >= _MISSED_BEATS * beat else ""
                return self._verdict(f"no word of it{known}, the CPU is at {self._place(seen)}")
            if waited > 4 * _LONGEST or (waited > _LONGEST and not seen):
                return None

    def _prints(self) -> Callable[[], bool]:
        """Return what tells whether the guest has printed since; of one with a heartbeat: whether it beat."""
        self._read_console()
        size, beats = self._qemu.heard.size(), self._beats

        def prints() -> bool:
            if self._heartbeat is None:
                return self._qemu.heard.size() != size
            self._read_console()
            return self._beats > beats

        return prints

    def _proof_in_print(self, seen: list[Glance]) -> Callable[[], bool]:
        """Return what tells whether the kernel has printed since something that proves how it is.

        That is a line of its workload begun after the CPU's clock went on for a while, or one that tells of a
        fault.
        """
        self._read_console()
        console, faults, beats = self._qemu.heard, len(self._oopses), -1
        awhile = _JUST_STRUCK * (self._heartbeat or 0.0) * self._recipe.machine.timebase_hz

        def prints() -> bool:
            nonlocal beats
            self._read_console()
            if self._panic or len(self._oopses) > faults:
                return True
            if beats >= 0:
                return self._beats > beats
            late = seen and seen[-1].timebase - seen[0].timebase >= awhile
            if late and console.size() == console.position():
                beats = self._beats
            return False

        return prints

    def _patience(self) -> float:
        """Return for how long interrupts must be off: a kernel that reports its own end takes its time."""
        self._read_console()
        return 0.0 if not self._oopses else _NEVER_INTERRUPTIBLE * _REPORTS

    def _place(self, seen: list[Glance]) -> str:
        places = [cpu.pc for cpu in seen]
        place = max(set(places), key=places.count)
        try:
            return self._name(place) if self._name else self._image().symbolize(place)
        except BadInput:  # the file has gone
            return f"0x{place:08x}"

    # ---- a verdict stands as long as nothing is heard of the guest --------------------------------

    def _mark(self) -> list[int]:
        counters = self._counters() if self._heartbeat is None else ()
        words = (int.from_bytes(word, "big") for word in counters)
        return [self._qemu.heard.size(), self._qemu.events.position(), *words]

    def _verdict(self, reason: str) -> str:
        reason += f"; it had said '{self._oopses[0]}'" if self._oopses else ""
        new = self._qemu.directory / "hung.json.new"
        new.write_text(json.dumps({"mark": self._mark(), "reason": reason}))
        new.rename(self._qemu.directory / "hung.json")
        return reason

    def _remembered(self) -> str | None:
        try:
            note = json.loads((self._qemu.directory / "hung.json").read_text())
            return str(note["reason"]) if note["mark"] == self._mark() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
