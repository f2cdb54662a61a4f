"""A run of score distillation in ComfyUI: progress, previews, cancelling, and what it keeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import comfy.model_management
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ..itsound_core.sds import Distillation
from .checkpoint import Checkpoint

SAVE_EVERY, SHOW_EVERY = 300.0, 2.0  # seconds
SHOW_SHARE = 20
"""Previews take at most one in so many parts of the time, where decoding one is slow."""

logger = logging.getLogger(__name__)


class Run:
    """Iterates to the end; stopped by the user or an error, it keeps its state first, unless that is NaN.

    A state that cannot be saved is a warning, in the log and on the node: the run goes on, and its picture is returned.

    sides: what the priors are called, and the inputs that each is made of. decode: from the canvas to the picture (1, 1, H, W) in 0..1.
    show_text: shows text on the node.
    """

    def __init__(
        self,
        node: str,
        distillation: Distillation,
        sides: Mapping[str, str],
        decode: Callable[[Tensor], Tensor],
        checkpoint: Checkpoint | None,
        show_text: Callable[[str], None],
    ) -> None:
        self.node, self.distillation, self.sides, self.decode = node, distillation, sides, decode
        self.checkpoint, self.show_text = checkpoint, show_text
        self.errors: list[list[Tensor | None]] = []
        """Mean squared noise errors of the priors, of each step since the canvas was last looked at."""
        self.warning = ""
        """Of the last attempt to save."""

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
                    errors = self._format(_means(self.errors))
                    self.show_text(f"{run.iteration} of {iterations}, mean squared noise error: {errors}{self.warning}")
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
        sides = zip(self.sides.values(), noted[first], strict=True)
        guilty = " and ".join(inputs for inputs, error in sides if error is not None and not error.isfinite()) or "a model"
        raise ValueError(
            f"{self.node}: the canvas became NaN at iteration {self.distillation.iteration - len(noted) + first + 1} (mean squared noise "
            f"error: {self._format(noted[first])}): {guilty} overflowed in half precision. Load it with weight_dtype fp32 or bf16."
            + (f" The checkpoint {self.checkpoint.path.stem} is from before." if self.checkpoint and self.checkpoint.path.exists() else "")
        )

    def save(self) -> None:
        """Keeps the state if it is finite. Never raises what a disk or a device can: it is called while a run ends."""
        if self.checkpoint is None:
            return
        try:
            if self.distillation.picture().isfinite().all():
                self.checkpoint.save(self.distillation)
            self.warning = ""
        except (OSError, RuntimeError) as error:  # of the disk; of the GPU, where that is what ended the run
            reason = getattr(error, "strerror", None) or error
            self.warning = f" The checkpoint {self.checkpoint.path.stem} could not be saved: {reason}."
            logger.warning("%s:%s", self.node, self.warning)

    def _format(self, errors: list[Tensor | None]) -> str:
        return ", ".join(f"{side} {float(error):.3f}" for side, error in zip(self.sides, errors, strict=True) if error is not None)


def _means(errors: list[list[Tensor | None]]) -> list[Tensor | None]:
    """Of each prior, over the steps in which it was evaluated."""
    given = [[error for error in column if error is not None] for column in zip(*errors, strict=True)]
    return [torch.stack(column).mean() if column else None for column in given]


def _preview(picture: Tensor) -> Image.Image:
    return Image.fromarray((255 * picture[0, 0]).round().byte().cpu().numpy())
