// Nodes and edges as tables, for reading aloud, sorting and copying.

import type { Circuit, GraphNode, Num } from "../payload/types";
import { selectNode } from "../session";
import { groupsOf, notes } from "../notes";
import { isEnd, nameOf } from "../names";
import { decimal, known } from "../numbers";
import { Table } from "../parts/Table";
import { Weight } from "../parts/text";

type EdgeRow = { source: string; target: string; weight: Num; without: Num; kind: string };

export function Tables({ circuit }: { circuit: Circuit }) {
  const name = (place: number) => nameOf(circuit.nodes[place]),
    own = circuit.nodes.filter(node => !isEnd(node));
  const edges: EdgeRow[] = [
    ...circuit.edges.map(([source, target, weight, without]) => ({
      source: name(source),
      target: name(target),
      weight,
      without,
      kind: "edge",
    })),
    ...circuit.unembedding.map(([source, target, weight]) => ({
      source: name(source),
      target: name(target),
      weight,
      without: null,
      kind: "unembedding",
    })),
  ];
  const degree = (node: GraphNode, end: 0 | 1) => circuit.edges.filter(edge => circuit.nodes[edge[end]] === node).length;
  const without = (value: Num | undefined) => (known(value) ? decimal(value) : "");
  return (
    <div class="grid two">
      <details class="panel">
        <summary>Nodes as a table ({own.length})</summary>
        <Table
          caption={`Nodes of ${circuit.task}`}
          rows={own}
          columns={[
            {
              label: "node",
              value: nameOf,
              show: node => (
                <button type="button" class="name" onClick={() => selectNode(nameOf(node))}>
                  {nameOf(node)}
                </button>
              ),
            },
            { label: "label", value: node => notes.value.labels[nameOf(node)] ?? "" },
            { label: "groups", value: node => groupsOf(nameOf(node)).join(", ") },
            { label: "edges in", right: true, value: node => degree(node, 1) },
            { label: "edges out", right: true, value: node => degree(node, 0) },
            {
              label: "in the model",
              right: true,
              title: "Nonzero weights of the whole model at this node",
              value: node => (node.in_model?.n_in ?? 0) + (node.in_model?.n_out ?? 0),
            },
            { label: "loss without", right: true, value: node => node.without, show: node => without(node.without) },
          ]}
        />
      </details>
      <details class="panel">
        <summary>Edges and unembedding weights as a table ({edges.length})</summary>
        <Table
          caption={`Edges of ${circuit.task}`}
          rows={edges}
          columns={[
            { label: "from", value: edge => edge.source },
            { label: "to", value: edge => edge.target },
            {
              label: "weight",
              right: true,
              value: edge => edge.weight,
              show: edge => <Weight value={edge.weight} digits={9} />,
            },
            { label: "loss without", right: true, value: edge => edge.without, show: edge => without(edge.without) },
            { label: "kind", value: edge => edge.kind },
          ]}
        />
      </details>
    </div>
  );
}
