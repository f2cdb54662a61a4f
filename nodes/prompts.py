"""The paper's prompts as a preset."""

from __future__ import annotations

from comfy_api.latest import io

from ..bridge import inputs
from ..itsound_core.presets import FROM_PAIR, OFFICIAL_EXAMPLES, PAPER_AUDIO_PROMPTS, TABLE_4_IMAGES, TITLED_PAIRS, chosen, title

SEEDS = ", ".join(f"{title(example.prompts).split(' / ')[0]} {example.seed}" for example in OFFICIAL_EXAMPLES)


class PaperPrompts(io.ComfyNode):
    """The prompts of the paper's Tables 4 and 5 and of its official examples."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PaperPrompts",
            display_name="Paper Prompts",
            category="Images that Sound/prompts",
            description="The prompt pairs of the Images that Sound paper, and their nearest relatives for the embedded models. Connect the "
            "outputs to the text of two CLIPTextEncode nodes.",
            search_aliases=["images that sound", "preset", "example prompts", "prompt pair"],
            inputs=[
                io.Combo.Input(
                    "pair",
                    options=list(TITLED_PAIRS),
                    default=next(iter(TITLED_PAIRS)),
                    tooltip="What is seen / what is heard: the paper's Table 5, four official examples, and their nearest relatives for "
                    f"the embedded models. The official code's seeds ({SEEDS}) give other pictures here: noise is drawn in another way.",
                ),
                io.Combo.Input(
                    "table_4_image",
                    options=[FROM_PAIR, *TABLE_4_IMAGES],
                    default=FROM_PAIR,
                    optional=True,
                    tooltip="One of the ten pictures of the paper's Table 4, each of which it measures with each of ten sounds.",
                ),
                io.Combo.Input(
                    "table_4_audio",
                    options=[FROM_PAIR, *PAPER_AUDIO_PROMPTS],
                    default=FROM_PAIR,
                    optional=True,
                    tooltip="One of the ten sounds of the paper's Table 4.",
                ),
            ],
            outputs=[
                io.String.Output("image_prompt", display_name="image_prompt", tooltip="What the canvas should look like."),
                io.String.Output("audio_prompt", display_name="audio_prompt", tooltip="What it should sound like."),
            ],
        )

    @classmethod
    def execute(cls, pair: str, table_4_image: str = FROM_PAIR, table_4_audio: str = FROM_PAIR) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        return io.NodeOutput(*chosen(pair, table_4_image, table_4_audio))


NODES = [PaperPrompts]
