"""Early stopping: the best network so far, judged on held-out drawings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self  # Any: extras are plain data

from hitree_training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from hitree_training.presets import Preset
    from hitree_training.progress import Budget


@dataclass
class Best:
    """The network that is kept, while others are tried."""

    patience: int  # evaluations without a better one, then it is over
    loss: float = float("inf")  # of the best
    weights: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    since: int = 0  # evaluations since

    @classmethod
    def resumed(
        cls, patience: int, before: Checkpoint | None, model: nn.Module, optimiser: Optimizer
    ) -> Self:
        """As a run left it, network and optimiser too; or the beginning of one."""
        if before is None:
            return cls(patience)
        model.load_state_dict(before.resume["weights"])
        optimiser.load_state_dict(before.resume["optimiser"])
        return cls(
            patience,
            before.resume["loss"],
            before.weights,
            before.extras["valid"],
            before.resume["since"],
        )

    def offer(self, model: nn.Module, loss: float, figures: dict[str, float]) -> None:
        """Keep a copy of the network if none was better."""
        self.since += 1
        if loss < self.loss:
            self.loss, self.figures, self.since = loss, figures, 0
            self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def checkpoint(
        self,
        name: str,
        preset: Preset,
        model: nn.Module,
        optimiser: Optimizer,
        budget: Budget,
        *,
        data_hash: str,
        extras: dict[str, Any],
    ) -> Checkpoint:
        """The best network, to be used, and the last one, to go on from; ``name`` as in files."""
        return Checkpoint(
            model=name,
            preset=preset.model_dump(),
            weights=self.weights,
            progress=budget.fraction,
            step=budget.step,
            data_hash=data_hash,
            extras={**extras, "valid": self.figures},
            resume={
                "weights": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "loss": self.loss,
                "since": self.since,
            },
        )

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self.since >= self.patience
