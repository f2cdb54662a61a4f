"""Nodes that find the keepers: scores of pictures and sounds against their prompts, and the best by both."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..bridge import audio_inputs, files, inputs, picture_inputs
from ..bridge.sampling_inputs import latent
from ..bridge.scoring import Scorer, gray_pictures, prompts_for, score
from ..itsound_core import embedded, ranking
from ..itsound_core.scatter import scatter_plot
from ..itsound_core.scoring import CONFIG_FILE, PictureScorer, SoundScorer

CATEGORY = "Images that Sound/scoring"
SCORERS = "scorers"
files.register_folder(SCORERS, {".json"})


class LoadScorers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        places = f"a folder under models/{SCORERS}, as transformers saves it"
        return io.Schema(
            node_id="LoadScorers",
            display_name="Load Scorers",
            category=CATEGORY,
            description="Loads the two models that score results: CLIP says how well a picture fits its prompt, CLAP how well a sound "
            "does. 'embedded' is the small pair that comes with this pack; it knows the things that the embedded models can make.",
            search_aliases=["clip score", "clap score", "ranking", "best of"],
            inputs=[
                io.Combo.Input("picture_scorer_name", options=_scorer_names(), tooltip=f"The CLIP model: 'embedded', or {places}."),
                io.Combo.Input("sound_scorer_name", options=_scorer_names(), tooltip=f"The CLAP model: 'embedded', or {places}."),
            ],
            outputs=[io.Custom("SCORER").Output("scorer", display_name="scorer", tooltip="Both scorers, for Score Image and Sound.")],
        )

    @classmethod
    def fingerprint_inputs(cls, picture_scorer_name, sound_scorer_name) -> Any:
        """Changes when a scorer's files were replaced on disk."""
        return [
            files.stamp_of(partial(_folder, embedded_folder=embedded.CLIP_FOLDER), picture_scorer_name),
            files.stamp_of(partial(_folder, embedded_folder=embedded.CLAP_FOLDER), sound_scorer_name),
        ]

    @classmethod
    def execute(cls, picture_scorer_name, sound_scorer_name) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        with files.naming("LoadScorers", "picture_scorer_name", picture_scorer_name):
            picture = PictureScorer.load(_folder(picture_scorer_name, embedded.CLIP_FOLDER))
        with files.naming("LoadScorers", "sound_scorer_name", sound_scorer_name):
            sound = SoundScorer.load(_folder(sound_scorer_name, embedded.CLAP_FOLDER))
        return io.NodeOutput(Scorer(_patcher(picture), _patcher(sound)))


