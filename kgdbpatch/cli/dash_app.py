"""The dashboard's picture and its keys, with textual; what it shows comes of `kgdbpatch.kernel.dashboard`."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Input, RichLog, Static

from kgdbpatch.cli.dash_screens import Help, Question
from kgdbpatch.cli.dash_text import COLUMNS, cells, heading, log_line
from kgdbpatch.cli.output import printable
from kgdbpatch.errors import KgdbPatchError, TargetLost
from kgdbpatch.results import PatchState

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel
    from kgdbpatch.kernel.dashboard import Dashboard, DashboardRow, DashboardView
    from kgdbpatch.personality.base import LogLine

__all__ = ["DashApp"]

_LINES = 500  # of the log that are kept
_ROWS = 500  # patches that are shown
_EXAMINED = 3.0  # seconds between looks whether the kernel hangs
_SHARE = 3  # times as long as a look takes nothing is done at least, so that it does not use the machine up


class DashApp(App[None]):
    """Shows what a dashboard sees; ``ended_by`` is afterwards what ended it, if that was no key."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #heading { height: 2; padding: 0 1; background: $panel; }
    .title { height: 1; padding: 0 1; text-style: bold; color: $accent; }
    #patches { height: auto; max-height: 45%; }
    #log { height: 1fr; padding: 0 1; }
    #filter { height: 1; border: none; display: none; }
    Question, Help { align: center middle; background: $background 60%; }
    .box { width: auto; max-width: 90%; height: auto; padding: 1 3; border: round $accent; }
    .box { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("p", "pause", "Pause/resume"),
        Binding("r", "remove", "Remove patch"),
        Binding("slash", "filter", "Filter log", key_display="/"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("escape", "all_lines", show=False),
    ]

    def __init__(
        self,
        dashboard: Dashboard,
        name: str,
        image: Path | None = None,
        *,
        interval: float = 0.5,
        wait: float = 10.0,
    ) -> None:
        super().__init__()
        self._dashboard, self._guest, self._image = dashboard, name, image
        self._interval, self._wait = interval, wait
        self._over = threading.Event()
        self._view: DashboardView | None = None
        self._rows: list[DashboardRow] = []
        self._lines: deque[LogLine] = deque(maxlen=_LINES)
        self._wanted = re.compile("")
        self.ended_by: BaseException | None = None

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield Static("", id="heading", markup=False)
        yield Static("Patches", id="patches-title", classes="title", markup=False)
        yield DataTable(id="patches", cursor_type="row", zebra_stripes=True)
        yield Static("Log", id="log-title", classes="title", markup=False)
        yield RichLog(id="log", max_lines=_LINES, wrap=True)
        yield Input(id="filter", placeholder="only lines that match this regular expression", compact=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.theme = "textual-dark"
        self._table.add_columns(*COLUMNS)
        self._table.focus()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if threading.current_thread() is threading.main_thread():
                loop.add_signal_handler(number, self.exit)
        # as daemons: whoever quits does not wait for a look at a kernel that hangs
        for look, every in ((self._dashboard.view, self._interval), (self._dashboard.examine, _EXAMINED)):
            threading.Thread(target=self._again, args=(look, every), daemon=True).start()

    def on_unmount(self) -> None:
        """Look no more."""
        self._over.set()

    # ---- looks ------------------------------------------------------------------------------

    def _again(self, look: Callable[[], DashboardView | None], every: float) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                view = look()
            except TargetLost as error:
                if look == self._dashboard.view:
                    self._tell(self._end, error)
                    return
                view = None  # the next look tells it
            except BaseException as error:
                self._tell(self._end, error)
                return
            took = time.monotonic() - began
            if view is not None:
                self._tell(self._show, view)
            self._over.wait(max(every - took, _SHARE * took))

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        """Have the picture's own thread do something, as long as there is a picture."""
        try:
            self.call_from_thread(what, *arguments)
        except RuntimeError:
            if not self._over.is_set() and self.is_running:
                raise

    def _end(self, error: BaseException) -> None:
        self.ended_by = self.ended_by or error
        self.exit()

    # ---- the picture ------------------------------------------------------------------------

    @property
    def _table(self) -> DataTable[Text]:
        return self.screen_stack[0].query_one("#patches", DataTable)

    @property
    def _log_part(self) -> RichLog:
        return self.screen_stack[0].query_one("#log", RichLog)

    def _say(self, part: str, text: str | Text) -> None:
        self.screen_stack[0].query_one(f"#{part}", Static).update(text)

    def _show(self, view: DashboardView) -> None:
        self._view = view
        self._say("heading", heading(view))
        self._show_patches(view)
        self._lines.extend(view.log)
        self._write(view.log[-_LINES:])
        self._title_log()

    def _write(self, lines: Iterable[LogLine]) -> None:
        part, follows = self._log_part, self._log_part.is_vertical_scroll_end
        width = part.scrollable_content_region.width or None
        for line in lines:
            if self._wanted.search(f"{line.source}: {line.message}"):
                part.write(log_line(line), width, scroll_end=follows)

    def _rewrite(self) -> None:
        self._log_part.clear()
        self._write(self._lines)

    def on_resize(self) -> None:
        """Fold the log's lines anew."""
        self.call_after_refresh(self._rewrite)

    def _show_patches(self, view: DashboardView) -> None:
        table, rows = self._table, [*view.patches[:_ROWS]]
        if [row.id for row in rows] == [row.id for row in self._rows]:
            for number, row in enumerate(rows):
                for column, cell in enumerate(cells(row)):
                    place = Coordinate(number, column)
                    if table.get_cell_at(place) != cell:
                        table.update_cell_at(place, cell, update_width=True)
        else:
            chosen = self._chosen()
            table.clear()
            for row in rows:
                table.add_row(*cells(row))
            ids = [row.id for row in rows]
            if chosen is not None and chosen.id in ids:
                table.move_cursor(row=ids.index(chosen.id))
        self._rows = rows
        more = f", the first {_ROWS} of them ('kgdbpatch list' has all)" if len(view.patches) > _ROWS else ""
        told = f"Patches: {len(view.patches)}{more}"
        self._say("patches-title", f"No patches: {printable(view.no_patches)}" if view.no_patches else told)

    def _chosen(self) -> DashboardRow | None:
        at = self._table.cursor_row
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def _title_log(self) -> None:
        view, only = self._view, printable(self._wanted.pattern)
        if view is not None and view.no_log:
            self._say("log-title", f"No log: {printable(view.no_log)}")
        else:
            self._say("log-title", f"Log, only lines with /{only}/ (Escape: all)" if only else "Log")

    # ---- keys -------------------------------------------------------------------------------

    async def action_quit(self) -> None:
        """End this."""
        self.exit()

    def action_help(self) -> None:
        """Tell the keys."""
        self.push_screen(Help())

    def action_filter(self) -> None:
        """Ask which lines of the log to show."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self._wanted.pattern
        box.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show the lines that match what was typed."""
        try:
            self._filter(re.compile(event.value))
        except re.error as error:
            self._warn(f"/{event.value}/: {error}")

    def action_all_lines(self) -> None:
        """Show all lines again."""
        self._filter(re.compile(""))

    def _filter(self, wanted: re.Pattern[str]) -> None:
        box = self.query_one("#filter", Input)
        if box.display:
            box.display = False
            self._table.focus()
        if wanted.pattern == self._wanted.pattern:
            return
        self._wanted = wanted
        self._rewrite()
        self._title_log()

    def action_pause(self) -> None:
        """Pause the guest or let it go on, once that is confirmed."""
        view = self._view
        if view is None:
            return
        if view.state == "held":
            self._warn(f"{self._guest} is held {view.reason}: nothing is changed")
        elif view.health.dead:
            self._warn(f"{self._guest} {view.health.words}")
        elif view.state == "paused":
            self._ask(f"{self._guest} is paused ({view.reason}). Let it go on?", _resume, "goes on")
        else:
            told = "Pause it? Its time stands still until it is let go on"
            self._ask(f"{self._guest} runs. {told}.", _pause, "is paused")

    def action_remove(self) -> None:
        """Take the chosen patch out, once that is confirmed."""
        row = self._chosen()
        if row is None:
            self._warn("there is no patch to take out")
            return

        def remove(kernel: Kernel) -> str:
            states = [one.state for one in kernel.take_out([row.id]).patches]
            still = "is out; its memory is still in use" if PatchState.RETIRED in states else "is out"
            return f"patch {row.id} at {row.place} {still}"

        self._ask(f"Take patch {row.id} at {row.place} out of {self._guest}?", remove)

    def _ask(self, question: str, do: Callable[[Kernel], str | None], done: str = "") -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._carry_out(do, done), group="changes")

        self.push_screen(Question(printable(question)), answered)

    async def _carry_out(self, do: Callable[[Kernel], str | None], done: str) -> None:
        """Do something with the guest as another client would: the looks go on beside."""
        from kgdbpatch.kernel import Kernel

        def carried_out() -> str | None:
            kernel = Kernel.attach(self._guest, image=self._image, wait=self._wait, dead=True)
            try:
                return do(kernel)
            finally:
                kernel.close()

        try:
            told = await asyncio.to_thread(carried_out)
        except KgdbPatchError as error:
            self._warn(str(error))
        else:
            self.notify(printable(told or f"{self._guest} {done}"), markup=False)

    def _warn(self, text: str) -> None:
        self.notify(printable(text), severity="warning", timeout=8, markup=False)


def _pause(kernel: Kernel) -> None:
    kernel.pause()


def _resume(kernel: Kernel) -> None:
    kernel.resume()
