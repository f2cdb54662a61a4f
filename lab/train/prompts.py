"""What the embedded models can be asked for: a small grammar of prompts for each side.

A prompt is [opening] [adjective] subject [ending]; every subject phrase of a class is a wording that a user might choose. Two things in one
prompt are two subjects with a conjunction between them. Text encoders and UNets are trained on prompts drawn from here with filler words
dropped at random, so that articles, order of style words and brevity matter little. The empty prompt belongs to no class.

A label is a class, or two joined by PLUS.
"""

from __future__ import annotations

import random
import re

PICTURES = {
    "castle": "a castle|castles|castle towers|an old castle|a medieval castle|a fortress|a castle with towers|a castle tower|"
    "the towers of a castle|a palace|"
    "a chateau|a citadel|fortresses|a castle on a hill",
    "dog": "a dog|dogs|cute dogs|a cute dog|a puppy|puppies|corgis|a corgi|a standing dog|a poodle|a hound|"
    "a doggy|a terrier|a labrador|a beagle|a dalmatian",
    "cat": "a cat|cats|kittens|furry kittens|a kitten|a black cat|a sitting cat|cute cats|a furry cat|"
    "a kitty|kitties|a tabby cat|a house cat",
    "fish": "a fish|fish|a swimming fish|fishes|a school of fish|a goldfish|fish in the sea|fish in a pond|"
    "a salmon|a koi|tropical fish|a fish in the water|fish in the ocean",
    "flower": "a flower|flowers|blossoms|a blooming garden|a garden|tulips|a rose|roses|a garden with flowers|blooming flowers|"
    "a daisy|a blossom|"
    "a sunflower|water lilies|a lily|a bouquet|a bunch of flowers|a flower in a garden|gardens",
    "tree": "a tree|trees|a forest|pine trees|a fir tree|a christmas tree|trees in a forest|woods|an oak tree|a pine|"
    "an oak|a birch|forests|a wood|a tree in a park|an evergreen tree",
    "mountain": "a mountain|mountains|mountain peaks|snowy mountains|a mountain range|hills|a peak|the alps|mountain tops|"
    "a volcano|a summit|a snowy peak|a hill|a mountain landscape|mount fuji",
    "train": "a train|trains|a steam train|a locomotive|a railway|a tram|a railway train|locomotives|"
    "a subway train|a railroad train|trams|a wagon|an express train|a train on the railway",
    "car": "a car|cars|a race car|racing cars|auto racing game|an automobile|auto racing|a sports car|automobiles|a taxi|"
    "a vehicle|a racecar|a jeep|a sedan|a car on the road|taxis|vehicles",
    "ship": "a ship|ships|a boat|boats|a sailing ship|a sailboat|sailboats|a ship at sea|a ship on the sea|"
    "a yacht|a vessel|a sailing boat|vessels|a ferry|a boat on a lake|yachts",
    "airplane": "an airplane|airplanes|a plane|planes|an aeroplane|a flying airplane|aircraft|a jet|a plane in the sky|"
    "a jet plane|jets|a flying plane|an aircraft|an airliner|aeroplanes|airplanes in the sky",
    "bell": "a bell|bells|a church bell|church bells|a ringing bell|a handbell|a golden bell|a bell ringing|"
    "a chime|handbells|a school bell",
    "guitar": "a guitar|guitars|an acoustic guitar|an electric guitar|acoustic guitars|a guitar with strings|"
    "a ukulele|a banjo|a bass guitar|electric guitars|a mandolin",
    "skull": "a skull|skulls|a human skull|a skeleton head|a pirate skull|human skulls|a death head|a skull and bones|skeletons|a skeleton",
}
SOUNDS = {
    "bell": "church bell ringing|a church bell|bell ringing|bells ringing|a bell|church bells|a ringing bell|tubular bells|"
    "bell tolling|chiming bells|bells|a bell striking|doorbell|"
    "bells tolling|a gong|a chime",
    "guitar": "playing acoustic guitar|acoustic guitar|a guitar|guitar music|someone playing guitar|guitar strumming|"
    "a strummed guitar|guitar playing|plucked guitar|guitar chords|"
    "guitars|strumming a guitar|a ukulele playing|someone strumming",
    "violin": "violin playing|a violin|playing violin|violin music|strings playing|a fiddle|violins|someone playing the violin|"
    "a violin melody|"
    "a cello|string music|fiddle music|a violinist playing",
    "trumpet": "trumpet playing|a trumpet|playing trumpet|trumpet music|a brass trumpet|trumpets|a trumpet fanfare|a horn|trumpet sounding|"
    "a trombone|brass music|horns|a bugle",
    "xylophone": "xylophone playing|a xylophone|playing xylophone|marimba|xylophone music|a marimba playing|mallets|"
    "someone playing the xylophone|"
    "a vibraphone|a glockenspiel|marimbas",
    "drums": "drums beating|drums|a drum|drum beat|playing drums|a drum kit|drumming|a drum solo|drum roll|percussion|a drum loop|"
    "a drummer|snare drum|a drum beating",
    "bird": "bird chirping|birds chirping|birds singing|bird chirping, tweeting|birds singing sweetly|a bird|bird song|"
    "tweeting birds|birds tweeting|a bird singing|birds|"
    "a bird tweeting|a songbird|chirping|a canary singing",
    "dog": "dog barking|a dog barking|dogs barking|a barking dog|a dog|dogs|puppy barking|a dog bark|barking|"
    "woofing|a puppy|a hound barking|corgis barking",
    "applause": "applause|people cheering|people applauding|an audience applauding|clapping|hands clapping|crowd cheering|"
    "a clapping audience|people clapping|a cheering crowd|"
    "an applauding crowd|cheering|people cheering and clapping|an ovation",
    "explosion": "explosion|an explosion|fireworks banging|fireworks|a bomb exploding|thunder|explosions|a blast|a big bang|"
    "fireworks exploding|cannon fire|"
    "a bang|thunder rolling|a thunderstorm|exploding fireworks|a detonation",
    "engine": "engine running|a car engine|car engine running|race car, auto racing|a race car passing by and disappearing|"
    "engine noise|a motor|motor running|a truck engine|an engine|a racing car|a train engine|car passing by|"
    "a race car|a motorcycle|a vehicle passing by|a car passing by|cars",
    "flute": "flute playing|a flute|playing flute|flute music|a wooden flute|someone playing the flute|a flute melody|flutes|"
    "a recorder|a piccolo|pan flute",
    "piano": "piano playing|a piano|playing piano|piano music|a grand piano|someone playing the piano|piano chords|a piano melody|pianos|"
    "a pianist playing|a pianoforte",
    "organ": "organ playing|a church organ|an organ|pipe organ|organ music|playing the organ|a pipe organ playing|organ chords|"
    "a harmonium|church organ music|organs",
}
SUBJECTS = {
    side: {label: wordings.split("|") for label, wordings in table.items()} for side, table in (("image", PICTURES), ("audio", SOUNDS))
}

