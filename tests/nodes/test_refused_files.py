"""Files that cannot be used: each is refused before anything is loaded, or before anything of it is run, by name and with a remedy."""

from __future__ import annotations

import os
import pickle
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers_folders import edit_json, vae, write_folder
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

pytest.importorskip("comfy.sd", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
from comfy.model_sampling import V_PREDICTION  # noqa: E402
from model_files import one_level_unet, write_hollow  # noqa: E402

from itsound_core.weights import shapes_of  # noqa: E402

SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SDXL_NATIVE = {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
}
FAMILIES = {
    "SD 3": {"x_embedder.proj.weight": (1536, 16, 2, 2), "joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536)},
    "Flux": {
        "img_in.weight": (3072, 64),
        "txt_in.weight": (3072, 4096),
        "guidance_in.in_layer.weight": (3072, 256),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    },
    "PixArt": {"t_block.1.weight": (6912, 1152), "ar_embedder.mlp.0.weight": (384, 256)},
}
EMPTY, TEXT, HEADER_ONLY = b"", b"<!doctype html><title>Not found</title>", (2**40).to_bytes(8, "little")
CHECKPOINT_NAMES = "model.diffusion_model."


@pytest.fixture
def loads_nothing(monkeypatch):
    """Makes any load of a model's weights by ComfyUI a failure."""
    for name in ("load_checkpoint_guess_config", "load_diffusion_model", "load_clip", "load_text_encoder_state_dicts"):
        monkeypatch.setattr(comfy.sd, name, lambda *args, **kwargs: pytest.fail("weights were loaded"))


def sdxl_shapes(single_file):
    with torch.device("meta"):
        weights = UNet2DConditionModel(**SDXL).state_dict()
    if not single_file:
        return shapes_of(weights)
    native = comfy.utils.unet_to_diffusers(SDXL_NATIVE)
    # diffusers' own names for what unet_to_diffusers leaves out: SDXL's embedding of sizes
    native |= {
        f"add_embedding.linear_{n}.{kind}": f"label_emb.0.{index}.{kind}" for n, index in ((1, 0), (2, 2)) for kind in ("weight", "bias")
    }
    return {CHECKPOINT_NAMES + native[name]: tuple(weight.shape) for name, weight in weights.items()}


# Another family


@pytest.mark.parametrize("name", ["checkpoints/xl.safetensors", "diffusion_models/xl.safetensors"])
def test_sdxl_is_refused_by_its_header(load, models, loads_nothing, name):
    write_hollow(models / name, sdxl_shapes(single_file=name.startswith("checkpoints")))

    with pytest.raises(ValueError, match=rf"LoadDualUNets: audio_model_name is \"{name}\".*of the kind SDXL.*choose Stable Diffusion 1.5"):
        load(audio=name)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("SD 3", r"latents \(SD3\) are not SD 1.x's"),
        ("Flux", r"latents \(Flux\) are not"),
        ("PixArt", "no UNet. Load it with ComfyUI's own"),
    ],
)
@pytest.mark.parametrize("key", ["checkpoints", "diffusion_models"])
def test_a_transformer_is_refused_by_its_header(load, models, loads_nothing, key, family, message):
    prefix = CHECKPOINT_NAMES if key == "checkpoints" else ""
    filler = {f"blocks.{number}.weight": (1,) for number in range(10)}  # a checkpoint's prefix counts from six names on
    shapes = {prefix + name: shape for name, shape in (FAMILIES[family] | filler).items()}
    write_hollow(models / key / "other.safetensors", shapes)

    with pytest.raises(ValueError, match=f'image_model_name is "{key}/other.safetensors".*{message}'):
        load(image=f"{key}/other.safetensors")


@pytest.mark.parametrize("channels", [8, 9])
def test_an_inpainting_or_editing_file_is_refused(load, models, loads_nothing, channels):
    write_hollow(models / "diffusion_models" / "inpainting.safetensors", shapes_of(one_level_unet(in_channels=channels)))

    with pytest.raises(ValueError, match=f'"diffusion_models/inpainting.safetensors".*inpainting.*{channels} input.*plain text-to-image'):
        load(audio="diffusion_models/inpainting.safetensors")


@pytest.mark.parametrize("ending", [".ckpt", ".pt"])
def test_a_pickle_of_another_family_is_refused_by_its_shapes(load, models, loads_nothing, ending):
    torch.save(one_level_unet(in_channels=9), models / "diffusion_models" / f"inpainting{ending}")

    with pytest.raises(ValueError, match="inpainting.*9 input channels"):
        load(audio=f"diffusion_models/inpainting{ending}")


