"""The `emotag-train` command: scenes, training and metrics. Every subcommand is a module of `commands/`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..runtime.commands.guard import guarded
from ..runtime.errors import CheckpointError

SUBCOMMANDS = ("check", "synth", "speech", "pretrain", "adapt", "appearance", "eval")
_MODULES = {"eval": "evaluate"}  # a module may not be called like a built-in


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0, 1 after a line that says what is wrong, 2 for usage, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _run(given))


def _run(given: list[str]) -> int:
    try:
        parser, modules = _parser(given)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"training needs {error.name}: pip install 'emotag[train]'") from error
    options = parser.parse_args(given)
    return int(modules[options.command].run(options))


def _parser(arguments: Sequence[str]) -> tuple[argparse.ArgumentParser, dict[str, Any]]:
    """The parser; only the subcommand that is asked for is imported in full, because torch takes seconds."""
    parser = argparse.ArgumentParser(
        prog="emotag-train", description="Check and make scenes, train on them, and measure the result."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    modules: dict[str, Any] = {}
    for name in SUBCOMMANDS:
        path = f"{__package__}.commands.{_MODULES.get(name, name)}"
        if find_spec(path) is None:
            continue
        if asked is not None and asked != name:
            subparsers.add_parser(name, add_help=False)
            continue
        modules[name] = import_module(path)
        subparser = subparsers.add_parser(name, help=modules[name].HELP, description=modules[name].HELP)
        modules[name].add_arguments(subparser)
    return parser, modules


if __name__ == "__main__":
    sys.exit(main())
