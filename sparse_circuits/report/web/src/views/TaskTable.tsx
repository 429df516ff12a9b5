// Every task that was examined, and its circuit with the checks that matter most.

import { fails } from "../checks";
import { decimal } from "../numbers";
import { Panel } from "../parts/Panel";
import { Table, type ColumnOf } from "../parts/Table";
import type { Check, Circuit, Payload, TaskRow } from "../payload/types";
import { openCircuit } from "../session";

interface Row {
  task: string;
  doctor: TaskRow | null;
  circuit: Circuit | null;
  place: number;
}

export function TaskTable({ payload }: { payload: Payload }) {
  const { circuits, tasks } = payload,
    known_tasks = new Set(tasks?.map(each => each.task));
  const row = (circuit: Circuit, place: number): Row => ({
    task: circuit.task,
    doctor: tasks?.find(each => each.task === circuit.task) ?? null,
    circuit,
    place,
  });
  const rows: Row[] = [
    ...(tasks ?? []).flatMap(doctor => {
      const own = circuits.flatMap((circuit, place) => (circuit.task === doctor.task ? [row(circuit, place)] : []));
      return own.length ? own : [{ task: doctor.task, doctor, circuit: null, place: -1 }];
    }),
    ...circuits.flatMap((circuit, place) => (known_tasks.has(circuit.task) ? [] : [row(circuit, place)])),
  ];
  if (!rows.length)
    return (
      <section class="panel">
        <p class="none">No task was examined and no circuit extracted yet.</p>
      </section>
    );
  const check = ({ circuit }: Row, name: string): Check | undefined => circuit?.checks.find(each => each.name === name);
  const checked = (name: string, label: string, title: string): ColumnOf<Row> => ({
    label,
    title,
    right: true,
    value: each => check(each, name)?.loss,
    show: each => {
      const found = check(each, name);
      return found && <span class={fails(found) ? "fails" : ""}>{decimal(found.loss)}</span>;
    },
  });
  const measured = (label: string, key: "loss" | "accuracy" | "bigram_loss", title: string): ColumnOf<Row> => ({
    label,
    title,
    right: true,
    value: each => each.doctor?.[key],
    show: each => decimal(each.doctor?.[key]),
  });
  const columns: ColumnOf<Row>[] = [
    {
      label: "task",
      value: each => each.task,
      show: each =>
        each.circuit ? (
          <button type="button" class="name" onClick={() => openCircuit(each.place)}>
            {each.task}
          </button>
        ) : (
          <code>{each.task}</code>
        ),
    },
    ...(tasks
      ? [
          {
            label: "known",
            value: (each: Row) => each.doctor?.verdict,
            show: (each: Row) => each.doctor && <span class={`badge ${each.doctor.verdict}`}>{each.doctor.verdict}</span>,
          },
          measured("model's loss", "loss", "Two-way cross-entropy of the right answer, in nats"),
          measured("accuracy", "accuracy", "Share of prompts answered right"),
          measured("bigram's loss", "bigram_loss", "Loss of the table of token pairs alone"),
        ]
      : []),
    ...(circuits.length
      ? [
          { label: "nodes", right: true, rule: true, value: (each: Row) => each.circuit?.n_nodes },
          { label: "edges", right: true, value: (each: Row) => each.circuit?.n_edges },
          checked("circuit", "circuit alone", "Loss with everything outside the circuit ablated: it must be low"),
          checked("necessity", "without it", "Loss of the whole model with only the circuit ablated: it must be high"),
          checked("random", "random ones", "The best of the random circuits of the size: it must be high"),
          checked("outside", "others ablated", "As many nodes outside ablated: it must be low"),
          {
            label: "verdict",
            value: (each: Row) => each.circuit?.verdict,
            show: (each: Row) =>
              each.circuit && (
                <span class={each.circuit.verdict.startsWith("holds") ? "holds" : "fails"} title={each.circuit.verdict}>
                  {each.circuit.verdict.split(/ \(|:/)[0] || "no card"}
                </span>
              ),
          },
        ]
      : []),
  ];
  return (
    <Panel
      title="Tasks and their circuits"
      name="tasks"
      data={() =>
        rows.map(({ circuit, ...rest }) => ({
          ...rest,
          n_nodes: circuit?.n_nodes,
          n_edges: circuit?.n_edges,
          verdict: circuit?.verdict,
          checks: circuit?.checks,
        }))
      }
      about="Each task is a question with two answers. Losses are two-way cross-entropies of the right answer in nats, on names and surroundings that the circuit never saw; guessing gives ln 2 ≈ 0.693. Click a task for its circuit."
    >
      <Table caption="Tasks" columns={columns} rows={rows} />
    </Panel>
  );
}
