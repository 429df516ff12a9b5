// On a node's card: what to do to it before the model is asked.

import { useState } from "preact/hooks";
import { setIntervention, toggleAblation } from "../edits";
import { session } from "../session";

export function NodeEdits({ name }: { name: string }) {
  const [typed, setTyped] = useState("0"),
    own = session.value.interventions.find(each => each.node === name);
  const value = Number.isFinite(Number(typed)) ? Number(typed) : 0;
  return (
    <div class="row edits">
      <button type="button" aria-pressed={own?.kind === "ablate"} onClick={() => toggleAblation(name)}>
        {own ? "Undo the change" : "Ablate"}
      </button>
      <input type="number" step="any" aria-label="Value" value={typed} onInput={event => setTyped(event.currentTarget.value)} />
      <button type="button" onClick={() => setIntervention({ node: name, kind: "scale", value })}>
        Scale by it
      </button>
      <button type="button" onClick={() => setIntervention({ node: name, kind: "set", value })}>
        Set to it
      </button>
    </div>
  );
}
