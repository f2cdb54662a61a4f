"""How large things are in the GPU check: for a card, or for a dry run in seconds on a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    seconds: float
    """Length of the canvases that nodes and agreement work on."""
    steps: int
    """Of the agreement; a divisor of 1000, or ComfyUI takes one step more."""
    unet: str
    """Size of the random UNets whose speed is measured (`lab.benchmarks.joint_sampling`)."""
    columns: int
    """Of their latents."""
    batches: tuple[int, ...]
    """The most telling first."""
    timed_steps: int
    """So few that the image model takes part in each."""
    repeats: int
    distillation_steps: int
    iterations: int
    """Of Griffin-Lim."""
    recording: float
    """Seconds of the recording that is imprinted."""


FULL = Scale(10.24, 20, "full", 128, (16, 1, 4), 5, 3, 60, 48, 60.0)
TINY = Scale(2.56, 2, "tiny", 16, (2, 1), 2, 1, 2, 2, 1.0)
