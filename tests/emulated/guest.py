"""Inside the emulated machine: which kernels "auto" takes there, then pytest. run.py reads the last line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emotag import plugins
from emotag.plugins.encoder import encoder_isas
from tests import egg


def main() -> int:
    wanted, *arguments = sys.argv[1:]
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    print("cpu:", *(flag for flag in flags if flag.startswith(("sse4", "avx", "fma", "f16c"))), flush=True)
    head = egg.head()
    chosen = plugins.Renderer(plugins.Scene(head, egg.gaussians(head, 10)), threads=1).isa
    print(f"drawing: {' '.join(plugins.supported_isas())}; auto: {chosen}", flush=True)
    print(f"encoder: {' '.join(encoder_isas())}", flush=True)
    encoding = "avx512vnni" if wanted == "avx512" and "avx512_vnni" in flags else wanted
    if (chosen, encoder_isas()[0]) != (wanted, encoding):
        print(f'"auto" should have been {wanted}, and {encoding} for the encoder')
        return 1
    return pytest.main(["-vv", "--color=no", "-p", "no:cacheprovider", "--durations=10", *arguments])


if __name__ == "__main__":
    print(f"emulated: status {int(main())}", flush=True)
