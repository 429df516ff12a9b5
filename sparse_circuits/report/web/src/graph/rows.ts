// Which row a site stands in, bottom to top, and the bands of sublayers.

import type { Circuit } from "../payload/types";
import { partOf } from "../names";
import { PILL_HEIGHT } from "./sizes";
import type { Unrolled } from "./unroll";

const ROW = 46;
const GAP = 20;
const TOP = 28;
const MARGIN = PILL_HEIGHT / 2 + 10;

export interface Band {
  name: string;
  y: number;
  height: number;
}

// What a sublayer reads, what is inside it, what it writes.
const STOREYS: Record<string, number> = { act_in: 0, q: 1, k: 1, v: 1, post_act: 1, resid_delta: 2 };
const ENDS: Record<string, number> = { embed: -1, final_resid: Infinity, logits: Infinity };

// A row's name, such as `0.mlp 2`: its band, and the storey there.
export function rowOf(site: string): string {
  return site in ENDS ? site : `${site.split(".").slice(0, 2).join(".")} ${STOREYS[partOf(site)]}`;
}

const bandOf = (row: string): string => row.split(" ")[0];

function isBelow(row: string, other: string): boolean {
  const rank = (each: string) => ENDS[each] ?? 10 * parseInt(each, 10) + (each.includes("mlp") ? 5 : 0) + Number(each.at(-1));
  return rank(row) < rank(other) || (row === "final_resid" && other === "logits");
}

export function rowsOf(circuit: Circuit, plane: Unrolled): { y: Map<string, number>; bands: Band[]; height: number } {
  const present = new Set(plane.spots.map(spot => rowOf(circuit.nodes[spot.node].site)));
  const topDown = [...present].sort((a, b) => Number(isBelow(a, b)) - Number(isBelow(b, a)));
  const y = new Map<string, number>();
  const bands: Band[] = [];
  let next = TOP;
  topDown.forEach((row, i) => {
    const band = bands.at(-1);
    if (i) next += band?.name === bandOf(row) ? ROW : ROW + GAP;
    y.set(row, next);
    if (band?.name === bandOf(row)) band.height = next - band.y + MARGIN;
    else bands.push({ name: bandOf(row), y: next - MARGIN, height: 2 * MARGIN });
  });
  return { y, bands, height: next };
}
