"""What a saved file says of itself: whether a model generated it, from which prompts and seeds, with which models.

Read from the prompt graph that ComfyUI hands to a node, upstream of what is saved; nothing is claimed that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from comfy.cli_args import args
from comfy_api.latest import io

import nodes as comfyui

from ..itsound_core.captions import clean
from ..itsound_core.presets import FROM_PAIR, TITLED_PAIRS, chosen
from .files import FROM_MODEL

HIDDEN = [io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id]
"""Hidden inputs that a node needs to describe its files."""

IMAGE_PROMPT, AUDIO_PROMPT, PROMPT = "Image prompt", "Audio prompt", "Prompt"
ROLES = {
    **dict.fromkeys(("image_prompt", "image_positive"), IMAGE_PROMPT),
    **dict.fromkeys(("audio_prompt", "audio_positive"), AUDIO_PROMPT),
    **dict.fromkeys(("positive", "conditioning"), PROMPT),
}
"""Inputs through which a prompt reaches a sampler or a guider."""
DENOISERS = {"MODEL", "GUIDER", "DEEPFLOYD_IF"}
MEDIA = {"IMAGE", "AUDIO", "VIDEO"}
LOADED = {"MODEL", "CLIP", "VAE", "VOCODER", "CONTROL_NET", "DEEPFLOYD_IF"}

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""IPTC's terms for where media come from; picture tools and search engines read them."""
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


@dataclass(frozen=True)
class Provenance:
    """Where a picture or a sound comes from, as far as its graph tells."""

    generated: bool
    """A sampler of a diffusion model, or a generation service, had a part in it."""
    composite: bool = False
    """So had a picture or a sound from outside of the graph."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Text by role: IMAGE_PROMPT, AUDIO_PROMPT, or PROMPT where the graph does not say which."""
    seeds: list[int] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    """Loaders' choices, as "ckpt_name=v1-5.safetensors"."""

    @property
    def source_type(self) -> str | None:
        """IPTC's Digital Source Type of what is generated."""
        if not self.generated:
            return None
        return DIGITAL_SOURCE_TYPE + ("compositeWithTrainedAlgorithmicMedia" if self.composite else "trainedAlgorithmicMedia")

    def tags(self) -> dict[str, str]:
        """Metadata under the names that players, file managers and ffprobe show. --disable-metadata leaves only what the file is."""
        facts = dict(self.prompts)
        if self.seeds:
            facts["Seed"] = ", ".join(map(str, self.seeds))
        if self.models:
            facts["Models"] = ", ".join(self.models)
        if args.disable_metadata:
            facts = {}
        what = "AI-generated image that sounds" if self.generated else "An image that sounds"
        tags = {
            "title": " / ".join(facts[role] for role in self.prompts if role in facts) or "An image that sounds",
            "comment": ". ".join([what, *(f"{name}: {text}" for name, text in facts.items())]),
            "software": "Images that Sound for ComfyUI",
        }
        tags |= {"digital_source_type": self.source_type} if self.source_type else {}
        return {name: text.encode("utf-8", "ignore").decode() for name, text in tags.items()}  # half an emoji is no text in any file

    def xmp(self) -> str | None:
        """XMP packet of a generated picture, with IPTC's Digital Source Type."""
        return XMP.format(self.source_type) if self.source_type else None


def workflow_tags(hidden: io.HiddenHolder | None) -> dict[str, str]:
    """The graph as ComfyUI's own savers embed it, so that a dropped file opens as its workflow; nothing with --disable-metadata."""
    if hidden is None or args.disable_metadata:
        return {}
    parts = {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}
    return {name: json.dumps(part) for name, part in parts.items() if part is not None}


def provenance(hidden: io.HiddenHolder | None, inputs: tuple[str, ...], image_prompt: str = "", audio_prompt: str = "") -> Provenance:
    """Where that comes from what reaches a node through `inputs`; prompts that are given stand for those of the graph.

    Without a graph, as where a script calls the node, a given prompt is all that tells of a model.
    """
    given = {role: text.strip() for role, text in ((IMAGE_PROMPT, image_prompt), (AUDIO_PROMPT, audio_prompt)) if clean(text)}
    graph = Graph((hidden and hidden.prompt) or {})
    own = hidden and graph.prompt.get(hidden.unique_id)
    if not own:
        return Provenance(generated=bool(given), prompts=given)
    upstream = {link[0] for name in inputs for link in graph.upstream(own["inputs"].get(name))}
    generated = any(map(graph.generates, upstream))
    return Provenance(
        generated,
        composite=generated and any(map(graph.brings_media, upstream)),
        prompts=given or graph.prompts(upstream),
        seeds=graph.seeds(upstream),
        models=graph.models(upstream),
    )


