// Pinned nodes side by side on the prompt.

import { prompt } from "../prompt";
import { change, selectNode, session } from "../session";
import { notes } from "../notes";
import { nameOf } from "../names";
import type { Circuit } from "../payload/types";
import { Heat } from "../parts/Heat";
import { Panel } from "../parts/Panel";

export function Pinned({ circuit }: { circuit: Circuit }) {
  const rows = session.value.pinned
    .map(name => ({ name, place: circuit.nodes.findIndex(node => nameOf(node) === name) }))
    .filter(({ place }) => place >= 0);
  const here = prompt.value;
  if (!rows.length) return null;
  return (
    <Panel
      title="Pinned nodes"
      about="Their activations in the circuit on this prompt, each on its own scale."
      data={() => rows.map(({ name, place }) => ({ name, activations: here?.activations(place) }))}
    >
      {rows.map(({ name, place }) => {
        const values = here?.activations(place) ?? [];
        return (
          <div class="pinned-row">
            <button type="button" class="name" onClick={() => selectNode(name)}>
              {notes.value.labels[name] ?? name}
            </button>
            {here && (
              <Heat
                tokens={here.tokens}
                values={values}
                largest={Math.max(...values.map(Math.abs), 0)}
                mark={here.tokens.length - 1}
              />
            )}
            <button
              type="button"
              aria-label={`Unpin ${name}`}
              onClick={() => change({ pinned: session.value.pinned.filter(each => each !== name) })}
            >
              ✕
            </button>
          </div>
        );
      })}
    </Panel>
  );
}
