"""Lines of text that a node shows on itself."""

from __future__ import annotations

from typing import Any


def tell(hidden: Any, text: str) -> None:
    """Show text on the node whose `cls.hidden` is given; its schema asks for Hidden.unique_id. Without a server there is nobody to tell."""
    if hidden and hidden.unique_id:
        from server import PromptServer  # not above: only a running server can import it

        PromptServer.instance.send_progress_text(text, hidden.unique_id)
