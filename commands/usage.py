"""What `espalier --help` and its commands' help say."""

__all__ = ["COMMANDS", "SEARCH_USAGE", "USAGE"]

#: Command -> what it does, in a line.
COMMANDS = {
    "search": "compress a network: profile, search, finish, report",
    "profile": "time the operators of a search space on this machine and write the lookup table",
    "compile": "turn a run's network into C: source, header, shared library and weights for a target",
    "report": "show a run folder, or compare the runs of a sweep",
    "verify": "read a run's network back and count its test accuracy and latency again",
    "list": "show the agents, rewards, tasks, devices, ... that there are",
}

USAGE = (
    "Espalier fits a trained PyTorch network to the device that will run it.\n\n"
    "usage: espalier COMMAND [ARGUMENTS]\n\n"
    + "".join(f"  {name:<9} {text}\n" for name, text in COMMANDS.items())
    + """
examples:
  espalier search                                   digits, this machine, the default agent
  espalier search task=cifar10_resnet20 demand.latency_ms=2
  espalier search -m agent=ppo,random seed=1,2,3 hydra/launcher=joblib
  espalier report runs/2026-01-01/12-00-00_digits_vgg
  espalier compile runs/2026-01-01/12-00-00_digits_vgg target=aarch64-linux
  espalier list agents

`espalier COMMAND --help` says more, `espalier --version` which version this is. What can be recomputed is kept in the
folder $ESPALIER_CACHE (by default the user's cache folder); data sets are looked for in $ESPALIER_DATA.
"""
)

SEARCH_USAGE = """Compress a network for a device.

usage: espalier search [GROUP=OPTION] [KEY=VALUE] ...
       espalier search -m GROUP=OPTION,OPTION KEY=VALUE,VALUE ...     every combination
       espalier search resume=RUN_FOLDER                             go on with a run that was cut short

groups (espalier list GROUP describes the options; `+` marks the default):
{groups}
keys that people change most:
  budget=150                      plans to evaluate
  seed=0                          of the search (task.seed: of the training)
  demand.latency_ms=2             budgets: latency_ms, energy_mj, storage_bytes, peak_memory_bytes, macs
  demand.max_accuracy_drop_points=1   percentage points of accuracy that may go
  demand.weights.energy=0.5       what matters: accuracy, latency, energy, storage, peak_memory, macs
  space.include='[layer3.*]'      only these layers; space.exclude leaves some alone
  '~space.techniques.fire'        leave a technique out (espalier list techniques)
  +technique@space.techniques.cp=cp   take one in (space=single has all but compositions, space=all everything)
  space.techniques.cp.speedups='[3]'  what a technique offers; --cfg job prints all settings
  device.runtime=torch            engine of device=host: onnxruntime, openvino, torch or espalier
  device.threads=1                threads of an inference
  energy@device.energy=counter    what predicts energy: adadeep, power_time or counter
  data.root=FOLDER                where data sets lie (default: $ESPALIER_DATA)
  hydra.run.dir=FOLDER            the run folder (default: runs/DATE/TIME_TASK)

your own parts: --config-dir FOLDER adds a folder of YAML files with your agents, rewards, tasks, ...

The run folder holds summary.json, plan.json, evaluations.jsonl, model.safetensors, model.onnx, report.html and
pictures. `--cfg job` prints the composed configuration; `--hydra-help` describes Hydra's own flags.
"""
