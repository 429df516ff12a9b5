// The picture of a circuit: tokens from left to right, sublayers from bottom to top, channels of the stream as vertical wires.

import type { RefObject } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { emphasise, type Look } from "../graph/emphasis";
import { labelsOf } from "../graph/labels";
import { layoutOf, type Place } from "../graph/layout";
import { pan, type Pan } from "../graph/pan";
import type { Unrolled } from "../graph/unroll";
import { nameOf } from "../names";
import { signOf } from "../numbers";
import type { Prompt } from "../payload/prompt";
import type { Circuit } from "../payload/types";
import { BandNames, Bands, Heads, Tokens } from "./PlaneGround";
import { PlaneLine } from "./PlaneLine";
import { PlaneSpot } from "./PlaneSpot";

interface Props {
  circuit: Circuit;
  plane: Unrolled;
  // Null where all tokens are one.
  prompt: Prompt | null;
  look: Look;
  onNode: (name: string) => void;
  onEdge?: (source: string, target: string) => void;
  control?: RefObject<Pan | null>;
}

export function PlaneView({ circuit, plane, prompt, look, onNode, onEdge, control }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const picture = useRef<SVGSVGElement>(null);
  const own: RefObject<Pan | null> = useRef(null);
  const moved = control ?? own;
  const layout = useMemo(() => layoutOf(circuit, plane, prompt?.tokens ?? null), [circuit, plane, prompt]);
  const emphasis = useMemo(
    () => emphasise(circuit, plane, look),
    [circuit, plane, look.meaning, look.threshold, look.node, look.traced],
  );
  // Each node on its own scale, over the whole prompt.
  const largest = useMemo(
    () => circuit.nodes.map((_, i) => Math.max(0, ...(prompt?.activations(i) ?? []).map(Math.abs))),
    [circuit, prompt],
  );

  useEffect(() => {
    const found = pan(frame.current as HTMLElement, picture.current as SVGSVGElement);
    moved.current = found;
    found.fit();
    return () => found.stop();
  }, [layout]);
  useEffect(() => {
    const last = [...emphasis.selected].at(-1);
    if (last !== undefined) moved.current?.show(layout.at[last].x, layout.at[last].y);
  }, [look.node, layout]);

  function keyed(event: KeyboardEvent, i: number): void {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) focusOn(nearest(layout.at, i, step[0], step[1]));
    else if (event.key === "Enter" || event.key === " ") onNode(nameOf(circuit.nodes[plane.spots[i].node]));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function focusOn(i: number): void {
    moved.current?.show(layout.at[i].x, layout.at[i].y);
    picture.current?.querySelector<SVGGElement>(`[data-spot="${i}"]`)?.focus({ preventScroll: true });
  }

  const shared = { circuit, plane, layout, prompt, look, emphasis };
  return (
    <div class="frame" ref={frame}>
      <Bands layout={layout} />
      <div class="mover">
        <svg
          ref={picture}
          class={`picture graph ${emphasis.near.size ? "focus" : ""}`}
          viewBox={`0 0 ${layout.width} ${layout.height}`}
          role="group"
          aria-label={`Graph of the circuit ${circuit.task}: arrow keys walk between nodes, Enter selects`}
        >
          {prompt && <Tokens circuit={circuit} layout={layout} prompt={prompt} node={look.node} />}
          <Heads layout={layout} />
          {layout.wires.map(({ x, y1, y2 }) => (
            <line class="wire" x1={x} x2={x} y1={y1} y2={y2} />
          ))}
          {[...emphasis.shown].map(i => (
            <PlaneLine key={i} place={i} {...shared} onEdge={onEdge} />
          ))}
          {plane.spots.map(
            (spot, i) =>
              !emphasis.hidden.has(i) && (
                <PlaneSpot
                  key={i}
                  place={i}
                  at={layout.at[i]}
                  largest={largest[spot.node]}
                  {...shared}
                  onClick={() => onNode(nameOf(circuit.nodes[spot.node]))}
                  onKeyDown={event => keyed(event, i)}
                />
              ),
          )}
          {labelsOf(plane, layout, look, emphasis).map(({ x, y, value, text }) => (
            <text class={`number ${signOf(value)}`} x={x} y={y} text-anchor="middle">
              {text}
            </text>
          ))}
        </svg>
      </div>
      <BandNames layout={layout} />
    </div>
  );
}

function nearest(at: Place[], here: number, dx: number, dy: number): number {
  const cost = ({ x, y }: Place) => {
    const [right, down] = [x - at[here].x, y - at[here].y];
    const [ahead, aside] = dx ? [right * dx, Math.abs(down)] : [down * dy, Math.abs(right)];
    return ahead > 1 ? ahead + 3 * aside : Infinity;
  };
  return at.reduce((best, place, i) => (cost(place) < cost(at[best]) ? i : best), here);
}
