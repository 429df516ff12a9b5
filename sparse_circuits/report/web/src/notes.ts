// Labels and groups: the circuit file's own, until the reader writes others.

import { change, circuit, payload, session } from "./session";
import type { Notes } from "./payload/types";
import { computed } from "@preact/signals";

export const notes = computed<Notes>(
  () => session.value.notes[session.value.circuit] ?? circuit.value?.notes ?? { labels: {}, groups: [] },
);

function write(next: Notes): void {
  change({ notes: { ...session.value.notes, [session.value.circuit]: next } });
}

export function label(node: string, text: string): void {
  const { [node]: _, ...others } = notes.value.labels;
  write({ ...notes.value, labels: text ? { ...others, [node]: text } : others });
}

// A group without nodes is gone.
export function toggleInGroup(name: string, node: string): void {
  const known = notes.value.groups.some(group => group.name === name)
    ? notes.value.groups
    : [...notes.value.groups, { name, nodes: [] }];
  const groups = known.map(group =>
    group.name !== name
      ? group
      : { name, nodes: group.nodes.includes(node) ? group.nodes.filter(each => each !== node) : [...group.nodes, node] },
  );
  write({ ...notes.value, groups: groups.filter(group => group.nodes.length) });
}

export const groupsOf = (node: string): string[] =>
  notes.value.groups.filter(group => group.nodes.includes(node)).map(group => group.name);

// What Notes.load in Python reads.
export const asFile = (): object => ({ task: payload.value.circuits[session.value.circuit]?.task, ...notes.value });

export function plainNotes(value: unknown): Notes {
  const given = (value ?? {}) as { labels?: unknown; groups?: unknown };
  const labels =
    given.labels && typeof given.labels === "object"
      ? Object.entries(given.labels).filter(([, text]) => typeof text === "string")
      : [];
  const groups = Array.isArray(given.groups)
    ? given.groups.filter(each => typeof each?.name === "string" && Array.isArray(each.nodes))
    : [];
  return {
    labels: Object.fromEntries(labels),
    groups: groups.map(({ name, nodes }) => ({ name, nodes: nodes.filter((node: unknown) => typeof node === "string") })),
  };
}
