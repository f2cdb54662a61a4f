"""Single files that lack weights, of which ComfyUI only logs: whole they load, without any one weight they are refused by its name."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

pytest.importorskip("comfy.sd", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.diffusers_convert  # noqa: E402
import comfy.model_detection  # noqa: E402
from diffusers_folders import write_folder  # noqa: E402
from model_files import one_level_unet, write_hollow  # noqa: E402

from itsound_core.weights import shapes_of  # noqa: E402

WIDE = {"cross_attention_dim": 768, "text": {"hidden_size": 768, "num_attention_heads": 12}}
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."


def unet_shapes():
    return shapes_of(one_level_unet())


def text_shapes():
    """Of SD 1.x's text encoder, as its checkpoints name them under TEXT."""
    with torch.device("meta"):
        text_model = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    return {f"text_model.{name.removeprefix('text_model.')}": tuple(weight.shape) for name, weight in text_model.state_dict().items()}


def vae_weights():
    """Of SD 1.x's VAE as diffusers names them, without their numbers."""
    wide = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device("meta"):
        return AutoencoderKL(**wide, **blocks).state_dict()


def native_vae_shapes():
    return shapes_of(comfy.diffusers_convert.convert_vae_state_dict(vae_weights()))


def checkpoint_shapes():
    parts = {UNET: unet_shapes(), VAE: native_vae_shapes(), TEXT: text_shapes()}
    return {prefix + name: shape for prefix, part in parts.items() for name, shape in part.items()}


def without(shapes, *lost):
    kept = {name: shape for name, shape in shapes.items() if name not in lost}
    assert len(kept) == len(shapes) - len(lost)
    return kept


def test_a_whole_checkpoint_loads(load, models):
    write_hollow(models / "checkpoints" / "own.safetensors", checkpoint_shapes())

    loaded = load(image="checkpoints/own.safetensors", audio="checkpoints/own.safetensors")

    assert not any(weight.any() for weight in loaded.vae.first_stage_model.state_dict().values())


@pytest.mark.parametrize(
    ("lost", "part", "named"),
    [
        (UNET + "time_embed.2.weight", "UNet", "time_embed.2.weight"),
        (UNET + "output_blocks.1.0.emb_layers.1.bias", "UNet", "output_blocks.1.0.emb_layers.1.bias"),
        (VAE + "decoder.mid.attn_1.q.weight", "VAE", "decoder.mid.attn_1.q.weight"),
        (VAE + "post_quant_conv.bias", "VAE", "post_quant_conv.bias"),
        (TEXT + "text_model.encoder.layers.7.mlp.fc1.weight", "text encoder", "text_model.encoder.layers.7.mlp.fc1.weight"),
    ],
)
def test_a_checkpoint_that_lacks_a_weight_is_refused(load, models, lost, part, named):
    write_hollow(models / "checkpoints" / "own.safetensors", without(checkpoint_shapes(), lost))

    with pytest.raises(
        ValueError, match=f'image_model_name is "checkpoints/own.safetensors". It lacks 1 of the {part}\'s .* as {named}. Copy the whole'
    ):
        load(image="checkpoints/own.safetensors")


def test_the_first_checkpoints_names_of_the_text_are_known(load, models):
    """They left out text_model."""
    shapes = {name.replace(TEXT + "text_model.", TEXT): shape for name, shape in checkpoint_shapes().items()}
    write_hollow(models / "checkpoints" / "own.safetensors", shapes)
    load(image="checkpoints/own.safetensors", audio="checkpoints/own.safetensors")

    write_hollow(models / "checkpoints" / "own.safetensors", without(shapes, TEXT + "final_layer_norm.bias"))
    with pytest.raises(ValueError, match="It lacks 1 of the text encoder's .* such as text_model.final_layer_norm.bias"):
        load(image="checkpoints/own.safetensors")


@pytest.mark.parametrize("name", ["own.ckpt", "own.safetensors", "OWN.SAFETENSORS"])
@pytest.mark.parametrize("prefix", ["", UNET], ids=["bare names", "a checkpoint's names"])
def test_a_unet_that_lacks_a_weight_is_refused(load, models, name, prefix):
    write_folder(models / "diffusers" / "wide", **WIDE)
    weights = {prefix + key: weight for key, weight in one_level_unet().items()}
    write = save_file if name.lower().endswith(".safetensors") else torch.save
    path, choice = models / "diffusion_models" / name, f"diffusion_models/{name}"

    write(weights, path)
    load(image=choice, audio="diffusers/wide")

    write(without(weights, prefix + "middle_block.2.out_layers.0.bias"), path)
    with pytest.raises(ValueError, match=f'image_model_name is "{choice}". It lacks 1 of the UNet\'s .*middle_block.2.out_layers.0.bias'):
        load(image=choice, audio="diffusers/wide")


