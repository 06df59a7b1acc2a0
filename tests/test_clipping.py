from __future__ import annotations

import pytest
import torch
from torch import nn

from monet_cyclegan.clipping import AdaptiveClip, NormClip, gradient_norm


def parameter(weight: object, gradient: object = None) -> nn.Parameter:
    result = nn.Parameter(torch.tensor(weight))
    if gradient is not None:
        result.grad = torch.tensor(gradient)
    return result


def test_the_gradient_norm_is_that_of_all_gradients_as_one_vector() -> None:
    parameters = [parameter([0.0, 0.0], [3.0, 0.0]), parameter([[0.0]], [[4.0]]), parameter([7.0])]
    norm = gradient_norm(parameters)
    assert norm.shape == ()
    assert norm.item() == 5
    assert gradient_norm([parameter([7.0])]).item() == 0


def test_norm_clip_scales_all_gradients_to_the_limit_and_returns_the_norm_before() -> None:
    a, b = parameter([0.0, 0.0], [3.0, 0.0]), parameter([[0.0]], [[4.0]])
    assert NormClip(max_norm=1)(p for p in (a, b)).item() == 5
    torch.testing.assert_close(a.grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(b.grad, torch.tensor([[0.8]]))


def test_norm_clip_leaves_small_gradients_alone() -> None:
    a = parameter([0.0, 0.0], [0.3, 0.4])
    assert NormClip(max_norm=1)([a]).item() == pytest.approx(0.5)
    assert a.grad.tolist() == pytest.approx([0.3, 0.4])


def test_adaptive_clip_limits_each_output_channel_to_its_share_of_the_weight() -> None:
    weight = parameter(
        [[[[3.0, 4.0]]], [[[3.0, 4.0]]], [[[0.0, 0.0]]], [[[1.0, 0.0]]]],
        [[[[6.0, 8.0]]], [[[0.03, 0.04]]], [[[0.0, 2.0]]], [[[0.0, 0.0]]]],
    )
    before = AdaptiveClip(clipping=0.1, eps=0.01)([weight])
    expected = [
        [[[0.3, 0.4]]],  # ‖W‖ = 5 allows 0.5, and ‖G‖ was 10
        [[[0.03, 0.04]]],  # allowed
        [[[0.0, 0.001]]],  # a zero weight counts as eps
        [[[0.0, 0.0]]],  # no gradient at all stays none
    ]
    torch.testing.assert_close(weight.grad, torch.tensor(expected))
    assert before.shape == ()
    assert before.item() == pytest.approx((100 + 0.0025 + 4) ** 0.5)


def test_adaptive_clip_takes_a_bias_or_a_scalar_as_one_unit() -> None:
    bias, scalar = parameter([3.0, 4.0], [0.0, 10.0]), parameter(2.0, -1.0)
    AdaptiveClip(clipping=0.1)([bias, scalar])
    torch.testing.assert_close(bias.grad, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(scalar.grad, torch.tensor(-0.2))


@pytest.mark.parametrize("clip", [AdaptiveClip(), NormClip(max_norm=1.0)])
def test_parameters_without_a_gradient_are_passed_over(clip: AdaptiveClip | NormClip) -> None:
    frozen = parameter([1.0])
    assert clip([frozen, parameter([1.0], [2.0])]).item() == 2
    assert frozen.grad is None
    assert clip([frozen]).item() == 0


@pytest.mark.parametrize("clip", [AdaptiveClip(), NormClip(max_norm=1.0)])
def test_clipping_never_reads_a_value_back_from_the_device(clip: AdaptiveClip | NormClip) -> None:
    network = nn.Conv2d(3, 4, 3, device="meta")  # has no values to read: trying raises
    for p in network.parameters():
        p.grad = torch.empty_like(p)
    assert clip(network.parameters()).is_meta


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_limits_that_are_not_positive_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"max_norm must be positive, got {value}"):
        NormClip(max_norm=value)
    with pytest.raises(ValueError, match=f"clipping must be positive, got {value}"):
        AdaptiveClip(clipping=value)
    with pytest.raises(ValueError, match=f"eps must be positive, got {value}"):
        AdaptiveClip(eps=value)
