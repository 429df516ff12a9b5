// The order of residual channels, from left to right, for a whole circuit.

import type { Circuit } from "../payload/types";
import { isStream } from "../names";

// Channels that share readers and writers stand together: each goes to the mean rank of what it is joined to, again and again.
export function laneOrder(circuit: Circuit): Map<number, number> {
  const channelOf = (node: number) => (isStream(circuit.nodes[node].site) ? circuit.nodes[node].channel : null);
  const lanes = [...new Set(circuit.nodes.flatMap((_, i) => channelOf(i) ?? []))].sort((a, b) => a - b);
  const rank = new Map(lanes.map((lane, i) => [lane, i])),
    inner = new Map<number, number>();
  const valueOf = (node: number) => {
    const channel = channelOf(node);
    return channel === null ? (inner.get(node) ?? lanes.length / 2) : (rank.get(channel) as number);
  };
  const pulls = new Map<string, [number, number]>();
  const links = [...circuit.edges, ...circuit.unembedding].map(
    ([source, target, weight]) => [source, target, Math.abs(weight ?? 0)] as const,
  );
  for (let round = 0; round < 12; round++) {
    pulls.clear();
    for (const [source, target, size] of links)
      for (const [here, there] of [
        [source, target],
        [target, source],
      ]) {
        const channel = channelOf(here),
          key = channel === null ? `n${here}` : `c${channel}`,
          [sum, total] = pulls.get(key) ?? [0, 0];
        pulls.set(key, [sum + size * valueOf(there), total + size]);
      }
    const wish = (key: string, own: number) => {
      const [sum, total] = pulls.get(key) ?? [0, 0];
      return total ? sum / total : own;
    };
    circuit.nodes.forEach((_, i) => {
      if (channelOf(i) === null) inner.set(i, wish(`n${i}`, inner.get(i) ?? lanes.length / 2));
    });
    const wishes = new Map(
      lanes.map(lane => [lane, ((rank.get(lane) as number) + wish(`c${lane}`, rank.get(lane) as number)) / 2]),
    );
    lanes.sort((a, b) => (wishes.get(a) as number) - (wishes.get(b) as number)).forEach((lane, i) => rank.set(lane, i));
  }
  return rank;
}
