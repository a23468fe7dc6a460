"""What the dashboard asks and explains, over its picture."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

__all__ = ["Help", "Question"]

_KEYS = """\
q          end this; the guest goes on
p          pause the guest, or let it go on; asked first
r          take the chosen patch out; asked first
/          show only lines of the log that match (a regular expression); empty: all
Tab        from the patches to the log and back
arrows     choose a patch, or move in the log; Page Up, Page Down, Home, End, too
?          this; any of ? Escape q goes back

Nothing is changed, and the guest is never stopped, but by p and r.
Hits and rates are read in the guest's memory while it runs."""


class Question(ModalScreen[bool]):
    """Asks whether to do something: ``y`` does it, ``n`` and Escape do not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Make the box."""
        yield Static(f"{self._question}\n\ny: yes    n: no", classes="box", markup=False)

    def action_answer(self, answer: bool) -> None:
        """Go back with an answer."""
        self.dismiss(answer)


class Help(ModalScreen[None]):
    """Tells the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,escape,q,enter", "back", "Back")]

    def compose(self) -> ComposeResult:
        """Make the box."""
        yield Static(_KEYS, classes="box", markup=False)

    def action_back(self) -> None:
        """Go back."""
        self.dismiss(None)
