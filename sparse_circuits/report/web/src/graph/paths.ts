// Paths of the payload as lists of nodes, and which lines of a plane lie on one.

import type { Circuit, Num, OvPath } from "../payload/types";
import type { Unrolled } from "./unroll";
import { nameOf } from "../names";

export interface ShownPath { id: string; kind: "ov" | "qk"; product: Num; ways: OvPath[]; text: string }

export function pathsOf(circuit: Circuit): ShownPath[] {
  if (!circuit.paths) return [];
  const text = (way: OvPath) => way.nodes.map(node => nameOf(circuit.nodes[node])).join(" → ");
  return [
    ...circuit.paths.ov.map((path, i): ShownPath => ({ id: `ov${i}`, kind: "ov", product: path.product, ways: [path], text: text(path) })),
    ...circuit.paths.qk.map((path, i): ShownPath => ({ id: `qk${i}`, kind: "qk", product: path.product, ways: [path.query, path.key], text: `${text(path.query)} · ${text(path.key)}` })),
  ];
}

export interface OnPath { lines: Set<number>; spots: Set<number> }

// Each step, at whatever token it happens; a path begins at the embedding of its first channel.
export function along(path: ShownPath, plane: Unrolled, circuit: Circuit): OnPath {
  const steps = new Set<string>();
  for (const { nodes } of path.ways) {
    nodes.slice(1).forEach((node, i) => steps.add(`${nodes[i]} ${node}`));
    const embed = circuit.nodes.findIndex(node => node.site === "embed" && node.channel === circuit.nodes[nodes[0]].channel);
    if (embed >= 0) steps.add(`${embed} ${nodes[0]}`);
    if (path.kind === "ov") circuit.nodes.forEach((node, i) => { if (node.site === "logits") steps.add(`${nodes.at(-1)} ${i}`); });
  }
  if (path.kind === "qk") steps.add(`${path.ways[1].nodes.at(-1)} ${path.ways[0].nodes.at(-1)}`);
  const found: OnPath = { lines: new Set(), spots: new Set() };
  plane.lines.forEach((line, i) => {
    if (!steps.has(`${plane.spots[line.from].node} ${plane.spots[line.to].node}`)) return;
    found.lines.add(i);
    found.spots.add(line.from).add(line.to);
  });
  return found;
}
