/** How the user last set a player; the next one starts with it, in this browser. */

import { VIEWS } from "./picture.js";

const KEY = "imagesthatsound.player";

export function readSettings() {
  const settings = { volume: 0.8, loop: false, view: "colour" };
  try {
    Object.assign(settings, JSON.parse(localStorage.getItem(KEY)));
  } catch {
    // Storage switched off, or not written by us.
  }
  if (!VIEWS.includes(settings.view)) settings.view = "colour";
  return settings;
}

export function writeSettings(settings) {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // Storage switched off or full: then a page's settings end with it.
  }
}
