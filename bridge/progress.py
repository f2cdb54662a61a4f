"""What a node shows while it works, and that it stops when the user cancels."""

from __future__ import annotations

from typing import Any

import comfy.model_management

from ..itsound_core.progress import OnStep


def tell(hidden: Any, text: str) -> None:
    """Show text on the node whose `cls.hidden` is given; its schema asks for Hidden.unique_id. Without a server there is nobody to tell."""
    if hidden and hidden.unique_id:
        from server import PromptServer  # not above: only a running server can import it

        PromptServer.instance.send_progress_text(text, hidden.unique_id)


def interruptible(on_step: OnStep | None = None) -> OnStep:
    """on_step after a look whether the user has cancelled, which ends the work."""

    def step(done: int, steps: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if on_step:
            on_step(done, steps)

    return step


def part(on_step: OnStep, index: int, count: int) -> OnStep:
    """on_step for one of `count` parts of the work that come one after the other, each with as many steps."""
    return lambda done, steps: on_step(index * steps + done, count * steps)
