"""What was run of a kernel, as files: lcov's format, HTML pages; source lines where they are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.coverage.report import FunctionRow, LineRow, function_rows, line_rows
from kgdbpatch.errors import BadImage, BadPatch

if TYPE_CHECKING:
    from kgdbpatch.coverage.lines import LineTable
    from kgdbpatch.coverage.run import Run
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["CoverageFiles"]


class CoverageFiles:
    """The rows of one run of a kernel, and what is written of them.

    Source lines come from ``symbols``, else from the kernel's file or one beside it; ``source`` is where the
    source is, else where it was built.
    """

    def __init__(
        self, kernel: Kernel, run: Run, *, symbols: Path | None = None, source: Path | None = None
    ) -> None:
        self._kernel, self._run, self._symbols, self._source = kernel, run, symbols, source
        self.functions: list[FunctionRow] = function_rows(run, kernel.coverage.functions())
        self._known: tuple[LineTable, list[LineRow]] | None = None

    def _read(self) -> tuple[LineTable, list[LineRow]]:
        if self._known is None:
            lines = self._kernel.coverage.lines(self._symbols)
            self._known = lines, line_rows(self._run, lines)
        return self._known

    @property
    def lines(self) -> list[LineRow]:
        """The source lines that have code, inlined ones too; raise `BadImage` without debug information."""
        return self._read()[1]

    def write_lcov(self, path: Path) -> None:
        """Write a tracefile of lcov's; raise `BadImage` without debug information, `BadPatch`."""
        from kgdbpatch.coverage.lcov import tracefile

        lines, rows = self._read()
        root = str((self._source or Path(lines.root)).absolute())
        text = "\n".join(tracefile(rows, self.functions, lines, root, self._kernel.name))
        try:
            path.write_text(text + "\n", errors="surrogateescape")
        except OSError as error:
            raise BadPatch(f"{path}: {error.strerror}") from error

    def write_html(self, directory: Path) -> int:
        """Write HTML pages; return how many. Without debug information they tell of functions alone."""
        from kgdbpatch.coverage.html import write_pages

        rows, source = list[LineRow](), self._source
        try:
            lines, rows = self._read()
            source = source or Path(lines.root)
        except BadImage:
            if self._symbols is not None:
                raise
        title = f"Coverage of {self._kernel.name}"
        return write_pages(directory, title, self._run, self.functions, rows, source)
