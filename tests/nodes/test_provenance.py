"""What files say of themselves is what their graph shows, in any wiring, and no more."""

import importlib
import xml.etree.ElementTree as xml
from types import SimpleNamespace

import pytest

from itsound_core.presets import TITLED_PAIRS

AI = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.fixture(scope="module")
def module(pack):
    return importlib.import_module(pack.__name__ + ".bridge.provenance")


@pytest.fixture(autouse=True)
def registered(pack, monkeypatch):
    """The pack's nodes and those of ComfyUI's that the graphs below need, where ComfyUI's registry is looked up."""
    from comfy_extras import nodes_audio, nodes_custom_sampler, nodes_primitive

    import nodes as comfyui

    classes = dict(comfyui.NODE_CLASS_MAPPINGS)
    for name in ("loaders", "sampling", "audio", "picture", "colorize", "keepers", "prompts", "video"):
        family = importlib.import_module(f"{pack.__name__}.nodes.{name}")
        classes |= {node.GET_SCHEMA().node_id: node for node in family.NODES}
    core = [nodes_audio.LoadAudio, nodes_primitive.StringMultiline]
    core += [getattr(nodes_custom_sampler, name) for name in ("SamplerCustomAdvanced", "RandomNoise", "BasicGuider")]
    classes |= {node.GET_SCHEMA().node_id: node for node in core}
    monkeypatch.setattr(comfyui, "NODE_CLASS_MAPPINGS", classes)


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def joint(**sampler):
    """The first template's graph, as far as the node that saves, "9"."""
    return {
        "1": node("LoadDualUNets", image_model_name="embedded", audio_model_name="checkpoints/a.safetensors", vae_name="from the model"),
        "2": node("PrimitiveStringMultiline", value="a drawing of castles"),
        "3": node("CLIPTextEncode", clip=["1", 1], text=["2", 0]),
        "4": node("CLIPTextEncode", clip=["1", 3], text="church bell ringing"),
        "5": node("CLIPTextEncode", clip=["1", 1], text="blurry"),
        "6": node("EmptySpectrogramLatent", seconds=10.24, batch_size=1),
        "7": node(
            "MultimodalKSampler",
            **{"image_model": ["1", 0], "image_positive": ["3", 0], "image_negative": ["5", 0]},
            **{"audio_model": ["1", 2], "audio_positive": ["4", 0], "audio_negative": ["5", 0]},
            **{"latent_image": ["6", 0], "seed": 7, "sampler_name": "ddim"} | sampler,
        ),
        "8": node("VAEDecode", samples=["7", 0], vae=["1", 4]),
        "9": node("PlayheadVideo", image=["8", 0], audio=["10", 0], image_prompt="", audio_prompt=""),
        "10": node("SpectrogramToAudio", spectrogram=["8", 0]),
        "11": node("MultimodalKSampler", image_model=["1", 0], seed=99),  # another branch
    }


def imprint():
    return {
        "1": node("LoadImage", image="chelsea.png"),
        "2": node("LoadAudio", audio="loop.flac"),
        "3": node("AudioToSpectrogram", audio=["2", 0], seconds=0.0),
        "4": node("ImprintBaseline", image=["1", 0], spectrogram=["3", 0], rho=0.5),
        "5": node("SpectrogramToAudio", spectrogram=["4", 0]),
        "9": node("PlayheadVideo", image=["4", 0], audio=["5", 0]),
    }


def hidden(prompt, unique_id="9", extra_pnginfo=None):
    return SimpleNamespace(prompt=prompt, unique_id=unique_id, extra_pnginfo=extra_pnginfo)


def of(module, prompt, inputs=("image", "audio"), *given):
    return module.provenance(hidden(prompt), inputs, *given)


def test_the_joint_sample_tells_prompts_seed_and_models(module):
    found = of(module, joint())
    assert found.generated and not found.composite
    assert found.prompts == {"Image prompt": "a drawing of castles", "Audio prompt": "church bell ringing"}
    assert found.seeds == [7], "a branch that does not lead here does not count"
    assert found.models == ["image_model_name=embedded", "audio_model_name=checkpoints/a.safetensors"]
    tags = found.tags()
    assert tags["title"] == "a drawing of castles / church bell ringing"
    assert tags["comment"] == (
        "AI-generated image that sounds. Image prompt: a drawing of castles. Audio prompt: church bell ringing. Seed: 7. "
        "Models: image_model_name=embedded, audio_model_name=checkpoints/a.safetensors"
    )
    assert tags["digital_source_type"] == AI + "trainedAlgorithmicMedia"


def test_a_loaders_folders_are_walked_once_for_a_graph(module, monkeypatch):
    calls, classes = [], importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    for name, kind in list(classes.items()):
        declare = kind.INPUT_TYPES
        counting = type(name, (kind,), {"INPUT_TYPES": classmethod(lambda _, name=name, declare=declare: calls.append(name) or declare())})
        monkeypatch.setitem(classes, name, counting)

    module.provenance(SimpleNamespace(prompt=joint(), unique_id="9", extra_pnginfo=None), ("image", "audio"))

    assert "LoadDualUNets" in calls and len(calls) == len(set(calls))


