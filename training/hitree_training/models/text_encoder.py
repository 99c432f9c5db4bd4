"""Text encoder: token vectors to one vector, shared by all models that read instructions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Reads a short sentence given as static token vectors.

    A convolution over three tokens tells "two big ears" from "big two ears"; its masked maximum
    keeps the strongest trait of each kind, and the plain mean of the token vectors beside it keeps
    what the vectors already know, so that words never seen in training still land near their kin.
    No recurrence: it exports as Conv, Max and MatMul, and costs next to nothing.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width_in, width_out, kernel_size=3, padding=1)
        # Without a bias, so that a text with no tokens (a level that does not exist) is all zero.
        self.project = nn.Linear(width_out + width_in, width_out, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Encode ``tokens`` (B, T, E) where ``mask`` (B, T) is 1; return (B, width_out).

        A row whose mask is all zero gives zeros.
        """
        mask = mask.unsqueeze(-1)  # (B, T, 1)
        tokens = tokens * mask
        features = torch.relu(self.conv(tokens.transpose(1, 2))).transpose(1, 2)  # (B, T, width)
        strongest = (features * mask).amax(dim=1)  # relu keeps them >= 0, so masked zeros are safe
        mean = tokens.sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)  # (B, E)
        encoded: Tensor = self.project(torch.cat([strongest, mean], dim=-1))
        return encoded
