"""In which spectrogram format a picture was made, as far as its graph tells: two have pictures of 512 rows, and white is silence in one."""

from __future__ import annotations

from comfy_api.latest import io

from ..itsound_core.views import FORMATS
from .provenance import Graph

HIDDEN = [io.Hidden.prompt, io.Hidden.unique_id]
"""Hidden inputs that a node needs for `refuse_negative`."""
MAKERS = {"AudioToSpectrogram", "EmptySpectrogramLatent", "KeeperSearch", "MultimodalGuider", "MultimodalKSampler"}
"""Nodes whose view is the format of what they make."""
CARRIERS = {"GUIDER", "IMAGE", "LATENT"}
SOCKET = "spectrogram"


def refuse_negative(node: str, hidden: io.HiddenHolder | None, view: str) -> None:
    """Raise ValueError where the graph made the picture at socket `spectrogram` in another format than that of the view it is played with.

    Only heights tell formats apart, so such a picture, as one that ViewCanvas laid out, would sound as its negative.
    """
    graph = Graph((hidden and hidden.prompt) or {})
    own = hidden and graph.prompt.get(hidden.unique_id)
    if not own:
        return
    makers = [graph.prompt[maker] for maker in graph.nearest(own["inputs"].get(SOCKET), MAKERS, CARRIERS, through=SOCKET)]
    made = [(maker["inputs"].get("view", "none"), maker["class_type"]) for maker in makers]
    others = [(name, maker) for name, maker in made if isinstance(name, str) and FORMATS.get(name, FORMATS[view]) != FORMATS[view]]
    if others and len(others) == len(made):
        (name, maker), colour = others[0], "white" if FORMATS[others[0][0]].silence else "black"
        raise ValueError(
            f"{node}: {SOCKET} was made with view {name} (in {maker}), where {colour} is silence, but view is {view} here: its negative "
            f"would be heard. Set view to {name}, and connect the picture as it was made, without ViewCanvas."
        )
