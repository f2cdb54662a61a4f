"""Select, rasterise and split the drawings that pictures are composed of.

    python -m lab.train.drawings [--data data] [--sheets]

From every icon set of `@iconify/json` under a permissive licence: names of the fourteen classes, filled shapes only, near-duplicates
removed. Writes `<data>/pictures/drawings.npy` (uint8 [N, 2, 256, 256]: gray level and alpha, centred, bright ink), and
`drawings.json`, one entry a drawing; the same file beside this script records what the shipped models learned from. With `--sheets`, also
a contact sheet a class.

The split is by *family*: sets that redraw one another stand together, and a family lies on one side for all classes. `heldout` is
frozen: no generator and no choice of settings may look at it; it exists for the judge of the results.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from .fetch import unpacked

SIZE = 256
LICENCES = {"MIT", "Apache-2.0", "CC0-1.0", "ISC", "CC-BY-4.0", "CC-BY-3.0", "BSD-3-Clause", "Unlicense"}

# What a drawing may be called once its style and size are taken off. Strict on purpose: a wrong label costs more than a lost drawing.
NAMES = {
    "castle": """
        castle european-castle medieval-castle castle-tower fort fortress castle-turret tower-castle fairytale-castle
    """,
    "dog": """
        dog dog-face puppy poodle guide-dog service-dog sitting-dog jumping-dog labrador-head corgi dachshund bulldog
        dalmatian dog-side dog-base dog-happy
    """,
    "cat": """
        cat cat-face black-cat kitten kitty sitting-cat grinning-cat cat-head
    """,
    "fish": """
        fish tropical-fish clownfish goldfish salmon tuna flatfish angler-fish fish-simple
    """,
    "flower": """
        flower tulip sunflower rose daisy hibiscus blossom flower-tulip flower-poppy daffodil lily orchid cherry-blossom
        vine-flower flower-rose hyacinth
    """,
    "tree": """
        tree evergreen-tree evergreen deciduous-tree pine-tree pine christmas-tree oak oak-tree fir beech tree-evergreen
        tree-deciduous tree-pine fruit-tree birch-tree tree-christmas
    """,
    "mountain": """
        mountain mountains mount-fuji snow-capped-mountain mountain-peak mountain-range peak peaks mountain-snow alps
        mountain-top mountains-peak
    """,
    "train": """
        train locomotive steam-locomotive high-speed-train bullet-train railway-car train-front train-front-view train-engine
        steam-train old-train steam-engine train-simple train-regional light-rail
    """,
    "car": """
        car automobile racing-car race-car sports-car sport-utility-vehicle convertible sedan suv hatchback city-car roadster
        car-side car-sports car-hatchback car-estate car-convertible car-sedan car-suv car-profile car-simple jeep
    """,
    "ship": """
        ship sailboat sailing-ship boat sailing ferry passenger-ship yacht cargo-ship caravel drakkar galleon galley trireme
        steamboat tugboat pirate-ship cruise-ship viking-ship sail-boat steamer
    """,
    "airplane": """
        airplane plane small-airplane jet jet-plane biplane aeroplane aircraft commercial-airplane private-jet airliner
        propeller-plane fighter-jet passenger-plane flight airplane-mode
    """,
    "bell": """
        bell jingle-bell church-bell liberty-bell ringing-bell notification-bell hand-bell handbell bell-simple
    """,
    "guitar": """
        guitar acoustic-guitar classical-guitar electric-guitar guitar-acoustic guitar-electric bass-guitar flying-v-guitar
        ukulele mandolin banjo
    """,
    "skull": """
        skull death-skull skull-and-crossbones skull-crossbones crossed-bones-skull skull-simple crowned-skull
    """,
}
CLASS_OF = {name: label for label, names in NAMES.items() for name in names.split()}
STYLES = (
    r"filled|fill|solid|bold|duotone|duo|twotone|two-tone|bulk|flat|color|high-contrast|sharp|rounded|round|baseline|remix|regular|glyph|\d+|"
    r"rounded-fill|outline-rounded"
)
AFFIXES = re.compile(rf"-({STYLES})$|^({STYLES}|animals?|travel|nature|emoji|i)-")

# Pixel art, brands, scribbles, pictures in a frame: drawings of another kind than the rest.
SKIPPED_SETS = re.compile(
    r"pixel|pixelarticons|streamline-pixel|dinkie-icons|nonicons|selfhst|(streamline-)?logos|simple-icons|devicon.*|skill-icons|vscode-icons|"
    r"file-icons|material-icon-theme|catppuccin|token.*|cryptocurrency.*|flag|circle-flags|flagpack|codicon|cif|bxl|cib|fa\d?-brands|unjs|"
    r"svg-spinners|line-md|thesvg.*|k8s|gcp|.*freehand.*|iconmind|qlementine-icons|streamline-(kameleon|cyber|emojis|block).*|flat-ui"
)

# Sets that redraw one another: first match wins, every other set is its own family.
FAMILIES = {
    "fluent-emoji": r"fluent-emoji.*",
    "noto": r"noto.*",
    "emojione": r"emojione.*",
    "fluent": r"fluent.*",
    "fontawesome": r"fa\d?(-.*)?|la|f7",
    "material": r"material-symbols.*|ic|mdi.*",
    "streamline": r"streamline.*",
    "icon-park": r"icon-park.*",
    "eva": r"eva|basil",
    "glyphs": r"glyphs.*",
    "heroicons": r"heroicons.*",
    "lucide": r"lucide.*|feather|fe|meteor-icons",
    "boxicons": r"boxicons|bx|bxs",
    "ion": r"ion|famicons",
    "map-symbols": r"maki|temaki|pinhead|roentgen|osmic",
    "pepicons": r"pepicons.*",
    "unicons": r"ui[lmst]",
}

# Seen on the contact sheets: mislabelled, framed, struck through, or not recognisable as their class.
EXCLUDED = {
    "airplane": """
        clarity:airplane-solid emojione:small-airplane emojione-monotone:small-airplane game-icons:biplane lineicons:plane
        noto-v1:small-airplane raphael:plane reicon:plane-duotone reicon:plane-filled rivet-icons:plane
        rivet-icons:plane-solid solar:plane-2-bold solar:plane-2-bold-duotone solar:plane-3-bold solar:plane-3-bold-duotone
        solar:plane-bold solar:plane-bold-duotone streamline:airplane-solid streamline-color:airplane
        streamline-ultimate:airplane-mode streamline-ultimate:airplane-mode-bold streamline-ultimate-color:airplane-mode
    """,
    "bell": """
        duo-icons:bell game-icons:ringing-bell memory:bell ri:bell-fill streamline-flex:bell-remix streamline-flex:bell-solid
        streamline-flex-color:bell streamline-flex-color:bell-flat streamline-plump:bell streamline-plump:bell-remix
        streamline-plump:bell-solid streamline-plump-color:bell streamline-plump-color:bell-flat
    """,
    "car": """
        emojione:racing-car emojione-monotone:racing-car eva:car-fill game-icons:jeep gis:car keyline-icons:car-duotone
        noto-v1:sport-utility-vehicle
    """,
    "castle": """
        game-icons:castle osmic:fort-14 tdesign:castle-2 tdesign:castle-2-filled tdesign:castle-3 tdesign:castle-3-filled
        tdesign:castle-4 tdesign:castle-4-filled tdesign:castle-5 tdesign:castle-5-filled tdesign:castle-6
        tdesign:castle-6-filled tdesign:castle-7 tdesign:castle-7-filled
    """,
    "cat": """
        reicon:cat-duotone reicon:cat-filled
    """,
    "dog": """
        foundation:guide-dog game-icons:jumping-dog griddy-icons:dog-filled healthicons:guide-dog
    """,
    "fish": """
        fluent-emoji:tropical-fish fluent-emoji-flat:tropical-fish icon-park:fish icon-park-outline:fish icon-park-solid:fish
        icon-park-twotone:fish tdesign:fish tdesign:fish-filled
    """,
    "flower": """
        fluent-emoji-high-contrast:hibiscus fluent-mdl2:flower game-icons:daisy game-icons:rose game-icons:vine-flower
        keyline-icons:flower keyline-icons:flower-fill keyline-icons:flower-sharp-fill mingcute:flower-3-fill
        mingcute:flower-5-fill noto-v1:rose roentgen:sunflower
    """,
    "guitar": """
        nimbus:guitar
    """,
    "mountain": """
        emojione:mount-fuji emojione:snow-capped-mountain emojione-monotone:mount-fuji emojione-monotone:snow-capped-mountain
        game-icons:mountains game-icons:peaks osmic:peak-10 ph:mountains ph:mountains-bold ph:mountains-duotone
        ph:mountains-fill
    """,
    "ship": """
        bitcoin-icons:boat-filled emojione:ferry emojione-monotone:ferry fxemoji:sailboat fxemoji:ship noto-v1:sailboat
        ph:boat-duotone ph:boat-fill
    """,
    "skull": """
        noto-v1:skull-and-crossbones raphael:skull streamline-sharp:skull-2-solid streamline-sharp-color:skull-2
    """,
    "train": """
        emojione:bullet-train emojione:high-speed-train emojione:light-rail emojione-monotone:bullet-train
        emojione-monotone:high-speed-train emojione-monotone:light-rail pinhead:bullet-train pinhead:steam-train
    """,
    "tree": """
        grommet-icons:tree ix:tree lsicon:tree-filled mingcute:tree-4-fill noto-v1:deciduous-tree
    """,
}
EXCLUDED = {(label, drawing) for label, drawings in EXCLUDED.items() for drawing in drawings.split()}

# Every fourth family by number of drawings is held out, every eighth (offset by one) is for development; chosen once, now frozen.
HELDOUT = {
    "bitcoin-icons",
    "boxicons",
    "eva",
    "fluent",
    "gg",
    "lets-icons",
    "majesticons",
    "mynaui",
    "oi",
    "reicon",
    "rivet-icons",
    "solar",
    "streamline",
    "teenyicons",
    "twemoji",
}
DEVELOPMENT = {"akar-icons", "fontawesome", "icon-park", "ix", "lucide", "ooui", "raphael", "ri"}

MIN_THICKNESS = 0.17  # largest inscribed radius over the root of the ink's area: outlines, which a small model cannot draw, fall below
DUPLICATE = 0.985  # cosine of 16 x 16 thumbnails


def family_of(prefix: str) -> str:
    return next((family for family, pattern in FAMILIES.items() if re.fullmatch(pattern, prefix)), prefix)


def class_of(name: str) -> str | None:
    """Class of an icon by its name without style and size, or None."""
    while name not in CLASS_OF:
        shorter = AFFIXES.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return CLASS_OF[name]


def permissive(prefix: str, licence: str | None) -> bool:
    """Whether the generators may learn from an icon set."""
    return licence in LICENCES and not SKIPPED_SETS.fullmatch(prefix)


def candidates(package: Path, admitted: Callable[[str, str | None], bool] = permissive):
    """Yield (class, set, name, svg) of every icon whose set is admitted, by its prefix and licence, and whose name is a class's."""
    collections = json.loads((package / "collections.json").read_text())
    for prefix, info in sorted(collections.items()):
        if not admitted(prefix, info["license"].get("spdx")):
            continue
        icons = json.loads((package / "json" / f"{prefix}.json").read_text())
        for name, icon in sorted(icons["icons"].items()):
            label = class_of(name)
            if label and (label, f"{prefix}:{name}") not in EXCLUDED:
                yield label, prefix, name, square_svg(icon, icons)


