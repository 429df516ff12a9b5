// What of a plane is drawn, and what stands out: by the size of lines, by the node or the path that is chosen.

import type { Circuit } from "../payload/types";
import type { Meaning } from "../session";
import { nameOf } from "../names";
import type { Maybe } from "../numbers";
import { isInner, type Line, type LineKind, type Unrolled } from "./unroll";

export interface Look {
  meaning: Meaning;
  threshold: number;
  // Names of nodes.
  node: string | null;
  pinned: string[];
  found: Set<string> | null;
  labels: Record<string, string>;
  // Places in the plane; null: nothing is traced.
  traced: { lines: Set<number>; spots: Set<number> } | null;
  gone: { nodes: Set<string>; cuts: Set<string> };
  // A class for every node, such as which of two circuits it is in.
  kinds?: Map<number, string>;
}

export interface Emphasis {
  // Of every line, its size as a share of the largest of its kind.
  strength: number[];
  active: Set<number>;
  shown: Set<number>;
  // Lines whose number is written beside them.
  labelled: number[];
  selected: Set<number>;
  near: Set<number>;
  hidden: Set<number>;
}

const N_LABELLED = 40;

const MEANINGS: Record<Meaning, (line: Line) => Maybe> = {
  weight: line => line.weight,
  flow: line => line.flow,
  effect: line => line.effect,
};

export const valueOf = (line: Line, meaning: Meaning): Maybe => MEANINGS[meaning](line);

export function strengths(plane: Unrolled, meaning: Meaning): number[] {
  const largest = new Map<LineKind, number>();
  const sizes = plane.lines.map(line => Math.abs(valueOf(line, meaning) ?? 0));
  plane.lines.forEach((line, i) => largest.set(line.kind, Math.max(largest.get(line.kind) ?? 1e-30, sizes[i])));
  return sizes.map((size, i) => size / (largest.get(plane.lines[i].kind) as number));
}

export function emphasise(circuit: Circuit, plane: Unrolled, look: Look): Emphasis {
  const strength = strengths(plane, look.meaning);
  const places = <Each>(all: Each[], holds: (each: Each, i: number) => boolean) =>
    new Set(all.flatMap((each, i) => (holds(each, i) ? [i] : [])));
  const selected = places(plane.spots, spot => look.node !== null && nameOf(circuit.nodes[spot.node]) === look.node);
  const active = look.traced?.lines ?? places(plane.lines, line => selected.has(line.from) || selected.has(line.to));
  // The stream is drawn as wires; of its lines only those that stand out are.
  const shown = places(plane.lines, ({ kind }, i) => {
    const isLarge = kind === "match" ? look.threshold < 1 : strength[i] >= look.threshold;
    return active.has(i) || (kind !== "stream" && isLarge);
  });
  const ends = (lines: Iterable<number>) => [...lines].flatMap(i => [plane.lines[i].from, plane.lines[i].to]);
  const linked = new Set(ends(shown));
  const near = look.traced?.spots ?? new Set([...selected, ...ends(active)]);
  const weighed = [...shown].filter(i => plane.lines[i].kind === "edge" || plane.lines[i].kind === "readout");
  return {
    strength,
    active,
    shown,
    selected,
    near,
    labelled: near.size ? weighed.filter(i => active.has(i)) : weighed.length <= N_LABELLED ? weighed : [],
    // A neuron or a head's channel whose lines are all too small goes with them.
    hidden: places(plane.spots, (spot, i) => {
      const isIdle = !linked.has(i) && !selected.has(i) && isInner(circuit.nodes[spot.node].site);
      return look.threshold > 0 && isIdle;
    }),
  };
}
