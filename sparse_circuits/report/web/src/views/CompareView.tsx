// Two circuits over each other: what they share, and what only one of them has.

import { useMemo } from "preact/hooks";
import type { Payload } from "../payload/types";
import { change, selectNode, session } from "../session";
import { compare, type Part } from "../compare";
import { merged } from "../graph/unroll";
import { decimal, known, percent } from "../numbers";
import { Panel } from "../parts/Panel";
import { Table } from "../parts/Table";
import { Weight } from "../parts/text";
import { PlaneView } from "./Plane";

const NONE = { nodes: new Set<string>(), cuts: new Set<string>() };

export function CompareView({ payload }: { payload: Payload }) {
  const { circuits } = payload,
    { circuit, other, node, meaning, threshold } = session.value;
  const left = circuits[circuit] ?? circuits[0],
    right = (circuits[other] !== left && circuits[other]) || circuits.find(each => each !== left);
  const compared = useMemo(() => (left && right ? compare(left, right) : null), [left, right]);
  const plane = useMemo(() => compared && merged(compared.union, null), [compared]);
  if (!left || !right || !compared || !plane)
    return (
      <section class="panel">
        <p class="none">A comparison takes two circuits; this page has {circuits.length}.</p>
      </section>
    );
  const names: Record<Part, string> = { both: "in both", left: `only in ${left.task}`, right: `only in ${right.task}` };
  const total = Object.values(compared.nodes).flat().length,
    shared = compared.edges.filter(edge => edge.left !== undefined && edge.right !== undefined);
  const pick = (value: number, label: string, key: "circuit" | "other") => (
    <label>
      {label}{" "}
      <select value={value} onChange={event => change({ [key]: Number(event.currentTarget.value), node: null })}>
        {circuits.map((each, i) => (
          <option value={i}>
            {each.task}
            {circuits.some((twin, j) => j !== i && twin.task === each.task) ? ` (${i + 1})` : ""}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <>
      <div class="title">
        <h2>Two circuits</h2>
        <p class="lede">
          {percent(compared.nodes.both.length / Math.max(1, total), 0)} of all their nodes ({compared.nodes.both.length} of{" "}
          {total}) and {shared.length} of {compared.edges.length} edges are in both.
          {left.model_hash !== right.model_hash && (
            <b>
              {" "}
              They are of two models: a channel has the same name in both, and means the same only where one was trained from
              the other.
            </b>
          )}
        </p>
      </div>
      <div class="toolbar">
        {pick(circuits.indexOf(left), "Left", "circuit")}
        {pick(circuits.indexOf(right), "Right", "other")}
        <span class="legend">
          <span class="both">● in both</span>
          <span class="left">● only left</span>
          <span class="right">● only right</span>
        </span>
      </div>
      <Panel
        title="Both circuits"
        data={() => ({ left: left.task, right: right.task, nodes: compared.nodes, edges: compared.edges })}
        class="board compare"
      >
        <PlaneView
          circuit={compared.union}
          plane={plane}
          prompt={null}
          onNode={selectNode}
          look={{
            meaning: meaning === "flow" ? "weight" : meaning,
            threshold,
            node,
            pinned: [],
            found: null,
            labels: {},
            traced: null,
            gone: NONE,
            kinds: compared.parts,
          }}
        />
      </Panel>
      <div class="grid three">
        {(["both", "left", "right"] as const).map(part => (
          <Panel
            title={`${compared.nodes[part].length} nodes ${names[part]}`}
            name={`nodes-${part}`}
            data={() => compared.nodes[part]}
          >
            <div class="long chips">
              {compared.nodes[part].map(each => (
                <button type="button" class={`chip ${part}`} onClick={() => selectNode(each)}>
                  {each}
                </button>
              ))}
              {!compared.nodes[part].length && <p class="none">none</p>}
            </div>
          </Panel>
        ))}
      </div>
      <Panel title="Edges side by side" data={() => compared.edges}>
        <div class="long">
          <Table
            caption="Edges"
            rows={compared.edges}
            columns={[
              { label: "from", value: edge => edge.source },
              { label: "to", value: edge => edge.target },
              {
                label: left.task,
                right: true,
                value: edge => edge.left,
                show: edge => (edge.left === undefined ? "" : <Weight value={edge.left} />),
              },
              {
                label: right.task,
                right: true,
                value: edge => edge.right,
                show: edge => (edge.right === undefined ? "" : <Weight value={edge.right} />),
              },
              {
                label: "change",
                right: true,
                value: edge => difference(edge.left, edge.right),
                show: edge => decimal(difference(edge.left, edge.right)),
              },
            ]}
          />
        </div>
      </Panel>
    </>
  );
}

const difference = (left: number | null | undefined, right: number | null | undefined): number | null =>
  known(left) && known(right) ? right - left : null;
