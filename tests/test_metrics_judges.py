"""LPIPS and SyncNet: the architectures, their files, and the sums around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emotag.training.metrics import Lpips, MetricError, SyncNet, load_lpips, load_syncnet, mfcc, sync_scores

ALEX = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def alex_weights() -> dict[str, torch.Tensor]:
    """As torchvision names AlexNet, with LPIPS' linear layers."""
    generator = torch.Generator().manual_seed(3)
    state = {"classifier.1.weight": torch.zeros(2, 2)}
    for index, (outputs, inputs, size) in ALEX.items():
        scale = (inputs * size * size) ** -0.5
        state[f"features.{index}.weight"] = scale * torch.randn(outputs, inputs, size, size, generator=generator)
        state[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    for layer, (outputs, _, _) in enumerate(ALEX.values()):
        state[f"lin{layer}.model.1.weight"] = torch.rand(1, outputs, 1, 1, generator=generator)
    return state


def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    first = rng.integers(0, 256, (80, 96, 3)).astype(np.uint8)
    return first, np.clip(first.astype(int) + rng.integers(-60, 60, first.shape), 0, 255).astype(np.uint8)


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, path)
    return path


def test_lpips_is_the_published_sum(tmp_path: Path) -> None:
    """Recomputed layer by layer from the paper's Eq. 1 and the published normalisation."""
    state = alex_weights()
    network = load_lpips("alex", [save(tmp_path / "alex.pth", state)])
    first, second = pictures()

    def layers(picture: np.ndarray) -> list[torch.Tensor]:
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
            :, None, None
        ]
        found = []
        for index, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            x = F.max_pool2d(x, 3, 2) if index in (3, 6) else x
            x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], stride, padding).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    wanted = sum(
        float(((a - b) ** 2 * state[f"lin{i}.model.1.weight"]).sum(1).mean())
        for i, (a, b) in enumerate(zip(layers(first), layers(second), strict=True))
    )
    assert network.distance(first, second) == pytest.approx(wanted, rel=1e-5)
    assert network.distance(first, first) == 0.0
    assert network.distance(first / 255.0, second / 255.0) == pytest.approx(wanted, rel=1e-5)


def test_lpips_files_of_both_kinds(tmp_path: Path) -> None:
    state = alex_weights()
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    whole = {k: v for k, v in state.items() if k.startswith("lin")} | {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for index, part in slices.items():
        for kind in ("weight", "bias"):
            whole[f"net.slice{part}.{index}.{kind}"] = state[f"features.{index}.{kind}"]
    backbone = {k: v for k, v in state.items() if not k.startswith("lin")}
    linear = {k: v for k, v in state.items() if k.startswith("lin")}
    first = load_lpips("alex", [save(tmp_path / "whole.pth", whole)])
    second = load_lpips("alex", [save(tmp_path / "net.pth", backbone), save(tmp_path / "lin.pth", linear)])
    assert first.distance(*pictures()) == second.distance(*pictures()) > 0


def test_vgg_has_the_published_layers() -> None:
    network = Lpips("vgg")
    convolutions = [index for index, layer in enumerate(network.features) if isinstance(layer, torch.nn.Conv2d)]
    assert tuple(convolutions) == VGG
    assert [layer.weight.shape[1] for layer in network.lin] == [64, 128, 256, 512, 512]


def test_weights_that_are_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="no weights were given"):
        load_lpips("alex", [])
    with pytest.raises(MetricError, match="nothing.pth is missing"):
        load_lpips("alex", [tmp_path / "nothing.pth"])
    with pytest.raises(MetricError, match="lack .* tensors, such as"):
        load_lpips("vgg", [save(tmp_path / "alex.pth", alex_weights())])
    state = alex_weights() | {"features.3.weight": torch.zeros(192, 64, 3, 3)}
    with pytest.raises(MetricError, match=r"\(192, 64, 3, 3\), it should be \(192, 64, 5, 5\)"):
        load_lpips("alex", [save(tmp_path / "bad.pth", state)])
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(MetricError, match="text.pth"):
        load_syncnet(tmp_path / "text.pth")
    with pytest.raises(MetricError, match="SyncNet: no weights"):
        load_syncnet(None)


