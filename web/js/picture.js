/** The picture on its canvas, in one of three views. */

/** Pixels that every browser's canvas can be wide and high. */
const LARGEST_SIDE = 16384;

/** The picture as it is, its channel mean, and that from full black to full white; the texts of each are in texts.js. */
export const VIEWS = ["colour", "gray", "renormalised"];

/** Draw an ImageBitmap on `canvas`, which takes its size, in the `view` of that name. */
export function paint(canvas, bitmap, view) {
  canvas.width = Math.min(bitmap.width, LARGEST_SIDE);
  canvas.height = Math.min(bitmap.height, LARGEST_SIDE);
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (view === "colour") return;
  const pixels = brush.getImageData(0, 0, canvas.width, canvas.height);
  toGray(pixels.data, view === "renormalised");
  brush.putImageData(pixels, 0, 0);
}

/** Replace the colours of RGBA `data` by their mean; `stretch` moves the darkest mean to black and the brightest to white. */
function toGray(data, stretch) {
  let [darkest, brightest] = [3 * 255, 0];
  const sum = (place) => data[place] + data[place + 1] + data[place + 2];
  for (let place = 0; place < data.length; place += 4) {
    darkest = Math.min(darkest, sum(place));
    brightest = Math.max(brightest, sum(place));
  }
  const [low, span] = stretch && brightest > darkest ? [darkest, brightest - darkest] : [0, 3 * 255];
  for (let place = 0; place < data.length; place += 4) {
    data.fill(Math.round((255 * (sum(place) - low)) / span), place, place + 3);
  }
}