@pytest.mark.parametrize("name", ["time_embedding.cond_proj.weight", f"{CHECKPOINT_NAMES}time_embed.cond_proj.weight"])
def test_a_latent_consistency_unet_alone_is_refused(load, models, loads_nothing, name):
    write_hollow(models / "diffusion_models" / "lcm.safetensors", {name: (320, 256)})

    with pytest.raises(ValueError, match="takes the guidance scale as an input.*models/diffusers, or use .* with an LCM LoRA"):
        load(image="diffusion_models/lcm.safetensors")


def test_a_latent_consistency_checkpoint_in_a_pickle_is_refused(load, models, loads_nothing):
    weights = one_level_unet() | {"time_embed.cond_proj.weight": torch.zeros(320, 256)}
    torch.save({"state_dict": {CHECKPOINT_NAMES + name: weight for name, weight in weights.items()}}, models / "checkpoints" / "lcm.ckpt")

    with pytest.raises(ValueError, match=r'"checkpoints/lcm.ckpt". It takes the guidance scale as an input'):
        load(image="checkpoints/lcm.ckpt")


@pytest.mark.parametrize(
    ("source", "kind"),
    [("vae/diffusion_pytorch_model", "a VAE"), ("text_encoder/model", "a text encoder"), ("unet/diffusion_pytorch_model", "a UNet")],
)
def test_a_part_of_a_folder_among_the_diffusion_models_is_named_for_what_it_is(load, models, loads_nothing, source, kind):
    shutil.copy(models / "diffusers" / "picture" / f"{source}.safetensors", models / "diffusion_models" / "part.safetensors")

    with pytest.raises(ValueError, match=rf"knows no diffusion model with these weights \({kind}\).*whole folder"):
        load(image="diffusion_models/part.safetensors")


def test_a_lora_among_the_checkpoints_is_named(load, models, loads_nothing):
    write_hollow(models / "checkpoints" / "lora.safetensors", {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (320, 4)})

    with pytest.raises(ValueError, match=r"these weights \(a LoRA\)"):
        load(image="checkpoints/lora.safetensors")


def test_a_t5_is_refused_as_text_encoder(load, models, loads_nothing):
    write_hollow(models / "text_encoders" / "t5.safetensors", {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096)})

    with pytest.raises(ValueError, match='LoadDualUNets: audio_clip_name is "t5.safetensors". It is no CLIP text encoder. Choose'):
        load(audio_clip_name="t5.safetensors")


def test_a_text_encoder_of_one_layer_that_comfyui_cannot_read_is_refused(load, models):
    config = CLIPTextConfig(hidden_size=64, intermediate_size=64, num_attention_heads=1, num_hidden_layers=1)
    save_file(CLIPTextModel(config).state_dict(), models / "text_encoders" / "one.safetensors")

    with pytest.raises(
        ValueError, match='LoadDualUNets: image_clip_name is "one.safetensors". A file of it is damaged, or of another model'
    ):
        load(image_clip_name="one.safetensors")


def test_a_folder_without_unet_is_refused(load, models):
    shutil.rmtree(models / "diffusers" / "picture" / "unet")

    with pytest.raises(
        ValueError, match=r'image_model_name is "diffusers/picture". .*unet/config.json is missing. Copy the model\'s whole'
    ):
        load()


# Broken files


@pytest.mark.parametrize("content", [EMPTY, TEXT, HEADER_ONLY], ids=["empty", "web page", "header only"])
@pytest.mark.parametrize("name", ["broken.safetensors", "broken.ckpt"])
@pytest.mark.parametrize("key", ["checkpoints", "diffusion_models"])
def test_an_unreadable_model_is_named(load, models, key, name, content):
    (models / key / name).write_bytes(content)

    with pytest.raises(ValueError, match=f'(?s)LoadDualUNets: image_model_name is "{key}/{name}". .*cannot be read.*Download it again'):
        load(image=f"{key}/{name}")


@pytest.mark.parametrize("share", [0.2, 0.999])
@pytest.mark.parametrize("name", ["cut.safetensors", "cut.ckpt"])
def test_a_truncated_model_is_named(load, models, name, share):
    path = models / "diffusion_models" / name
    (save_file if name.endswith(".safetensors") else torch.save)(one_level_unet(), path)
    os.truncate(path, int(path.stat().st_size * share))

    with pytest.raises(ValueError, match=f'(?s)audio_model_name is "diffusion_models/{name}". .*cannot be read.*Download it again'):
        load(audio=f"diffusion_models/{name}")


