"use strict";

const study = JSON.parse(document.getElementById("study").textContent);
const [start, pair, end] = ["start", "pair", "end"].map(id => document.getElementById(id));
const videos = [...pair.querySelectorAll("video")];
const QUESTIONS = ["looks", "sounds", "fits"];

let participant;
let shown;  // this participant's pairs in their order: {id, image, audio, clips: [A, B]}
let answers = [];
let played = new Set();

/** 32 bits that follow from words alone, the same on every machine: FNV-1a, mixed by MurmurHash3's finalizer. */
function draw(...words) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(words.join("\n"))) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Order, sides and samples of a participant. */
function shuffled(name) {
  const key = item => draw(study.id, name, "order", item.id);
  return [...study.pairs].sort((a, b) => key(a) - key(b)).map(({ id, image, audio, samples }) => {
    const clips = samples[draw(study.id, name, "sample", id) % samples.length];
    return { id, image, audio, clips: draw(study.id, name, "sides", id) & 1 ? [...clips].reverse() : clips };
  });
}

function say(text) {
  document.getElementById("message").textContent = text;
}

function open(section) {
  for (const other of [start, pair, end]) other.hidden = other !== section;
  say("");
  section.querySelector("h1").focus();
  scrollTo(0, 0);
}

// Progress outlives a reload where the browser lets a page from disk store anything; some do not, and say so by an exception.
const storageKey = () => `study ${study.id} ${participant}`;

function keep() {
  try {
    localStorage.setItem(storageKey(), JSON.stringify(answers));
  } catch {
    addEventListener("beforeunload", warn);
  }
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(storageKey())) ?? [];
  } catch {
    return [];
  }
}

function warn(event) {
  event.preventDefault();
}

// The test sound: two to four tones, another number at each try.
let tries = 0;
const tones = () => 2 + draw(study.id, "tones", String(tries)) % 3;

document.getElementById("tones").addEventListener("click", () => {
  tries += 1;
  const count = tones();
  const audio = new AudioContext();
  for (let i = 0; i < count; i++) {
    const tone = new OscillatorNode(audio, { frequency: 440 });
    const loudness = new GainNode(audio, { gain: 0.3 });
    tone.connect(loudness).connect(audio.destination);
    tone.start(audio.currentTime + 0.1 + 0.6 * i);
    tone.stop(audio.currentTime + 0.4 + 0.6 * i);
    if (i === count - 1) tone.addEventListener("ended", () => audio.close());
  }
});

start.addEventListener("submit", event => {
  event.preventDefault();
  if (tries === 0) return say("Please play the test sound first.");
  if (Number(start.elements.heard.value) !== tones()) {
    start.elements.heard.forEach(choice => (choice.checked = false));
    return say("That is not the number of tones. Is the sound on? Please play the test sound again.");
  }
  participant = document.getElementById("participant").value;
  history.replaceState(null, "", `#${participant}`);
  shown = shuffled(participant);
  answers = kept();
  next();
});

function next() {
  if (answers.length === shown.length) return finish();
  const { image, audio, clips } = shown[answers.length];
  pair.reset();
  pair.querySelector("h1").textContent = `Pair ${answers.length + 1} of ${shown.length}`;
  Object.assign(pair.querySelector("progress"), { max: shown.length, value: answers.length });
  pair.querySelectorAll(".image").forEach(element => (element.textContent = image));
  pair.querySelectorAll(".audio").forEach(element => (element.textContent = audio));
  played = new Set();
  videos.forEach((video, side) => {
    URL.revokeObjectURL(video.src);
    const bytes = Uint8Array.from(atob(document.getElementById(clips[side]).textContent), letter => letter.charCodeAt(0));
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  });
  open(pair);
}

// No controls of the browser's own: they would lie over the lower half of so wide a picture.
videos.forEach((video, side) => {
  const button = video.nextElementSibling;
  const label = text => (button.textContent = `${text} video ${"AB"[side]}`);
  const toggle = () => (video.paused ? video.play() : video.pause());
  button.addEventListener("click", toggle);
  video.addEventListener("click", toggle);
  video.addEventListener("play", () => (label("Pause"), videos[1 - side].pause()));
  video.addEventListener("pause", () => label("Play"));
  video.addEventListener("ended", () => played.add(side));
  video.addEventListener("error", () => say("This browser cannot play the video. Please open the survey in a current Chrome, Edge, Firefox or Safari."));
});

pair.addEventListener("submit", event => {
  event.preventDefault();
  const unheard = videos.findIndex((_, side) => !played.has(side));
  if (unheard >= 0) {
    videos[unheard].nextElementSibling.focus();
    return say(`Please play video ${"AB"[unheard]} to its end first.`);
  }
  const { id, clips } = shown[answers.length];
  const chosen = QUESTIONS.map(question => [question, clips[pair.elements[question].value]]);
  answers.push({ pair: id, shown: clips, ...Object.fromEntries(chosen) });
  keep();
  next();
});

function finish() {
  videos.forEach(video => video.pause());
  document.getElementById("resume").hidden = answers.length === shown.length;
  document.getElementById("file").textContent = `answers-${participant}.json`;
  open(end);
  save();
}

function save() {
  const text = JSON.stringify({ study: study.id, participant, pairs: shown.length, answers }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `answers-${participant}.json`;
  link.click();
  removeEventListener("beforeunload", warn);
}

document.getElementById("stop").addEventListener("click", finish);
document.getElementById("save").addEventListener("click", save);
document.getElementById("resume").addEventListener("click", next);

document.getElementById("count").textContent = study.pairs.length;
document.getElementById("participant").value = location.hash.slice(1);
open(start);
