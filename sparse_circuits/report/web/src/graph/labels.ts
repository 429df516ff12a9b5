// Where the numbers of lines are written: the strongest first, and none over another.

import { known, signed } from "../numbers";
import { valueOf, type Emphasis, type Look } from "./emphasis";
import type { Layout, Place } from "./layout";
import { PILL_HEIGHT } from "./sizes";
import type { Line, Unrolled } from "./unroll";

export interface Label extends Place {
  value: number;
  text: string;
}

const LETTER = 5.6;
const HEIGHT = 11;

export function labelsOf(plane: Unrolled, layout: Layout, look: Look, emphasis: Emphasis): Label[] {
  const labels: Label[] = [];
  const strongest = [...emphasis.labelled].sort((a, b) => emphasis.strength[b] - emphasis.strength[a]);
  for (const i of strongest) {
    const value = valueOf(plane.lines[i], look.meaning);
    if (!known(value)) continue;
    const place = placeOf(layout, plane.lines[i], look.traced ? null : emphasis.selected);
    const label = { ...place, value, text: signed(value, 2) };
    if (!labels.some(other => overlap(label, other))) labels.push(label);
  }
  return labels;
}

// At the end away from the selected node, where its lines have parted.
function placeOf(layout: Layout, line: Line, selected: Set<number> | null): Place {
  const [from, to] = [layout.at[line.from], layout.at[line.to]];
  if (selected?.has(line.from)) return { x: to.x, y: to.y + PILL_HEIGHT / 2 + 12 };
  if (selected?.has(line.to)) return { x: from.x, y: from.y - PILL_HEIGHT / 2 - 4 };
  return { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 + 3 };
}

function overlap(one: Label, other: Label): boolean {
  const apart = (LETTER * (one.text.length + other.text.length)) / 2;
  return Math.abs(one.x - other.x) < apart && Math.abs(one.y - other.y) < HEIGHT;
}
