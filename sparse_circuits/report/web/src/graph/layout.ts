// Where spots stand: a column for every token, a row for every site of a sublayer, bottom to top; inside a column a lane for
// every channel of the residual stream, in one order for the whole page, and neurons and heads between the lanes they join.

import type { Circuit } from "../payload/types";
import { headOf, isStream, kindOf, layerOf, partOf } from "../names";
import { isInner, type Unrolled } from "./unroll";
import { visible } from "../numbers";

export const LEFT = 118;
export const PITCH = 38, PILL = 32, PILL_HEIGHT = 18;
const ROW = 46, GAP = 20, COLUMN_GAP = 44, TOP = 28, BOTTOM = 66, HEAD_GAP = 16;

export interface Place { x: number; y: number }
export interface Column { token: number; x: number; width: number; skipped: number }
export interface Wire { spots: number[]; x: number; y1: number; y2: number }
export interface Box { x: number; y: number; width: number; height: number; text: string }
export interface Band { name: string; y: number; height: number }
export interface Layout { at: Place[]; columns: Column[]; wires: Wire[]; boxes: Box[]; bands: Band[]; width: number; height: number; bottom: number }

// A row's name; rows of one sublayer stand close together.
function rowOf(site: string): string {
  const part = partOf(site), inner = "qkv".includes(part) || part === "post_act";
  return isStream(site) && layerOf(site) < 0 || site === "logits" ? site : `${site.split(".").slice(0, 2).join(".")} ${part === "act_in" ? 0 : inner ? 1 : 2}`;
}

function rowsOf(circuit: Circuit, plane: Unrolled): { y: Map<string, number>; bands: Band[]; height: number } {
  const present = new Set(plane.spots.map(spot => rowOf(circuit.nodes[spot.node].site)));
  const rank = (row: string) => row === "embed" ? -1 : row === "final_resid" ? 1e6 : row === "logits" ? 2e6
    : parseInt(row, 10) * 10 + (row.includes("mlp") ? 5 : 0) + Number(row.at(-1));
  const rows = [...present].sort((a, b) => rank(b) - rank(a));
  const y = new Map<string, number>(), bands: Band[] = [];
  let next = TOP;
  rows.forEach((row, i) => {
    const name = row.split(" ")[0];
    if (i) next += rows[i - 1].split(" ")[0] === name ? ROW : ROW + GAP;
    y.set(row, next);
    const band = bands.at(-1);
    const margin = PILL_HEIGHT / 2 + 10;
    if (band?.name === name) band.height = next - band.y + margin;
    else bands.push({ name, y: next - margin, height: 2 * margin });
  });
  return { y, bands, height: next };
}

// Channels that share readers and writers stand together: each goes to the mean rank of what it is joined to, again and again.
export function laneOrder(circuit: Circuit): Map<number, number> {
  const channelOf = (node: number) => isStream(circuit.nodes[node].site) ? circuit.nodes[node].channel : null;
  const lanes = [...new Set(circuit.nodes.flatMap((_, i) => channelOf(i) ?? []))].sort((a, b) => a - b);
  const rank = new Map(lanes.map((lane, i) => [lane, i])), inner = new Map<number, number>();
  const valueOf = (node: number) => { const channel = channelOf(node); return channel === null ? inner.get(node) ?? lanes.length / 2 : rank.get(channel) as number; };
  const pulls = new Map<string, [number, number]>();
  const links = [...circuit.edges, ...circuit.unembedding].map(([source, target, weight]) => [source, target, Math.abs(weight ?? 0)] as const);
  for (let round = 0; round < 12; round++) {
    pulls.clear();
    for (const [source, target, size] of links)
      for (const [here, there] of [[source, target], [target, source]]) {
        const channel = channelOf(here), key = channel === null ? `n${here}` : `c${channel}`, [sum, total] = pulls.get(key) ?? [0, 0];
        pulls.set(key, [sum + size * valueOf(there), total + size]);
      }
    const wish = (key: string, own: number) => { const [sum, total] = pulls.get(key) ?? [0, 0]; return total ? sum / total : own; };
    circuit.nodes.forEach((_, i) => { if (channelOf(i) === null) inner.set(i, wish(`n${i}`, inner.get(i) ?? lanes.length / 2)); });
    const wishes = new Map(lanes.map(lane => [lane, (rank.get(lane) as number + wish(`c${lane}`, rank.get(lane) as number)) / 2]));
    lanes.sort((a, b) => (wishes.get(a) as number) - (wishes.get(b) as number)).forEach((lane, i) => rank.set(lane, i));
  }
  return rank;
}

interface Block { spots: number[]; wish: number; width: number; x: number }

// Blocks as near their wish as they fit without overlap.
function spread(blocks: Block[]): void {
  blocks.sort((a, b) => a.wish - b.wish);
  let free = -Infinity;
  for (const block of blocks) { block.x = Math.max(free, block.wish - block.width / 2); free = block.x + block.width; }
  let limit = free - Math.max(0, blocks.reduce((sum, block) => sum + block.x - (block.wish - block.width / 2), 0) / Math.max(1, blocks.length));
  for (const block of [...blocks].reverse()) { block.x = Math.min(block.x, limit - block.width); limit = block.x; }
}

