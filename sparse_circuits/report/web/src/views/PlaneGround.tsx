// What spots and lines stand on: sublayers as bands, tokens at the foot, boxes around heads.

import type { ComponentChildren } from "preact";
import type { Layout } from "../graph/layout";
import { LEFT } from "../graph/sizes";
import { nameOf } from "../names";
import { visible } from "../numbers";
import { heat } from "../parts/Heat";
import type { Prompt } from "../payload/prompt";
import type { Circuit } from "../payload/types";

// Rows have pictures of their own, behind and before the moving one: they follow it up and down alone.
function Rows({ layout, children }: { layout: Layout; children: ComponentChildren }) {
  return (
    <svg class="rows" viewBox={`0 0 ${LEFT} ${layout.height}`} preserveAspectRatio="xMinYMin" aria-hidden="true">
      {children}
    </svg>
  );
}

export const Bands = ({ layout }: { layout: Layout }) => (
  <Rows layout={layout}>
    {layout.bands.map((band, i) => (
      <rect class={`band ${i % 2 ? "odd" : ""}`} x="0" y={band.y} width="6000" height={band.height} />
    ))}
  </Rows>
);

export const BandNames = ({ layout }: { layout: Layout }) => (
  <Rows layout={layout}>
    {layout.bands.map(band => (
      <text x="14" y={band.y + band.height / 2 + 4}>
        {bandName(band.name)}
      </text>
    ))}
  </Rows>
);

function bandName(site: string): string {
  const ends: Record<string, string> = { embed: "embedding", final_resid: "final stream", logits: "answers" };
  const [layer, sublayer] = site.split(".");
  return ends[site] ?? `layer ${layer} ${sublayer === "mlp" ? "MLP" : "attention"}`;
}

// Tokens are tinted by the selected node.
export function Tokens({
  circuit,
  layout,
  prompt,
  node,
}: {
  circuit: Circuit;
  layout: Layout;
  prompt: Prompt;
  node: string | null;
}) {
  const chosen = circuit.nodes.findIndex(each => nameOf(each) === node);
  const values = chosen < 0 ? [] : prompt.activations(chosen);
  const largest = Math.max(...values.map(Math.abs), 1e-9);
  return (
    <>
      {layout.columns.map(({ token, x, width, skipped }) => (
        <g class="column">
          <rect
            class="text"
            x={x - 4}
            width={width + 8}
            y={layout.bottom + 22}
            height="24"
            rx="5"
            style={values.length ? { fill: heat(values[token], largest) } : undefined}
          />
          <text x={x + width / 2} y={layout.bottom + 38} text-anchor="middle">
            {visible(prompt.tokens[token], 18)}
          </text>
          <text class="faint" x={x + width / 2} y={layout.bottom + 58} text-anchor="middle">
            {token === prompt.tokens.length - 1 ? "answer is read here" : `token ${token + 1}`}
          </text>
          {skipped > 0 && (
            <text class="faint" x={x - 24} y={layout.bottom + 38} text-anchor="middle">
              ⋯{skipped}
            </text>
          )}
        </g>
      ))}
    </>
  );
}

export const Heads = ({ layout }: { layout: Layout }) => (
  <>
    {layout.boxes.map(({ x, y, width, height, text }) => (
      <g class="head">
        <rect x={x} y={y} width={width} height={height} rx="7" />
        <text x={x + 4} y={y - 3}>
          {text}
        </text>
      </g>
    ))}
  </>
);
