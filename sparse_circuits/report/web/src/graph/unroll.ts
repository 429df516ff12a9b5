// A circuit on one prompt: which node, at which token, the answer at the last token is made of.
//
// Backwards from the logits: a reader of the stream needs all writers of its channel at the same token, a written channel
// the neurons or values that it has edges from, a value the tokens that its head attends to, and with them queries and keys.
// What is zero at a token adds nothing there and is left out.

import { hasLogits, type Prompt } from "../payload/prompt";
import type { Circuit, Num } from "../payload/types";
import { headOf, isHead, layerOf, partOf } from "../names";
import { known } from "../numbers";

export type LineKind = "edge" | "readout" | "stream" | "match";

// A node at a token; in the merged plane all tokens are one, numbered 0.
export interface Spot {
  node: number;
  token: number;
}

export interface Line {
  kind: LineKind;
  from: number;
  to: number;
  weight: Num;
  // The weight times what the source holds here; for attention times the share of attention, for a match of query and key their product.
  flow: Num;
  effect: Num;
  share?: number;
}

export interface Unrolled {
  spots: Spot[];
  lines: Line[];
  tokens: number[];
}

// Of each head as many keys are drawn as have this share of its attention, but no more, and none that has far less than the first.
const ATTENDED = 0.85;
const MOST_KEYS = 5;
const LEAST_OF_FIRST = 0.2;

interface Incoming {
  kind: "edge" | "readout" | "stream";
  source: number;
  weight: Num;
  effect: Num;
}

export function incoming(circuit: Circuit): Incoming[][] {
  const into: Incoming[][] = circuit.nodes.map(() => []);
  const base = circuit.target_loss;
  for (const [source, target, weight, without] of circuit.edges)
    into[target].push({ kind: "edge", source, weight, effect: known(without) && known(base) ? without - base : null });
  for (const [source, target, weight] of circuit.unembedding)
    into[target].push({ kind: "readout", source, weight, effect: null });
  for (const [source, target, gain] of circuit.residual)
    into[target].push({ kind: "stream", source, weight: gain, effect: null });
  return into;
}

// The channels in which a head's query and key meet: [query, key].
export function matches(circuit: Circuit): [number, number][] {
  const keys = new Map(
    circuit.nodes.flatMap((node, i) =>
      node.site.endsWith("attn.k") ? [[`${node.site.slice(0, -1)}${node.channel}`, i] as const] : [],
    ),
  );
  return circuit.nodes.flatMap((node, i) => {
    const key = node.site.endsWith("attn.q") ? keys.get(`${node.site.slice(0, -1)}${node.channel}`) : undefined;
    return key === undefined ? [] : [[i, key] as [number, number]];
  });
}

class Plane {
  readonly spots: Spot[] = [];
  readonly lines: Line[] = [];
  private readonly places = new Map<string, number>();
  private readonly drawn = new Set<string>();

  // Whether it is new comes back, too.
  spot(node: number, token: number): [number, boolean] {
    const key = `${node}@${token}`,
      before = this.places.get(key);
    if (before !== undefined) return [before, false];
    this.places.set(key, this.spots.length);
    return [this.spots.push({ node, token }) - 1, true];
  }

  line(line: Line): void {
    const key = `${line.kind} ${line.from} ${line.to}`;
    if (!this.drawn.has(key)) {
      this.drawn.add(key);
      this.lines.push(line);
    }
  }

  done(): Unrolled {
    return {
      spots: this.spots,
      lines: this.lines,
      tokens: [...new Set(this.spots.map(spot => spot.token))].sort((a, b) => a - b),
    };
  }
}

