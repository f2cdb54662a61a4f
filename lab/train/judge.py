"""The networks that judge samples: class logits of a canvas. `judges.py` trains them, `lab.evaluate` asks them."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POOL = 4  # a judge sees canvases averaged over POOL x POOL


class Judge(nn.Module):
    """Class logits of canvases: 4 x 4 pooling, contrast normalisation, convolutions, and an average over time.

    Frequency, or height, is kept to the last layer: at what pitch something happens matters, when it happens does not.
    """

    def __init__(self, classes: tuple[str, ...], widths: tuple[int, ...] = (24, 48, 96, 160)):
        super().__init__()
        self.classes = classes
        layers: list[nn.Module] = []
        channels = 1
        for level, width in enumerate(widths):
            kernels = ((5, 2),) if level == 0 else ((3, 2), (3, 1))
            for kernel, stride in kernels:
                layers += [
                    nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                channels = width
        self.layers = nn.Sequential(*layers)
        rows = 256 // POOL // 2 ** len(widths)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels * rows, len(classes)))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 256, W) in 0..1, W at least 256, row 0 at the top -> (B, classes)."""
        return self.logits(F.avg_pool2d(pictures[:, None], POOL))

    def logits(self, pooled: Tensor) -> Tensor:
        """The same of canvases (B, 1, 64, W / 4) that are pooled already."""
        deviation, mean = torch.std_mean(pooled, dim=(1, 2, 3), keepdim=True)
        features = self.layers((pooled - mean) / (deviation + 0.03))
        return self.head(features.mean(dim=-1).flatten(1))


def load_judge(path: Path) -> Judge:
    """A trained judge from its file, ready to use: same input, same logits."""
    saved = torch.load(path, weights_only=True)
    judge = Judge(tuple(saved["classes"]))
    judge.load_state_dict(saved["weights"])
    return judge.eval().requires_grad_(False)
