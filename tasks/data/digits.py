"""scikit-learn's handwritten digits: 1,797 images that ship inside the library."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from .split import Split, Splits, stratified_parts

__all__ = ["digits"]


def digits(*, size: int = 16, calibrate: int = 128, search: int = 350, test: int = 450, seed: int = 0) -> Splits:
    """Alpaydin and Kaynak's digits (8x8, 17 grey levels), enlarged bilinearly.

    Args:
        size: Height and width of the images afterwards.
        calibrate: Images of the calibrate split.
        search: Images of the search split.
        test: Images of the test split; the fit split gets the rest.
        seed: Which images go where.
    """
    values, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(values.astype(np.float32)).view(-1, 1, 8, 8) / 16
    images = functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(classes.astype(np.int64))
    parts = stratified_parts(labels, (calibrate, search, test), seed)
    mean, std = (float(images.mean()),), (float(images.std()),)
    calibrated, searched, tested, fitted = (Split(images[part], labels[part], mean, std) for part in parts)
    return Splits(fitted, calibrated, searched, tested)
