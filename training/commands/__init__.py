"""The subcommands of `emotag-train`, a module each: `HELP`, `add_arguments(parser)` and `run(options) -> int`."""
