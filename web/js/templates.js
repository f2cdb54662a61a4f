/** This pack's templates in ComfyUI's language: their notes, titles and slots, which the front end itself shows as they are saved. */

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
