// The faithfulness card: everything that was held against the circuit, drawn on one scale.

import type { Check, Circuit } from "../payload/types";
import { CHAPTERS } from "../checks";
import { decimal, percent } from "../numbers";
import { nameOf } from "../names";
import { change } from "../session";
import { Panel } from "../parts/Panel";
import { Table } from "../parts/Table";
import { CHANCE, CheckAxis, CheckRow } from "./CheckRow";

export function CardView({ circuit }: { circuit: Circuit }) {
  if (!circuit.checks.length)
    return (
      <>
        <div class="title">
          <h2>{circuit.task}</h2>
        </div>
        <section class="panel">
          <p class="none">This circuit has no card: nothing was held against it yet. `sparse-circuits extract` writes one.</p>
        </section>
      </>
    );
  const drawn = new Set<Check>();
  return (
    <>
      <div class="title">
        <h2>{circuit.task}</h2>
        <p class={`verdict ${circuit.verdict.startsWith("holds") ? "holds" : "fails"}`}>{circuit.verdict}</p>
        <p class="lede">
          Losses on {circuit.n_pairs} held-out pairs, in nats: 0 is always right, {decimal(CHANCE, 2)} is guessing, more is
          worse than guessing. Dots are means, bars 95 % intervals. A green zone is where the loss has to be, an arrow a loss
          beyond the scale.
        </p>
      </div>
      <div class="masonry">
        {CHAPTERS.map(chapter => {
          const checks = circuit.checks.filter(chapter.holds);
          checks.forEach(check => drawn.add(check));
          return (
            checks.length > 0 && (
              <Panel title={chapter.title} about={chapter.about} data={() => checks}>
                {checks.map(check => (
                  <CheckRow check={check} />
                ))}
                <CheckAxis />
              </Panel>
            )
          );
        })}
        {circuit.checks.some(check => !drawn.has(check)) && (
          <Panel title="More" data={() => circuit.checks}>
            {circuit.checks
              .filter(check => !drawn.has(check))
              .map(check => (
                <CheckRow check={check} />
              ))}
            <CheckAxis />
          </Panel>
        )}
        <Inside circuit={circuit} />
      </div>
    </>
  );
}

function Inside({ circuit }: { circuit: Circuit }) {
  const measured = circuit.nodes.filter(node => node.fidelity),
    heads = Object.entries(circuit.pattern_error),
    swap = circuit.interchange;
  return (
    <>
      <Panel
        title="Does it work the same way inside?"
        about="Beside the answer, what nodes and heads do in the circuit is compared with what they do in the whole model."
        data={() => ({
          interchange: swap,
          pattern_error: circuit.pattern_error,
          fidelity: measured.map(node => ({ node: nameOf(node), fidelity: node.fidelity })),
          backups: circuit.backups,
        })}
      >
        {swap && (
          <ul class="facts">
            <li>
              Nodes swapped one at a time with the pair's other prompt move the answer alike in circuit and model: correlation{" "}
              <b>{decimal(swap.correlation, 2)}</b>, same direction for <b>{percent(swap.same_sign, 0)}</b> of the movement.
            </li>
            <li>
              With all of them swapped together, <b>{percent(swap.all_in_model, 0)}</b> of the whole model's answers turn over,
              and {percent(swap.all_in_circuit, 0)} of the circuit's.
            </li>
          </ul>
        )}
        {heads.length > 0 && (
          <>
            <h4>How much heads look elsewhere than in the model</h4>
            <ul class="bars">
              {heads.map(([head, error]) => (
                <li>
                  <span class="mono">{head}</span>
                  <i>
                    <b style={{ width: `${50 * (error ?? 0)}%` }} />
                  </i>
                  <span>{decimal(error, 2)}</span>
                </li>
              ))}
            </ul>
            <p class="about">0 is the same attention, 2 nothing in common.</p>
          </>
        )}
        {circuit.backups.length > 0 && (
          <p>
            Where the model answers without the circuit, it does so through{" "}
            {circuit.backups.map(node => (
              <code>{node} </code>
            ))}
            .
          </p>
        )}
      </Panel>
      {measured.length > 0 && (
        <Panel
          title="Node by node"
          about="Correlation with the node's own activation in the whole model, over held-out tokens, and the size of the difference."
          data={() => measured.map(node => [nameOf(node), node.fidelity])}
        >
          <div class="long">
            <Table
              caption="Fidelity"
              rows={measured}
              columns={[
                {
                  label: "node",
                  value: nameOf,
                  show: node => (
                    <button
                      type="button"
                      class="name"
                      onClick={() => {
                        change({ view: "circuit", node: nameOf(node) });
                      }}
                    >
                      {nameOf(node)}
                    </button>
                  ),
                },
                {
                  label: "correlation",
                  right: true,
                  value: node => node.fidelity?.[0],
                  show: node => decimal(node.fidelity?.[0], 2),
                },
                {
                  label: "difference",
                  right: true,
                  value: node => node.fidelity?.[1],
                  show: node => decimal(node.fidelity?.[1], 2),
                },
                { label: "loss without", right: true, value: node => node.without, show: node => decimal(node.without) },
              ]}
            />
          </div>
        </Panel>
      )}
    </>
  );
}
