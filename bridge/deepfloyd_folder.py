"""DeepFloyd IF from local diffusers folders: its UNets as diffusers' own class, its T5 as ComfyUI's.

The UNets have layers that ComfyUI lacks. T5 is native, and where a CLIP with T5-XXL is there already, that one reads the prompts.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.text_encoders.sd3_clip
import comfy.text_encoders.t5
import comfy.utils
import torch
from torch import nn

from ..itsound_core.weights import require_fit, shapes_of, told
from . import conditioning_inputs, files
from .model_configs import COPY_AGAIN, read_config, require_keys, share
from .models import WEIGHT_DTYPES
from .weight_files import DIFFUSION, HALF_FIRST, TRANSFORMERS, native_shapes, read_weights

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel

NODE = "LoadDeepFloydIF"
TOKENS = 77
T5 = "t5xxl"
UNET_SETTINGS = {"_class_name": "UNet2DConditionModel", "addition_embed_type": "text", "out_channels": 6}
STAGE_SETTINGS = (
    {"in_channels": 3, "class_embed_type": None},
    {"in_channels": 6, "class_embed_type": "timestep"},  # the noise level of stage I's picture
)
SCHEDULER_SETTINGS = {"_class_name": "DDPMScheduler", "variance_type": "learned_range", "prediction_type": "epsilon"}
T5_SETTINGS = {"model_type": "t5", "feed_forward_proj": "gated-gelu"}
DEEPFLOYD_DTYPES = [name for name in WEIGHT_DTYPES if not name.startswith("fp8")]
ACTIVATION_MAPS = 16
"""Ample for what the outermost blocks of a UNet keep at full resolution, in maps of their width."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One UNet with its sampler. Load `patcher` with `force_full_load=True`: its layers are not ComfyUI's."""

    unet: UNet2DConditionModel
    patcher: comfy.model_patcher.ModelPatcher
    scheduler: DDPMScheduler

    def activation_bytes(self, height: int, width: int) -> int:
        """Memory of one guided prediction, both prompts at once."""
        return 2 * ACTIVATION_MAPS * height * width * self.unet.config.block_out_channels[0] * self.unet.dtype.itemsize


@dataclass(frozen=True)
class DeepFloydIF:
    """What a DEEPFLOYD_IF socket carries. Stage I paints at a quarter size, stage II at full size."""

    stage_1: Stage
    stage_2: Stage
    noising_scheduler: DDPMScheduler
    """Noises stage I's picture before stage II sees it."""

    @property
    def text_width(self) -> int:
        """Width of the T5 embeddings that both stages read."""
        return self.stage_1.unet.config.encoder_hid_dim

    def check_text(self, node: str, model: str, conditionings: Mapping[str, list]) -> None:
        """Whether each socket's CONDITIONING is one prompt as IF's T5 writes it. Raises ValueError as `conditioning_inputs.text` does."""
        conditioning_inputs.text(node, model, conditionings, self.text_width)
        for socket, conditioning in conditionings.items():
            length = sum(embeddings.shape[1] for embeddings, *_ in conditioning)
            if length != TOKENS:
                raise ValueError(
                    f"{node}: {socket} has {length} tokens (prompts: {len(conditioning)}); DeepFloyd IF reads one prompt of {TOKENS}, "
                    "padding included. Encode it with the clip of LoadDeepFloydIF, which pads and cuts to that."
                )


def load_deepfloyd(
    stage_1_name: str, stage_2_name: str, weight_dtype: str, clip: comfy.sd.CLIP | None
) -> tuple[DeepFloydIF, comfy.sd.CLIP]:
    """Both stages by their names, and T5 as they read it: that of `clip`, else of stage I's folder. Raises ValueError naming the input."""
    half = comfy.model_management.should_use_fp16(comfy.model_management.get_torch_device())
    dtype = WEIGHT_DTYPES[weight_dtype].get("dtype", torch.float16 if half else torch.float32)
    with files.naming(NODE, "stage_2_name", stage_2_name):
        second = files.model_path(stage_2_name)
        stage_2 = load_stage(second, 2, dtype)
        noising_scheduler = load_scheduler(second / "image_noising_scheduler", {"_class_name": "DDPMScheduler"})
    with files.naming(NODE, "stage_1_name", stage_1_name):
        first = files.model_path(stage_1_name)
        floyd = DeepFloydIF(load_stage(first, 1, dtype), stage_2, noising_scheduler)
        if clip is None:
            return floyd, load_t5(first)
    return floyd, read_by_t5(clip, floyd.text_width)


def load_stage(folder: Path, number: int, dtype: torch.dtype) -> Stage:
    """Stage `number` (1 or 2) of the folder's `unet/` and `scheduler/`.

    Raises ValueError naming the file, what is wrong with it and what to do, also where diffusers is not installed.
    """
    try:
        from diffusers import UNet2DConditionModel
    except ImportError as error:
        raise ValueError("DeepFloyd IF needs the package diffusers: `pip install diffusers` in ComfyUI's Python, then restart.") from error
    settings = UNET_SETTINGS | STAGE_SETTINGS[number - 1]
    config = _read_settings(folder / "unet" / "config.json", settings, f"stage {'I' * number} of DeepFloyd IF")
    path, weights = read_weights(folder / "unet", DIFFUSION, "a UNet")
    with torch.device("meta"):
        unet = _made_of(UNet2DConditionModel, folder / "unet" / "config.json", config)
    require_fit(path, shapes_of(weights), shapes_of(unet.state_dict()))
    unet.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
    management = comfy.model_management
    patcher = comfy.model_patcher.ModelPatcher(
        nn.Sequential(unet.eval().requires_grad_(False)),  # not bare: the patcher sets `device`, which diffusers' models do not let it
        load_device=management.get_torch_device(),
        offload_device=management.unet_offload_device(),
    )
    return Stage(unet, patcher, load_scheduler(folder / "scheduler", SCHEDULER_SETTINGS))


