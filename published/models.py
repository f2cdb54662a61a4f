"""The published models that fetch.py knows: where each lies, which of its files are wanted, where they go, and on what terms.

Repositories, file names, sizes, licences and commits were read on copies of the repositories' own pages in November 2026; what was not
seen there says "unverified". The server's own word on sizes, hashes and licence is asked for, and shown, before anything is fetched.
Standard library only: quickstart.py lists the models before it has an environment.
"""

from __future__ import annotations

from dataclasses import dataclass

PICKLED, SAFE = "pytorch_model.bin", "model.safetensors"


@dataclass(frozen=True)
class Source:
    """Files of one repository and the folder under ComfyUI's `models` that takes them.

    `files` are patterns, in which `*` stands for a part of one name and `a|b` asks for b where there is no a; each must be met. `revision`
    is a commit where one is known to hold them, else a branch. `save_as` renames the only file of a source that names exactly one.
    """

    repository: str
    revision: str
    folder: str
    files: tuple[str, ...]
    save_as: str | None = None
    sha256: str | None = None  # of the only file, where it is known beforehand
    convert: bool = False  # weights that come as a pickle are kept as safetensors: recent transformers refuse pickles beside older torch

    def converts(self, path: str) -> bool:
        return self.convert and path == PICKLED

    def local_name(self, path: str) -> str:
        return self.save_as or (SAFE if self.converts(path) else path)


@dataclass(frozen=True)
class Model:
    use: str
    licence: str
    size: str  # as far as known without asking
    sources: tuple[Source, ...]


TOKENIZER = ("merges.txt", "vocab.json", "special_tokens_map.json", "tokenizer_config.json")
TRANSFORMERS_MODEL = ("README.md", "config.json", "preprocessor_config.json", f"{SAFE}|{PICKLED}", "tokenizer.json", *TOKENIZER)
IF_STAGE = (
    "README.md",
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
)
IF_LICENCE = (
    "DeepFloyd IF License Agreement: non-commercial research only. Gated: with a Hugging Face account, accept it on each model's page first"
)

MODELS = {
    "sd15": Model(
        use="Stable Diffusion v1.5, the picture side of Load Image and Audio Models",
        licence="CreativeML Open RAIL-M: use-based restrictions, which go on to what is made from it",
        size="2.13 GB",
        sources=(
            Source(
                "Comfy-Org/stable-diffusion-v1-5-archive",
                "4fddeb7f9096623f1b77f4708feb96126a08a0cf",
                "checkpoints",
                ("v1-5-pruned-emaonly-fp16.safetensors",),
                sha256="e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916",
            ),
        ),
    ),
    "auffusion": Model(
        use="Auffusion, the sound side of Load Image and Audio Models, and the vocoder for Load Vocoder",
        licence="CC BY-NC-SA 4.0: no commercial use",
        size="3.8 GB and a text encoder (its size: unverified)",
        sources=(
            Source(
                "auffusion/auffusion-full-no-adapter",
                "a75ebf2e22d76f8b3cdafcd2a42fd4abba43f7ec",
                "diffusers/auffusion-full-no-adapter",
                (
                    "README.md",
                    "model_index.json",
                    "scheduler/*.json",
                    "text_encoder/*.json",
                    "text_encoder/*.safetensors|text_encoder/*.bin",
                    *(f"tokenizer/{name}" for name in TOKENIZER),
                    "unet/config.json",
                    "unet/diffusion_pytorch_model.safetensors|unet/diffusion_pytorch_model.bin",
                    "vae/config.json",
                    "vae/diffusion_pytorch_model.safetensors|vae/diffusion_pytorch_model.bin",
                    "vocoder/config.json",
                    "vocoder/vocoder.pt",
                ),
            ),
        ),
    ),
    "riffusion": Model(
        use="Riffusion v1, another sound side of Load Image and Audio Models, with view Riffusion",
        licence="CreativeML OpenRAIL-M: use-based restrictions, which go on to what is made from it; commercial use within them",
        size="2.13 GB, unverified",
        sources=(
            Source(
                "riffusion/riffusion-model-v1",
                "main",
                "checkpoints",
                ("riffusion-model-v1.ckpt",),
                sha256="99a6eb51c18e16a6121180f3daa69344e571618b195533f67ae94be4eb135a57",
            ),
        ),
    ),
    "lcm": Model(
        use="LCM-LoRA for Stable Diffusion v1.5, pictures in few steps",
        licence="OpenRAIL++: use-based restrictions",
        size="0.13 GB",
        sources=(
            Source(
                "latent-consistency/lcm-lora-sdv1-5",
                "cf2fced511dbe7e26c8d1d397e728fbab875db4b",
                "loras",
                ("pytorch_lora_weights.safetensors",),
                save_as="lcm-lora-sdv1-5.safetensors",
            ),
        ),
    ),
    "clip": Model(
        use="CLIP ViT-B/16, which scores pictures against prompts",
        licence="unverified: the repository states none (OpenAI's code is MIT); its model card calls any deployed use out of scope",
        size="0.60 GB",
        sources=(
            Source(
                "openai/clip-vit-base-patch16",
                "57c216476eefef5ab752ec549e440a49ae4ae5f3",
                "scorers/clip-vit-base-patch16",
                TRANSFORMERS_MODEL,
                convert=True,
            ),
        ),
    ),
    "clap": Model(
        use="CLAP (HTSAT, unfused), which scores sounds against prompts",
        licence="Apache 2.0",
        size="0.62 GB",
        sources=(
            Source(
                "laion/clap-htsat-unfused",
                "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
                "scorers/clap-htsat-unfused",
                TRANSFORMERS_MODEL,
                convert=True,
            ),
        ),
    ),
    "if": Model(
        use="DeepFloyd IF, stages I and II, which colour a spectrogram; their text encoder is if-t5",
        licence=IF_LICENCE,
        size="unverified",
        sources=(
            Source("DeepFloyd/IF-I-M-v1.0", "main", "diffusers/IF-I-M-v1.0", IF_STAGE),
            Source("DeepFloyd/IF-II-M-v1.0", "main", "diffusers/IF-II-M-v1.0", (*IF_STAGE, "image_noising_scheduler/*.json")),
        ),
    ),
    "if-t5": Model(
        use="DeepFloyd IF's T5-XXL text encoder in fp16; not needed by whoever has a T5-XXL for ComfyUI",
        licence=IF_LICENCE,
        size="11.5 GB, unverified",
        sources=(
            Source(
                "DeepFloyd/IF-I-M-v1.0",
                "main",
                "diffusers/IF-I-M-v1.0",
                ("text_encoder/*.json", "text_encoder/model.fp16*.safetensors"),
            ),
        ),
    ),
}


def known(names: list[str]) -> dict[str, Model]:
    """The models of these names, each once. Raises ValueError naming those that are not known."""
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise ValueError(f"no model is known as {', '.join(unknown)}: choose from {', '.join(MODELS)}.")
    return {name: MODELS[name] for name in names}


def listing(command: str) -> str:
    """What can be fetched, for `command` followed by names."""
    lines = [f"{command} NAME ... [--into COMFYUI'S_MODELS_FOLDER] [--yes]\n"]
    for name, model in MODELS.items():
        lines += [f"  {name}\n    {model.use}\n    licence: {model.licence}\n    size: {model.size}"]
        lines += [f"    from {source.repository} into models/{source.folder}" for source in model.sources]
    return "\n".join([*lines, "\nNothing is fetched before files, sizes and licence were shown and agreed to."])
