"""Writes CIFAR-10's training images as they may have been before their JPEG compression, to fine-tune on.

    python benchmarks/undo_jpeg.py OUT.parquet [--train cifar10_train.parquet] [--epochs 12]

A small network learns from pairs: each exact image of the fit split (3,148 with the defaults of `data=cifar10`) and the
most similar one among the compressed images. Then it goes over all compressed images. Neither the calibrate, the search
nor the test split has a part in it. Use it as `data.extra_fit=OUT.parquet`.
"""

import argparse
import io
from pathlib import Path

import pyarrow as pa
import torch
from espalier.tasks.data.folder import data_folder, existing_file
from espalier.tasks.data.parquet_images import parquet_images, read_parquet_images
from PIL import Image
from pyarrow import parquet
from torch import Tensor, nn
from torch.nn import functional

_CHANNELS = 48
_BATCH = 32


class Restoration(nn.Module):
    """Four convolutions that say what to add to an image with values 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        inner = [nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU()]
        first, last = nn.Conv2d(3, _CHANNELS, 5, padding=2), nn.Conv2d(_CHANNELS, 3, 3, padding=1)
        self.layers = nn.Sequential(
            first, nn.ReLU(), *inner, nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU(), last
        )

    def forward(self, images: Tensor) -> Tensor:
        """Shape (N, 3, H, W) to the same."""
        difference: Tensor = self.layers(images - 0.5)
        return images + 0.1 * difference


def twins(exact: Tensor, compressed: Tensor) -> Tensor:
    """Of each exact image the most similar compressed one, by thumbnails of 8x8 pixels; uint8."""
    thumbnails = functional.adaptive_avg_pool2d(compressed.float(), 8).flatten(1)
    wanted = functional.adaptive_avg_pool2d(exact.float(), 8).flatten(1)
    return compressed[torch.cat([torch.cdist(part, thumbnails).argmin(1) for part in wanted.split(256)])]


def fitted(exact: Tensor, compressed: Tensor, epochs: int) -> Restoration:
    """The network that comes closest to the exact images in squares of pixels."""
    torch.manual_seed(0)
    network = Restoration().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    steps = epochs * -(-len(exact) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for indices in torch.randperm(len(exact)).split(_BATCH):
            wanted, given = (_unit(images[indices]) for images in (exact, compressed))
            loss = (network(given) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network


def _unit(images: Tensor) -> Tensor:
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def restored(network: Restoration, images: Tensor) -> Tensor:
    """The images after the network; uint8."""
    parts = [(network(_unit(part)).clamp(0, 1) * 255).round().to(torch.uint8) for part in images.split(500)]
    return torch.cat(parts)


def write(path: Path, images: Tensor, labels: Tensor) -> None:
    """Images and labels in the layout of the others."""
    rows = []
    for image in images.permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "png")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    parquet.write_table(pa.table({"img": pa.array(rows), "label": pa.array(labels.tolist())}), path)


def main() -> None:
    """Learn, restore, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", default="cifar10_train.parquet")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    exact = parquet_images("cifar10_exact_train.parquet", "cifar10_exact_test.parquet").fit.images
    images, labels = read_parquet_images(existing_file(data_folder(None), options.train), 3, 10)
    pairs = twins(exact, images)
    network = fitted(exact, pairs, options.epochs)
    before, after = ((exact.float() - other.float()).square().mean() for other in (pairs, restored(network, pairs)))
    print(f"mean square error of pixels {before:.1f} before, {after:.1f} after")
    write(options.out, restored(network, images), labels)


if __name__ == "__main__":
    main()
