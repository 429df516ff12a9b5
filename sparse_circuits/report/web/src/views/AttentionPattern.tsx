// Where the node's head looks on this prompt: rows are queries, columns keys, and the sink, which takes what no key gets.

import { useState } from "preact/hooks";
import type { Circuit, GraphNode } from "../payload/types";
import { headOf, layerOf } from "../names";
import { decimal, percent, visible } from "../numbers";
import { prompt } from "../prompt";
import { session } from "../session";
import { hideTip, showTip } from "../parts/tip";

const SIDE = 360;

export function AttentionPattern({ circuit, node }: { circuit: Circuit; node: GraphNode }) {
  const layer = layerOf(node.site),
    head = headOf(node, circuit),
    found = prompt.value;
  const [query, setQuery] = useState<number | null>(null);
  const last = (found?.tokens.length ?? 0) - 1,
    shown = query !== null && query <= last ? query : last;
  const row = found?.attention(layer, head, shown);
  if (!found || !row) return null;
  const cell = Math.min(18, SIDE / (last + 3)),
    error = circuit.pattern_error[`${layer}.attn head ${head}`];
  const top = row
    .slice(0, -1)
    .map((share, key) => ({ share, key }))
    .sort((a, b) => b.share - a.share)
    .slice(0, 5);
  return (
    <section>
      <h4>
        Attention of layer {layer}, head {head}, in the circuit
      </h4>
      <p class="about">
        Each row is a token that looks back, each column a token it looks at; the last column is the sink, which takes what no
        token gets.{" "}
        {error !== undefined && error !== null && (
          <>
            Over held-out pairs it differs by {decimal(error, 2)} from the whole model's (0 is the same, 2 nothing in common).
          </>
        )}
      </p>
      <svg
        class="picture pattern"
        viewBox={`0 0 ${(last + 3) * cell} ${(last + 1) * cell}`}
        width={(last + 3) * cell}
        role="img"
        aria-label={`Attention pattern of prompt ${session.value.pair + 1}`}
      >
        {Array.from({ length: last + 1 }, (_, q) =>
          found.attention(layer, head, q)?.map((share, key) => {
            const isSink = key === q + 1;
            return share > 0.004 || q === shown ? (
              <rect
                x={(isSink ? last + 2 : key) * cell}
                y={q * cell}
                width={cell - 0.6}
                height={cell - 0.6}
                class={q === shown ? "row" : ""}
                style={{ fillOpacity: String(share) }}
                onClick={() => setQuery(q)}
                onPointerMove={event =>
                  showTip(
                    event,
                    <>
                      {visible(found.tokens[q])} looks at {isSink ? "the sink" : visible(found.tokens[key])}:{" "}
                      <b>{percent(share, 0)}</b>
                    </>,
                  )
                }
                onPointerLeave={hideTip}
              />
            ) : null;
          }),
        )}
        <line class="rule" x1={(last + 1.5) * cell} x2={(last + 1.5) * cell} y1="0" y2={(last + 1) * cell} />
      </svg>
      <ul class="bars" aria-label={`Where token ${shown + 1} looks`}>
        {[
          ...top.map(({ share, key }) => [`${visible(found.tokens[key], 22)}`, share, `token ${key + 1}`] as const),
          ["sink", row.at(-1) ?? 0, "no token"] as const,
        ].map(([text, share, about]) => (
          <li>
            <span class="token" title={about}>
              {text}
            </span>
            <i>
              <b style={{ width: `${100 * share}%` }} />
            </i>
            <span>{percent(share, 0)}</span>
          </li>
        ))}
      </ul>
      <p class="about">
        Token {shown + 1}, <span class="token">{visible(found.tokens[shown])}</span>, looks there. Click a row for another
        token.
      </p>
    </section>
  );
}
