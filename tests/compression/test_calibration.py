"""What is known of a layer's inputs."""

import numpy as np
import pytest
import torch
from espalier.compression.calibration import Moments, calibrate_layer, input_vectors, kernel_positions
from espalier.compression.layers import ConvGeometry
from espalier.compression.site import Site
from torch import Tensor, nn
from torch.nn import functional


def _site(layer: nn.Conv2d, image: Tensor) -> Site:
    shapes = tuple(image.shape[1:]), tuple(layer(image).shape[1:])
    return Site("layer", "conv2d", *shapes, ("layer",), geometry=ConvGeometry.of(layer))


@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize(
    "moves",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (1, 5), "stride": (2, 1), "padding": (0, 2)},
        {"kernel_size": (3, 2), "dilation": (1, 3), "padding": (2, 1), "stride": (1, 2)},
        {"kernel_size": 1},
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_covariance_is_that_of_unfolded_patches(
    channels: int, moves: dict[str, object], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 4, **moves)  # type: ignore[arg-type]
    images = torch.randn(7, channels, 9, 8).to(memory_format=memory_format)
    site = _site(layer, images[:1])
    unfolded = functional.unfold(images.contiguous(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    rows = unfolded.transpose(1, 2).reshape(-1, unfolded.shape[1]).double().numpy()
    outputs = layer(images).detach().movedim(1, -1).reshape(-1, 4)

    positions = kernel_positions(site)
    own, cross = Moments(positions, positions), Moments(1, positions)
    for part, target in zip(images.split(3), outputs.split(3 * len(outputs) // 7), strict=True):
        vectors = input_vectors(site, part)
        own.update(vectors, vectors)
        cross.update(target, vectors)

    assert np.allclose(own.means[0].numpy(), rows.mean(0), atol=1e-5)
    assert np.allclose(own.covariance.numpy(), np.cov(rows.T, bias=True), atol=1e-4)
    together = np.cov(np.concatenate([outputs.double().numpy(), rows], 1).T, bias=True)
    assert np.allclose(cross.covariance.numpy(), together[:4, 4:], atol=1e-4)


def test_statistics_serve_the_weights_as_they_lie() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 6, 3, padding=1).requires_grad_(False)
    images = torch.randn(50, 5, 8, 8).cumsum(3) * torch.arange(1, 6).view(-1, 1, 1)  # no two inputs are alike
    known = calibrate_layer(_site(layer, images[:1]), layer, images)
    # The variance of the outputs is that which the weights make of the inputs' covariance.
    weight = layer.weight.flatten(1).double()
    variances = (weight @ known.covariance * weight).sum(1)
    assert torch.allclose(variances.float(), layer(images).var((0, 2, 3)), rtol=0.02)
