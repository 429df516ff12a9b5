// Circuits by number of edges and loss.

import { scaleLinear, scaleLog } from "d3-scale";
import type { Circuit } from "../payload/types";
import { openCircuit } from "../session";
import { decimal, known, short } from "../numbers";
import { hideTip, showTip } from "../parts/tip";

const SIZE = { width: 460, height: 260, left: 52, right: 24, top: 22, bottom: 40 },
  BOUND = 0.2;

export function Frontier({ circuits }: { circuits: Circuit[] }) {
  const points = circuits.flatMap((circuit, place) => {
    const check = circuit.checks.find(each => each.name === "circuit");
    return known(check?.loss) && circuit.n_edges > 0
      ? [{ circuit, place, loss: check.loss, low: check.low ?? check.loss, high: check.high ?? check.loss }]
      : [];
  });
  if (!points.length) return <p class="none">No circuit has a card yet.</p>;
  const edges = points.map(each => each.circuit.n_edges);
  const x = scaleLog([Math.min(...edges) / 1.3, Math.max(...edges) * 1.5], [SIZE.left, SIZE.width - SIZE.right]).nice();
  const y = scaleLinear(
    [0, Math.max(BOUND * 1.2, ...points.map(each => each.high)) * 1.05],
    [SIZE.height - SIZE.bottom, SIZE.top],
  );
  return (
    <svg class="picture chart" viewBox={`0 0 ${SIZE.width} ${SIZE.height}`} role="img" aria-label="Circuits by edges and loss">
      {y.ticks(4).map(tick => (
        <>
          <line class="rule" x1={SIZE.left} x2={SIZE.width - SIZE.right} y1={y(tick)} y2={y(tick)} />
          <text x={SIZE.left - 8} y={y(tick) + 4} text-anchor="end">
            {short(tick)}
          </text>
        </>
      ))}
      {x
        .ticks(4)
        .filter(tick => /^[125]e/.test(tick.toExponential()))
        .map(tick => (
          <text x={x(tick)} y={SIZE.height - 22} text-anchor="middle">
            {short(tick)}
          </text>
        ))}
      <text x={(SIZE.left + SIZE.width - SIZE.right) / 2} y={SIZE.height - 5} text-anchor="middle">
        edges
      </text>
      <text x={SIZE.left} y="10">
        loss
      </text>
      <line class="level" x1={SIZE.left} x2={SIZE.width - SIZE.right} y1={y(BOUND)} y2={y(BOUND)} />
      <text x={SIZE.width - SIZE.right} y={y(BOUND) - 5} text-anchor="end">
        must stay below
      </text>
      {points.map(({ circuit, place, loss, low, high }, i) => (
        <g
          class={`point ${circuit.verdict.startsWith("holds") ? "" : "hollow"}`}
          role="button"
          tabindex={0}
          aria-label={`${circuit.task}: ${circuit.n_edges} edges, loss ${decimal(loss)}`}
          onClick={() => openCircuit(place)}
          onKeyDown={event => {
            if (event.key === "Enter") openCircuit(place);
          }}
          onPointerMove={event =>
            showTip(
              event,
              <>
                <b>{circuit.task}</b>
                <div>
                  {circuit.n_edges} edges, {circuit.n_nodes} nodes
                </div>
                <div>
                  loss {decimal(loss)}, {decimal(low)} to {decimal(high)}
                </div>
              </>,
            )
          }
          onPointerLeave={hideTip}
        >
          <line x1={x(circuit.n_edges)} x2={x(circuit.n_edges)} y1={y(low)} y2={y(high)} />
          <circle cx={x(circuit.n_edges)} cy={y(loss)} r="5" />
          {points.length <= 8 && (
            <text x={x(circuit.n_edges)} y={y(high) - 6 - 10 * (i % 2)} text-anchor="middle">
              {circuit.task}
            </text>
          )}
        </g>
      ))}
    </svg>
  );
}
