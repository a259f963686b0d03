"""The `emotag-export` command's door: it opens without PyTorch, to say what to install."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ExportError
from .guard import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is that of the export command, or 1 after a line that names the missing package."""
    return guarded(lambda: _export(arguments))


def _export(arguments: Sequence[str] | None) -> int:
    try:
        from ...export.command import main as export
    except ModuleNotFoundError as error:
        raise ExportError(f"exporting needs {error.name}: pip install 'emotag[export]'") from error
    return export(arguments)
