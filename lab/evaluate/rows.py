"""The rows of the tables: ways to make samples, with every setting.

A record holds every setting of its row, so that a default may change without changing what is recorded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from itsound_core.drafts import draft_levels
from itsound_core.sampling import STABLE_DIFFUSION

Method = Literal["denoise", "imprint", "sds", "replay"]
Solver = Literal["ddim", "dpm-solver-2m"]
WarmStart = Literal["step", "cosine"]
Vocoder = Literal["griffin-lim", "hifi-gan", "hifi-gan phase"]
Canvas = Literal["network", "latents"]


@dataclass(frozen=True)
class Row:
    """A way to make samples.

    steps: of denoising, or updates of the SDS canvas. draft_of: the steps of a longer run of which these are some; 0 is none. Guidance is
    None on a side that has no part. t_image, t_audio, audio_weight and warm_start matter where both have one. warm_start: how the later
    side sets in, at once ("step", the paper's Heaviside) or along half a cosine as long on both sides of that place ("cosine"). sources:
    rows whose saved pictures this one is made of. foresee: every so many steps, from where both sides have had their say, what the sample
    will become is scored, to compare with the end; 0 is never.
    canvas, learning_rate, hidden: of the SDS baseline; the paper's canvas is a network, `hidden` is its width.
    """

    steps: int
    image_guidance: float | None = None
    audio_guidance: float | None = None
    method: Method = "denoise"
    sources: tuple[str, ...] = ()
    solver: Solver = "ddim"
    draft_of: int = 0
    t_image: float = 0.9
    t_audio: float = 1.0
    audio_weight: float = 0.5
    warm_start: WarmStart = "step"
    vocoder: Vocoder = "griffin-lim"
    foresee: int = 0
    canvas: Canvas = "network"
    learning_rate: float = 1e-4
    hidden: int = 256

    def settings(self) -> dict[str, Any]:
        """All of it, as a record holds it."""
        return {**asdict(self), "sources": list(self.sources)}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Row:
        """The row that a record is of. Raises ValueError for a record that does not hold all settings."""
        missing = [field.name for field in fields(cls) if field.name not in record]
        if missing:
            raise ValueError(
                f"a record of the row {record['row']} lacks {', '.join(missing)}: another version wrote it. Run the row again."
            )
        held = {field.name: record[field.name] for field in fields(cls)}
        return cls(**{**held, "sources": tuple(held["sources"])})

    @property
    def joint(self) -> bool:
        return None not in (self.image_guidance, self.audio_guidance)

    @property
    def starts(self) -> tuple[float, ...]:
        """Timesteps at and below which each side takes part."""
        shares = (self.t_image, self.t_audio) if self.joint else (1.0,)
        return tuple(STABLE_DIFFUSION.training_steps * share for share in shares)

    @property
    def onsets(self) -> set[int]:
        """Steps of the full sample after which a side begins to take part."""
        timesteps = STABLE_DIFFUSION.timesteps(self.draft_of or self.steps)
        return {sum(timestep > start for timestep in timesteps) for start in self.starts} - {0}

    @property
    def places(self) -> list[int]:
        """The noise levels that it takes, of those of the full sample."""
        return draft_levels(self.draft_of or self.steps, self.steps, self.onsets)

    @property
    def voters(self) -> list[int]:
        """How many models are evaluated, once for each prompt of theirs, in each step of denoising."""
        intervals = STABLE_DIFFUSION.draft(self.draft_of or self.steps, self.places)
        return [sum(timestep <= start for start in self.starts) for timestep, _ in intervals]

    @property
    def telling(self) -> int:
        """Steps after which every side has had its say at least once."""
        return 1 + self.voters.index(1 + self.joint)

    def changed(self, steps: int | None, image_guidance: float | None, audio_guidance: float | None) -> Row:
        """The row with the settings that are given, where it has them."""
        return replace(
            self,
            steps=steps or self.steps,
            image_guidance=self.image_guidance if None in (self.image_guidance, image_guidance) else image_guidance,
            audio_guidance=self.audio_guidance if None in (self.audio_guidance, audio_guidance) else audio_guidance,
        )

    def __str__(self) -> str:
        """Its settings in a table."""
        guidance = " / ".join("-" if scale is None else f"{scale:g}" for scale in (self.image_guidance, self.audio_guidance))
        named = ("steps", "image_guidance", "audio_guidance", "method", "sources")  # before, or by the row's name
        other = [field for field in fields(self) if field.name not in named and getattr(self, field.name) != field.default]
        values = {field.name.replace("_", " "): getattr(self, field.name) for field in other}
        words = [value if isinstance(value, str) else f"{key} {value:g}" for key, value in values.items()]
        return ", ".join([f"{self.steps} steps, {guidance}", *words])


def rows(image: Row, audio: Row, joint: Row, sds: Row) -> dict[str, Row]:
    """All rows by name, as variations of four."""
    return {
        "image": image,
        "audio": audio,
        "imprint": replace(image, audio_guidance=audio.audio_guidance, method="imprint", sources=("image", "audio")),
        "sds": sds,
        "joint": joint,
        **{f"guidance-{scale:g}": replace(joint, image_guidance=scale, audio_guidance=scale) for scale in (5.0, 7.5)},
        "no-warm-start": replace(joint, t_image=1.0),
        "image-first": replace(joint, t_image=1.0, t_audio=0.9),
        "warm-start-0.8": replace(joint, t_image=0.8),
        "cosine": replace(joint, warm_start="cosine"),
        **{f"weight-{weight:g}": replace(joint, audio_weight=weight) for weight in (0.3, 0.4, 0.6, 0.7)},
        **{f"ddim-{steps}": replace(joint, steps=steps) for steps in (15, 20, 25, 30, 40, 50)},
        **{f"multistep-{steps}": replace(joint, steps=steps, solver="dpm-solver-2m") for steps in (15, 20, 30)},
        **{f"draft-{steps}": replace(joint, steps=steps, solver="dpm-solver-2m", draft_of=joint.steps) for steps in (12, 20, 30)},
        **{f"draft-{steps}-of-25": replace(joint, steps=steps, solver="dpm-solver-2m", draft_of=25) for steps in (8, 12)},
        "hifi-gan": replace(joint, method="replay", sources=("joint",), vocoder="hifi-gan"),
        "hifi-gan-phase": replace(joint, method="replay", sources=("joint",), vocoder="hifi-gan phase"),
        "candidates": replace(joint, steps=joint.steps // 2, foresee=5),
    }


# Guidance was chosen on the development prompts (lab/RESULTS.md); for both at once it is the paper's 10. The SDS row is one that a CPU
# can bear, that of the template "25 Score distillation": latents as the canvas, of which an update costs a seventeenth of the network's
# (lab/benchmarks/sds.py).
EMBEDDED_SDS = Row(250, 60.0, 10.0, "sds", canvas="latents", learning_rate=2e-2)
EMBEDDED = rows(image=Row(50, 10.0), audio=Row(50, None, 3.5), joint=Row(100, 10.0, 10.0), sds=EMBEDDED_SDS)
PAPER = rows(image=Row(50, 7.5), audio=Row(100, None, 7.5), joint=Row(100, 10.0, 10.0), sds=Row(40_000, 80.0, 10.0, "sds"))

TABLES = {
    "table-1": ("image", "audio", "imprint", "sds", "joint"),
    "guidance": ("guidance-5", "guidance-7.5", "joint"),
    "warm-start": ("no-warm-start", "image-first", "joint", "warm-start-0.8", "cosine"),
    "vocoders": ("joint", "hifi-gan-phase", "hifi-gan"),
    "audio-weight": ("weight-0.3", "weight-0.4", "joint", "weight-0.6", "weight-0.7"),
    "ddim": ("ddim-15", "ddim-20", "ddim-25", "ddim-30", "ddim-40", "ddim-50", "joint"),
    "multistep": ("multistep-15", "multistep-20", "multistep-30", "joint"),
    "search": ("joint", "draft-12", "draft-20", "draft-30"),
    "search-25": ("ddim-25", "draft-8-of-25", "draft-12-of-25"),
}
"""Rows that belong together: Table 1; the two halves of Table 3, with the cosine beside the step; vocoders; ablations; drafts."""
