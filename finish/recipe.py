"""What happens to the best plans of a search."""

from dataclasses import dataclass, field

from ..errors import EspalierError
from ..tasks.distillation import DistillationRecipe
from .masked import Masked
from .pruning import PruningMethod

__all__ = ["FinishRecipe"]


@dataclass(frozen=True)
class FinishRecipe:
    """How a search ends.

    Attributes:
        candidates: How many of the best plans are refitted; as many again, up to four times, where all of them turn out
            slower than the original and latency matters.
        refit_images: Calibration images of a refit, at most.
        distillation: Fine-tuning of the winner.
        rounds: Samples of the live measurement, each of the original and of the result in turn.
        onnx: Whether to export ONNX too.
        sampled_plans: Evaluated plans that are measured live beside the winner, to say how far predicted latencies are
            from measured ones; 0 for none.
        pruning: How layers with block column-row sparsity get their weights, before the fine-tuning.
    """

    candidates: int = 3
    refit_images: int = 256
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)
    rounds: int = 200
    onnx: bool = True
    sampled_plans: int = 6
    pruning: PruningMethod = field(default_factory=Masked)

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.rounds < 1 or self.refit_images < 1:
            raise EspalierError("finish.candidates, finish.refit_images and finish.rounds must be at least 1")
        if self.sampled_plans < 0:
            raise EspalierError(f"finish.sampled_plans must be at least 0, got {self.sampled_plans}")