export function layoutOf(circuit: Circuit, plane: Unrolled, texts: string[] | null): Layout {
  const rows = rowsOf(circuit, plane), order = laneOrder(circuit);
  const at: Place[] = plane.spots.map(spot => ({ x: 0, y: rows.y.get(rowOf(circuit.nodes[spot.node].site)) as number }));
  const siteOf = (spot: number) => circuit.nodes[plane.spots[spot].node].site;
  const columns: Column[] = [], wires: Wire[] = [], boxes: Box[] = [];
  const neighbours = plane.spots.map(() => [] as number[]);
  for (const line of plane.lines)
    if (plane.spots[line.from].token === plane.spots[line.to].token) { neighbours[line.from].push(line.to); neighbours[line.to].push(line.from); }

  let left = LEFT, before = -1;
  for (const token of plane.tokens) {
    const here = plane.spots.flatMap((spot, i) => spot.token === token ? [i] : []);
    const lanes = new Map<number, number[]>();
    for (const i of here) if (isStream(siteOf(i))) {
      const channel = circuit.nodes[plane.spots[i].node].channel;
      lanes.set(channel, [...lanes.get(channel) ?? [], i]);
    }
    [...lanes].sort(([a], [b]) => (order.get(a) ?? 0) - (order.get(b) ?? 0)).forEach(([, spots], lane) => spots.forEach(i => { at[i].x = lane * PITCH; }));
    const placed = new Set(here.filter(i => isStream(siteOf(i))));
    const middle = (i: number, otherwise: number) => { const known = neighbours[i].filter(j => placed.has(j)); return known.length ? known.reduce((sum, j) => sum + at[j].x, 0) / known.length : otherwise; };
    const headBoxes: { spots: number[]; text: string }[] = [];
    for (const row of new Set(here.filter(i => isInner(siteOf(i)) || siteOf(i) === "logits").map(i => rowOf(siteOf(i))))) {
      const blocks = blocksOf(here.filter(i => rowOf(siteOf(i)) === row), i => middle(i, (lanes.size - 1) * PITCH / 2), plane, circuit);
      spread(blocks);
      for (const block of blocks) {
        const step = siteOf(block.spots[0]) === "logits" ? block.width : PITCH, margin = (block.width - step * block.spots.length) / 2;
        block.spots.forEach((i, k) => { at[i].x = block.x + margin + step * (k + 0.5); });
        if (circuit.nodes[plane.spots[block.spots[0]].node].site.includes("attn")) headBoxes.push({ spots: block.spots, text: `head ${headOf(circuit.nodes[plane.spots[block.spots[0]].node], circuit)}` });
      }
    }
    const halfOf = (i: number) => siteOf(i) === "logits" ? logitWidth(i, plane, circuit) / 2 : PILL / 2;
    const low = Math.min(0, ...here.map(i => at[i].x - halfOf(i))), high = Math.max(...here.map(i => at[i].x + halfOf(i)));
    const textWidth = texts ? 7.6 * Math.min(18, visible(texts[token], 18).length) + 16 : 0;
    const width = Math.max(high - low, textWidth), shift = left - low + (width - (high - low)) / 2;
    for (const i of here) at[i].x += shift;
    columns.push({ token, x: left, width, skipped: texts ? token - before - 1 : 0 });
    for (const spots of lanes.values()) {
      const ys = spots.map(i => at[i].y);
      if (spots.length > 1) wires.push({ spots, x: at[spots[0]].x, y1: Math.min(...ys), y2: Math.max(...ys) });
    }
    for (const { spots, text } of headBoxes) {
      const xs = spots.map(i => at[i].x);
      boxes.push({ x: Math.min(...xs) - PILL / 2 - 6, y: at[spots[0]].y - PILL_HEIGHT / 2 - 7, width: Math.max(...xs) - Math.min(...xs) + PILL + 12, height: PILL_HEIGHT + 14, text });
    }
    left += width + COLUMN_GAP;
    before = token;
  }
  return { at, columns, wires, boxes, bands: rows.bands, width: left - COLUMN_GAP + 24, height: rows.height + BOTTOM, bottom: rows.height };
}

export const logitWidth = (spot: number, plane: Unrolled, circuit: Circuit): number =>
  Math.max(PILL, 7 * visible(circuit.nodes[plane.spots[spot].node].text ?? "", 14).length + 18);

// A head's channels are one block, queries and keys of one channel side by side; a neuron or a logit is a block alone.
function blocksOf(spots: number[], middle: (spot: number) => number, plane: Unrolled, circuit: Circuit): Block[] {
  const groups = new Map<string, number[]>();
  for (const i of spots) {
    const node = circuit.nodes[plane.spots[i].node], key = kindOf(node.site).startsWith("attn") ? `head ${headOf(node, circuit)}` : `${node.site}${node.channel}`;
    groups.set(key, [...groups.get(key) ?? [], i]);
  }
  return [...groups.values()].map(members => {
    const nodeAt = (i: number) => circuit.nodes[plane.spots[i].node];
    const isHeadBlock = nodeAt(members[0]).site.includes("attn"), isLogit = nodeAt(members[0]).site === "logits";
    members.sort((a, b) => Number(partOf(nodeAt(a).site) === "v") - Number(partOf(nodeAt(b).site) === "v") || nodeAt(a).channel - nodeAt(b).channel || partOf(nodeAt(b).site).localeCompare(partOf(nodeAt(a).site)));
    const width = isLogit ? logitWidth(members[0], plane, circuit) + 10 : PITCH * members.length + (isHeadBlock ? HEAD_GAP : 0);
    return { spots: members, wish: members.reduce((sum, i) => sum + middle(i), 0) / members.length, width, x: 0 };
  });
}
