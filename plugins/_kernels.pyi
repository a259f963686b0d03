"""Kernels; use emotag.plugins, which checks what it is given."""

from typing import Annotated

import numpy
from numpy.typing import NDArray

class Head:
    def __init__(
        self,
        template: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        faces: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        expression_basis: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        pose_basis: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        joints: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        joint_expression_basis: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        weights: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        parents: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
    ) -> None: ...

class GaussianArrays:
    def __init__(
        self,
        frame: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        means: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        quats: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        opacities: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        sh: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        degree: int,
    ) -> None: ...

class MouthArrays:
    def __init__(
        self,
        index: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        bound: float,
        xy: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        yz: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        xz: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        offsets: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        layer0: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        layer1: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        layer2: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        head: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        bias: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> None: ...

def bind(
    vertices: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    faces: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
    gaussians: GaussianArrays,
) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32], NDArray[numpy.float32]]: ...
def hash_grid(
    points: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)], mouth: MouthArrays
) -> NDArray[numpy.float32]: ...
def mouth_network(
    features: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    audio: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    mouth: MouthArrays,
) -> NDArray[numpy.float32]: ...
def apply_mouth(
    index: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
    d_mu: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    d_rot: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    d_scale: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    means: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
    quats: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
    scales: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
) -> None: ...

class Scene:
    def __init__(self, head: Head | None, gaussians: GaussianArrays, mouth: MouthArrays | None) -> None: ...

class Appearance:
    def __init__(
        self,
        scene: Scene,
        gaussians: GaussianArrays,
        offsets: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> None: ...

class Renderer:
    def __init__(self, scene: Scene, isa: str, threads: int) -> None: ...
    def draw(
        self,
        expression: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        pose: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        translation: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        encoded_audio: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
        view: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
        intrinsics: tuple[float, float, float, float],
        background: tuple[float, float, float] | None,
        bytes: Annotated[NDArray[numpy.uint8], dict(order="C", device="cpu", writable=False)] | None,
        floats: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
        out: Annotated[NDArray[numpy.uint8], dict(order="C", device="cpu")],
    ) -> None: ...
    def wear(
        self,
        appearance: Appearance | None,
        coefficients: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
    ) -> None: ...
    def set_alone(self, alone: bool) -> None: ...
    def milliseconds(self) -> list[float]: ...
    def cpu_milliseconds(self) -> list[float]: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def workspace_bytes(self) -> int: ...

class Binder:
    def __init__(self, threads: int) -> None: ...
    def forward(
        self,
        vertices: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        faces: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        face_index: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        means: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        quats: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> tuple[
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
    ]: ...
    def backward(
        self,
        vertices: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        faces: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        face_index: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        means: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        quats: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        frames: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        d_means: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
        d_quats: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
        d_scales: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
        d_normals: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
        to_vertices: bool,
    ) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32], NDArray[numpy.float32], NDArray[numpy.float32]]: ...

class Similarity:
    def __init__(
        self,
        window: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        c1: float,
        c2: float,
        isa: str,
        threads: int,
    ) -> None: ...
    def forward(
        self,
        a: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        b: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        gradients: bool,
    ) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32]]: ...
    def backward(
        self,
        a: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        b: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        partials: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        loss: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> NDArray[numpy.float32]: ...

class EncoderWeights:
    def __init__(
        self, definition: list[int], channels: list[int], network: list[int], pre_norm: bool, conv_norm: bool
    ) -> None: ...
    def add(
        self,
        weights: Annotated[NDArray[numpy.int8], dict(order="C", device="cpu", writable=False)],
        taps: int,
        levels: int,
        scale: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        bias: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> None: ...
    def add_floats(
        self,
        weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None), device="cpu", writable=False)],
        taps: int,
        bias: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> None: ...
    def add_norm(
        self,
        gain: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        bias: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        epsilon: float,
    ) -> None: ...
    def set_first(
        self,
        weights: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        bias: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> None: ...
    def set_silence(
        self,
        convolution: int,
        row: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> None: ...
    def set_rotary(
        self, speeds: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)]
    ) -> None: ...

class EncoderStream:
    def __init__(self, weights: EncoderWeights, isa: str, threads: int) -> None: ...
    def step(
        self,
        samples: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        mask: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        tokens: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
        alone: bool,
    ) -> None: ...
    def keep(self, slot: int, count: int) -> None: ...
    def reset(self) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def bytes(self) -> int: ...

class Yardstick:
    def __init__(self) -> None: ...
    def run(self) -> list[float]: ...

def encoder_isas() -> list[str]: ...
def known_encoder_isas() -> list[str]: ...
def encoder_quantise(
    x: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)], levels: int, isa: str
) -> tuple[NDArray[numpy.uint8], NDArray[numpy.float32], NDArray[numpy.int32]]: ...
def encoder_multiply(
    bytes: Annotated[NDArray[numpy.uint8], dict(order="C", device="cpu", writable=False)],
    zero: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
    weights: Annotated[NDArray[numpy.int8], dict(order="C", device="cpu", writable=False)],
    levels: int,
    isa: str,
) -> NDArray[numpy.int32]: ...

SSIM_TAPS: int = 11

FRAME_FIELDS: int = 20

class Trace:
    def visible(self) -> NDArray[numpy.uint8]: ...

class Tracer:
    def __init__(self, isa: str, threads: int) -> None: ...
    def forward(
        self,
        means: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        quats: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        opacities: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        sh: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        degree: int,
        features: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)] | None,
        view: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
        intrinsics: tuple[float, float, float, float],
        width: int,
        height: int,
    ) -> tuple[Trace, NDArray[numpy.float32], NDArray[numpy.float32]]: ...
    def backward(
        self,
        trace: Trace,
        picture: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        alpha: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        d_picture: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        d_alpha: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> tuple[
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
        NDArray[numpy.float32],
    ]: ...
    def cpu_milliseconds(self) -> list[float]: ...

def skin(
    head: Head,
    expression: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    pose: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    translation: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    isa: str,
) -> NDArray[numpy.float32]: ...
def rasterize(
    gaussians: GaussianArrays,
    view: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
    intrinsics: tuple[float, float, float, float],
    width: int,
    height: int,
    background: tuple[float, float, float] | None,
    isa: str,
    threads: int,
) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32]]: ...
def supported_isas() -> list[str]: ...
def known_isas() -> list[str]: ...

JOINTS: int = 5

POSE_FEATURES: int = 36

TILE: int = 16

MAX_SIDE: int = 4096

MAX_THREADS: int = 64

MAX_SH_DEGREE: int = 3

NEAR: float = 0.20000000298023224

JACOBIAN_CLAMP: float = 1.2999999523162842

LOW_PASS: float = 0.30000001192092896

ALPHA_CUT: float = 0.003921568859368563

ALPHA_MAX: float = 0.9900000095367432

EXTENT_SIGMAS: float = 3.0

STOP_TRANSMITTANCE: float = 9.999999747378752e-05

STOP_DRAWING: float = 0.003921568859368563

GRID_LEVELS: int = 12

GRID_FEATURES: int = 36

GRID_BASE: float = 16.0

GRID_FINEST: float = 38.400001525878906

MOUTH_HIDDEN: int = 64

MOUTH_OUTPUTS: int = 10

OFFSETS: int = 14

MOUTH_MEAN_SCALE: float = 0.009999999776482582

MOUTH_SCALE_SCALE: float = 0.0010000000474974513

compiler: str
