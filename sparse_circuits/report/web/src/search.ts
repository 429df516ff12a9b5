// Nodes by name, label or group.

import { computed, signal } from "@preact/signals";
import { circuit, selectNode, session } from "./session";
import { groupsOf, notes } from "./notes";
import { nameOf } from "./names";

export const query = signal("");

export const found = computed<Set<string> | null>(() => {
  const text = query.value.trim().toLowerCase();
  if (!text || !circuit.value) return null;
  const says = (name: string) =>
    [name, notes.value.labels[name] ?? "", ...groupsOf(name)].some(each => each.toLowerCase().includes(text));
  return new Set(circuit.value.nodes.map(nameOf).filter(says));
});

// Enter goes from one find to the next.
export function selectNext(): void {
  const names = [...(found.value ?? [])],
    here = names.indexOf(session.value.node ?? "");
  const next = names[(here + 1) % names.length];
  if (next && next !== session.value.node) selectNode(next);
}
