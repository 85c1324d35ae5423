"""Choices and plans."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from espalier.compression.choice import KEEP, Choice
from espalier.compression.plan import Plan
from espalier.errors import FormatError
from hypothesis import given
from hypothesis import strategies as st

_PARAMETERS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4)),
    max_size=3,
)
_CHOICES = st.builds(lambda name, parameters: Choice.of(name, **parameters), st.sampled_from(["a", "b"]), _PARAMETERS)


@given(st.dictionaries(st.text(min_size=1, max_size=6), _CHOICES, max_size=5))
def test_plans_round_trip(choices: dict[str, Choice]) -> None:
    plan = Plan.of(choices)
    again = Plan.from_dict(plan.to_dict())
    assert again == plan
    assert again.hash == plan.hash


def test_equal_decisions_have_equal_hashes_in_every_process(tmp_path: Path) -> None:
    plan = Plan.of({"a": Choice.of("svd", rank=4), "b": KEEP})
    assert plan.hash == Plan.of({"a": Choice.of("svd", rank=4)}).hash
    assert plan.hash != Plan.of({"a": Choice.of("svd", rank=5)}).hash
    assert plan["nowhere"] == KEEP
    assert len({plan, Plan.of(dict(plan))}) == 1
    plan.save(tmp_path / "plan.json")
    code = (
        "from pathlib import Path; from espalier.compression.plan import Plan; "
        f"print(Plan.load(Path({str(tmp_path / 'plan.json')!r})).hash)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == plan.hash


def test_choices_are_readable() -> None:
    assert str(Choice.of("svd", rank=4, b=1)) == "svd(b=1, rank=4)"
    assert str(KEEP) == "keep"


def _plan(choices: Any) -> dict[str, Any]:
    return {"format": "espalier-plan", "version": 1, "choices": choices}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "is not a plan"),
        ({**_plan({}), "version": 2}, "has plan version 2, expected 1"),
        (_plan([]), "has no object 'choices'"),
        (_plan({"a": {}}), "exactly 'technique' and 'parameters'"),
        (_plan({"a": {"technique": 3, "parameters": {}}}), "needs a technique's name"),
        (_plan({"a": {"technique": "x", "parameters": {"r": [1]}}}), "must be a number or a text"),
        (_plan({"a": {"technique": "x", "parameters": {"r": True}}}), "must be a number or a text"),
    ],
)
def test_other_objects_are_refused(values: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Plan.from_dict(values)
