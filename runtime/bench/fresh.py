"""Start-up and memory, measured in a process of its own: `python -m emotag.runtime.bench.fresh BUNDLE`.

Prints one line of JSON. Times are from the start of Python to the first frame; memory is resident, in MB of 2²⁰ bytes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import BundleError

_FRAMES = 50
_AVATARS = 8


def measure_fresh(bundle: Path, threads: int) -> dict[str, float]:
    """What `main` prints, from a new process. Raises BundleError if that fails."""
    command = [sys.executable, "-m", __name__, str(bundle), str(threads), repr(time.time())]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise BundleError(f"{bundle} could not be started in a new process ({reason}): see emotag-inspect {bundle}")
    result: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return result


def _measure(bundle: str, threads: int, started: float) -> dict[str, float]:
    from ..avatar import Avatar
    from .probe import babble

    imported = time.time()
    avatar = Avatar(bundle, threads=threads)
    sound = babble(_FRAMES / 25).reshape(-1, 640)
    loaded = time.time()
    speaks = avatar.model.manifest.audio is not None
    if speaks:
        avatar.step(sound[0])
    result: dict[str, float] = {
        "startup_s": time.time() - started,
        "import_s": imported - started,
        "load_s": loaded - imported,
        "startup_cpu_s": time.process_time(),
    }
    for block in sound if speaks else ():
        avatar.step(block)
    result["peak_mb"] = peak_mb()
    if speaks:
        result["mb_each_further_avatar"] = _further(avatar, sound)
    return result


def _further(first: Any, sound: Any) -> float:
    """Resident memory that each of seven more avatars of the same model adds, all of them having spoken."""
    from ..avatar import Avatar

    before = resident_mb()
    others = [Avatar(first.model) for _ in range(_AVATARS - 1)]
    for block in sound[:10]:
        for other in others:
            other.step(block)
    return (resident_mb() - before) / len(others)


def peak_mb() -> float:
    """Largest resident memory of this process so far.

    Not `ru_maxrss` where the system says better: that begins with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def main() -> None:
    """Bundle, threads and the time at which this process was asked for, from the command line."""
    _, bundle, threads, started = sys.argv
    print(json.dumps(_measure(bundle, int(threads), float(started))))


if __name__ == "__main__":
    main()