def test_a_unet_in_diffusers_names_is_known_by_them(pack):
    """Of full size, which alone ComfyUI knows by these names; so nothing is loaded here."""
    with torch.device("meta"):
        weights = UNet2DConditionModel(cross_attention_dim=768).state_dict()
    config = comfy.model_detection.model_config_from_diffusers_unet(weights)
    config.set_inference_dtype(torch.float16, None)
    completeness = importlib.import_module(f"{pack.__name__}.bridge.completeness")
    model = SimpleNamespace(model=config.get_model({}, "", device=torch.device("meta")))

    completeness.require_whole(model, None, None, weights)

    with pytest.raises(ValueError, match="It lacks 1 of the UNet's 686 weights, such as middle_block.2.out_layers.0.bias"):
        completeness.require_whole(model, None, None, without(weights, "mid_block.resnets.1.norm2.bias"))


def test_a_checkpoint_whose_vae_has_its_inner_convolutions_in_encoder_and_decoder_loads(load, models):
    """ComfyUI moves them."""
    moved = {"post_quant_conv": "decoder.post_quant_conv", "quant_conv": "encoder.quant_conv"}
    shapes = {}
    for name, shape in checkpoint_shapes().items():
        first = name.removeprefix(VAE).split(".")[0]
        shapes[name.replace(VAE + first, VAE + moved.get(first, first)) if name.startswith(VAE) else name] = shape
    assert f"{VAE}decoder.post_quant_conv.weight" in shapes
    write_hollow(models / "checkpoints" / "own.safetensors", shapes)

    load(image="checkpoints/own.safetensors", audio="checkpoints/own.safetensors")


@pytest.mark.parametrize(
    ("shapes", "lost"),
    [(native_vae_shapes, "decoder.mid.attn_1.k.weight"), (lambda: shapes_of(vae_weights()), "decoder.mid_block.attentions.0.to_k.weight")],
    ids=["native names", "diffusers' names"],
)
def test_a_vae_that_lacks_a_weight_is_refused(load, models, shapes, lost):
    write_hollow(models / "vae" / "own.safetensors", shapes())
    load(vae_name="own.safetensors")

    write_hollow(models / "vae" / "own.safetensors", without(shapes(), lost))
    with pytest.raises(ValueError, match='vae_name is "own.safetensors". It lacks 1 of the VAE\'s .*attn_1.k.weight. Copy the whole file'):
        load(vae_name="own.safetensors")


@pytest.mark.parametrize("lost", ["encoder.layers.7.", "final_layer_norm.", "embeddings.position_embedding."])
def test_a_text_encoder_that_lacks_some_of_its_weights_is_refused(load, models, lost):
    shapes = text_shapes()
    some = [name for name in shapes if name.startswith(f"text_model.{lost}")]
    write_hollow(models / "text_encoders" / "part.safetensors", without(shapes, *some))

    with pytest.raises(ValueError, match=f'image_clip_name is "part.safetensors". It lacks .* such as text_model.{lost}.*Copy the whole'):
        load(image_clip_name="part.safetensors")


def open_clip_shapes(width=768, layers=12):
    """Of a CLIP text encoder as OpenCLIP names them; SD 1.x's, or another's."""
    shapes = {"token_embedding.weight": (49408, width), "positional_embedding": (77, width), "text_projection": (width, width)}
    shapes |= {"ln_final.weight": (width,), "ln_final.bias": (width,)}
    linear = {"attn.in_proj_": (3 * width, width), "attn.out_proj.": (width, width), "mlp.c_fc.": (4 * width, width)}
    linear |= {"mlp.c_proj.": (width, 4 * width), "ln_1.": (width,), "ln_2.": (width,)}
    for layer in (f"transformer.resblocks.{block}.{name}" for block in range(layers) for name in linear):
        shape = linear[layer.split(".", 3)[3]]
        shapes |= {f"{layer}weight": shape, f"{layer}bias": shape[:1]}
    return shapes


@pytest.mark.parametrize("shapes", [text_shapes, open_clip_shapes], ids=["transformers", "OpenCLIP"])
def test_a_whole_text_encoder_loads_by_either_names(load, models, shapes):
    write_folder(models / "diffusers" / "wide", **WIDE)
    write_hollow(models / "text_encoders" / "whole.safetensors", shapes())

    load(image="diffusers/wide", image_clip_name="whole.safetensors")


def test_a_text_encoder_in_open_clips_names_that_lacks_a_weight_is_refused(load, models):
    write_hollow(models / "text_encoders" / "part.safetensors", without(open_clip_shapes(), "transformer.resblocks.3.mlp.c_fc.bias"))

    with pytest.raises(ValueError, match="It lacks 1 of the text encoder's 196 weights, such as text_model.encoder.layers.3.mlp.fc1.bias"):
        load(image_clip_name="part.safetensors")


def test_sd2s_text_encoder_without_the_last_layer_which_nothing_reads_loads(load, models):
    write_folder(models / "diffusers" / "wide", cross_attention_dim=1024, text={"hidden_size": 1024, "num_attention_heads": 16})
    write_hollow(models / "text_encoders" / "sd2.safetensors", open_clip_shapes(width=1024, layers=23))

    load(image="diffusers/wide", image_clip_name="sd2.safetensors")
