"""Early stopping: the best network so far, judged on held-out drawings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self  # Any: figures and resume states are plain data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hitree_training.checkpoint import Checkpoint


@dataclass
class Best:
    """The network that is kept, while others are tried."""

    patience: int  # evaluations without a better one, then it is over
    loss: float = float("inf")  # of the best
    weights: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    since: int = 0  # evaluations since

    @classmethod
    def resumed(cls, patience: int, before: Checkpoint | None) -> Self:
        """As a run left it, or the beginning of one."""
        if before is None:
            return cls(patience)
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

    def resume(self) -> dict[str, Any]:
        """What a checkpoint keeps beside weights and figures."""
        return {"loss": self.loss, "since": self.since}

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self.since >= self.patience
