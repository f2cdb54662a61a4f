"""The file in which a run of score distillation is kept, and what it belongs to."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_patcher
import folder_paths
import torch

from ..itsound_core.sds import Distillation
from ..itsound_core.weights import require_unpacked
from .files import checked_name
from .fingerprint import Fingerprint
from .saving import write_together

FOLDER = "sds"
"""In ComfyUI's output folder."""
ENDING, PART = ".pt", ".part"
SOCKET = "checkpoint_name"
INPUT_OF = {"columns": "seconds"}
"""The node's input from which a setting comes, where it has another name."""

logger = logging.getLogger(__name__)


class Checkpoint:
    """A run's file in ComfyUI's output folder, and the settings and models it belongs to.

    node: what errors name. settings: compared as they are, `prompts` among them, a digest of all. models, prompts: by their sockets, each
    prompt's own digest, which tells which of them differ. Raises ValueError for a name that is none for a file, or leads out of the folder.
    """

    def __init__(
        self,
        node: str,
        name: str,
        settings: Mapping[str, Any],
        models: Mapping[str, comfy.model_patcher.ModelPatcher],
        prompts: Mapping[str, str],
    ) -> None:
        name = checked_name(node, SOCKET, name, ENDING + PART)
        self.node, self.path = node, Path(folder_paths.get_output_directory(), FOLDER, f"{name}{ENDING}")
        self.settings, self.prompts = dict(settings), dict(prompts)
        self.models = {socket: Fingerprint.of(patcher) for socket, patcher in models.items()}

    def try_to_write(self, size: int) -> None:
        """Whether so many bytes can be written beside what is there already; nothing is left of it. Raises ValueError where not."""
        trial = self.path.with_name(f"{self.path.name}{PART}")
        try:
            if self.path.is_dir():
                raise IsADirectoryError(f"{self.path.name} is a folder")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                trial.write_bytes(bytes(size))
            finally:  # cut off by a full disk, it would keep it full
                trial.unlink(missing_ok=True)
        except OSError as error:
            raise ValueError(
                f"{self.node}: the checkpoint {self.path.name} cannot be written to output/{FOLDER} ({_reason(error)}). Make room or allow "
                f"writing there, choose another {SOCKET}, or leave it empty to keep nothing."
            ) from error

    def load(self, iterations: int) -> dict[str, Any] | None:
        """The state to go on from, None if there is no file yet.

        Raises ValueError for a damaged file, for one of other settings or models, which it names, and for one beyond `iterations`. A file
        that was written before models were recorded is gone on with, and a warning.
        """
        if not os.path.exists(self.path):  # False too where the path is too long; `try_to_write` says so
            return None
        try:
            require_unpacked(self.path)
            with torch.inference_mode(False):  # the optimiser goes on with these very tensors
                kept = torch.load(self.path, weights_only=True, map_location="cpu")
            settings, state, prompts = kept["settings"], kept["state"], dict(kept.get("prompts", {}))
            models = {socket: Fingerprint.from_dict(fields) for socket, fields in kept.get("models", {}).items()}
            iteration = int(state["iteration"])
        except Exception as error:  # a damaged file can raise nearly anything; torch's own advice is to read it unsafely
            raise ValueError(
                f"{self.node}: {self.path.name} cannot be read: it is damaged, or not a checkpoint of this node. Delete it, or choose "
                f"another {SOCKET}."
            ) from error
        self._compare(settings, models, prompts)
        if iteration > iterations:
            raise ValueError(
                f"{self.node}: the checkpoint {self.path.stem} is at iteration {iteration}, beyond the {iterations} asked for. Set "
                f"iterations to {iteration} or more, or choose another {SOCKET}."
            )
        logger.info("%s: going on from iteration %d of %s.", self.node, iteration, self.path.stem)
        return state

    def save(self, run: Distillation) -> None:
        """Replaces the file as a whole. Raises OSError where it cannot be written; the one before is there still."""
        models = {socket: model.to_dict() for socket, model in self.models.items()}
        data = io.BytesIO()
        torch.save({"settings": self.settings, "models": models, "prompts": self.prompts, "state": run.state_dict()}, data)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_together({self.path: data.getvalue()})

    def _compare(self, settings: Mapping[str, Any], models: Mapping[str, Fingerprint], prompts: Mapping[str, str]) -> None:
        others = [INPUT_OF.get(key, key) for key in self.settings if settings.get(key) != self.settings[key]]
        if "prompts" in others:  # a file of before prompts were recorded one by one may be of any of them
            others.remove("prompts")
            others += [socket for socket, digest in self.prompts.items() if prompts.get(socket) != digest]
        if others:
            raise ValueError(
                f"{self.node}: the checkpoint {self.path.stem} is of another run: {', '.join(others)} differ. Set them as they were, or "
                f"choose another {SOCKET}."
            )
        if not models:
            logger.warning(
                "%s: the checkpoint %s does not say by which models it was made; it goes on with those that are connected.",
                self.node,
                self.path.stem,
            )
            return
        found = {socket: models[socket].difference(model) if socket in models else "weights" for socket, model in self.models.items()}
        exchanged = [f"{socket} has other {difference}" for socket, difference in found.items() if difference]
        if exchanged:
            raise ValueError(
                f"{self.node}: the checkpoint {self.path.stem} is of other models: {', '.join(exchanged)}. Connect those it was made with "
                f"and the same LoRA, or choose another {SOCKET}."
            )


def _reason(error: Exception) -> str:
    """Without the path: the message would carry the names of a user's folders."""
    return getattr(error, "strerror", None) or str(error)
