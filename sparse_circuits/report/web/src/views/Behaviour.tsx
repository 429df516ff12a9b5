// A node on ordinary text: how often it is silent, how its activations lie, and where it is largest, typical, and smallest.

import { Matrix } from "../payload/packed";
import type { Behaviour as Found, Circuit, Sample } from "../payload/types";
import { payload } from "../session";
import { percent, short, signed } from "../numbers";
import { Heat } from "../parts/Heat";

const QUANTILES = [
  "highest",
  "top 0.1 %",
  "top 1 %",
  "top 10 %",
  "median",
  "bottom 10 %",
  "bottom 1 %",
  "bottom 0.1 %",
  "lowest",
];
const AROUND = 20,
  WIDE = 380,
  HIGH = 84;

export function Behaviour({ circuit, name }: { circuit: Circuit; name: string }) {
  const sample = payload.value.samples[circuit.model_hash],
    found = sample?.nodes[name];
  if (!found)
    return (
      <section>
        <h4>On ordinary text</h4>
        <p class="none">
          The tokens that this model was trained on were not at hand when the report was written, so there are no examples.
        </p>
      </section>
    );
  return (
    <section>
      <h4>On ordinary text</h4>
      <p class="about">
        In the whole model, over {short(sample.tokens.length)} tokens that it was trained on. It is exactly zero at{" "}
        {percent(found.silent, 0)} of them{found.histogram ? "; the others lie like this." : "."}
      </p>
      {found.histogram && <Histogram {...found.histogram} />}
      <Examples found={found} sample={sample} />
    </section>
  );
}

function Histogram({ low, high, counts }: { low: number; high: number; counts: number[] }) {
  // Small bins would vanish beside the largest.
  const most = Math.sqrt(Math.max(...counts)),
    width = WIDE / counts.length,
    zero = ((0 - low) / (high - low || 1)) * WIDE;
  return (
    <svg
      class="picture histogram"
      viewBox={`0 0 ${WIDE} ${HIGH + 18}`}
      role="img"
      aria-label={`Histogram of the activations from ${signed(low)} to ${signed(high)}`}
    >
      {counts.map((n, i) => {
        const middle = low + ((i + 0.5) * (high - low)) / counts.length,
          tall = (Math.sqrt(n) / most) * HIGH;
        return (
          <rect
            class={middle < 0 ? "negative" : "positive"}
            x={i * width + 0.5}
            width={width - 1}
            y={HIGH - tall}
            height={tall}
          >
            <title>
              {n} tokens near {signed(middle)}
            </title>
          </rect>
        );
      })}
      {zero > 0 && zero < WIDE && <line class="rule" x1={zero} x2={zero} y1="0" y2={HIGH} />}
      <text x="0" y={HIGH + 14}>
        {signed(low)}
      </text>
      <text x={WIDE} y={HIGH + 14} text-anchor="end">
        {signed(high)}
      </text>
      <text x={WIDE / 2} y={HIGH + 14} text-anchor="middle">
        heights are square roots
      </text>
    </svg>
  );
}

function Examples({ found, sample }: { found: Found; sample: Sample }) {
  const values = new Matrix(found.examples.values),
    texts = payload.value.texts;
  const largest = Math.max(...found.quantiles.map(value => Math.abs(value ?? 0)));
  let place = 0;
  return (
    <>
      {QUANTILES.map((title, i) => {
        const at = found.examples.at[i] ?? [];
        if (!at.length) return null;
        return (
          <div class="examples">
            <h5>
              {title} <span class="muted">{signed(found.quantiles[i])}</span>
            </h5>
            {at.map(token => {
              const first = token - (token % sample.n_pos),
                from = Math.max(first, token - AROUND),
                to = Math.min(first + sample.n_pos, token + AROUND + 1),
                row = place++;
              return (
                <Heat
                  tokens={sample.tokens.slice(from, to).map(text => texts[text])}
                  values={Array.from({ length: to - from }, (_, k) => values.at(row, from - token + AROUND + k))}
                  largest={largest}
                  mark={token - from}
                />
              );
            })}
          </div>
        );
      })}
    </>
  );
}
