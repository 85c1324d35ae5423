"""A network of the user's own, named on the command line, with weights in any common file."""

from pathlib import Path

import pytest
import torch
from espalier.commands.building import build_task, build_techniques, resolved
from espalier.commands.schema import register_schema
from espalier.compression.survey import survey
from espalier.errors import EspalierError, ModelError
from espalier.tasks.task import Task
from hydra import compose, initialize_config_module
from safetensors.torch import save_file
from torch import Tensor, nn


class MyNet(nn.Module):
    """Nothing of Espalier's in it."""

    def __init__(self, width: int, n_outputs: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.head = nn.Linear(width * 64, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(nn.functional.max_pool2d(torch.relu(self.conv(x)), 2), 1))


def _task(*overrides: str, model: str = "tests.commands.test_user_model.MyNet") -> tuple[Task, dict[str, object]]:
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        config = compose("config", overrides=["model=custom", f"model._target_={model}", *overrides])
    values = resolved(config)
    return build_task(values), values


@pytest.mark.parametrize("name", ["a.safetensors", "b.pt", "c.pth"])
def test_a_network_named_on_the_command_line_is_loaded_and_surveyed(tmp_path: Path, name: str) -> None:
    torch.manual_seed(7)
    trained = MyNet(12)
    path = tmp_path / name
    if name == "a.safetensors":
        save_file(trained.state_dict(), path)
    elif name == "b.pt":
        torch.save(trained.state_dict(), path)
    else:
        state = {f"module.{key}": tensor for key, tensor in trained.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 90}, path)
    prefix = ["task.checkpoint_prefix=module."] if name == "c.pth" else []
    task, values = _task("+model.width=12", f"task.checkpoint={path}", *prefix)
    assert type(task.model).__name__ == "MyNet"
    assert all(torch.equal(tensor, trained.state_dict()[key]) for key, tensor in task.model.state_dict().items())
    found = survey(task.model, task.example_input, build_techniques(values))
    assert {"conv", "head"} == {site.name for site in found.space.sites}


@pytest.mark.parametrize(
    ("overrides", "model", "message"),
    [
        (
            (),
            "tests.commands.test_user_model.MyNet",
            r"MyNet needs the argument 'width'; add it, such as \+model\.width=VALUE",
        ),
        (
            ("+model.width=x",),
            "tests.commands.test_user_model.MyNet",
            r"model\.width='x': input should be a valid integer",
        ),
        (("+model.size=3",), "tests.commands.test_user_model.MyNet", r"model has no argument 'size'; known: .*width"),
        ((), "tests.commands.test_user_model.YourNet", r"model\._target_='.*YourNet' cannot be imported"),
    ],
)
def test_mistakes_with_own_networks_are_named(overrides: tuple[str, ...], model: str, message: str) -> None:
    with pytest.raises(EspalierError, match=message):
        _task(*overrides, model=model)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    torch.save(MyNet(11).state_dict(), tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"does not fit MyNet: 3 of another shape \(conv\.weight is \(11, 1, 3, 3\)"):
        _task("+model.width=12", f"task.checkpoint={tmp_path / 'c.pt'}")