def load_scheduler(folder: Path, settings: Mapping[str, Any]) -> DDPMScheduler:
    """The DDPM of a folder's scheduler_config.json. Raises ValueError as `load_stage` does."""
    from diffusers import DDPMScheduler

    path = folder / "scheduler_config.json"
    config = _read_settings(path, {**settings, "trained_betas": None}, "a scheduler of DeepFloyd IF")
    for key in ("beta_start", "beta_end"):
        share(path, config, key)
    return _made_of(DDPMScheduler, path, config)


def _made_of(kind: Any, path: Path, config: Mapping[str, Any]) -> Any:
    """What diffusers builds of a config. Raises ValueError naming the file where it cannot."""
    try:
        return kind.from_config(config)
    except files.UNREADABLE as error:
        raise ValueError(f"{path} describes nothing that diffusers can build{told(error)}. {COPY_AGAIN}") from error


def _read_settings(path: Path, settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    config = read_config(path)
    for key, needed in settings.items():
        if config.get(key) != needed:
            raise ValueError(f"{path} is not {kind}: {key} is {config.get(key)!r} instead of {needed!r}. Choose that stage's folder.")
    return config


# Text --------------------------------------------------------------------------------------------------------------------------------


class T5Tokenizer(comfy.text_encoders.sd3_clip.T5XXLTokenizer):
    """A prompt as IF was trained on it: lower case, 77 tokens with the end token, the rest cut off with a warning."""

    def __init__(self, embedding_directory: list[str] | None = None, tokenizer_data: Mapping[str, Any] | None = None) -> None:
        super().__init__(embedding_directory, tokenizer_data or {}, min_length=TOKENS, max_length=TOKENS)

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> list[list[tuple]]:
        """As SDTokenizer's, one row of (token, weight)."""
        rows = super().tokenize_with_weights(text.lower().strip(), *args, **kwargs)
        if len(rows) > 1:
            logger.warning('Prompt "%s": DeepFloyd IF reads %d tokens at most; what comes after them is left out.', text, TOKENS)
        return rows[:1]


build_tokenizer = partial(comfy.sd1_clip.SD1Tokenizer, name=T5, tokenizer=T5Tokenizer)
build_text_model = partial(comfy.sd1_clip.SD1ClipModel, name=T5)


def load_t5(folder: Path, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """CLIP of the folder's `text_encoder/`, a T5 v1.1 of any size, in the weights' own precision (half, where there is a choice).

    Padding is masked, as IF does. The vocabulary is T5's, which ComfyUI has. Raises ValueError as `load_stage` does.
    """
    folder = folder / "text_encoder"
    config = _read_settings(folder / "config.json", T5_SETTINGS, "the text encoder of DeepFloyd IF")
    require_keys(folder / "config.json", config, "d_model", "d_ff", "d_kv", "num_heads", "num_layers", "vocab_size")
    config |= {"dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True}  # native names of gated-gelu
    path, weights = read_weights(folder, TRANSFORMERS, "a T5 text encoder", HALF_FIRST)
    if (embeddings := weights.pop("encoder.embed_tokens.weight", None)) is not None:  # another name of `shared`
        weights.setdefault("shared.weight", embeddings)
    expected = native_shapes(comfy.text_encoders.t5.T5(config, torch.float32, "meta", nn))
    require_fit(path, shapes_of(weights), expected)
    encoder = partial(
        comfy.sd1_clip.SDClipModel,
        textmodel_json_config=config,
        model_class=comfy.text_encoders.t5.T5,
        special_tokens={"end": 1, "pad": 0},
        enable_attention_masks=True,
    )
    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(build_tokenizer, build_text_model),
        parameters=comfy.utils.calculate_parameters(weights),
        state_dict=[weights],
        model_options={f"{T5}_class": encoder, "dtype": comfy.utils.weight_dtype(weights)},
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (_t5_patcher, (folder.parent,))
    return clip


def _t5_patcher(folder: Path, disable_dynamic: bool = False) -> Any:
    return load_t5(folder, disable_dynamic).patcher


def read_by_t5(clip: comfy.sd.CLIP, width: int) -> comfy.sd.CLIP:
    """A CLIP that holds T5-XXL, reading prompts as IF does; the weights are shared with `clip`, which stays as it is.

    Raises ValueError where there is no T5 v1.1 in it, or one of another `width`.
    """
    t5 = getattr(clip.cond_stage_model, T5, None)
    if t5 is None or not hasattr(t5.transformer.encoder.block[0].layer[-1].DenseReluDense, "wi_0"):
        raise ValueError("LoadDeepFloydIF: clip holds no T5-XXL v1.1. Load it with CLIPLoader (t5xxl, type chroma), or disconnect clip.")
    found = t5.transformer.get_input_embeddings().embedding_dim
    if found != width:
        raise ValueError(f"LoadDeepFloydIF: clip's T5 writes embeddings {found} wide, these stages read {width}. Load T5-XXL.")
    t5 = copy.copy(t5)
    t5.enable_attention_masks, t5.zero_out_masked = True, False
    t5.gen_empty_tokens = comfy.sd1_clip.gen_empty_tokens  # some families' T5 has an empty prompt of its own
    clip = clip.clone()
    clip.cond_stage_model = build_text_model(clip_model=lambda **options: t5)
    clip.tokenizer = build_tokenizer()
    return clip
