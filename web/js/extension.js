/** Puts a player into every PlayImage node, in both of ComfyUI's renderers, and gives it what the node's last run made. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { Player } from "./player.js";

const NODE = "PlayImage";
const MARGIN = 10;
const NODE_WIDTH = 460;
/** Runs of the server's history that are searched after a reload. */
const HISTORY = 32;

const players = new WeakMap();

function urlOf({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

function addPlayer(node) {
  const player = new Player(urlOf);
  players.set(node, player);
  let height = 0;
  const widget = node.addDOMWidget("player", "ITS_PLAYER", player.element, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getMinHeight: () => height + 2 * MARGIN,
    getMaxHeight: () => height + 2 * MARGIN,
  });
  widget.serialize = false;

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

  const { onExecuted, onRemoved } = node;
  node.onExecuted = function (output) {
    onExecuted?.apply(this, arguments);
    if (output?.player) player.show(output);
  };
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments);
    observer.disconnect();
    player.dispose();
  };
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

/** Every PlayImage of a graph and its subgraphs, with the names that runs and the front end's own store have for it. */
function* playImages(graph = app.graph, path = "") {
  for (const node of graph?.nodes ?? []) {
    const executionId = path + node.id;
    if (players.has(node)) {
      const locatorId = graph === app.graph ? String(node.id) : `${graph.id}:${node.id}`;
      yield { player: players.get(node), executionId, locatorId };
    }
    if (node.subgraph) yield* playImages(node.subgraph, `${executionId}:`);
  }
}

/** After a reload nothing is executed again: the server's history has what was last made by this workflow. */
async function restore() {
  if (![...playImages()].some(({ player }) => player.isEmpty)) return;
  const history = await (await api.fetchApi(`/history?max_items=${HISTORY}`)).json();
  const runs = Object.values(history).filter(({ prompt }) => prompt[3].extra_pnginfo?.workflow?.id === app.graph.id);
  for (const { player, executionId } of playImages()) {
    const output = runs.map((run) => run.outputs[executionId]).findLast((found) => found?.player);
    if (output && player.isEmpty) player.show(output);
  }
}

document.head.append(
  Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("player.css", import.meta.url).href }),
);

app.registerExtension({
  name: "ImagesThatSound.Player",
  nodeCreated(node) {
    if (node.comfyClass === NODE) addPlayer(node);
  },
  onNodeOutputsUpdated(outputs) {
    for (const { player, locatorId } of playImages()) {
      if (outputs[locatorId]?.player) player.show(outputs[locatorId]);
    }
  },
  afterConfigureGraph() {
    restore(); // not awaited: the graph need not wait for it
  },
});