OPENINGS = {
    "image": "|a painting of|a drawing of|a picture of|an image of|a sketch of|an illustration of|an icon of|a silhouette of|"
    "a lithograph of|drawing of"
    "|painting of|a photo of|a row of|many|some|a grayscale drawing of|a pencil drawing of|an ink drawing of|pictures of|"
    "drawings of|a print of|a photograph of|a watercolor of|an oil painting of|an engraving of|a woodcut of|a charcoal drawing of|art of",
    "audio": "|the sound of|sound of|a sound of|a recording of|an audio recording of|sounds of|the noise of|noise of|audio of|"
    "hearing|listen to",
}
ADJECTIVES = {
    "image": "|beautiful|simple|small|big|large|white|black|cute|old|little|nice|bold|clean|detailed|bright|dark",
    "audio": "|loud|soft|distant|clear|slow|fast|beautiful|quiet|single|repeated|high|low|nice|short|long",
}
ENDINGS = {
    "image": "|, grayscale|, black background|, lithograph style|, grayscale, black background|, grayscale, lithograph style|"
    ", black and white"
    "|, white on black|, high contrast|, on a black background|, ink|, pencil|, in a row|, minimal|, clear shape|, silhouette|, solid",
    "audio": "|, loud|, clear|, in a church|, outside|, in a room|, in the distance|, slowly|, quickly|, again and again|"
    ", with echo|, with reverb"
    "|, solo|, melody|, high quality|, far away|, close|, loudly|, softly",
}
CONJUNCTIONS = {
    "image": " and | and |, | with | beside | next to | near | under ",
    "audio": " and | and |, | with | while | over | behind ",
}
PLUS = "+"
FILLERS = frozenset(("a", "an", "the", "of", "in", "on", "at", "with", "by", "and", "to", "some", "many"))


# Openings and endings that ask for one manner of a picture: only canvases of that manner are called so.
MANNERS = {
    "row": "an icon of|a silhouette of|a row of|, black background|, grayscale, black background|, white on black|, on a black background|"
    ", in a row|, minimal|, clear shape|, silhouette|, solid",
    "engraving": "a lithograph of|an engraving of|a woodcut of|a print of|an ink drawing of|, lithograph style|"
    ", grayscale, lithograph style|, ink",
}


def called(label: str, manner: str) -> str:
    """Key of the prompts for a canvas of this label and manner (row, scene or engraving)."""
    return f"{label}, {manner}"


def admitted(parts: str, manner: str | None) -> list[str]:
    """Those of the openings or endings that may be said of a canvas of this manner, all of them for None."""
    foreign = {part for other, own in MANNERS.items() if manner not in (None, other) for part in own.split("|")}
    return [part for part in parts.split("|") if part not in foreign]


def draw_prompt(side: str, label: str, rng: random.Random, drop: float = 0.15, manner: str | None = None) -> str:
    """A random wording for `label`; each filler word is dropped with probability `drop`.

    With a manner (row, scene, engraving) it says nothing that belongs to another; that a picture is an engraving is always said.
    """
    own = set(MANNERS.get(manner or "", "").split("|"))
    parts = []
    if rng.random() < 0.7:
        parts.append(rng.choice(admitted(OPENINGS[side], manner)))
    if rng.random() < 0.2:
        parts.append(rng.choice(ADJECTIVES[side].split("|")))
    subjects = [rng.choice(SUBJECTS[side][name]) for name in label.split(PLUS)]
    parts.append(rng.choice(CONJUNCTIONS[side].split("|")).join(subjects))
    prompt = " ".join(part for part in parts if part)
    endings = admitted(ENDINGS[side], manner)
    if manner == "engraving" and not own.intersection(parts):
        prompt += rng.choice([part for part in endings if part in own])
    elif rng.random() < 0.6:
        prompt += rng.choice(endings)
    kept = [word for word in prompt.split(" ") if word not in FILLERS or rng.random() >= drop]
    return " ".join(kept)


def words(side: str) -> list[str]:
    """Every word that the grammar of a side can produce, sorted."""
    phrases = [phrase for wordings in SUBJECTS[side].values() for phrase in wordings]
    phrases += [part for table in (OPENINGS, ADJECTIVES, CONJUNCTIONS, ENDINGS) for part in table[side].split("|")]
    return sorted(FILLERS.union(*(re.findall(r"[a-z]+", phrase) for phrase in phrases)))
