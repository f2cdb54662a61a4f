/** The player's element: a picture, the line that runs over it, and what a hand, a keyboard and a screen reader need. */

import { button, icon, make } from "./elements.js";
import { paint, VIEWS } from "./picture.js";
import { decode, Playback, SoundBlocked } from "./playback.js";
import { readSettings, writeSettings } from "./settings.js";
import { text } from "./texts.js";

/** Width over height between which a picture keeps its own; beyond, it is stretched so that a hand can still point into it. */
const [NARROWEST, WIDEST] = [1 / 4, 8];
/** Of a canvas of 10.24 s: kept free for it before the first run. */
const USUAL_ASPECT = 4;
/** Seconds by which picture and sound may differ before it is worth a word: two columns of a spectrogram. */
const SAME_LENGTH = 0.02;
/** Seconds that an arrow key moves; with Shift, one column of a spectrogram. */
const [STEP, FINE_STEP] = [0.5, 0.01];
const VOLUME_STEP = 0.05;

const KEYS = {
  " ": (player) => player.toggle(),
  k: (player) => player.toggle(),
  l: (player) => player.toggleLoop(),
  v: (player) => player.nextView(),
  ArrowLeft: (player, event) => player.seek(player.position - (event.shiftKey ? FINE_STEP : STEP)),
  ArrowRight: (player, event) => player.seek(player.position + (event.shiftKey ? FINE_STEP : STEP)),
  ArrowUp: (player) => player.setVolume(player.volume + VOLUME_STEP),
  ArrowDown: (player) => player.setVolume(player.volume - VOLUME_STEP),
  Home: (player) => player.seek(0),
  End: (player) => player.seek(Infinity),
  PageUp: (player) => player.showItem(player.index - 1),
  PageDown: (player) => player.showItem(player.index + 1),
};

const STYLE = new URL("player.css", import.meta.url).href;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const tenths = (seconds) => seconds.toFixed(1);

export class Player {
  #items = [];
  #rowHertz = [];
  #files = null; // of the item shown: {bitmap, urls}
  #load = new AbortController();
  #settings = readSettings();
  #urlOf;
  #dragging = false;
  #playback = new Playback(() => this.#update());

  /** `urlOf` gives the address of a file that the server names as {filename, subfolder, type}. */
  constructor(urlOf) {
    this.#urlOf = urlOf;
    this.#build();
    this.#playback.loop = this.#settings.loop;
    this.#playback.volume = this.#settings.volume;
    this.#update();
  }

  /** Show a run of PlayImage: its `ui` output, {player: items, row_hertz: [Hz of each band]}. */
  show({ player, row_hertz }) {
    if (this.#files && JSON.stringify(player) === JSON.stringify(this.#items)) return; // the same files again, maybe while they play
    this.#items = player;
    this.#rowHertz = row_hertz[0];
    this.index = -1;
    this.hint.hidden = true;
    return this.showItem(0);
  }

  get isEmpty() {
    return this.#items.length === 0;
  }

  /** Load and show another picture of the batch; where one was playing, the new one plays. */
  async showItem(index) {
    if (!(index in this.#items) || index === this.index) return;
    const wasPlaying = this.#playback.playing;
    this.index = index;
    this.#release();
    this.#say("");
    this.#update();
    const { signal } = this.#load;
    const loaded = await this.#fetchItem(signal).catch((error) => {
      if (!signal.aborted) this.#say(error.message);
    });
    if (!loaded) return;
    if (signal.aborted) return loaded.bitmap.close();
    this.#playback.load(loaded.buffer);
    // Kept as they came: they can be saved and played after the server has forgotten them.
    this.#files = { bitmap: loaded.bitmap, urls: loaded.files.map((file) => URL.createObjectURL(file)) };
    this.#draw();
    this.#say(this.#mismatch());
    this.#update();
    if (wasPlaying) await this.play();
  }

  async #fetchItem(signal) {
    const { picture, sound, sample_rate } = this.item;
    const files = await Promise.all([picture, sound].map((file) => this.#fetchFile(file, signal)));
    try {
      const [bitmap, buffer] = await Promise.all([
        createImageBitmap(files[0], { colorSpaceConversion: "none" }),
        files[1].arrayBuffer().then((bytes) => decode(bytes, sample_rate)),
      ]);
      return { files, bitmap, buffer };
    } catch {
      throw new Error(text("unreadable"));
    }
  }

  async #fetchFile(file, signal) {
    const answer = await fetch(this.#urlOf(file), { signal }).catch(() => {
      throw new Error(text("unreachable"));
    });
    if (!answer.ok) throw new Error(text("gone"));
    return answer.blob();
  }

  get item() {
    return this.#items[this.index];
  }

  /** Sound's seconds that are heard now. */
  get position() {
    return this.#playback.position;
  }

  get volume() {
    return this.#settings.volume;
  }

  toggle() {
    return this.#playback.playing ? this.#playback.pause() : this.play();
  }

