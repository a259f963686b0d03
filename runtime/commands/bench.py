"""`emotag-bench`: what a bundle costs on this machine, and whether it costs more than it did."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..bundle import read_manifest
from ..errors import ControlError
from ..model import Model
from ..output import check_output, partial_name
from .guard import guarded

REGRESSION = 3
SECONDS = 8.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0, 1 after a line that says what is wrong, 2 for usage, 3 for a regression, 130
    for Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options)
    return guarded(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotag-bench", description="Measure what an avatar bundle costs on this machine."
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="the .emotag folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured as JSON")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a frame (default: one for each core)")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of speech for each part (default: {SECONDS:g})")
    gate = parser.add_argument_group("the gate")
    gate.add_argument("--gate", type=Path, metavar="FILE", help="exit with 3 if a stage costs more than this baseline")
    gate.add_argument("--write-baseline", type=Path, metavar="FILE", help="measure the baseline of this machine")
    gate.add_argument("--tolerance", type=float, metavar="SHARE", help="by which a stage may cost more (default: 0.06)")
    synthetic = parser.add_argument_group("a bundle to measure (needs the extra emotag[export])")
    synthetic.add_argument("--synthetic", metavar="PRESET", help="make one with random weights: base, base-fp32, …")
    synthetic.add_argument("-o", "--output", type=Path, help="the folder to write, such as base.emotag")
    return parser


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.synthetic is not None:
        if options.output is None or options.bundle is not None:
            parser.error("--synthetic takes -o FOLDER and no bundle")
        for name in ("json", "threads", "seconds", "gate", "write_baseline", "tolerance"):
            if getattr(options, name) is not None:
                parser.error(f"--{name.replace('_', '-')} measures a bundle: write it with --synthetic first")
        return
    if options.bundle is None:
        parser.error("give a bundle, or --synthetic base -o base.emotag")
    if options.output is not None:
        parser.error("-o belongs to --synthetic; use --json FILE for the numbers")
    if options.gate is not None and options.write_baseline is not None:
        parser.error("--gate and --write-baseline exclude each other")
    if options.tolerance is not None and (options.gate is None or not 0 < options.tolerance < 10):
        parser.error("--tolerance is a share such as 0.06, and belongs to --gate")
    if options.seconds is not None and not 0 < options.seconds < float("inf"):
        parser.error("--seconds must be above 0")
    if options.gate is not None or options.write_baseline is not None:
        for name in ("threads", "seconds"):
            if getattr(options, name) is not None:
                parser.error(f"--{name} does not go with a gate: it compares one thread, for a fixed number of rounds")


def _run(options: argparse.Namespace) -> int:
    if options.synthetic is not None:
        return _write_synthetic(options.synthetic, options.output)
    if options.json is not None:
        check_output(options.json, ".json")
    if options.gate is not None:
        return _gate(options)
    if options.write_baseline is not None:
        return _write_baseline(options)
    from ..bench.profile import lines, profile

    found = profile(Model.load(options.bundle, threads=options.threads or 0), options.seconds or SECONDS, _say)
    print("\n".join(lines(found)))
    _write_json(options.json, found.to_dict())
    return 0


def _gate(options: argparse.Namespace) -> int:
    from ..bench.gate import FOREIGN_TOLERANCE, TOLERANCE, check, read_baseline
    from ..bench.measure import Costs

    name = read_manifest(options.bundle).name
    baseline, same = read_baseline(options.gate, name)
    tolerance = options.tolerance or TOLERANCE
    if not same:
        tolerance = max(tolerance, FOREIGN_TOLERANCE)
        print(
            f"note: {options.gate} has no baseline of this kind of machine, only of {baseline.machine}: "
            f"a stage may cost {tolerance:.0%} more; make a sharp one with --write-baseline"
        )
    verdicts = check(lambda: Costs(Model.load(options.bundle, threads=1)), baseline, tolerance)
    for verdict in verdicts:
        print(verdict.line())
    content = [{**vars(verdict), "passed": verdict.passed} for verdict in verdicts]
    _write_json(options.json, {"machine": baseline.machine, "same_machine": same, "verdicts": content})
    failed = [verdict.stage for verdict in verdicts if not verdict.passed]
    if failed:
        print(f"error: slower than {options.gate}: {', '.join(failed)}", file=sys.stderr)
    return REGRESSION if failed else 0


def _write_baseline(options: argparse.Namespace) -> int:
    from ..bench.gate import Baseline, write_baseline
    from ..bench.measure import Costs

    check_output(options.write_baseline, ".json")
    name = read_manifest(options.bundle).name
    baseline = Baseline.measured(lambda: Costs(Model.load(options.bundle, threads=1)), name)
    write_baseline(options.write_baseline, baseline)
    print(f"{options.write_baseline}: {baseline.bundle} on {baseline.machine}")
    for part, stage in baseline.stages.items():
        print(f"  {part:<10}{stage.ms[0]:>8.2f} to {stage.ms[-1]:.2f} ms, from little to much pressure on the cache")
    return 0


def _write_synthetic(preset: str, output: Path) -> int:
    try:
        synthetic = importlib.import_module("...export.synthetic", __package__)
    except ImportError as error:
        raise ControlError(
            f"--synthetic needs {error.name or 'the export side'}, which is not installed: pip install 'emotag[export]'"
        ) from None
    for name in ("torch.onnx", "onnxscript", "root"):  # the exporter warns of its own internals
        logging.getLogger(name).setLevel(logging.ERROR)
    synthetic.write_synthetic(preset, output, progress=_say)
    print(f"{output}: random weights, preset {preset}")
    return 0


def _write_json(path: Path | None, content: object) -> None:
    if path is not None:
        partial = partial_name(path)
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(path)


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"emotag-bench: {what} …", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
