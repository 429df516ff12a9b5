// A node at a token, as a pill: its channel, tinted by its activation there.

import type { Emphasis, Look } from "../graph/emphasis";
import { logitWidth, type Place } from "../graph/layout";
import { PILL, PILL_HEIGHT } from "../graph/sizes";
import type { Unrolled } from "../graph/unroll";
import { isEnd, isHead, nameOf, partOf } from "../names";
import { decimal, known, signed, visible } from "../numbers";
import { heat } from "../parts/Heat";
import { hideTip, showTip } from "../parts/tip";
import type { Prompt } from "../payload/prompt";
import type { Circuit, GraphNode } from "../payload/types";

interface Props {
  place: number;
  at: Place;
  circuit: Circuit;
  plane: Unrolled;
  prompt: Prompt | null;
  // The node's largest |activation| on the prompt.
  largest: number;
  look: Look;
  emphasis: Emphasis;
  onClick: () => void;
  onKeyDown: (event: KeyboardEvent) => void;
}

export function PlaneSpot({ place, at, circuit, plane, prompt, largest, look, emphasis, onClick, onKeyDown }: Props) {
  const spot = plane.spots[place];
  const node = circuit.nodes[spot.node];
  const name = nameOf(node);
  const label = look.labels[name];
  const held = prompt && node.site !== "logits" ? prompt.activation(spot.node, spot.token) : null;
  const classes = [
    "spot",
    isEnd(node) && "end",
    emphasis.selected.has(place) && "selected",
    emphasis.near.has(place) && "near",
    look.pinned.includes(name) && "pinned",
    look.gone.nodes.has(name) && "gone",
    look.found && (look.found.has(name) ? "found" : "unfound"),
    look.kinds?.get(spot.node),
  ].filter(Boolean);
  const tip = (
    <>
      <b>{name}</b>
      {label && <div>“{visible(label, 80)}”</div>}
      {prompt && (
        <div>
          at token <span class="token">{visible(prompt.tokens[spot.token])}</span>
        </div>
      )}
      {held !== null && <div>activation {signed(held)}</div>}
      {known(node.without) && <div>loss without it {decimal(node.without)}</div>}
    </>
  );
  const width = node.site === "logits" ? logitWidth(place, plane, circuit) : PILL;
  const pill = { x: -width / 2, y: -PILL_HEIGHT / 2, width, height: PILL_HEIGHT, rx: isHead(node.site) ? 4 : PILL_HEIGHT / 2 };
  return (
    <g
      class={classes.join(" ")}
      data-spot={place}
      data-node={name}
      tabindex={place === 0 ? 0 : -1}
      role="button"
      aria-pressed={emphasis.selected.has(place)}
      aria-label={label ? `${name}, ${label}` : name}
      transform={`translate(${at.x} ${at.y})`}
      onClick={onClick}
      onKeyDown={onKeyDown}
      onPointerMove={event => showTip(event, tip)}
      onPointerLeave={hideTip}
    >
      <rect {...pill} />
      {held !== null && <rect class="tint" {...pill} style={{ fill: heat(0.6 * held, largest) }} />}
      <text text-anchor="middle" y="3.5">
        {textOf(node)}
      </text>
      {label && (
        <text class="note" text-anchor="middle" y={-PILL_HEIGHT / 2 - 3}>
          {visible(label, 14)}
        </text>
      )}
    </g>
  );
}

function textOf(node: GraphNode): string {
  if (node.site === "logits") return visible(node.text ?? "", 14);
  return isHead(node.site) ? `${partOf(node.site)}${node.channel}` : String(node.channel);
}
