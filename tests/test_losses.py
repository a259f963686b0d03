"""Every loss against a known answer, SSIM against the metric, gradients against float64 finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from emotag import plugins
from emotag.runtime.errors import ControlError
from emotag.training import losses
from emotag.training.grmn import Motion
from emotag.training.losses import LossError, LossWeights, Target, Tracked
from emotag.training.metrics import image
from emotag.training.render import RenderOutput
from emotag.training.ssim import _window, blur, ssim, ssim_map


def pictures(height: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    a = torch.rand(3, height, width, generator=generator, dtype=dtype)
    return a, (0.6 * a + 0.4 * torch.rand(3, height, width, generator=generator, dtype=dtype)).clamp(0, 1)


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (5, 9), (130, 33)])
def test_ssim_is_the_metric(size: tuple[int, int]) -> None:
    a, b = pictures(*size, torch.float64)
    wanted = image.ssim_map(a.permute(1, 2, 0).numpy(), b.permute(1, 2, 0).numpy())
    got = ssim_map(a, b)
    assert np.abs(got.mean(0).numpy() - wanted).max() < 1e-12
    assert float(ssim(a.float(), b.float())) == pytest.approx(wanted.mean(), abs=2e-6)
    assert float(ssim(a, a)) == pytest.approx(1.0, abs=1e-12)


def test_ssim_gradient_is_that_of_finite_differences() -> None:
    a, b = pictures(13, 41, torch.float64)
    assert torch.autograd.gradcheck(lambda x: ssim_map(x, b), (a.requires_grad_(),))
    wanted = torch.autograd.grad(ssim(a, b), a)[0]
    single = a.detach().float().requires_grad_()
    got = torch.autograd.grad(ssim(single, b.float()), single)[0]
    assert float((got.double() - wanted).norm() / wanted.norm()) < 1e-4


def test_blur_keeps_a_constant_and_refuses_nothing_of_it() -> None:
    """Inside, a constant stays; a unit impulse becomes the window, whose sum is one."""
    flat = blur(torch.ones(2, 40, 50, dtype=torch.float64))
    assert torch.allclose(flat[:, 5:-5, 5:-5], torch.ones(2, 30, 40, dtype=torch.float64))
    impulse = torch.zeros(1, 21, 70, dtype=torch.float64)
    impulse[0, 10, 33] = 1
    window = blur(impulse)[0]
    assert float(window.sum()) == pytest.approx(1.0)
    assert float(window[10, 33]) == pytest.approx(float(window[5:16, 33].sum()) ** 2)
    assert torch.count_nonzero(window) == 121


@pytest.mark.parametrize("isa", plugins.supported_isas())
@pytest.mark.parametrize("size", [(64, 64), (37, 91), (5, 9), (1, 1), (130, 33), (32, 16)])
def test_ssim_kernel_is_that_of_torch(size: tuple[int, int], isa: str) -> None:
    """Map and gradient under any upstream gradient, in each instruction set; the same bits from three threads."""
    a, b = pictures(*size, torch.float64)
    upstream = torch.rand(a.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64) - 0.3
    value = ssim_map(a.requires_grad_(), b)
    (wanted,) = torch.autograd.grad((value * upstream).sum(), a)
    arrays = [tensor.detach().float().numpy() for tensor in (a, b, upstream)]
    results = []
    for threads in (1, 3):
        kernel = plugins.Similarity(_window().numpy(), 0.01**2, 0.03**2, threads, isa)
        got, partials = kernel.forward(*arrays[:2])
        results.append((got, kernel.backward(*arrays[:2], partials, arrays[2])))
        plain, none = kernel.forward(*arrays[:2], gradients=False)
        assert (plain == got).all() and none.shape == (0, *a.shape)
    assert np.abs(results[0][0] - value.detach().numpy()).max() < 2e-5
    assert np.linalg.norm(results[0][1] - wanted.numpy()) < 1e-4 * np.linalg.norm(wanted.numpy())
    assert all((one == other).all() for one, other in zip(*results, strict=True))


def test_ssim_of_slices_and_of_flat_pictures() -> None:
    """Pictures that are parts of others; where all is flat, rounding must not make a gradient."""
    a, b = pictures(40, 50)
    part = (slice(None), slice(3, 30), slice(7, 41))
    assert float(ssim(a[part], b[part])) == float(ssim(a[part].clone(), b[part].clone()))
    flat = torch.full((3, 30, 30), 0.7, requires_grad=True)
    value = ssim(flat, torch.full((3, 30, 30), 0.7))
    value.backward()
    assert float(value.detach()) == pytest.approx(1, abs=1e-5)
    assert flat.grad is not None and float(flat.grad.abs().max()) < 1e-5


def test_the_similarity_kernel_refuses() -> None:
    window, picture = _window().numpy(), np.zeros((3, 8, 8), np.float32)
    with pytest.raises(ControlError, match="symmetric"):
        plugins.Similarity(np.arange(11), 1e-4, 9e-4)
    with pytest.raises(ControlError, match="window"):
        plugins.Similarity(window[1:], 1e-4, 9e-4)
    kernel = plugins.Similarity(window, 1e-4, 9e-4)
    for wrong in (picture[:, 1:], picture.astype(np.float64)):
        with pytest.raises(ControlError, match="expected float32"):
            kernel.forward(picture, wrong)
    with pytest.raises(ControlError, match="C, H, W"):
        kernel.forward(picture[0], picture[0])
    with pytest.raises(ControlError, match="expected float32"):
        kernel.backward(picture, picture, picture, picture)


def test_ssim_refuses_other_shapes() -> None:
    a, _ = pictures(8, 8)
    with pytest.raises(ControlError, match="one size"):
        ssim(a, a[:, :4])


def test_photometric_is_the_weighted_sum() -> None:
    a, b = pictures(24, 30)
    difference, similarity = float((a - b).abs().mean()), float(ssim(a, b))
    assert float(losses.photometric(a, b)) == pytest.approx(0.8 * difference + 0.2 * (1 - similarity))
    assert float(losses.photometric(a, b, structural=0)) == pytest.approx(difference)
    assert float(losses.photometric(a, a)) == pytest.approx(0, abs=1e-6)


def test_emotion_is_the_divergence() -> None:
    truth = torch.tensor([[0.5, 0.5, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    even = torch.zeros(2, 7, dtype=torch.float64)
    assert float(losses.emotion(even, truth)) == pytest.approx((math.log(7 / 2) + math.log(7)) / 2)
    assert float(losses.emotion(truth.clamp_min(1e-30).log(), truth)) == pytest.approx(0, abs=1e-9)


def test_score_compares_the_gate_with_the_intensity() -> None:
    truth = torch.zeros(2, 7)
    truth[0, 6], truth[0, 0], truth[1, 6] = 0.25, 0.75, 1.0
    assert float(losses.score(torch.tensor([[0.5], [0.1]]), truth)) == pytest.approx((0.25 + 0.1) / 2)


def test_motion_is_squared() -> None:
    expression, jaw = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.3, 0.0, 0.0])
    got = losses.motion(expression, jaw, torch.zeros(4), torch.zeros(3))
    assert float(got) == pytest.approx(30 / 4 + 0.09 / 3)


def test_depth_is_metric_or_free_of_scale_and_shift() -> None:
    height, width = 6, 8
    truth = 1 + 0.1 * torch.rand(height, width, generator=torch.Generator().manual_seed(0))
    alpha, mask = torch.full((height, width), 0.8), torch.ones(height, width)
    mask[0], truth[1] = 0, 0  # outside the head; no truth
    drawn = (truth + 0.02) * alpha
    assert float(losses.depth(drawn, alpha, truth, mask, metric=True)) == pytest.approx(0.02, rel=1e-4)
    other = torch.where(truth > 0, 7 * truth + 3, 0)
    assert float(losses.depth(drawn, alpha, other, mask)) == pytest.approx(0, abs=1e-4)
    assert float(losses.depth(drawn, alpha, other, mask, metric=True)) > 1
    flipped = torch.where(truth > 0, 9 - 7 * truth, 0)
    assert float(losses.depth(drawn, alpha, flipped, mask)) > 0.5
    assert float(losses.depth(drawn, alpha, truth, torch.zeros_like(mask))) == 0


def test_normal_is_one_minus_the_cosine() -> None:
    alpha = mask = torch.ones(5, 5)
    truth = torch.zeros(3, 5, 5)
    truth[2] = -1
    turned = torch.zeros(3, 5, 5)
    turned[2], turned[0] = -0.5 * 0.6, 0.5 * 0.8  # half covered, 53 degrees away
    assert float(losses.normal(turned, alpha, truth, mask)) == pytest.approx(0.4, abs=1e-6)
    assert float(losses.normal(turned, alpha, torch.zeros_like(truth), mask)) == 0


def test_geometry_is_judged_inside_the_head_alone() -> None:
    """Against the definition over the chosen pixels; what is not judged gets no gradient, whatever is there."""
    generator = torch.Generator().manual_seed(7)
    alpha, mask = torch.rand(2, 20, 16, generator=generator).clamp_min(0.2).unbind(0)
    alpha[0], mask[1] = 0, 0
    truth = torch.nn.functional.normalize(torch.randn(3, 20, 16, generator=generator), dim=0)
    truth[:, 2] = float("nan")
    distance = 1 + truth[0]
    judged = (alpha > 0.5) & (mask > 0.5)
    judged[2] = False
    for name in ("normal", "depth"):
        drawn = (alpha + torch.randn(3, 20, 16, generator=generator)).requires_grad_()
        if name == "normal":
            loss = losses.normal(drawn, alpha, truth, mask)
            want = (1 - torch.cosine_similarity(drawn[:, judged], truth[:, judged], dim=0)).mean()
        else:
            loss = losses.depth(drawn[0], alpha, distance, mask, metric=True)
            want = (drawn[0][judged] / alpha[judged] - distance[judged]).abs().mean()
        assert float(loss.detach()) == pytest.approx(float(want.detach()), rel=1e-5)
        (got,), (gradient,) = torch.autograd.grad(loss, drawn), torch.autograd.grad(want, drawn)
        assert torch.allclose(got, gradient, atol=1e-6)


def predicted(frames: int = 3) -> Motion:
    generator = torch.Generator().manual_seed(4)
    sizes = (5, 3, 1, 7, 5, 5, 8)
    parts = [torch.rand(frames, size, generator=generator).requires_grad_() for size in sizes]
    return Motion(*parts)


def drawn(geometry: bool = True) -> tuple[RenderOutput, Target]:
    a, b = pictures(20, 20)
    alpha, depth, normal = torch.ones(20, 20), 1 + a[0], torch.nn.functional.normalize(a + 0.1, dim=0)
    output = RenderOutput(
        a.requires_grad_(), alpha, depth if geometry else None, normal if geometry else None, a, alpha > 0
    )
    return output, Target(b, alpha, 1 + b[0], torch.nn.functional.normalize(b + 0.1, dim=0), metric=True)


def test_total_is_the_sum_of_its_terms() -> None:
    output, target = drawn()
    said = predicted()
    tracked = Tracked(torch.zeros(3, 5), torch.zeros(3, 3), torch.softmax(torch.rand(3, 7), -1))
    weights = LossWeights()
    loss, terms = losses.total(weights, output, target, said, tracked)
    assert set(terms) == {"photometric", "depth", "normal", "emotion", "score", "motion"}
    factors = {"photometric": 1.0, "depth": 1e-2, "normal": 1e-3, "emotion": 0.01, "score": 0.1, "motion": 0.1}
    assert float(loss.detach()) == pytest.approx(sum(factors[name] * float(value) for name, value in terms.items()))
    loss.backward()
    assert output.rgb.grad is not None and said.gate.grad is not None
    assert terms["photometric"].item() == pytest.approx(losses.photometric(output.rgb, target.rgb).item())


def test_the_papers_weights() -> None:
    """L1 + 0.2·(1 - SSIM) + KL + |g - e| + 0.01·depth + 0.001·normal."""
    output, target = drawn()
    said = predicted()
    emotion = torch.softmax(torch.arange(21.0).reshape(3, 7) % 5, -1)
    tracked = Tracked(torch.zeros(3, 5), torch.zeros(3, 3), emotion)
    loss, terms = losses.total(LossWeights.paper(), output, target, said, tracked)
    assert terms.keys() == {"photometric", "depth", "normal", "emotion", "score"}
    wanted = (output.rgb - target.rgb).abs().mean() + 0.2 * (1 - ssim(output.rgb, target.rgb))
    wanted = wanted + losses.emotion(said.emotion_logits, emotion) + losses.score(said.gate, emotion)
    wanted = wanted + 0.01 * terms["depth"] + 0.001 * terms["normal"]
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)


def test_what_is_switched_off_or_unknown_is_left_out() -> None:
    output, target = drawn(geometry=False)
    said = predicted()
    tracked = Tracked(None, None, torch.softmax(torch.rand(3, 7), -1))
    _, terms = losses.total(LossWeights(emotion=0), output, target, said, tracked)
    assert set(terms) == {"photometric", "score"}
    _, terms = losses.total(LossWeights(score=0, emotion=0), output, target, said, tracked)
    assert set(terms) == {"photometric"}


def test_a_crop_weighs_as_the_whole_picture() -> None:
    """Where the rest of a picture is right, the loss of a crop times its share is the loss of the whole."""
    a, b = pictures(40, 40)
    inside = torch.zeros(40, 40)
    inside[12:28, 12:28] = 1
    a, b = 0.3 + (a - 0.3) * inside, 0.3 + (b - 0.3) * inside
    whole = losses.total(LossWeights(), *frame(a, b))[0]
    part = slice(2, 38)
    crop = losses.total(LossWeights(), *frame(a[:, part, part], b[:, part, part], share=0.81))[0]
    # The windows of judged pixels reach 5 pixels out: beyond, both pictures are flat and alike.
    assert float(crop) == pytest.approx(float(whole), rel=1e-5)


def frame(a: torch.Tensor, b: torch.Tensor, share: float = 1.0) -> tuple[RenderOutput, Target]:
    alpha = torch.ones(a.shape[1:])
    return RenderOutput(a, alpha, None, None, a, alpha > 0), Target(b, alpha, share=share)


def test_a_loss_that_is_no_number_stops_and_is_named() -> None:
    output, target = drawn()
    broken = target._replace(rgb=target.rgb * float("nan"))
    with pytest.raises(LossError, match="photometric is not a number"):
        losses.total(LossWeights(), output, broken)
    with pytest.raises(LossError, match="nothing to learn from"):
        losses.total(LossWeights())
    with pytest.raises(LossError, match="structural"):
        LossWeights(structural=1.5)
    with pytest.raises(LossError, match="score"):
        LossWeights(score=float("nan"))
