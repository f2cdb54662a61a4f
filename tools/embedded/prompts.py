"""What the embedded models can be asked for: a small grammar of prompts for each side.

A prompt is [opening] [adjective] subject [ending]; every subject phrase of a class is a wording that a user might choose. Text encoders and
UNets are trained on prompts drawn from here with filler words dropped at random, so that articles, order of style words and brevity matter
little. The empty prompt belongs to no class.
"""

from __future__ import annotations

import random
import re

PICTURES = {
    "castle": "a castle|castles|castle towers|an old castle|a medieval castle|a fortress|a castle with towers|a castle tower|"
    "the towers of a castle|a palace",
    "dog": "a dog|dogs|cute dogs|a cute dog|a puppy|puppies|corgis|a corgi|a standing dog|a poodle|a hound",
    "cat": "a cat|cats|kittens|furry kittens|a kitten|a black cat|a sitting cat|cute cats|a furry cat",
    "fish": "a fish|fish|a swimming fish|fishes|a school of fish|a goldfish|fish in the sea|fish in a pond",
    "flower": "a flower|flowers|blossoms|a blooming garden|a garden|tulips|a rose|roses|a garden with flowers|blooming flowers|"
    "a daisy|a blossom",
    "tree": "a tree|trees|a forest|pine trees|a fir tree|a christmas tree|trees in a forest|woods|an oak tree|a pine",
    "mountain": "a mountain|mountains|mountain peaks|snowy mountains|a mountain range|hills|a peak|the alps|mountain tops",
    "train": "a train|trains|a steam train|a locomotive|a railway|a tram|a railway train|locomotives",
    "car": "a car|cars|a race car|racing cars|auto racing game|an automobile|auto racing|a sports car|automobiles|a taxi",
    "ship": "a ship|ships|a boat|boats|a sailing ship|a sailboat|sailboats|a ship at sea|a ship on the sea",
    "airplane": "an airplane|airplanes|a plane|planes|an aeroplane|a flying airplane|aircraft|a jet|a plane in the sky",
    "bell": "a bell|bells|a church bell|church bells|a ringing bell|a handbell|a golden bell|a bell ringing",
    "guitar": "a guitar|guitars|an acoustic guitar|an electric guitar|acoustic guitars|a guitar with strings",
    "skull": "a skull|skulls|a human skull|a skeleton head|a pirate skull|human skulls",
}
SOUNDS = {
    "bell": "church bell ringing|a church bell|bell ringing|bells ringing|a bell|church bells|a ringing bell|tubular bells|"
    "bell tolling|chiming bells|bells|a bell striking|doorbell",
    "guitar": "playing acoustic guitar|acoustic guitar|a guitar|guitar music|someone playing guitar|guitar strumming|"
    "a strummed guitar|guitar playing|plucked guitar|guitar chords",
    "violin": "violin playing|a violin|playing violin|violin music|strings playing|a fiddle|violins|someone playing the violin|"
    "a violin melody",
    "trumpet": "trumpet playing|a trumpet|playing trumpet|trumpet music|a brass trumpet|trumpets|a trumpet fanfare|a horn|trumpet sounding",
    "xylophone": "xylophone playing|a xylophone|playing xylophone|marimba|xylophone music|a marimba playing|mallets|"
    "someone playing the xylophone",
    "drums": "drums beating|drums|a drum|drum beat|playing drums|a drum kit|drumming|a drum solo|drum roll|percussion|a drum loop",
    "bird": "bird chirping|birds chirping|birds singing|bird chirping, tweeting|birds singing sweetly|a bird|bird song|"
    "tweeting birds|birds tweeting|a bird singing|birds",
    "dog": "dog barking|a dog barking|dogs barking|a barking dog|a dog|dogs|puppy barking|a dog bark|barking",
    "applause": "applause|people cheering|people applauding|an audience applauding|clapping|hands clapping|crowd cheering|"
    "a clapping audience|people clapping|a cheering crowd",
    "explosion": "explosion|an explosion|fireworks banging|fireworks|a bomb exploding|thunder|explosions|a blast|a big bang|"
    "fireworks exploding|cannon fire",
    "engine": "engine running|a car engine|car engine running|race car, auto racing|a race car passing by and disappearing|"
    "engine noise|a motor|motor running|a truck engine|an engine|a racing car|a train engine|car passing by",
    "flute": "flute playing|a flute|playing flute|flute music|a wooden flute|someone playing the flute|a flute melody|flutes",
    "piano": "piano playing|a piano|playing piano|piano music|a grand piano|someone playing the piano|piano chords|a piano melody|pianos",
    "organ": "organ playing|a church organ|an organ|pipe organ|organ music|playing the organ|a pipe organ playing|organ chords",
}
SUBJECTS = {
    side: {label: wordings.split("|") for label, wordings in table.items()}
    for side, table in (("image", PICTURES), ("audio", SOUNDS))
}

OPENINGS = {
    "image": "|a painting of|a drawing of|a picture of|an image of|a sketch of|an illustration of|an icon of|a silhouette of|"
    "a lithograph of|drawing of"
    "|painting of|a photo of|a row of|many|some|a grayscale drawing of|a pencil drawing of|an ink drawing of|pictures of|"
    "drawings of|a print of",
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
FILLERS = frozenset(("a", "an", "the", "of", "in", "on", "at", "with", "by", "and", "to", "some", "many"))


def draw_prompt(side: str, label: str, rng: random.Random, drop: float = 0.15) -> str:
    """A random wording for `label`; each filler word is dropped with probability `drop`."""
    parts = []
    for table, chance in ((OPENINGS, 0.7), (ADJECTIVES, 0.2)):
        if rng.random() < chance:
            parts.append(rng.choice(table[side].split("|")))
    parts.append(rng.choice(SUBJECTS[side][label]))
    prompt = " ".join(part for part in parts if part)
    if rng.random() < 0.6:
        prompt += rng.choice(ENDINGS[side].split("|"))
    kept = [word for word in prompt.split(" ") if word not in FILLERS or rng.random() >= drop]
    return " ".join(kept)


def words(side: str) -> list[str]:
    """Every word that the grammar of a side can produce, sorted."""
    phrases = [phrase for wordings in SUBJECTS[side].values() for phrase in wordings]
    phrases += [part for table in (OPENINGS, ADJECTIVES, ENDINGS) for part in table[side].split("|")]
    return sorted(FILLERS.union(*(re.findall(r"[a-z]+", phrase) for phrase in phrases)))
