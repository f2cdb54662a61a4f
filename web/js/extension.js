/** Puts players into nodes, in both renderers: into every PlayImage, and each subgraph's box around one. Translates templates, blueprints. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { keepInBox } from "./box.js";
import { Player } from "./player.js";
import { translateBlueprint, translateTemplate } from "./templates.js";
import { loadTexts } from "./texts.js";

const NODE = "PlayImage";
const MARGIN = 10;
const NODE_WIDTH = 460;
/** Runs of the server's history that are searched after a reload. */
const HISTORY = 32;

/** For each node that shows players: they and what removes them, by the name of their widget. */
const shown = new Map();

function urlOf({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** Where a graph shows what its PlayImages make: in each of them, and in the box of every subgraph around it. */
function* places(graph = app.graph, boxes = []) {
  for (const node of graph?.nodes ?? []) {
    if (node.comfyClass === NODE) {
      const hosts = [...boxes, node];
      const ids = hosts.map(({ id }) => id);
      // The names that runs and the front end's own store have for the PlayImage.
      const names = { executionId: ids.join(":"), locatorId: boxes.length ? `${graph.id}:${node.id}` : String(node.id) };
      for (const [depth, host] of hosts.entries()) yield { host, name: ["player", ...ids.slice(depth + 1)].join(" "), ...names };
    }
    if (node.subgraph) yield* places(node.subgraph, [...boxes, node]);
  }
}

const playerAt = ({ host, name }) => shown.get(host)?.get(name)?.player;

function addPlayer(node, name) {
  const player = new Player(urlOf);
  let height = 0;
  const widget = node.addDOMWidget(name, "ITS_PLAYER", player.element, {
    serialize: false,
    hideOnZoom: false,
    selectOn: [], // else a click into the picture would lay the node's toolbox over what stands above it
    hideInPanel: true, // else the properties panel would lay it out for its own width
    margin: MARGIN,
    getMinHeight: () => height + 2 * MARGIN,
    getMaxHeight: () => height + 2 * MARGIN,
  });
  widget.serialize = false;
  const letGo = node.widgets.includes(widget) ? null : keepInBox(node, widget);

  // The picture keeps its aspect, so the node is as high as its width makes it. In Nodes 2.0 style sheets see to that.
  const observer = new ResizeObserver(() => {
    if (window.LiteGraph.vueNodesMode || player.content.offsetHeight === 0) return;
    height = player.content.offsetHeight;
    node.setSize([node.size[0], node.computeSize()[1]]);
    app.canvas.setDirty(true, true);
  });
  observer.observe(player.content);
  node.setSize([Math.max(node.size[0], NODE_WIDTH), node.size[1]]);
  letCanvasPan(player.element);

  function remove() {
    observer.disconnect();
    player.dispose();
    if (node.widgets?.includes(widget)) node.removeWidget(widget);
    letGo?.();
  }
  if (!shown.has(node)) shown.set(node, new Map());
  shown.get(node).set(name, { player, remove });
}

/** Over a widget of the classic canvas the graph would neither zoom nor pan; Nodes 2.0 hands these events on by itself. */
function letCanvasPan(element) {
  for (const type of ["wheel", "pointerdown"]) {
    element.addEventListener(type, (event) => {
      if (window.LiteGraph.vueNodesMode || (type === "pointerdown" && event.button !== 1)) return;
      event.preventDefault();
      app.canvas.canvas.dispatchEvent(new event.constructor(type, event));
    });
  }
}

/** Give every place its player, and take those away whose place is gone. */
function arrange() {
  const wanted = [...places()];
  for (const [node, players] of shown) {
    for (const [name, { remove }] of players) {
      if (wanted.some((place) => place.host === node && place.name === name)) continue;
      remove();
      players.delete(name);
    }
    if (players.size === 0) shown.delete(node);
  }
  for (const place of wanted) if (!playerAt(place)) addPlayer(place.host, place.name);
}

let arrangement;
/** `arrange` when what now changes the graph is done. */
function arrangeSoon() {
  clearTimeout(arrangement);
  arrangement = setTimeout(arrange);
}

/** After a reload nothing is executed again: the server's history has what was last made by this workflow. */
async function restore() {
  if (![...places()].some((place) => playerAt(place)?.isEmpty)) return;
  const history = await (await api.fetchApi(`/history?max_items=${HISTORY}`)).json();
  const runs = Object.values(history).filter(({ prompt }) => prompt[3].extra_pnginfo?.workflow?.id === app.graph.id);
  for (const place of places()) {
    const output = runs.map((run) => run.outputs[place.executionId]).findLast((found) => found?.player);
    const player = playerAt(place);
    if (output && player?.isEmpty) player.show(output);
  }
}

api.addEventListener("executed", ({ detail }) => {
  if (!detail.output?.player) return;
  for (const place of places()) {
    if (place.executionId === String(detail.display_node ?? detail.node)) playerAt(place)?.show(detail.output);
  }
});

app.registerExtension({
  name: "imagesthatsound.player",
  init: () => loadTexts(),
  nodeCreated(node) {
    if (node.comfyClass === NODE) {
      const { onAdded, onRemoved } = node;
      node.onAdded = function () {
        onAdded?.apply(this, arguments);
        arrangeSoon();
      };
      node.onRemoved = function () {
        onRemoved?.apply(this, arguments);
        arrangeSoon();
      };
      addPlayer(node, "player"); // at once, so that a new node has its size
    } else if (node.subgraph) {
      setTimeout(() => translateBlueprint(node)); // when it has its slots as they were saved
      arrangeSoon();
    }
  },
  onNodeOutputsUpdated(outputs) {
    for (const place of places()) {
      // Boxes of one subgraph share these: theirs come from the history.
      if (place.name === "player" && outputs[place.locatorId]?.player) playerAt(place)?.show(outputs[place.locatorId]);
    }
  },
  beforeConfigureGraph: (graph) => translateTemplate(graph),
  afterConfigureGraph() {
    arrange();
    restore(); // not awaited: the graph need not wait for it
  },
});
