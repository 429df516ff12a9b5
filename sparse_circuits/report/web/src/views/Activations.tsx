// A node's activation on both prompts of the pair, token by token, in the circuit and in the whole model.

import { useState } from "preact/hooks";
import type { Where } from "../payload/prompt";
import { isOnItsWay, promptOf, whyNoPrompt } from "../prompt";
import { session } from "../session";
import { Heat, Scale } from "../parts/Heat";

export function Activations({ place }: { place: number }) {
  const [chosen, setWhere] = useState<Where>("circuit");
  const prompts = ([0, 1] as const).map(promptOf);
  if (!prompts[0] || !prompts[1])
    return (
      <section>
        <h4>On the pair</h4>
        <p class="none">
          {isOnItsWay.value
            ? "It is on its way from the server …"
            : (whyNoPrompt.value ?? "The pairs of this task are not in the package, so none is in this file.")}
        </p>
      </section>
    );
  const { wheres } = prompts[0],
    where = wheres.includes(chosen) ? chosen : "circuit";
  const values = prompts.map(prompt => prompt?.activations(place, where) ?? []);
  const largest = Math.max(...values.flat().map(Math.abs));
  return (
    <section>
      <h4>
        On pair {session.value.pair + 1}, token by token{" "}
        <span class="choice">
          {wheres.map(each => (
            <button type="button" aria-pressed={where === each} onClick={() => setWhere(each)}>
              {each === "circuit" ? "in the circuit" : "in the whole model"}
            </button>
          ))}
        </span>
      </h4>
      {wheres.length === 1 && <p class="about">Of this pair the server sends what nodes hold in the circuit alone.</p>}
      <Scale largest={largest} />
      {prompts.map(
        (prompt, side) =>
          prompt && (
            <div class={side === session.value.side ? "" : "beside"}>
              <h5>{side === session.value.side ? "this prompt" : "the pair's other prompt"}</h5>
              <Heat tokens={prompt.tokens} values={values[side]} largest={largest} mark={prompt.tokens.length - 1} />
            </div>
          ),
      )}
    </section>
  );
}
