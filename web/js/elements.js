/** Small parts that a player is built of. */

const ICONS = {
  play: "M3 5l8 6-8 6z",
  pause: "M3 5v12M9 5v12",
  loop: "M2 11V8h8l-2.5-3M10 11v3H2l2.5 3",
  previous: "M8 6l-5 5 5 5",
  next: "M4 6l5 5-5 5",
};

/** An element with its properties set and its children in it. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** One of ICONS as a picture that a screen reader passes over. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 12 22");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon; its title is its label too. */
export function button(name, title, onclick) {
  return make("button", { type: "button", title, ariaLabel: title, className: `its-player-${name}`, onclick }, icon(name));
}
