/** What player and templates say in ComfyUI's language. The player's English is here; locales/<language>/main.json has the same keys. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const ENGLISH = {
  player: "Player of a picture and its sound",
  playhead: "Playhead",
  position: "$1 of $2 seconds",
  play: "Play (Space)",
  pause: "Pause (Space)",
  loop: "Loop (L)",
  volume: "Volume",
  volumeKeys: "Volume (arrows up and down)",
  view: "View",
  viewKey: "View (V)",
  colour: "as it is",
  colourTitle: "The picture as it is",
  gray: "gray",
  grayTitle: "The channel mean, which is the sound",
  renormalised: "renormalised",
  renormalisedTitle: "The channel mean from full black to full white, as Renormalize Spectrogram makes it",
  previous: "Previous picture (Page Up)",
  next: "Next picture (Page Down)",
  savePicture: "Save the picture as it is, with its workflow",
  saveSound: "Save the sound as it is, with its workflow",
  empty: "Press Run to see and hear it here.",
  gone: "These files are gone, as they are after a restart of ComfyUI. Press Run again.",
  unreachable: "ComfyUI does not answer. Start it, then press Run again.",
  unreadable: "This browser can not read the picture or the sound.",
  blocked: "The browser holds the sound back: click to play.",
  soundEnds: "The sound ends at $1 s, before the picture ($2 s).",
  soundGoesOn: "The sound ($1 s) goes on after the picture's end ($2 s).",
};

let translated = {};
let ofTemplates = { graphs: [], blueprints: [], texts: {} };

/** The text of a key of ENGLISH, `values` in place of $1, $2. */
export function text(key, ...values) {
  return (translated[key] ?? ENGLISH[key]).replace(/\$(\d)/g, (_, number) => values[number - 1]);
}

/** {graphs: ids of our templates, blueprints: names of their boxes, texts: each of their texts and its translation}; all empty in English. */
export function templateTexts() {
  return ofTemplates;
}

/** Learn the texts of the language that ComfyUI is set to, before there is a player. */
export async function loadTexts() {
  const language = app.extensionManager.setting.get("Comfy.Locale");
  if (language === "en") return;
  try {
    const languages = await (await api.fetchApi("/i18n")).json();
    if (!languages[language]?.imagesThatSound) return;
    translated = languages[language].imagesThatSound.player;
    ofTemplates = await (await fetch(new URL(`../templates/${language}.json`, import.meta.url))).json();
  } catch {
    // Without them all is in English.
  }
}