@pytest.mark.parametrize(
    ("key", "choice"), [("text_encoders", "image_clip_name"), ("text_encoders", "audio_clip_name"), ("vae", "vae_name")]
)
@pytest.mark.parametrize("content", [EMPTY, TEXT, HEADER_ONLY], ids=["empty", "web page", "header only"])
def test_an_unreadable_text_encoder_or_vae_is_named(load, models, key, choice, content):
    (models / key / "broken.safetensors").write_bytes(content)

    with pytest.raises(ValueError, match=f'(?s)LoadDualUNets: {choice} is "broken.safetensors". .*cannot be read.*Download it again'):
        load(**{choice: "broken.safetensors"})


class Payload:
    """Unpickled freely it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("container", ["zip", "bare pickle"])
@pytest.mark.parametrize("place", ["checkpoints", "diffusion_models", "text_encoders", "vae", "diffusers", "vocoders"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(load, loaders, models, tmp_path, place, container):
    harm = tmp_path / "harm"
    weights = {"generator": {"weight": torch.zeros(1)}, "payload": Payload(harm)}
    if place == "vocoders":
        shutil.copytree(loaders.embedded.VOCODER_FOLDER, models / "vocoders" / "evil", ignore=lambda *_: ["vocoder.safetensors"])
    path = models / {"diffusers": "diffusers/picture/unet/diffusion_pytorch_model.bin", "vocoders": "vocoders/evil/vocoder.pt"}.get(
        place, f"{place}/evil.ckpt"
    )
    (models / "diffusers" / "picture" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    if container == "zip":
        torch.save(weights, path)
    else:
        path.write_bytes(pickle.dumps(weights, protocol=2))
    refused = pytest.raises(ValueError, match="(?s)cannot be read: .*brings code, none of which was run")

    with refused:
        if place == "vocoders":
            loaders.LoadVocoder.execute(vocoder_name="vocoders/evil")
        elif place == "text_encoders":
            load(image_clip_name="evil.ckpt")
        elif place == "vae":
            load(vae_name="evil.ckpt")
        else:
            load(image="diffusers/picture" if place == "diffusers" else f"{place}/evil.ckpt")

    assert not harm.exists()
    torch.load(path, weights_only=False) if container == "zip" else pickle.loads(path.read_bytes())
    assert harm.exists(), "the payload of this test is dead"


# One latent space


def test_the_same_vae_on_both_sides_is_no_matter(load, models, caplog):
    shutil.rmtree(models / "diffusers" / "author" / "sound" / "vae")
    shutil.copytree(models / "diffusers" / "picture" / "vae", models / "diffusers" / "author" / "sound" / "vae")
    path = models / "diffusers" / "author" / "sound" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: weight.bfloat16() for name, weight in load_file(path).items()}, path)

    load()

    assert "VAEs differ" not in caplog.text


def test_a_fine_tuned_vae_is_warned_of(load, models, caplog):
    picture, sound = models / "diffusers" / "picture" / "vae", models / "diffusers" / "author" / "sound" / "vae"
    tuned = load_file(picture / "diffusion_pytorch_model.safetensors")
    tuned = {name: weight * 1.02 if name.startswith("decoder.") else weight for name, weight in tuned.items()}
    save_file(tuned, sound / "diffusion_pytorch_model.safetensors")

    loaded = load()

    assert "the models' VAEs differ by 1." in caplog.text and "choose vae_name" in caplog.text
    torch.testing.assert_close(loaded.vae.first_stage_model.decoder.conv_out.weight * 1.02, tuned["decoder.conv_out.weight"])
    caplog.clear()
    load(image="diffusers/author/sound", audio="diffusers/picture")
    assert "the models' VAEs differ" in caplog.text


def test_vaes_of_different_shapes_are_refused(load, models):
    sound = models / "diffusers" / "author" / "sound"
    shutil.rmtree(sound / "vae")
    vae(widths=(32, 32, 64, 64)).save_pretrained(sound / "vae")

    with pytest.raises(ValueError, match="VAEs of different shapes.*Choose two models of one family .*, or vae_name"):
        load()


def test_a_v_prediction_folder_beside_an_eps_one_is_welcome(load, models):
    edit_json(models / "diffusers" / "picture" / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")

    loaded = load()

    kinds = [isinstance(model.model.model_sampling, V_PREDICTION) for model in (loaded.image_model, loaded.audio_model)]
    assert kinds == [True, False]


def test_the_embedded_pair_shares_one_vae_and_no_other_model_does(load, models, caplog):
    load(image="embedded", audio="embedded")
    assert "VAEs differ" not in caplog.text

    write_folder(models / "diffusers" / "other")
    with pytest.raises(ValueError, match="embedded with embedded"):
        load(image="embedded", audio="diffusers/other")