export function unroll(circuit: Circuit, prompt: Prompt): Unrolled {
  const plane = new Plane(),
    into = incoming(circuit),
    meeting = matches(circuit),
    last = prompt.tokens.length - 1;
  const queue: [number, number, number][] = [];
  const need = (node: number, token: number) => {
    const [place, isNew] = plane.spot(node, token);
    if (isNew) queue.push([node, token, place]);
    return place;
  };
  need(prompt.answer.node, last);
  need(prompt.other.node, last);
  for (let next = queue.shift(); next; next = queue.shift()) {
    const [node, token, place] = next,
      seen = new Set<string>();
    for (const { kind, source, weight, effect } of into[node]) {
      const held = (at: number) => prompt.activation(source, at);
      if (!circuit.nodes[source].site.endsWith("attn.v")) {
        if (!held(token)) continue;
        plane.line({
          kind,
          from: need(source, token),
          to: place,
          weight,
          flow: known(weight) ? weight * held(token) : held(token),
          effect,
        });
        continue;
      }
      const layer = layerOf(circuit.nodes[source].site),
        head = headOf(circuit.nodes[source], circuit);
      for (const [key, share] of attended(prompt.attention(layer, head, token))) {
        if (!held(key)) continue;
        plane.line({
          kind,
          from: need(source, key),
          to: place,
          weight,
          flow: known(weight) ? weight * held(key) * share : null,
          effect,
          share,
        });
        if (!seen.has(`${head} ${key}`)) meet(layer, head, token, key);
        seen.add(`${head} ${key}`);
      }
    }
  }
  return plane.done();

  function meet(layer: number, head: number, query: number, key: number): void {
    // A key whose query is outside meets a constant, and decides alone.
    circuit.nodes.forEach(({ site, channel }, k) => {
      if (site === `${layer}.attn.k` && Math.floor(channel / circuit.shape.d_head) === head && prompt.activation(k, key))
        need(k, key);
    });
    for (const [q, k] of meeting) {
      if (layerOf(circuit.nodes[q].site) !== layer || headOf(circuit.nodes[q], circuit) !== head) continue;
      const flow = (prompt.activation(q, query) * prompt.activation(k, key)) / Math.sqrt(circuit.shape.d_head);
      if (!flow) continue;
      plane.line({ kind: "match", from: need(k, key), to: need(q, query), weight: null, flow, effect: null });
    }
  }
}

// The keys that get most of a query's attention, the sink left out.
function attended(shares: number[] | null): [number, number][] {
  const keys = (shares ?? [])
    .slice(0, -1)
    .map((share, key) => [key, share] as [number, number])
    .sort((a, b) => b[1] - a[1]);
  const total = keys.reduce((sum, [, share]) => sum + share, 0);
  let covered = 0;
  return keys.filter(([, share], i) => {
    const isKept = i === 0 || (i < MOST_KEYS && share > LEAST_OF_FIRST * keys[0][1] && covered < ATTENDED * total);
    covered += share;
    return isKept;
  });
}

// The circuit without a prompt: every node once. Flows are those at the token at which the source is largest.
export function merged(circuit: Circuit, prompt: Prompt | null): Unrolled {
  const plane = new Plane(),
    into = incoming(circuit);
  const isShown = (node: number) =>
    circuit.nodes[node].site !== "logits" ||
    !prompt ||
    !hasLogits(prompt) ||
    node === prompt.answer.node ||
    node === prompt.other.node;
  const places = circuit.nodes.map((_, node) => (isShown(node) ? plane.spot(node, 0)[0] : -1));
  const largest = (node: number) =>
    prompt?.activations(node).reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
  into.forEach((links, target) => {
    if (places[target] < 0) return;
    for (const { kind, source, weight, effect } of links) {
      const held = largest(source);
      plane.line({
        kind,
        from: places[source],
        to: places[target],
        weight,
        flow: known(held) && known(weight) ? weight * held : null,
        effect,
      });
    }
  });
  for (const [q, k] of matches(circuit))
    plane.line({ kind: "match", from: places[k], to: places[q], weight: null, flow: null, effect: null });
  return plane.done();
}

// How many nodes do nothing for this prompt's answer.
export const unreached = (circuit: Circuit, plane: Unrolled): number => {
  const reached = new Set(plane.spots.map(spot => spot.node));
  return circuit.nodes.filter((node, i) => !reached.has(i) && node.site !== "logits" && node.site !== "embed").length;
};

export const isInner = (site: string): boolean => isHead(site) || partOf(site) === "post_act";
