/** A sound on the browser's audio clock: where it is *heard*, to the sample, is where the playhead belongs. */

/** Seconds ahead of the audio clock at which a sound is started, so that the start is known exactly and not when some script ran. */
const LEAD = 0.03;
/** Milliseconds after which a browser that has not let the sound start is taken to wait for a click. */
const PATIENCE = 1000;
/** Milliseconds of silence after which the audio device is let go; long enough for what is still in its buffers. */
const IDLE = 2000;
/** Sample rates that every browser can decode to. */
const [LOWEST_RATE, HIGHEST_RATE] = [8000, 96000];

/** One clock for the page, made at the first click: browsers allow few, and complain about one made before. */
let context = null;
/** The one playback that may be heard. */
let current = null;

/** The browser wants a click before it gives sound. */
export class SoundBlocked extends Error {}

/** AudioBuffer of a sound file's bytes, at the file's own `sampleRate` where browsers can. */
export function decode(bytes, sampleRate) {
  const rate = Math.min(Math.max(sampleRate, LOWEST_RATE), HIGHEST_RATE);
  return new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
}

/** Time on the audio clock of what leaves the loudspeaker now. */
function heardTime() {
  const { contextTime, performanceTime } = context.getOutputTimestamp();
  const since = (performance.now() - performanceTime) / 1000;
  // After a pause of the clock the last timestamp is an old one; nothing can be heard before it was rendered.
  return Math.min(contextTime + since, context.currentTime);
}

export class Playback {
  #buffer = null;
  #source = null;
  #gain = null;
  #offset = 0; // seconds into the sound, where it stands or where it was started
  #startedAt = 0; // on the audio clock
  #loop = false;
  #volume = 1;
  #onStop;

  /** `onStop` is called whenever the sound stops: at its end, by `pause`, and when another playback starts. */
  constructor(onStop) {
    this.#onStop = onStop;
  }

  /** Take another sound (AudioBuffer, or null for none), at its start. */
  load(buffer) {
    this.pause();
    this.#buffer = buffer;
    this.#offset = 0;
  }

  get duration() {
    return this.#buffer?.duration ?? 0;
  }

  get playing() {
    return current === this;
  }

  /** Seconds into the sound of what is heard now. */
  get position() {
    if (!this.#source) return this.#offset;
    const played = this.#offset + Math.max(0, heardTime() - this.#startedAt);
    return this.#loop ? played % this.duration : Math.min(played, this.duration);
  }

  set position(seconds) {
    const position = Math.min(Math.max(seconds, 0), this.duration);
    if (this.#source) this.#start(position);
    else this.#offset = position;
  }

  set loop(on) {
    const position = this.position;
    this.#loop = on;
    this.position = position;
  }

  /** 0 to 1 as a hand moves it; squared, it is loudness. */
  set volume(value) {
    this.#volume = value;
    if (this.#gain) this.#gain.gain.value = value ** 2;
  }

  /** Play from `position`, or from the start where that is the end. Rejects with SoundBlocked when the browser wants a click first. */
  async play() {
    if (!this.#buffer || this.playing) return;
    current?.pause();
    current = this;
    context ??= new AudioContext();
    await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
    if (!this.playing) return;
    if (context.state !== "running") {
      this.pause();
      throw new SoundBlocked();
    }
    this.#start(this.#offset < this.duration ? this.#offset : 0);
  }

  pause() {
    if (!this.playing) return;
    this.#stop(this.position);
  }

  #start(offset) {
    this.#disconnect();
    this.#gain = new GainNode(context, { gain: this.#volume ** 2 });
    this.#source = new AudioBufferSourceNode(context, { buffer: this.#buffer, loop: this.#loop });
    this.#source.connect(this.#gain).connect(context.destination);
    this.#source.onended = () => this.#stop(this.duration);
    this.#offset = offset;
    this.#startedAt = context.currentTime + LEAD;
    this.#source.start(this.#startedAt, offset);
  }

  #stop(offset) {
    this.#disconnect();
    this.#offset = offset;
    current = null;
    setTimeout(() => current ?? context?.suspend(), IDLE);
    this.#onStop();
  }

  #disconnect() {
    if (!this.#source) return;
    this.#source.onended = null;
    this.#source.stop();
    this.#gain.disconnect();
    this.#source = this.#gain = null;
  }
}