class ScoreImageAndSound(io.ComfyNode):
    """CLIP and CLAP scores (paper 4.2, Table 1)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        lines = "One prompt for all of them; with prompt_per_line a line for each."
        return io.Schema(
            node_id="ScoreImageAndSound",
            display_name="Score Image and Sound",
            category=CATEGORY,
            description="How well pictures and sounds fit their prompts, in %: CLIP on square crops of the gray picture, CLAP on the "
            "sound. Compare scores of one prompt with each other; scores of other prompts or other scorers mean different things.",
            search_aliases=["clip score", "clap score", "evaluate", "rank"],
            inputs=[
                io.Custom("SCORER").Input("scorer", tooltip="From LoadScorers."),
                io.Image.Input("images", tooltip="The pictures. The mean of their colours is scored: what is heard is what is seen."),
                io.Audio.Input("audio", tooltip="Their sounds, as many as pictures."),
                io.String.Input("image_prompt", default="", multiline=True, tooltip=f"What the pictures should show. {lines}"),
                io.String.Input("audio_prompt", default="", multiline=True, tooltip=f"What they should sound like. {lines}"),
                io.Boolean.Input(
                    "prompt_per_line",
                    default=False,
                    optional=True,
                    tooltip="Off, line breaks in a prompt are spaces. On, each line is the prompt of one sample; one line goes with all.",
                ),
            ],
            outputs=[
                io.Custom("SCORES").Output("scores", display_name="scores", tooltip="For KeepBest."),
                io.String.Output("table", display_name="table", tooltip="Both scores of each sample."),
                io.Image.Output(
                    "plot",
                    display_name="plot",
                    tooltip="Picture score against sound score; the Pareto front, the best compromises, in orange.",
                ),
            ],
        )

    @classmethod
    def execute(cls, scorer, images, audio, image_prompt, audio_prompt, prompt_per_line=False) -> io.NodeOutput:
        node = "ScoreImageAndSound"
        inputs.in_range(cls, locals())
        pictures = gray_pictures(images, node)
        samples, rate = audio_inputs.waveform(audio, node)
        pictures, samples = inputs.pair(pictures, audio_inputs.mixed(samples, rate, node), node, ("images", "audio"))
        image_prompts = prompts_for(image_prompt, len(pictures), node, "image_prompt", prompt_per_line)
        audio_prompts = prompts_for(audio_prompt, len(pictures), node, "audio_prompt", prompt_per_line)
        progress = comfy.utils.ProgressBar(len(pictures))
        scores = score(scorer, pictures, samples, rate, image_prompts, audio_prompts, on_sample=lambda: progress.update(1))
        return io.NodeOutput(scores, scores.table(), scatter_plot(scores.picture, scores.sound)[None])


class KeepBest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KeepBest",
            display_name="Keep Best",
            category=CATEGORY,
            description="Keeps the samples with the best scores, best first. Draw many, keep few: how well a picture and a sound come "
            "together depends on the seed.",
            search_aliases=["select best", "top k", "rank", "pareto"],
            inputs=[
                io.Custom("SCORES").Input("scores", tooltip="From ScoreImageAndSound."),
                io.Int.Input("count", default=1, min=1, max=4096, tooltip="How many to keep."),
                io.Combo.Input(
                    "rule",
                    options=list(ranking.RULES),
                    default="intersection of top shares",
                    tooltip="Intersection of top shares: good in both, as the paper's authors choose. Rank product: very good in one makes "
                    "up for less in the other. Pareto front: what no other sample beats in both. Weighted: by picture_weight.",
                ),
                io.Image.Input("images", optional=True, tooltip="The pictures that were scored."),
                io.Audio.Input("audio", optional=True, tooltip="Their sounds."),
                io.Latent.Input("latents", optional=True, tooltip="Their latents."),
                io.Float.Input(
                    "picture_weight",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="Of the rule 'weighted': 0 looks at the sound score alone, 1 at the picture score alone.",
                ),
            ],
            outputs=[
                io.Image.Output("kept_images", display_name="images", tooltip="The pictures that were kept, best first."),
                io.Audio.Output("kept_audio", display_name="audio", tooltip="Their sounds."),
                io.Latent.Output("kept_latents", display_name="latents", tooltip="Their latents."),
                io.String.Output("indices", display_name="indices", tooltip="Their numbers in the batch, from 0, best first."),
            ],
        )

    @classmethod
    def execute(cls, scores, count, rule, images=None, audio=None, latents=None, picture_weight=0.5) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        total = len(scores.picture)
        images = None if images is None else picture_inputs.pixels(images, "KeepBest", "images")
        if total == 0:
            raise ValueError("KeepBest: scores are of no sample. Connect the scores of ScoreImageAndSound.")
        if count > total:
            raise ValueError(
                f"KeepBest: count is {count}, but {total} samples were scored. Keep at most {total}, or sample a larger batch."
            )
        if latents is not None and latent(latents, "KeepBest", "latents").is_nested:
            raise ValueError("KeepBest: latents are nested (of a video and its sound). Connect the latents that were scored.")
        sizes = {
            "images": None if images is None else len(images),
            "audio": None if audio is None else len(audio_inputs.recording(audio, "KeepBest")[0]),
            "latents": None if latents is None else len(latent(latents, "KeepBest", "latents")),
        }
        for socket, size in sizes.items():
            if size not in (None, total):
                raise ValueError(
                    f"KeepBest: {socket} is a batch of {size}, but {total} samples were scored. Connect the batch that was scored."
                )
        order = partial(ranking.weighted, picture_weight=picture_weight) if rule == "weighted" else ranking.RULES[rule]
        kept = order(scores.picture, scores.sound)[:count]
        return io.NodeOutput(
            _unconnected("images") if images is None else images[kept],
            _unconnected("audio") if audio is None else {**audio, "waveform": audio["waveform"][kept]},
            _unconnected("latents") if latents is None else {key: _pick(value, kept, total) for key, value in latents.items()},
            ", ".join(map(str, kept)),
        )


def _scorer_names() -> list[str]:
    return [files.EMBEDDED, *(f"{SCORERS}/{name}" for name in files.folder_names(SCORERS, CONFIG_FILE))]


def _folder(name: str, embedded_folder: Path) -> Path:
    return embedded_folder if name == files.EMBEDDED else files.folder_path(SCORERS, name.partition("/")[2])


def _patcher(module: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    # not CoreModelPatcher: its dynamic loading only knows ComfyUI's own layers
    management = comfy.model_management
    return comfy.model_patcher.ModelPatcher(
        module, load_device=management.text_encoder_device(), offload_device=management.text_encoder_offload_device()
    )


def _unconnected(socket: str) -> ExecutionBlocker:
    return ExecutionBlocker(f"KeepBest: {socket} is used, but nothing is connected to its input. Connect the {socket} that were scored.")


def _pick(value: Any, kept: list[int], total: int) -> Any:
    """Of a LATENT's entries, those that hold one thing a sample (samples, noise_mask, batch_index) for the kept; others as they are."""
    if isinstance(value, Tensor) and len(value) == total:
        return value[kept]
    if isinstance(value, list) and len(value) == total:
        return [value[i] for i in kept]
    return value


NODES = [LoadScorers, ScoreImageAndSound, KeepBest]
