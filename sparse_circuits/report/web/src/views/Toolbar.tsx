// What the picture shows: which prompt, what lines stand for, from what size on.

import { nPairs, promptOf } from "../prompt";
import { change, payload, session, type Meaning } from "../session";
import type { Circuit } from "../payload/types";
import { percent } from "../numbers";

const MEANINGS: Record<Meaning, string> = { weight: "weight", flow: "weight × activation", effect: "loss without it" };

export function Toolbar({ circuit }: { circuit: Circuit }) {
  const { pair, side, meaning, threshold, merged } = session.value,
    texts = payload.value.texts;
  const preview = (tokens: number[]) =>
    tokens
      .map(token => texts[token].slice(0, 60))
      .join("")
      .trim()
      .split("\n")
      .at(-1)
      ?.slice(-46) ?? "";
  return (
    <div class="toolbar">
      {circuit.pairs.length > 0 && (
        <>
          <label>
            Prompt{" "}
            <select value={pair} onChange={event => change({ pair: Number(event.currentTarget.value) })}>
              {circuit.pairs.map((each, i) => (
                <option value={i}>
                  {i + 1}: {preview(each.tokens[side])}
                </option>
              ))}
              {Array.from({ length: nPairs.value - circuit.pairs.length }, (_, i) => (
                <option value={circuit.pairs.length + i}>{circuit.pairs.length + i + 1}: asked of the server</option>
              ))}
            </select>
          </label>
          <span class="choice" role="group" aria-label="Side of the pair">
            {([0, 1] as const).map(each => (
              <button type="button" aria-pressed={side === each} onClick={() => change({ side: each })}>
                answer {promptOf(each)?.answer.text.slice(0, 12).replaceAll("\n", "↵")}
              </button>
            ))}
          </span>
          <span class="choice" role="group" aria-label="Tokens">
            {[false, true].map(each => (
              <button type="button" aria-pressed={merged === each} onClick={() => change({ merged: each })}>
                {each ? "all tokens as one" : "token by token"}
              </button>
            ))}
          </span>
        </>
      )}
      <label>
        Lines show{" "}
        <select value={meaning} onChange={event => change({ meaning: event.currentTarget.value as Meaning })}>
          {Object.entries(MEANINGS).map(([value, text]) => (
            <option value={value}>{text}</option>
          ))}
        </select>
      </label>
      <label title="Hide lines below this share of the largest">
        At least{" "}
        <input
          type="range"
          min="0"
          max="1"
          step="0.01"
          value={threshold}
          onInput={event => change({ threshold: Number(event.currentTarget.value) })}
        />{" "}
        <output>{percent(threshold, 0)}</output>
      </label>
    </div>
  );
}
