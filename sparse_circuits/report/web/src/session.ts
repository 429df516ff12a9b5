// All that the reader has chosen, as one value: the address holds it, undo goes back through it.

import { computed, signal } from "@preact/signals";
import type { Side } from "./payload/prompt";
import type { Circuit, Notes, Payload } from "./payload/types";

export type View = "overview" | "circuit" | "card" | "compare" | "bridge" | "finetunes";
export type Meaning = "weight" | "flow" | "effect";
export type Intervention = { node: string; kind: "ablate" | "scale" | "set"; value: number | null };

export interface Session {
  view: View;
  circuit: number;
  pair: number;
  side: Side;
  meaning: Meaning;
  threshold: number;
  merged: boolean;
  node: string | null;
  path: string | null;
  pinned: string[];
  other: number;
  notes: Record<string, Notes>;
  interventions: Intervention[];
  cuts: [string, string][];
  theme: "light" | "dark" | null;
}

export const START: Session = {
  view: "overview",
  circuit: 0,
  pair: 0,
  side: 0,
  meaning: "weight",
  threshold: 0,
  merged: false,
  node: null,
  path: null,
  pinned: [],
  other: 1,
  notes: {},
  interventions: [],
  cuts: [],
  theme: null,
};

export const payload = signal<Payload>(null as unknown as Payload);
export const session = signal<Session>(START);
const past = signal<Session[]>([]);
export const canUndo = computed(() => past.value.length > 0);

const N_PAST = 200;
let lastKeys = "",
  lastTime = 0;

// A slider's many changes in one go are one step back.
export function change(patch: Partial<Session>): void {
  const keys = Object.keys(patch).join(),
    now = performance.now();
  const isSame = keys === "threshold" && keys === lastKeys && now - lastTime < 800;
  if (!isSame) past.value = [...past.value.slice(-N_PAST), session.value];
  [lastKeys, lastTime] = [keys, now];
  session.value = { ...session.value, ...patch };
}

export function undo(): void {
  const before = past.value.at(-1);
  if (!before) return;
  past.value = past.value.slice(0, -1);
  session.value = before;
  lastKeys = "";
}

// Node names, paths and edits belong to one circuit.
export function openCircuit(circuit: number, view: View = "circuit"): void {
  const kept =
    circuit === session.value.circuit
      ? {}
      : { node: null, path: null, pinned: [], interventions: [], cuts: [], pair: 0, side: 0 as Side };
  change({ ...kept, circuit, view });
}

export const selectNode = (node: string | null): void => change({ node: node === session.value.node ? null : node });

export const circuit = computed<Circuit | null>(
  () => payload.value.circuits[session.value.circuit] ?? payload.value.circuits[0] ?? null,
);
