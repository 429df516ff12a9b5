// Two circuits as one graph: nodes and edges are matched by name, since channels keep their numbers within one model.

import type { Circuit, GraphNode, Num } from "./payload/types";
import { nameOf } from "./names";

export type Part = "both" | "left" | "right";

export interface Compared {
  union: Circuit;
  parts: Map<number, Part>;
  nodes: Record<Part, string[]>;
  // Edges by their ends: the weight on either side, where it is there.
  edges: { source: string; target: string; left: Num | undefined; right: Num | undefined }[];
}

export function compare(left: Circuit, right: Circuit): Compared {
  const names = [left, right].map(circuit => circuit.nodes.map(nameOf)),
    sets = names.map(each => new Set(each));
  const union: GraphNode[] = [...left.nodes, ...right.nodes.filter(node => !sets[0].has(nameOf(node)))].sort(
    (a, b) => order(a) - order(b),
  );
  const place = new Map(union.map((node, i) => [nameOf(node), i])),
    at = (name: string) => place.get(name) as number;
  const partOf = (name: string): Part => (sets[0].has(name) ? (sets[1].has(name) ? "both" : "left") : "right");
  function joined<Link extends [number, number, ...unknown[]]>(of: (circuit: Circuit) => Link[]): Link[] {
    const links = new Map<string, Link>();
    for (const [circuit, own] of [
      [left, names[0]],
      [right, names[1]],
    ] as const)
      for (const [source, target, ...rest] of of(circuit)) {
        const ends = [at(own[source]), at(own[target])];
        if (!links.has(ends.join())) links.set(ends.join(), [...ends, ...rest] as unknown as Link);
      }
    return [...links.values()];
  }
  const weights = [left, right].map(
    (circuit, i) =>
      new Map(circuit.edges.map(([source, target, weight]) => [`${names[i][source]} ${names[i][target]}`, weight])),
  );
  const nodes: Record<Part, string[]> = { both: [], left: [], right: [] };
  for (const node of union) if (node.site !== "embed" && node.site !== "logits") nodes[partOf(nameOf(node))].push(nameOf(node));
  return {
    union: {
      ...left,
      nodes: union,
      edges: joined(circuit => circuit.edges),
      residual: joined(circuit => circuit.residual),
      unembedding: joined(circuit => circuit.unembedding),
      pairs: [],
      activations: null,
    },
    parts: new Map(union.map((node, i) => [i, partOf(nameOf(node))])),
    nodes,
    edges: [...new Set([...weights[0].keys(), ...weights[1].keys()])].map(key => {
      const [source, target] = key.split(" ");
      return { source, target, left: weights[0].get(key), right: weights[1].get(key) };
    }),
  };
}

// Firing order does not matter to the drawing, only that ends stay at the ends.
const order = (node: GraphNode): number => (node.site === "embed" ? 0 : node.site === "logits" ? 2 : 1);
