// What the reader does to nodes and edges before the model is asked again.

import { computed, signal } from "@preact/signals";
import { change, session, type Intervention } from "./session";

// Whether clicks in the picture edit, rather than select.
export const isEditing = signal(false);

export const gone = computed(() => ({
  nodes: new Set(session.value.interventions.map(each => each.node)),
  cuts: new Set(session.value.cuts.map(ends => ends.join(" → "))),
}));

const without = (node: string) => session.value.interventions.filter(each => each.node !== node);
export const setIntervention = (each: Intervention): void => change({ interventions: [...without(each.node), each] });

export function toggleAblation(node: string): void {
  const others = without(node);
  change({
    interventions:
      others.length < session.value.interventions.length ? others : [...others, { node, kind: "ablate", value: null }],
  });
}

export function toggleCut(source: string, target: string): void {
  const others = session.value.cuts.filter(([a, b]) => a !== source || b !== target);
  change({ cuts: others.length < session.value.cuts.length ? others : [...others, [source, target]] });
}
