// A line between two spots.

import { valueOf, type Emphasis, type Look } from "../graph/emphasis";
import type { Layout } from "../graph/layout";
import { PILL_HEIGHT } from "../graph/sizes";
import type { Line, LineKind, Unrolled } from "../graph/unroll";
import { nameOf } from "../names";
import { decimal, exact, known, percent, signed, signOf, visible } from "../numbers";
import { hideTip, showTip } from "../parts/tip";
import type { Prompt } from "../payload/prompt";
import type { Circuit } from "../payload/types";

interface Props {
  place: number;
  circuit: Circuit;
  plane: Unrolled;
  layout: Layout;
  prompt: Prompt | null;
  look: Look;
  emphasis: Emphasis;
  onEdge?: (source: string, target: string) => void;
}

const WORDS: Record<LineKind, string> = {
  edge: "weight of the circuit",
  readout: "weight of the unembedding, last norm's gain included",
  stream: "carried by the residual stream",
  match: "query and key meet in the head's score",
};

export function PlaneLine({ place, circuit, plane, layout, prompt, look, emphasis, onEdge }: Props) {
  const line = plane.lines[place];
  const [from, to] = [plane.spots[line.from], plane.spots[line.to]];
  const [source, target] = [from, to].map(spot => nameOf(circuit.nodes[spot.node]));
  const value = valueOf(line, look.meaning);
  const classes = [
    "link",
    line.kind,
    signOf(line.kind === "match" ? line.flow : value),
    emphasis.active.has(place) && "active",
    look.gone.cuts.has(`${source} → ${target}`) && "cut",
    !known(value) && line.kind !== "stream" && "unmeasured",
    [from, to].map(spot => look.kinds?.get(spot.node)).find(kind => kind !== "both"),
  ].filter(Boolean);
  const width = {
    stream: 2,
    match: 1.2,
    edge: 0.8 + 4 * emphasis.strength[place],
    readout: 0.8 + 4 * emphasis.strength[place],
  };
  const tip = (
    <>
      <div class="mono">
        {source} → {target}
      </div>
      <div class="muted">{WORDS[line.kind]}</div>
      {line.weight !== null && (
        <div>
          weight <b>{exact(line.weight)}</b>
        </div>
      )}
      {known(line.flow) && line.kind !== "stream" && (
        <div>
          {line.kind === "match" ? "product of query and key" : "weight × activation"} <b>{signed(line.flow)}</b>
        </div>
      )}
      {line.share !== undefined && prompt && (
        <div>
          attention {percent(line.share, 0)} from {visible(prompt.tokens[to.token])} to {visible(prompt.tokens[from.token])}
        </div>
      )}
      {known(line.effect) && (
        <div>
          without it the loss rises by <b>{decimal(line.effect)}</b>
        </div>
      )}
    </>
  );
  const d = curve(layout, plane, line);
  return (
    <g>
      <path class={classes.join(" ")} d={d} stroke-width={width[line.kind]} />
      <path
        class="reach"
        d={d}
        data-edge={`${source} → ${target}`}
        onClick={() => onEdge?.(source, target)}
        onPointerMove={event => showTip(event, tip)}
        onPointerLeave={hideTip}
      />
    </g>
  );
}

function curve(layout: Layout, plane: Unrolled, line: Line): string {
  const [from, to, half] = [layout.at[line.from], layout.at[line.to], PILL_HEIGHT / 2];
  if (line.kind === "match") {
    const depth = half + (plane.spots[line.from].token === plane.spots[line.to].token ? 16 : 24);
    return `M${from.x} ${from.y + half}C${from.x} ${from.y + depth} ${to.x} ${to.y + depth} ${to.x} ${to.y + half}`;
  }
  const [y1, y2] = [from.y - half, to.y + half];
  const middle = (y1 + y2) / 2;
  return `M${from.x} ${y1}C${from.x} ${middle} ${to.x} ${middle} ${to.x} ${y2}`;
}
