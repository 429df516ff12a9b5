// Lines over one axis, with bands of uncertainty and a read-out that follows the pointer or the arrow keys.

import { scaleLinear, scaleLog } from "d3-scale";
import { area, line } from "d3-shape";
import { useState } from "preact/hooks";
import { known, short, type Maybe } from "../numbers";

export interface Series {
  label: string;
  color: string;
  x: number[];
  y: Maybe[];
  low?: Maybe[];
  high?: Maybe[];
  thin?: boolean;
}
interface Props {
  title: string;
  axis: string;
  series: Series[];
  log?: boolean;
  level?: { at: number; label: string };
}

const SIZE = { width: 460, height: 240, left: 52, right: 14, top: 12, bottom: 36 };

export function LineChart({ title, axis, series, log, level }: Props) {
  const [at, setAt] = useState<number | null>(null);
  const isDrawn = (y: Maybe): y is number => known(y) && (!log || y > 0);
  const xs = [...new Set(series.flatMap(each => each.x))].sort((a, b) => a - b);
  const ys = series
    .flatMap(each => [...each.y, ...(each.low ?? []), ...(each.high ?? [])])
    .concat(level ? [level.at] : [])
    .filter(isDrawn);
  if (!xs.length || !ys.length)
    return (
      <figure class="chart">
        <figcaption>{title}</figcaption>
        <p class="none">Nothing was measured.</p>
      </figure>
    );
  const [low, high] = [Math.min(...ys), Math.max(...ys)],
    margin = 0.05 * (high - low || Math.abs(high) || 1);
  const x = scaleLinear([xs[0], xs[xs.length - 1]], [SIZE.left, SIZE.width - SIZE.right]);
  const vertical = [SIZE.height - SIZE.bottom, SIZE.top];
  const y = log ? scaleLog([low / 1.1, high * 1.1], vertical) : scaleLinear([low - margin, high + margin], vertical);
  // A few whole numbers, such as places, are all named.
  const steps = xs.length <= 12 && xs.every(Number.isInteger) ? xs : x.ticks(5);
  const points = (each: Series) => each.x.map((step, i) => [step, each.y[i], each.low?.[i], each.high?.[i]] as const);
  const drawn = line<readonly [number, Maybe, Maybe, Maybe]>(
    ([step]) => x(step),
    ([, value]) => y(value as number),
  ).defined(([, value]) => isDrawn(value));
  const band = area<readonly [number, Maybe, Maybe, Maybe]>()
    .x(([step]) => x(step))
    .y0(([, , from]) => y(from as number))
    .y1(([, , , to]) => y(to as number))
    .defined(([, , from, to]) => isDrawn(from) && isDrawn(to));
  const nearest = (step: number, among: number[]) =>
    among.reduce((best, each) => (Math.abs(each - step) < Math.abs(best - step) ? each : best), among[0]);
  const shown = at ?? xs[xs.length - 1];

  const follow = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    setAt(nearest(x.invert(((event.clientX - box.left) / box.width) * SIZE.width), xs));
  };
  const walk = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    setAt(xs[Math.min(xs.length - 1, Math.max(0, xs.indexOf(shown) + by))]);
  };
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <svg
        class="picture"
        viewBox={`0 0 ${SIZE.width} ${SIZE.height}`}
        tabindex={0}
        role="img"
        aria-label={`${title} over ${axis}; arrow keys move the read-out`}
        onPointerMove={follow}
        onPointerLeave={() => setAt(null)}
        onKeyDown={walk}
      >
        {(log ? y.ticks(4).filter(tick => /^[125]/.test(tick.toExponential())) : y.ticks(4)).map(tick => (
          <>
            <line class="rule" x1={SIZE.left} x2={SIZE.width - SIZE.right} y1={y(tick)} y2={y(tick)} />
            <text x={SIZE.left - 8} y={y(tick) + 4} text-anchor="end">
              {short(tick)}
            </text>
          </>
        ))}
        {steps.map(tick => (
          <text x={x(tick)} y={SIZE.height - 20} text-anchor="middle">
            {short(tick)}
          </text>
        ))}
        <text x={(SIZE.left + SIZE.width - SIZE.right) / 2} y={SIZE.height - 4} text-anchor="middle">
          {axis}
        </text>
        {level && (
          <>
            <line class="level" x1={SIZE.left} x2={SIZE.width - SIZE.right} y1={y(level.at)} y2={y(level.at)} />
            <text x={SIZE.width - SIZE.right} y={y(level.at) - 4} text-anchor="end">
              {level.label}
            </text>
          </>
        )}
        {at !== null && <line class="cursor" x1={x(shown)} x2={x(shown)} y1={SIZE.top} y2={SIZE.height - SIZE.bottom} />}
        {series.map(each => each.low && <path class="band" d={band(points(each)) ?? ""} style={{ fill: each.color }} />)}
        {series.map(each => (
          <path class="line" d={drawn(points(each)) ?? ""} style={{ stroke: each.color, strokeWidth: each.thin ? "1" : "2" }} />
        ))}
        {series.map(
          each =>
            each.x.length === 1 &&
            isDrawn(each.y[0]) && <circle cx={x(each.x[0])} cy={y(each.y[0])} r="3" style={{ fill: each.color }} />,
        )}
      </svg>
      <div class="readout" aria-live="polite">
        <span>
          {axis} {short(shown)}
        </span>
        {series.map(each => {
          const value = each.x.length ? each.y[each.x.indexOf(nearest(shown, each.x))] : null;
          return (
            <span>
              <i class="swatch" style={{ background: each.color }} />
              {each.label} <b>{short(value)}</b>
            </span>
          );
        })}
      </div>
    </figure>
  );
}
