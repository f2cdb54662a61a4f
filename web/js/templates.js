/** This pack's templates and blueprints in ComfyUI's language: notes, titles and slots, which the front end itself shows as they are saved. */

import { templateTexts } from "./texts.js";

const NOTES = ["MarkdownNote", "Note"];

/**
 * Translate what a graph that is about to be opened says, where it says it exactly as our template does; all else is the user's and stays.
 * A graph that is saved afterwards holds the translation.
 */
export function translateTemplate(graph) {
  const { graphs, texts } = templateTexts();
  if (!graphs.includes(graph.id)) return;
  const translate = (owner, key) => {
    if (Object.hasOwn(texts, owner[key])) owner[key] = texts[owner[key]];
  };
  const nameSlot = (slot) => {
    if (Object.hasOwn(texts, slot.name)) slot.label ??= texts[slot.name];
  };
  const boxes = graph.definitions?.subgraphs ?? [];
  const kinds = new Set(boxes.map(({ id }) => id));
  for (const { nodes = [], groups = [] } of [graph, ...boxes]) {
    for (const node of nodes) {
      translate(node, "title");
      if (NOTES.includes(node.type) && node.widgets_values) translate(node.widgets_values, 0);
      if (kinds.has(node.type)) [...(node.inputs ?? []), ...(node.outputs ?? [])].forEach(nameSlot);
    }
    for (const group of groups) translate(group, "title");
  }
  for (const box of boxes) {
    translate(box, "name");
    [...(box.inputs ?? []), ...(box.outputs ?? [])].forEach(nameSlot);
  }
}

/** The same for a box that was made of one of our blueprints: what stands inside it, and its slots. Its name stays: the node library has it. */
export function translateBlueprint({ subgraph, widgets }) {
  const { blueprints, texts } = templateTexts();
  if (!blueprints.includes(subgraph?.name)) return;
  for (const node of subgraph.nodes) if (Object.hasOwn(texts, node.title)) node.title = texts[node.title];
  const rename = (slots, name) => {
    for (const slot of slots) if (Object.hasOwn(texts, slot.displayName)) subgraph[name](slot, texts[slot.displayName]);
  };
  rename(subgraph.inputs, "renameInput");
  rename(subgraph.outputs, "renameOutput");
  // Front end 1.58 leaves some of the box's own widgets as they were.
  for (const widget of widgets ?? []) if (Object.hasOwn(texts, widget.label)) widget.label = texts[widget.label];
}