def test_a_photo_imprinted_into_a_recording_is_not_called_generated(module):
    found = of(module, imprint())
    assert not found.generated and not found.composite
    assert found.tags() == {
        "title": "An image that sounds",
        "comment": "An image that sounds",
        "software": "Images that Sound for ComfyUI",
    }
    assert found.xmp() is None
    captioned = of(module, imprint(), ("image", "audio"), "a cat", "")
    assert not captioned.generated and captioned.tags()["comment"] == "An image that sounds. Image prompt: a cat"


def test_a_photo_that_a_model_redraws_is_a_composite(module):
    prompt = joint(latent_image=["12", 0]) | {
        "12": node("VAEEncode", pixels=["13", 0], vae=["1", 4]),
        "13": node("LoadImage", image="chelsea.png"),
    }
    found = of(module, prompt)
    assert found.generated and found.composite
    assert found.source_type == AI + "compositeWithTrainedAlgorithmicMedia"
    rdf = xml.fromstring(found.xmp())
    (told,) = rdf.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert told.text == found.source_type


def test_picture_and_sound_are_told_apart(module):
    prompt = joint()
    prompt["9"]["inputs"]["audio"] = ["12", 0]
    prompt["12"] = node("LoadAudio", audio="loop.flac")
    assert of(module, prompt, ("image",)).generated
    assert not of(module, prompt, ("audio",)).generated


@pytest.mark.parametrize("table_4", ["", "train whistling"])
def test_a_guider_a_linked_seed_and_the_papers_prompts_are_read_too(module, pack, table_4):
    pair, (image, audio) = next(iter(TITLED_PAIRS.items()))
    prompt = joint()
    sampler = prompt.pop("7")["inputs"]
    prompt |= {
        "7": node("SamplerCustomAdvanced", noise=["20", 0], guider=["21", 0], latent_image=["6", 0]),
        "20": node("RandomNoise", noise_seed=["23", 0]),
        "21": node("MultimodalGuider", **{name: value for name, value in sampler.items() if name.startswith(("image_", "audio_"))}),
        "22": node("PaperPrompts", pair=pair, table_4_image="from the pair", table_4_audio=table_4 or "from the pair"),
        "23": node("PrimitiveInt", value=41),
    }
    prompt["3"]["inputs"]["text"], prompt["4"]["inputs"]["text"] = ["22", 0], ["22", 1]
    found = of(module, prompt)
    assert found.generated and found.seeds == [41]
    assert found.prompts == {"Image prompt": image, "Audio prompt": table_4 or audio}


def test_a_plain_sampler_has_one_prompt_without_its_negative_one(module):
    prompt = {
        "1": node("CheckpointLoaderSimple", ckpt_name="v1-5.safetensors"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a castle"),
        "3": node("CLIPTextEncode", clip=["1", 1], text="blurry"),
        "4": node("ControlNetApplyAdvanced", positive=["2", 0], negative=["3", 0], control_net=["5", 0], image=["6", 0]),
        "5": node("ControlNetLoader", control_net_name="canny.safetensors"),
        "6": node("EmptyImage", width=8, height=8),
        "7": node("KSampler", model=["1", 0], positive=["4", 0], negative=["4", 1], seed=3, sampler_name="euler"),
        "9": node("SaveImageThatSounds", image=["7", 0]),
    }
    found = of(module, prompt, ("image",))
    assert found.generated and found.prompts == {"Prompt": "a castle"} and found.seeds == [3]
    assert found.models == ["ckpt_name=v1-5.safetensors", "control_net_name=canny.safetensors"]


def test_prompts_that_are_given_stand_for_those_of_the_graph(module):
    assert of(module, joint(), ("image",), " castles ").prompts == {"Image prompt": "castles"}


def test_without_a_graph_given_prompts_are_all_there_is(module):
    assert not module.provenance(None, ("image",)).generated
    assert module.provenance(None, ("image",), "a castle").generated
    assert not module.provenance(hidden({}), ("image",)).generated


def test_nodes_that_are_not_known_here_are_passed(module):
    prompt = joint()
    prompt["8"] = node("SomebodysDecoder", samples=["7", 0], image_prompt="not ours")
    assert of(module, prompt).generated


def test_the_workflow_is_embedded_as_comfyui_does(module):
    assert module.workflow_tags(hidden({"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})) == {
        "prompt": '{"1": {}}',
        "workflow": '{"nodes": []}',
    }
    assert module.workflow_tags(None) == {}


def test_disabled_metadata_leaves_only_what_the_file_is(module, monkeypatch):
    monkeypatch.setattr(module.args, "disable_metadata", True)
    assert module.workflow_tags(hidden(joint())) == {}
    tags = of(module, joint()).tags()
    assert tags["comment"] == "AI-generated image that sounds" and tags["title"] == "An image that sounds"
    assert tags["digital_source_type"].endswith("trainedAlgorithmicMedia")
