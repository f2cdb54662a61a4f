/** A subgraph's box on front ends before 1.58, which show in it only what is an input of the subgraph. */

/** Milliseconds between looks for a box that Nodes 2.0 has drawn anew. */
const LOOK = 300;

/** Show `widget` in a box that has left it out; returns what takes it away again. */
export function keepInBox(box, widget) {
  // The classic canvas lays out what the box says are its widgets.
  const { get } = Object.getOwnPropertyDescriptor(box, "widgets");
  let kept = true;
  const widgets = () => (kept ? [...get.call(box), widget] : get.call(box));
  Object.defineProperty(box, "widgets", { get: widgets, set() {}, configurable: true, enumerable: true });

  // Nodes 2.0 looks at inputs alone, so the element goes into the box's body, again whenever that is another one.
  const place = document.createElement("div");
  place.className = "its-player-box";
  for (const type of ["pointerdown", "pointermove", "pointerup"]) place.addEventListener(type, (event) => event.stopPropagation());
  const timer = setInterval(() => {
    const body = window.LiteGraph.vueNodesMode && document.querySelector(`[data-testid="node-body-${box.id}"]`);
    if (!body || box.graph !== window.app.canvas.graph) return;
    if (!place.contains(widget.element)) place.append(widget.element);
    if (!body.contains(place)) body.append(place);
  }, LOOK);

  return () => {
    kept = false;
    clearInterval(timer);
    place.remove();
  };
}
