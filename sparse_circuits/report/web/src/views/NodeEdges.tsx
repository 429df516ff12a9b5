// What a node reads and writes: in the circuit with exact weights, and in the whole model around it.

import { useState } from "preact/hooks";
import type { Circuit, Num } from "../payload/types";
import { selectNode } from "../session";
import { notes } from "../notes";
import { nameOf } from "../names";
import { decimal, known } from "../numbers";
import { Weight } from "../parts/text";

interface Row {
  node: string;
  weight: Num;
  without?: Num;
  isStream?: boolean;
}

export function NodeEdges({ circuit, place }: { circuit: Circuit; place: number }) {
  const [isWhole, setWhole] = useState(false),
    whole = circuit.nodes[place].in_model,
    names = new Set(circuit.nodes.map(nameOf));
  const rows = (end: 0 | 1): Row[] => {
    const other = (link: readonly [number, number, ...unknown[]]) => nameOf(circuit.nodes[end ? link[0] : link[1]]);
    return [
      ...[...circuit.edges, ...circuit.unembedding]
        .filter(link => link[end] === place)
        .map(link => ({ node: other(link), weight: link[2], without: link[3] as Num | undefined })),
      ...circuit.residual
        .filter(link => link[end] === place)
        .map(link => ({ node: other(link), weight: link[2], isStream: true })),
    ].sort((a, b) => Math.abs(b.weight ?? 0) - Math.abs(a.weight ?? 0));
  };
  const list = (title: string, found: Row[], total?: number) => (
    <div>
      <h5>
        {title}
        {total !== undefined && total > found.length && (
          <span class="muted">
            {" "}
            {found.length} of {total}
          </span>
        )}
      </h5>
      {found.length ? (
        <ul class="edges">
          {found.map(({ node, weight, without, isStream }) => (
            <li class={isWhole && names.has(node) ? "own" : ""}>
              {names.has(node) ? (
                <button type="button" onClick={() => selectNode(node)} title={notes.value.labels[node]}>
                  {node}
                </button>
              ) : (
                <code>{node}</code>
              )}
              {isStream && !known(weight) ? <span class="muted">by token</span> : <Weight value={weight} />}
              {known(without) && (
                <span class="muted" title="Loss of the circuit without this edge">
                  {decimal(without, 2)}
                </span>
              )}
            </li>
          ))}
        </ul>
      ) : (
        <p class="none">nothing</p>
      )}
    </div>
  );
  const outside = (links: [string, Num][]) => links.map(([node, weight]) => ({ node, weight }));
  return (
    <section>
      <h4>
        Edges{" "}
        {whole && (
          <span class="choice">
            {[false, true].map(each => (
              <button type="button" aria-pressed={isWhole === each} onClick={() => setWhole(each)}>
                {each ? `in the whole model (${whole.n_in + whole.n_out})` : "in the circuit"}
              </button>
            ))}
          </span>
        )}
      </h4>
      {isWhole && whole ? (
        <div class="two">
          {list("Reads", outside(whole.into), whole.n_in)}
          {list("Writes", outside(whole.out), whole.n_out)}
        </div>
      ) : (
        <div class="two">
          {list("Reads", rows(1))}
          {list("Writes", rows(0))}
        </div>
      )}
    </section>
  );
}
