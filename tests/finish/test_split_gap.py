"""When the accuracy on the search split promises too much."""

import pytest
from espalier.finish.split_gap import accuracy_estimate, split_gap


def test_accuracies_have_the_deviation_of_a_binomial_share() -> None:
    estimate = accuracy_estimate(0.9, 100, "test")
    assert (estimate.value, estimate.on) == (0.9, "test split, 100 images")
    assert estimate.std == pytest.approx(0.03)


def test_weights_that_saw_the_search_split_are_told() -> None:
    text = split_gap(accuracy_estimate(0.996, 1000, "search"), accuracy_estimate(0.917, 846, "test"))
    assert text == (
        "the original has 99.60 % on the search split and 91.70 % on the test split: its weights have probably seen "
        "the search split"
    )


@pytest.mark.parametrize(("test", "is_told"), [(0.78, False), (0.75, False), (0.73, True), (0.99, False)])
def test_three_deviations_of_the_difference_are_chance(test: float, is_told: bool) -> None:
    # 0.9 and t of 100 images: the difference deviates by sqrt(0.09 + t (1 - t)) / 10.
    deviation = (0.09 + test * (1 - test)) ** 0.5 / 10
    assert (0.9 - test > 3 * deviation) == is_told
    text = split_gap(accuracy_estimate(0.9, 100, "search"), accuracy_estimate(test, 100, "test"))
    assert bool(text) == is_told
