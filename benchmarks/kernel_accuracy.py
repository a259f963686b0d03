"""Pictures of the kernels against the float64 reference of the tests, for every instruction set of this machine.

python -m benchmarks.kernel_accuracy
"""

import numpy as np

from emotag import plugins
from tests import egg, reference

GAUSSIANS = 4000
SIDE = 192
# stored SH degree, active degree, activation of the scales
CASES = ((3, 3, "exp"), (3, 1, "softplus"), (2, 2, "exp"), (1, 1, "exp"), (0, 0, "softplus"))


def worst_float(isa: str) -> float:
    """dB of the float pictures of skin, bind and rasterize; the worst case."""
    head, camera = egg.head(), egg.camera(SIDE, SIDE)
    vertices = plugins.skin(head, *egg.controls(head), isa=isa)
    results = []
    for stored, active, activation in CASES:
        gaussians = egg.gaussians(head, GAUSSIANS, stored, active, activation)
        bound = plugins.bind(vertices, head.faces, gaussians)
        inputs = (gaussians.activated_opacities(), gaussians.sh, active, camera)
        rgb, _ = plugins.rasterize(bound, *inputs, background=(1, 1, 1), isa=isa)
        wanted, _ = reference.rasterize(reference.Bound(*bound), *inputs, background=(1, 1, 1))
        results.append(reference.decibels(rgb, wanted))
    return min(results)


def whole_frame(isa: str) -> float:
    """dB of the renderer's 8-bit picture, mouth included, against the truncated float64 picture."""
    head, camera = egg.head(), egg.camera(SIDE, SIDE)
    gaussians = egg.gaussians(head, GAUSSIANS)
    scene = plugins.Scene(head, gaussians, egg.mouth(gaussians))
    audio = np.random.default_rng(3).normal(0, 1, 256).astype(np.float32)
    picture = plugins.Renderer(scene, 1, isa).draw(*egg.controls(head), camera, audio, (0.2, 0.5, 0.9))
    wanted, _ = reference.render(scene, *egg.controls(head), camera, audio, (0.2, 0.5, 0.9))
    return float(reference.decibels(picture, np.floor(np.clip(wanted, 0, 1) * 255), 255))


def main() -> None:
    """Print a line for each instruction set."""
    print(f"{'':<10}{'float picture':>16}{'8-bit frame':>16}   against float64, {GAUSSIANS} Gaussians, {SIDE}x{SIDE}")
    for isa in plugins.supported_isas():
        print(f"{isa:<10}{worst_float(isa):>13.1f} dB{whole_frame(isa):>13.1f} dB")


if __name__ == "__main__":
    main()
