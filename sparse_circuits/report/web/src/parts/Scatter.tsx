// Points of several kinds on a plane without axes: near is alike.

import { scaleLinear } from "d3-scale";
import type { ComponentChildren } from "preact";
import { known, type Maybe } from "../numbers";
import { hideTip, showTip } from "./tip";

interface Props {
  title: string;
  kinds: string[];
  points: { kind: string; at: [Maybe, Maybe]; tip: ComponentChildren }[];
}

const SIZE = { width: 460, height: 300, margin: 16 };
// Told apart by people who see few colours (Okabe and Ito); where they run out, they come again hollow.
const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"];

export function Scatter({ title, kinds, points }: Props) {
  const drawn = points.flatMap(({ at: [x, y], ...rest }) => (known(x) && known(y) ? [{ x, y, ...rest }] : []));
  const spread = (values: number[], range: [number, number]) =>
    scaleLinear([Math.min(...values), Math.max(...values)], range).nice();
  const x = spread(
    drawn.map(each => each.x),
    [SIZE.margin, SIZE.width - SIZE.margin],
  );
  const y = spread(
    drawn.map(each => each.y),
    [SIZE.height - SIZE.margin, SIZE.margin],
  );
  const look = (kind: string) => {
    const place = kinds.indexOf(kind),
      color = COLORS[place % COLORS.length];
    return { stroke: color, fill: place < COLORS.length ? color : "none" };
  };
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <svg class="picture" viewBox={`0 0 ${SIZE.width} ${SIZE.height}`} role="img" aria-label={title}>
        {drawn.map(each => (
          <circle
            class="spot"
            cx={x(each.x)}
            cy={y(each.y)}
            r="5"
            style={look(each.kind)}
            onPointerMove={event => showTip(event, <>{each.tip}</>)}
            onPointerLeave={hideTip}
          />
        ))}
      </svg>
      <div class="readout">
        {kinds.map(kind => (
          <span>
            <i class="swatch" style={{ background: look(kind).fill, boxShadow: `inset 0 0 0 2px ${look(kind).stroke}` }} />
            {kind}
          </span>
        ))}
      </div>
    </figure>
  );
}