class Graph:
    """A prompt as the server runs it: node id to {"class_type", "inputs"}, where an input is a value or a link [id, output]."""

    def __init__(self, prompt: dict[str, dict[str, Any]]) -> None:
        self.prompt = prompt
        self.input_types: dict[str, dict[str, str]] = {}
        """By class: to declare its inputs, a loader walks its model folders."""

    def _inputs(self, node: str) -> dict[str, Any]:
        return self.prompt[node]["inputs"]

    def _class(self, node: str) -> Any:
        return comfyui.NODE_CLASS_MAPPINGS.get(self.prompt[node]["class_type"])  # pyright: ignore[reportAttributeAccessIssue]

    def _output_types(self, node: str) -> set[str]:
        return {str(kind) for kind in getattr(self._class(node), "RETURN_TYPES", None) or ()}

    def _input_types(self, node: str) -> dict[str, str]:
        """An input that takes several types has them with commas between."""
        kind = self.prompt[node]["class_type"]
        if kind not in self.input_types:
            declared = self._class(node).INPUT_TYPES() if self._class(node) else {}
            groups = (declared.get(group, {}) for group in ("required", "optional"))
            self.input_types[kind] = {name: str(spec[0]) for group in groups for name, spec in group.items()}
        return self.input_types[kind]

    def link(self, value: Any) -> tuple[str, int] | None:
        """Node and output that an input's value links to."""
        return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 and value[0] in self.prompt else None

    def upstream(self, value: Any, negatives: bool = True) -> Iterator[tuple[str, int]]:
        """Every (node, output) that an input's value depends on; without `negatives`, none that does so only through a negative prompt."""
        ahead, seen = [self.link(value)], set()
        while ahead:
            link = ahead.pop(0)
            if link is None or link in seen:
                continue
            seen.add(link)
            yield link
            ahead += [self.link(value) for name, value in self._inputs(link[0]).items() if negatives or not name.endswith("negative")]

    def nearest(self, value: Any, classes: Set[str], kinds: Set[str], through: str) -> Iterator[str]:
        """The nodes of some classes that an input's value comes from first, by links of some types alone.

        Of a node that has an input named `through`, only that one is followed: the others lend it something.
        """
        ahead, seen = [self.link(value)], set()
        while ahead:
            link = ahead.pop()
            if link is None or link in seen or self._output_type(*link) not in kinds:
                continue
            seen.add(link)
            given = self._inputs(link[0])
            if self.prompt[link[0]]["class_type"] in classes:
                yield link[0]
            else:
                ahead += map(self.link, [given[through]] if through in given else given.values())

    def _output_type(self, node: str, output: int) -> str:
        types = getattr(self._class(node), "RETURN_TYPES", None) or ()
        return str(types[output]) if output < len(types) else ""

    def generates(self, node: str) -> bool:
        """Whether a node makes latents or media with a denoising model, or has a service make them."""
        if getattr(self._class(node), "API_NODE", False):
            return True
        linked = {name for name, value in self._inputs(node).items() if self.link(value)}
        taken = {kind for name, types in self._input_types(node).items() if name in linked for kind in types.split(",")}
        return bool(taken & DENOISERS and self._output_types(node) & {"LATENT", *MEDIA})

    def brings_media(self, node: str) -> bool:
        """Whether a node is where a picture or a sound enters the graph."""
        return bool(self._output_types(node) & MEDIA) and not any(map(self.link, self._inputs(node).values()))

    def prompts(self, nodes: set[str]) -> dict[str, str]:
        """Text by role of what the samplers and guiders among some nodes are told to make."""
        found: dict[str, list[str]] = {}
        for node in self.prompt:
            if node in nodes and (self.generates(node) or "GUIDER" in self._output_types(node)):
                for name in ROLES.keys() & self._inputs(node).keys():
                    found.setdefault(ROLES[name], []).extend(self._texts(node, name))
        return {role: "; ".join(dict.fromkeys(found[role])) for role in dict.fromkeys(ROLES.values()) if found.get(role)}

    def _texts(self, node: str, name: str) -> list[str]:
        value = self._inputs(node)[name]
        if isinstance(value, str):
            return [value.strip()]
        texts = []
        for origin, output in self.upstream(value, negatives=False):
            inputs, types = self._inputs(origin), self._input_types(origin)
            if self.prompt[origin]["class_type"] == "PaperPrompts":
                choices = [inputs.get(key, FROM_PAIR) for key in ("pair", "table_4_image", "table_4_audio")]
                if all(isinstance(choice, str) for choice in choices) and choices[0] in TITLED_PAIRS:
                    texts.append(chosen(*choices)[output])
            texts += [text.strip() for key, text in inputs.items() if types.get(key) == "STRING" and isinstance(text, str)]
        return [text for text in texts if clean(text)]

    def seeds(self, nodes: set[str]) -> list[int]:
        """Seeds of some nodes, typed in or linked from a primitive."""
        found = []
        for node in (node for node in self.prompt if node in nodes):
            for name in ("seed", "noise_seed"):
                value = self._inputs(node).get(name)
                while link := self.link(value):
                    value = self._inputs(link[0]).get("value")
                if isinstance(value, int):
                    found.append(value)
        return list(dict.fromkeys(found))

    def models(self, nodes: set[str]) -> list[str]:
        """Names that the loaders among some nodes were given."""
        return [
            f"{name}={value}"
            for node in self.prompt
            if node in nodes and self._output_types(node) & LOADED
            for name, value in self._inputs(node).items()
            if isinstance(value, str) and name.rstrip("0123456789").endswith(("_name", "model_path")) and value != FROM_MODEL
        ]
