"""Accuracies with what chance makes of them, and whether the search split says more than the test split."""

from ..hw_models.cost import Estimate

__all__ = ["accuracy_estimate", "split_gap"]

_DEVIATIONS = 3.0


def accuracy_estimate(value: float, images: int, split: str) -> Estimate:
    """An accuracy with the standard deviation of a share of that many images.

    Args:
        value: 0 to 1.
        images: Above 0.
        split: Which they are of.
    """
    return Estimate(value, (value * (1 - value) / images) ** 0.5, "measured", f"{split} split, {images} images")


def split_gap(search: Estimate, test: Estimate) -> str:
    """One line where the original does better on the search split than chance explains; "" elsewhere.

    The difference of two independent shares has the root of their summed variances as standard deviation.

    Args:
        search: Accuracy of the original on the search split.
        test: Its accuracy on the test split.
    """
    deviation = (search.std**2 + test.std**2) ** 0.5
    if search.value - test.value <= _DEVIATIONS * deviation:
        return ""
    return (
        f"the original has {100 * search.value:.2f} % on the search split and {100 * test.value:.2f} % on the test "
        "split: its weights have probably seen the search split"
    )