def square_svg(icon: dict, defaults: dict) -> str:
    frame = {"width": 16, "height": 16, "left": 0, "top": 0} | defaults | icon
    width, height, left, top = frame["width"], frame["height"], frame["left"], frame["top"]
    side = max(width, height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{SIZE}" height="{SIZE}" color="#000"'
        f' viewBox="{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}">{icon["body"]}</svg>'
    )


def render(svg: str) -> np.ndarray:
    """RGB, not premultiplied, and alpha in [0, 1], float32 [256, 256, 4]."""
    import resvg_py  # not there where canvases are only composed of drawings that were rasterised elsewhere

    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"), dtype=np.float32) / 255


def rasterise(svg: str) -> tuple[np.ndarray, np.ndarray] | None:
    """`shade` of a rendered drawing, or None for an empty or outlined one."""
    shaded = shade(render(svg))
    return None if shaded is None or outlined(*shaded) else shaded


def shade(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Gray level and alpha, both uint8 [256, 256], of a rendered drawing, or None where there is next to no ink.

    A one-colour glyph becomes white; a coloured drawing keeps its luma, stretched and brightened so that it shows on black.
    """
    alpha = rgba[..., 3]
    ink = alpha > 0.5
    if ink.mean() < 0.05:
        return None
    luma = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    low, high = np.percentile(luma[ink], [3, 97])
    if high - low < 0.1:
        gray = np.ones_like(luma)
    else:
        gray = 0.2 + 0.8 * np.clip((luma - low) / (high - low), 0, 1)
        gray **= min(1, np.log(0.65) / np.log(min(np.median(gray[ink]), 0.99)))
    return np.round(gray * 255).astype(np.uint8), np.round(alpha * 255).astype(np.uint8)


def outlined(gray: np.ndarray, alpha: np.ndarray) -> bool:
    """Whether the bright ink is nowhere thick: gray level and alpha are uint8."""
    bright = gray / 255 * (alpha / 255) > 0.4
    return bool(np.asarray(distance_transform_edt(np.pad(bright, 1))).max() < MIN_THICKNESS * np.sqrt(bright.sum()))


def thumbnail(gray: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Unit vector of the drawing on black, cropped and reduced to 16 x 16: what near-duplicates share."""
    rows, columns = np.where(alpha > 25)
    crop = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    shown = Image.fromarray(np.round(gray[crop] * (alpha[crop] / 255)).astype(np.uint8))
    vector = np.asarray(shown.resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel()
    vector -= vector.mean()
    return vector / (np.linalg.norm(vector) + 1e-6)


def without_duplicates(drawings: list[np.ndarray], entries: list[dict]) -> list[int]:
    """Indices kept: in every class the first of each group of near-duplicates, whatever its set."""
    kept, seen = [], {label: np.empty((0, 256), np.float32) for label in NAMES}
    for index, (drawing, entry) in enumerate(zip(drawings, entries, strict=True)):
        vector = thumbnail(*drawing)
        earlier = seen[entry["class"]]
        if not (earlier @ vector > DUPLICATE).any():
            seen[entry["class"]] = np.vstack([earlier, vector])
            kept.append(index)
    return kept


def contact_sheet(drawings: np.ndarray, path: Path, columns: int = 20, cell: int = 64) -> None:
    sheet = Image.new("L", (columns * cell, -(-len(drawings) // columns) * cell))
    for position, drawing in enumerate(drawings):
        shown = Image.fromarray(np.round(drawing[0] * (drawing[1] / 255)).astype(np.uint8))
        sheet.paste(shown.resize((cell - 4, cell - 4), Image.Resampling.LANCZOS), (position % columns * cell, position // columns * cell))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--sheets", action="store_true", help="also write a contact sheet a class")
    options = parser.parse_args()

    package = unpacked(options.data, "@iconify/json") / "package"
    drawings, entries = [], []
    for label, prefix, name, svg in candidates(package):
        if drawing := rasterise(svg):
            family = family_of(prefix)
            split = "heldout" if family in HELDOUT else "dev" if family in DEVELOPMENT else "train"
            digest = hashlib.sha256(svg.encode()).hexdigest()[:16]
            entries.append({"class": label, "set": prefix, "name": name, "family": family, "split": split, "sha256": digest})
            drawings.append(np.stack(drawing))
    kept = without_duplicates(drawings, entries)
    drawings, entries = np.stack([drawings[index] for index in kept]), [entries[index] for index in kept]

    folder = options.data / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "drawings.npy", drawings)
    for manifest in (folder / "drawings.json", Path(__file__).with_suffix(".json")):
        manifest.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")

    for label in NAMES:
        of_class = [index for index, entry in enumerate(entries) if entry["class"] == label]
        counts = Counter(entries[index]["split"] for index in of_class)
        print(f"{label:9s} {len(of_class):4d}  train {counts['train']}, dev {counts['dev']}, heldout {counts['heldout']}")
        if options.sheets:
            contact_sheet(drawings[of_class], folder / f"sheet_{label}.png")


if __name__ == "__main__":
    main()
