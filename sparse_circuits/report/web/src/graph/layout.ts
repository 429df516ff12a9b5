// Where spots stand: a column for every token, a row for every site of a sublayer, bottom to top; inside a column a lane for
// every channel of the residual stream, in one order for the whole page, and neurons and heads between the lanes they join.

import type { Circuit, GraphNode } from "../payload/types";
import { headOf, isHead, isStream, nameOf, partOf } from "../names";
import { visible } from "../numbers";
import { laneOrder } from "./lanes";
import { rowOf, rowsOf, type Band } from "./rows";
import { LEFT, PILL, PILL_HEIGHT, PITCH } from "./sizes";
import { spread, type Block } from "./spread";
import type { Unrolled } from "./unroll";

const COLUMN_GAP = 44;
const BOTTOM = 66;
const HEAD_GAP = 16;

export interface Place {
  x: number;
  y: number;
}

export interface Column {
  token: number;
  x: number;
  width: number;
  // Tokens left out before it.
  skipped: number;
}

export interface Layout {
  at: Place[];
  columns: Column[];
  wires: { x: number; y1: number; y2: number }[];
  boxes: { x: number; y: number; width: number; height: number; text: string }[];
  bands: Band[];
  width: number;
  height: number;
  // Where the lowest row stands.
  bottom: number;
}

// Without texts all tokens are one.
export function layoutOf(circuit: Circuit, plane: Unrolled, texts: string[] | null): Layout {
  const rows = rowsOf(circuit, plane);
  const order = laneOrder(circuit);
  const nodeAt = (spot: number): GraphNode => circuit.nodes[plane.spots[spot].node];
  const at: Place[] = plane.spots.map((_, i) => ({ x: 0, y: rows.y.get(rowOf(nodeAt(i).site)) as number }));
  const beside = sameToken(plane);
  const layout: Layout = {
    at,
    columns: [],
    wires: [],
    boxes: [],
    bands: rows.bands,
    width: 0,
    height: rows.height + BOTTOM,
    bottom: rows.height,
  };
  let left = LEFT;
  for (const token of plane.tokens) {
    const here = plane.spots.flatMap((spot, i) => (spot.token === token ? [i] : []));
    const lanes = laneSpots(here);
    lanes.forEach((spots, lane) => spots.forEach(i => (at[i].x = lane * PITCH)));
    const blocks = innerRows(here).flatMap(row => placed(row, lanes));
    const [low, high] = extent(here);
    const width = Math.max(high - low, texts ? 7.6 * visible(texts[token], 18).length + 16 : 0);
    const shift = left - low + (width - (high - low)) / 2;
    for (const i of here) at[i].x += shift;
    layout.columns.push({ token, x: left, width, skipped: texts ? token - 1 - (layout.columns.at(-1)?.token ?? -1) : 0 });
    layout.wires.push(...lanes.filter(spots => spots.length > 1).map(wire));
    layout.boxes.push(...blocks.filter(block => isHead(nodeAt(block.spots[0]).site)).map(headBox));
    left += width + COLUMN_GAP;
  }
  layout.width = left - COLUMN_GAP + 24;
  return layout;

  // A column's channels of the stream, each with its spots, in order.
  function laneSpots(here: number[]): number[][] {
    const lanes = grouped(
      here.filter(i => isStream(nodeAt(i).site)),
      i => nodeAt(i).channel,
    );
    return [...lanes].sort(([a], [b]) => (order.get(a) ?? 0) - (order.get(b) ?? 0)).map(([, spots]) => spots);
  }

  function innerRows(here: number[]): number[][] {
    return [
      ...grouped(
        here.filter(i => !isStream(nodeAt(i).site)),
        i => rowOf(nodeAt(i).site),
      ).values(),
    ];
  }

  // Puts a row's neurons, heads or logits near the lanes that they join.
  function placed(row: number[], lanes: number[][]): Block[] {
    const isPlaced = new Set(lanes.flat());
    const wish = (i: number) => {
      const xs = beside[i].filter(j => isPlaced.has(j)).map(j => at[j].x);
      return xs.length ? mean(xs) : ((lanes.length - 1) * PITCH) / 2;
    };
    // A head's channels are one block; a neuron or a logit is one alone.
    const groups = grouped(row, i => (isHead(nodeAt(i).site) ? `head ${headOf(nodeAt(i), circuit)}` : nameOf(nodeAt(i))));
    const blocks = [...groups.values()].map(spots => ({
      spots: spots.sort(asInHead),
      wish: mean(spots.map(wish)),
      width: widthOf(spots),
      x: 0,
    }));
    spread(blocks);
    for (const { spots, x, width } of blocks)
      spots.forEach((i, k) => (at[i].x = x + width / 2 + (k - (spots.length - 1) / 2) * PITCH));
    return blocks;
  }

  function widthOf(spots: number[]): number {
    if (nodeAt(spots[0]).site === "logits") return logitWidth(spots[0], plane, circuit) + 10;
    return PITCH * spots.length + (isHead(nodeAt(spots[0]).site) ? HEAD_GAP : 0);
  }

  // Queries and keys of one channel side by side, then values.
  function asInHead(a: number, b: number): number {
    const [one, other] = [nodeAt(a), nodeAt(b)];
    const isValue = (node: GraphNode) => Number(partOf(node.site) === "v");
    return isValue(one) - isValue(other) || one.channel - other.channel || partOf(other.site).localeCompare(partOf(one.site));
  }

  function extent(here: number[]): [number, number] {
    const half = (i: number) => (nodeAt(i).site === "logits" ? logitWidth(i, plane, circuit) : PILL) / 2;
    return [Math.min(...here.map(i => at[i].x - half(i))), Math.max(...here.map(i => at[i].x + half(i)))];
  }

  function wire(spots: number[]): { x: number; y1: number; y2: number } {
    const ys = spots.map(i => at[i].y);
    return { x: at[spots[0]].x, y1: Math.min(...ys), y2: Math.max(...ys) };
  }

  function headBox({ spots }: Block): Layout["boxes"][number] {
    const [low, high] = extent(spots);
    const y = at[spots[0]].y - PILL_HEIGHT / 2 - 7;
    return {
      x: low - 6,
      y,
      width: high - low + 12,
      height: PILL_HEIGHT + 14,
      text: `head ${headOf(nodeAt(spots[0]), circuit)}`,
    };
  }
}

export const logitWidth = (spot: number, plane: Unrolled, circuit: Circuit): number =>
  Math.max(PILL, 7 * visible(circuit.nodes[plane.spots[spot].node].text ?? "", 14).length + 18);

// What each spot is joined to at its own token.
function sameToken(plane: Unrolled): number[][] {
  const beside: number[][] = plane.spots.map(() => []);
  for (const { from, to } of plane.lines) {
    if (plane.spots[from].token !== plane.spots[to].token) continue;
    beside[from].push(to);
    beside[to].push(from);
  }
  return beside;
}

function grouped<Each, Key>(all: Each[], key: (each: Each) => Key): Map<Key, Each[]> {
  const groups = new Map<Key, Each[]>();
  for (const each of all) groups.set(key(each), [...(groups.get(key(each)) ?? []), each]);
  return groups;
}

const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