  async play() {
    if (!this.#files) return;
    const started = this.#playback.play();
    this.#say(this.#mismatch());
    this.#update();
    this.#follow();
    try {
      await started;
    } catch (error) {
      if (!(error instanceof SoundBlocked)) throw error;
      this.#say(text("blocked"));
    }
  }

  seek(seconds) {
    this.#playback.position = seconds;
    this.#update();
  }

  toggleLoop() {
    this.#playback.loop = this.#settings.loop = !this.#settings.loop;
    this.#update();
    writeSettings(this.#settings);
  }

  setVolume(value) {
    this.#playback.volume = this.#settings.volume = clamp(value, 0, 1);
    this.#update();
    writeSettings(this.#settings);
  }

  setView(view) {
    this.#settings.view = view;
    this.#draw();
    this.#update();
    writeSettings(this.#settings);
  }

  nextView() {
    this.setView(VIEWS[(VIEWS.indexOf(this.#settings.view) + 1) % VIEWS.length]);
  }

  /** Stop for good: the node is gone. */
  dispose() {
    this.#items = [];
    this.#release();
  }

  #release() {
    this.#load.abort();
    this.#load = new AbortController();
    this.#playback.load(null);
    this.#files?.bitmap.close();
    this.#files?.urls.forEach((url) => URL.revokeObjectURL(url));
    this.#files = null;
  }

  #build() {
    this.canvas = make("canvas");
    this.silence = make("div", { className: "its-player-silence" });
    this.line = make("div", { className: "its-player-line" });
    this.hint = make("div", { className: "its-player-hint" }, text("empty"));
    const slider = { role: "slider", tabIndex: 0, ariaLabel: text("playhead"), ariaValueMin: "0" };
    this.stage = make("div", { className: "its-player-stage", ...slider }, this.canvas, this.silence, this.line, this.hint);
    this.#shape(USUAL_ASPECT);
    this.playButton = button("play", text("play"), () => this.toggle());
    this.time = make("span", { className: "its-player-time" });
    this.loopButton = button("loop", text("loop"), () => this.toggleLoop());
    const volume = { title: text("volumeKeys"), ariaLabel: text("volume") };
    this.volumeSlider = make("input", { type: "range", min: 0, max: 1, step: 0.01, ...volume });
    this.volumeSlider.oninput = () => this.setVolume(this.volumeSlider.valueAsNumber);
    const views = VIEWS.map((value) => make("option", { value, title: text(`${value}Title`) }, text(value)));
    this.viewChoice = make("select", { title: text("viewKey"), ariaLabel: text("view") }, ...views);
    this.viewChoice.onchange = () => this.setView(this.viewChoice.value);
    this.previousButton = button("previous", text("previous"), () => this.showItem(this.index - 1));
    this.nextButton = button("next", text("next"), () => this.showItem(this.index + 1));
    this.count = make("span");
    this.saveLinks = ["PNG", "FLAC"].map((format) =>
      make("a", { title: text(format === "PNG" ? "savePicture" : "saveSound") }, format),
    );
    this.message = make("span", { role: "status" });
    this.pointer = make("span", { className: "its-player-pointer", ariaHidden: "true" });
    this.content = make(
      "div",
      { className: "its-player-content" },
      this.stage,
      make(
        "div",
        { className: "its-player-row" },
        this.playButton,
        this.time,
        this.loopButton,
        this.volumeSlider,
        make("span", { className: "its-player-spacer" }),
        this.previousButton,
        this.count,
        this.nextButton,
        this.viewChoice,
        ...this.saveLinks,
      ),
      make("div", { className: "its-player-told" }, this.message, this.pointer),
    );
    const label = { role: "group", ariaLabel: text("player") };
    this.element = make("div", { className: "its-player", ...label }, make("link", { rel: "stylesheet", href: STYLE }), this.content);
    this.element.addEventListener("keydown", (event) => this.#onKey(event));
    this.stage.addEventListener("pointerdown", (event) => this.#onPointerDown(event));
    this.stage.addEventListener("pointermove", (event) => this.#onPointerMove(event));
    this.stage.addEventListener("pointerup", () => this.#onPointerUp());
    this.stage.addEventListener("pointercancel", () => (this.#dragging = false));
    this.stage.addEventListener("pointerleave", () => (this.pointer.textContent = ""));
  }

  /** What the player knows and what could be typed does not reach ComfyUI's shortcuts; a focused part keeps the keys that it uses. */
  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const partsOwn = event.target.matches("input, select") || (event.target.matches("button") && event.key === " ");
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (partsOwn || action || event.key.length === 1) event.stopPropagation();
    if (partsOwn || !action) return;
    event.preventDefault();
    action(this, event);
  }

  #onPointerDown(event) {
    if (event.button !== 0 || !this.#files) return;
    this.stage.setPointerCapture(event.pointerId);
    this.#dragging = true;
    this.#playback.pause();
    this.seek(this.#pointedAt(event).seconds);
  }

  #onPointerMove(event) {
    if (!this.#files) return;
    const { seconds, hertz } = this.#pointedAt(event);
    this.pointer.textContent = `${seconds.toFixed(2)} s${hertz === undefined ? "" : ` · ${Math.round(hertz)} Hz`}`;
    if (this.#dragging) this.seek(seconds);
  }

  #onPointerUp() {
    if (!this.#dragging) return;
    this.#dragging = false;
    if (this.position < this.#playback.duration) this.play();
  }

  /** What lies under the pointer, at any zoom: seconds, and Hz where the picture is a spectrogram. */
  #pointedAt({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect();
    const across = clamp((clientX - box.left) / box.width, 0, 1);
    const { picture_seconds, is_spectrogram, rows = 1 } = this.item;
    const down = clamp((clientY - box.top) / box.height, 0, 1) * rows;
    const row = Math.min(Math.floor(down), rows - 1);
    const band = clamp(Math.floor((down - row) * this.#rowHertz.length), 0, this.#rowHertz.length - 1);
    return { seconds: ((row + across) / rows) * picture_seconds, hertz: is_spectrogram ? this.#rowHertz[band] : undefined };
  }

  /** The row of the picture in which a second is heard, from 0, and how far across it, 0 to 1. */
  #placeOf(seconds) {
    const { picture_seconds, rows = 1 } = this.item ?? { picture_seconds: 1 };
    const passed = clamp(seconds / picture_seconds, 0, 1) * rows;
    const row = Math.min(Math.floor(passed), rows - 1);
    return { row, rows, across: passed - row };
  }

  /** Lay an element over the row of the picture in which a second is heard, its left edge there. */
  #moveTo(element, seconds) {
    const { row, rows, across } = this.#placeOf(seconds);
    Object.assign(element.style, { left: `${100 * across}%`, top: `${(100 * row) / rows}%`, height: `${100 / rows}%` });
  }

  /** Where picture and sound are not equally long, what becomes of the rest. */
  #mismatch() {
    const { seconds, picture_seconds } = this.item;
    const lengths = [seconds, picture_seconds].map((length) => length.toFixed(2));
    if (seconds < picture_seconds - SAME_LENGTH) return text("soundEnds", ...lengths);
    if (seconds > picture_seconds + SAME_LENGTH) return text("soundGoesOn", ...lengths);
    return "";
  }

  #say(text) {
    this.message.textContent = text;
  }

  /** Move the line with the sound until it stops. */
  #follow() {
    if (!this.#playback.playing) return;
    this.#update();
    requestAnimationFrame(() => this.#follow());
  }

  #draw() {
    if (!this.#files) return;
    const { bitmap } = this.#files;
    this.#shape(clamp(bitmap.width / bitmap.height, NARROWEST, WIDEST));
    paint(this.canvas, bitmap, this.#settings.view);
  }

  /** The stage as wide as the node, and no higher than wide. */
  #shape(aspect) {
    Object.assign(this.stage.style, { width: `${100 * Math.min(aspect, 1)}%`, aspectRatio: aspect });
  }

  /** Bring everything that is shown up to date. */
  #update() {
    const { position, playing, duration } = this.#playback;
    const count = this.#items.length;
    const ready = this.#files !== null;

    this.#moveTo(this.line, position);
    this.#moveTo(this.silence, ready ? duration : Infinity);
    this.stage.ariaDisabled = String(!ready);
    this.stage.ariaValueMax = duration.toFixed(2);
    this.stage.ariaValueNow = position.toFixed(2);
    this.stage.ariaValueText = text("position", tenths(position), tenths(duration));
    this.time.textContent = `${tenths(position)} / ${tenths(duration)} s`;

    const label = text(playing ? "pause" : "play");
    if (this.playButton.title !== label) {
      Object.assign(this.playButton, { title: label, ariaLabel: label });
      this.playButton.replaceChildren(icon(playing ? "pause" : "play"));
    }
    this.playButton.disabled = !ready;
    this.loopButton.ariaPressed = String(this.#settings.loop);
    this.volumeSlider.value = this.#settings.volume;
    this.viewChoice.value = this.#settings.view;
    for (const part of [this.previousButton, this.count, this.nextButton]) part.hidden = count < 2;
    this.previousButton.disabled = this.index <= 0;
    this.nextButton.disabled = this.index >= count - 1;
    this.count.textContent = `${this.index + 1} / ${count}`;
    this.saveLinks.forEach((link, part) => this.#updateLink(link, part));
  }

  #updateLink(link, part) {
    if (!this.#files) return link.removeAttribute("href");
    const number = this.#items.length > 1 ? `-${this.index + 1}` : "";
    link.href = this.#files.urls[part];
    link.download = `image-that-sounds${number}.${["png", "flac"][part]}`;
  }
}
