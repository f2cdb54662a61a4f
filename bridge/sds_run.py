"""A run of score distillation in ComfyUI: progress, previews, cancelling, and a checkpoint to go on from."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from PIL import Image
from torch import Tensor

from ..itsound_core.sds import Distillation

FOLDER = "sds"
"""In ComfyUI's output folder."""
SAVE_EVERY, SHOW_EVERY = 300.0, 2.0  # seconds
SHOW_SHARE = 20
"""Previews take at most one in so many parts of the time, where decoding one is slow."""

logger = logging.getLogger(__name__)


class Checkpoint:
    """A run's file in ComfyUI's output folder, and the settings it belongs to. `node` is what errors name."""

    def __init__(self, node: str, name: str, settings: dict[str, Any]) -> None:
        folder = Path(folder_paths.get_output_directory()).resolve() / FOLDER
        self.node, self.path, self.settings = node, (folder / f"{name.strip()}.pt").resolve(), settings
        if folder not in self.path.parents:
            raise ValueError(f"{node}: checkpoint_name is {name!r}, which leads out of the folder output/{FOLDER}. Give a plain name.")

    def load(self, iterations: int) -> dict[str, Any] | None:
        """The state to go on from, None if there is no file yet.

        Raises ValueError for a damaged file, for one of other settings, which it names, and for one beyond `iterations`.
        """
        if not self.path.exists():
            return None
        try:
            with torch.inference_mode(False):  # the optimiser goes on with these very tensors
                kept = torch.load(self.path, weights_only=True, map_location="cpu")
            settings, state = kept["settings"], kept["state"]
            iteration = int(state["iteration"])
        except Exception as error:  # a damaged file can raise nearly anything
            raise ValueError(
                f"{self.node}: {self.path.name} cannot be read ({error}). Delete it, or choose another checkpoint_name."
            ) from error
        others = [key for key in self.settings if settings.get(key) != self.settings[key]]
        if others:
            raise ValueError(
                f"{self.node}: the checkpoint {self.path.stem} is of another run: {', '.join(others)} differ. Set them as they were, or "
                "choose another checkpoint_name."
            )
        if iteration > iterations:
            raise ValueError(
                f"{self.node}: the checkpoint {self.path.stem} is at iteration {iteration}, beyond the {iterations} asked for. Set "
                f"iterations to {iteration} or more, or choose another checkpoint_name."
            )
        logger.info("%s: going on from iteration %d of %s.", self.node, iteration, self.path.stem)
        return state

    def save(self, run: Distillation) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        torch.save({"settings": self.settings, "state": run.state_dict()}, part)
        os.replace(part, self.path)


class Run:
    """Iterates to the end; stopped by the user or an error, it keeps its state first, unless that is NaN.

    sides: what the critics are called. decode: from the canvas to the picture (1, 1, H, W) in 0..1. tell: shows text on the node.
    """

    def __init__(
        self,
        node: str,
        distillation: Distillation,
        sides: tuple[str, ...],
        decode: Callable[[Tensor], Tensor],
        checkpoint: Checkpoint | None,
        tell: Callable[[str], None],
    ) -> None:
        self.node, self.distillation, self.sides, self.decode = node, distillation, sides, decode
        self.checkpoint, self.tell = checkpoint, tell
        self.errors: list[list[Tensor | None]] = []
        """Mean squared noise errors of the critics, of each step since the canvas was last looked at."""

    def finish(self, iterations: int) -> Tensor:
        """The picture (1, 1, H, W) in 0..1. Raises ValueError where a model overflows, naming the step."""
        run, progress = self.distillation, comfy.utils.ProgressBar(iterations)
        saved = time.monotonic()
        show_at = saved + SHOW_EVERY
        try:
            while run.iteration < iterations:
                comfy.model_management.throw_exception_if_processing_interrupted()
                self.errors.append(run.step())
                now = time.monotonic()
                if now > show_at:
                    progress.update_absolute(run.iteration, preview=("JPEG", _preview(self.picture()), 1024))
                    self.tell(f"{run.iteration} of {iterations}, mean squared noise error: {self._told(_means(self.errors))}")
                    self.errors.clear()
                    show_at = now + max(SHOW_EVERY, SHOW_SHARE * (time.monotonic() - now))
                if now - saved > SAVE_EVERY:
                    saved = now
                    self.save()
            return self.picture()
        finally:
            self.save()

    def picture(self) -> Tensor:
        """The picture as it is. Raises ValueError where the canvas is NaN; the errors that were noted tell since when."""
        canvas, noted = self.distillation.picture(), self.errors
        if canvas.isfinite().all():
            with torch.no_grad():
                return self.decode(canvas)
        finite = [all(error is None or error.isfinite() for error in errors) for errors in noted]
        first = finite.index(False) if False in finite else len(noted) - 1
        raise ValueError(
            f"{self.node}: the canvas became NaN at iteration {self.distillation.iteration - len(noted) + first + 1} (mean squared noise "
            f"error: {self._told(noted[first])}): a model overflowed in half precision. Load it with weight_dtype fp32 or bf16."
            + (f" The checkpoint {self.checkpoint.path.stem} is from before." if self.checkpoint and self.checkpoint.path.exists() else "")
        )

    def save(self) -> None:
        if self.checkpoint is not None and self.distillation.picture().isfinite().all():
            self.checkpoint.save(self.distillation)

    def _told(self, errors: list[Tensor | None]) -> str:
        return ", ".join(f"{side} {float(error):.3f}" for side, error in zip(self.sides, errors, strict=True) if error is not None)


def _means(errors: list[list[Tensor | None]]) -> list[Tensor | None]:
    """Of each critic, over the steps in which it had a say."""
    given = [[error for error in column if error is not None] for column in zip(*errors, strict=True)]
    return [torch.stack(column).mean() if column else None for column in given]


def _preview(picture: Tensor) -> Image.Image:
    return Image.fromarray((255 * picture[0, 0]).round().byte().cpu().numpy())