def test_syncnet_shapes_and_names(tmp_path: Path) -> None:
    network = SyncNet().eval()
    names = set(network.state_dict())
    assert {
        "netcnnaud.0.weight",
        "netcnnaud.19.bias",
        "netcnnlip.18.weight",
        "netfcaud.3.bias",
        "netfclip.1.running_var",
    } <= names
    assert network.state_dict()["netcnnaud.18.weight"].shape == (512, 256, 5, 4)
    assert network.state_dict()["netcnnlip.0.weight"].shape == (96, 3, 5, 7, 7)
    with torch.inference_mode():
        assert network.hear(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
        assert network.see(torch.zeros(1, 3, 5, 224, 224)).shape == (1, 1024)
    published = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    again = load_syncnet(save(tmp_path / "syncnet_v2.model", published))
    assert torch.equal(again.netfclip[3].weight, network.netfclip[3].weight)


def loud(level: np.ndarray) -> np.ndarray:
    """Sound whose log energy rises by 2.4 with a frame's level."""
    samples = np.repeat(0.01 * np.exp(1.2 * level), 640)
    return samples * np.where(np.arange(len(samples)) % 2, 1, -1)


class Told(SyncNet):
    """Sees the brightness of a picture and hears the loudness of a window, as directions in the plane."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.quiet = float(mfcc(loud(np.zeros(5)))[4, 0])

    def see(self, faces: torch.Tensor) -> torch.Tensor:
        return self._direction(faces[:, :, 0].mean((1, 2, 3)) / 255)

    def hear(self, cepstra: torch.Tensor) -> torch.Tensor:
        return self._direction((cepstra[:, 0, 0, 1:3].mean(1) - self.quiet) / 2.4)

    def _direction(self, value: torch.Tensor) -> torch.Tensor:
        return torch.stack([value, 1 - value], 1)


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_sync_finds_the_offset(late: int) -> None:
    """Loudness jumps at random; brightness repeats it `late` frames later."""
    frames = 60
    level = np.random.default_rng(2).random(frames + 20)
    samples = loud(level[10 : 10 + frames])

    def face(index: int) -> np.ndarray:
        return np.full((32, 32, 3), 255 * level[10 + index - late], np.uint8)

    scores = sync_scores(Told(), face, frames, samples)
    assert scores["offset_frames"] == late
    assert scores["confidence"] > 0.1 and scores["distance"] >= 0
    still = sync_scores(Told(), lambda index: np.full((32, 32, 3), 128, np.uint8), frames, samples)
    assert still["confidence"] < scores["confidence"]


def test_mfcc_by_its_definition() -> None:
    """One frame of the published recipe, written out with loops."""
    samples = np.random.default_rng(4).normal(size=1000) * 0.1
    found = mfcc(samples)
    assert found.shape == (1 + 4, 13)
    signal = samples * 32768
    frame = np.array([signal[n] - 0.97 * signal[n - 1] for n in range(320, 720)])
    power = np.abs(np.fft.rfft(frame, 512)) ** 2 / 512
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28) / 2595) - 1)
    bins = np.floor(513 * edges / 16000).astype(int)
    bands = []
    for j in range(26):
        total = 0.0
        for i in range(bins[j], bins[j + 1]):
            total += power[i] * (i - bins[j]) / (bins[j + 1] - bins[j])
        for i in range(bins[j + 1], bins[j + 2]):
            total += power[i] * (bins[j + 2] - i) / (bins[j + 2] - bins[j + 1])
        bands.append(np.log(total))
    wanted = [
        sum(b * np.cos(np.pi * k * (2 * j + 1) / 52) for j, b in enumerate(bands))
        * np.sqrt(2 / 26) * (1 + 11 * np.sin(np.pi * k / 22))
        for k in range(1, 13)
    ]  # fmt: skip
    np.testing.assert_allclose(found[2, 1:], wanted, rtol=1e-9)
    assert found[2, 0] == pytest.approx(np.log(power.sum()))
