// Paths of the payload as lists of nodes, and where in a plane they run.

import type { Circuit, Num, OvPath } from "../payload/types";
import type { Unrolled } from "./unroll";

export interface ShownPath {
  id: string;
  kind: "ov" | "qk";
  product: Num;
  ways: OvPath[];
}

export function pathsOf(circuit: Circuit): ShownPath[] {
  if (!circuit.paths) return [];
  return [
    ...circuit.paths.ov.map((path, i): ShownPath => ({ id: `ov${i}`, kind: "ov", product: path.product, ways: [path] })),
    ...circuit.paths.qk.map((path, i): ShownPath => ({
      id: `qk${i}`,
      kind: "qk",
      product: path.product,
      ways: [path.query, path.key],
    })),
  ];
}

export interface OnPath {
  lines: Set<number>;
  spots: Set<number>;
  // Whether every step of the path happens somewhere.
  isWhole: boolean;
}

// A step is a list of lines that would do, as ends: all tokens' instances of one, and either answer at the end.
function stepsOf(path: ShownPath, circuit: Circuit): string[][] {
  const logits = circuit.nodes.flatMap((node, i) => (node.site === "logits" ? [i] : []));
  const steps = path.ways.flatMap(({ nodes }) => {
    const embed = circuit.nodes.findIndex(node => node.site === "embed" && node.channel === circuit.nodes[nodes[0]].channel);
    return [...(embed < 0 ? [] : [[`${embed} ${nodes[0]}`]]), ...nodes.slice(1).map((node, i) => [`${nodes[i]} ${node}`])];
  });
  const last = (way: number) => path.ways[way].nodes.at(-1);
  return [...steps, path.kind === "ov" ? logits.map(logit => `${last(0)} ${logit}`) : [`${last(1)} ${last(0)}`]];
}

export function along(path: ShownPath, plane: Unrolled, circuit: Circuit): OnPath {
  const found: OnPath = { lines: new Set(), spots: new Set(), isWhole: true };
  const there = new Map<string, number[]>();
  plane.lines.forEach((line, i) => {
    const ends = `${plane.spots[line.from].node} ${plane.spots[line.to].node}`;
    there.set(ends, [...(there.get(ends) ?? []), i]);
  });
  for (const step of stepsOf(path, circuit)) {
    const lines = step.flatMap(ends => there.get(ends) ?? []);
    if (!lines.length) found.isWhole = false;
    for (const i of lines) {
      found.lines.add(i);
      found.spots.add(plane.lines[i].from).add(plane.lines[i].to);
    }
  }
  return found;
}
