// The run at a glance: what was trained, which tasks it knows, how small their circuits are.

import type { Payload } from "../payload/types";
import { count, decimal, known, percent, short } from "../numbers";
import { LineChart } from "../parts/LineChart";
import { Panel } from "../parts/Panel";
import { Frontier } from "./Frontier";
import { RunFacts } from "./RunFacts";
import { TaskTable } from "./TaskTable";

const TARGET_LOSS = 0.15;

export function Overview({ payload }: { payload: Payload }) {
  const { run, curves } = payload,
    shape = run?.config?.model as Record<string, number> | undefined,
    first = payload.circuits[0];
  const sentence = shape
    ? `A weight-sparse transformer of ${shape.n_layers} layers and ${shape.d_model} channels, trained on ${short(run?.n_tokens)} tokens${payload.model ? `; one weight in ${Math.round(1 / payload.model.l0_fraction)} is not zero.` : "."}`
    : first
      ? `Circuits of a weight-sparse transformer of ${first.shape.n_layers} layers and ${first.shape.d_model} channels.`
      : "";
  return (
    <>
      <div class="title">
        <p class="eyebrow">sparse_circuits · report</p>
        <h1>{run?.name ?? "Circuits"}</h1>
        <p class="lede">{sentence}</p>
      </div>
      <Tiles payload={payload} />
      <div class="grid three">
        {payload.circuits.length > 0 && (
          <Panel
            title="Size against loss"
            about="Each point is a circuit: left is smaller, down is better. Bars are 95 % intervals over held-out pairs; hollow points do not hold."
            data={() =>
              payload.circuits.map(({ task, n_edges, n_nodes, checks, verdict }) => ({
                task,
                n_edges,
                n_nodes,
                verdict,
                check: checks.find(each => each.name === "circuit"),
              }))
            }
          >
            <Frontier circuits={payload.circuits} />
          </Panel>
        )}
        {curves && (
          <Panel title="Training" about="Loss in nats per token." data={() => curves}>
            <LineChart
              title="Loss"
              axis="step"
              series={[
                { label: "training", color: "var(--faint)", thin: true, x: curves.training.step, y: curves.training.loss },
                { label: "validation", color: "var(--accent)", x: curves.validation.step, y: curves.validation.loss },
              ]}
            />
          </Panel>
        )}
        {curves && Object.keys(curves.tasks).length > 0 && (
          <Panel
            title="Tasks in training"
            about={`Two-way loss of each task; a task is known below ${TARGET_LOSS}.`}
            data={() => curves.tasks}
          >
            <LineChart
              title="Task loss"
              axis="step"
              level={{ at: TARGET_LOSS, label: "known" }}
              series={Object.entries(curves.tasks).map(([task, losses], i) => ({
                label: task,
                color: `hsl(${(i * 137.5) % 360} 45% 50%)`,
                thin: true,
                x: curves.validation.step.slice(-losses.length),
                y: losses,
              }))}
            />
          </Panel>
        )}
      </div>
      <TaskTable payload={payload} />
      {curves && (
        <div class="grid three">
          <Panel title="Sparsity" about="Weights that are not zero, on a logarithmic axis." data={() => curves.training.l0}>
            <LineChart
              title="L0"
              axis="step"
              log
              series={[{ label: "not zero", color: "var(--ink)", x: curves.training.step, y: curves.training.l0 }]}
            />
          </Panel>
          <Panel title="Learning rate" data={() => curves.training.lr}>
            <LineChart
              title="Learning rate"
              axis="step"
              series={[{ label: "rate", color: "var(--ink)", x: curves.training.step, y: curves.training.lr }]}
            />
          </Panel>
        </div>
      )}
      <RunFacts payload={payload} />
    </>
  );
}

function Tiles({ payload }: { payload: Payload }) {
  const { run, model, tasks, circuits } = payload,
    edges = circuits.map(each => each.n_edges).filter(each => each > 0);
  const geometric = edges.length ? Math.exp(edges.reduce((sum, each) => sum + Math.log(each), 0) / edges.length) : null;
  const holding = circuits.filter(each => each.verdict.startsWith("holds")).length;
  const tile = (label: string, value: string, note: string) => (
    <div class="tile">
      <dt>{label}</dt>
      <dd class="value">{value}</dd>
      <dd class="note">{note}</dd>
    </div>
  );
  return (
    <dl class="tiles">
      {model && tile("Validation loss", decimal(model.validation_loss), "nats per token")}
      {model &&
        tile("Weights not zero", percent(model.l0_fraction, 2), `${count(model.n_nonzero)} of ${count(model.n_entries)}`)}
      {known(run?.n_tokens) &&
        tile("Training tokens", short(run?.n_tokens), `${count(run?.n_steps)} steps of ${count(run?.tokens_per_step)}`)}
      {tasks &&
        tile(
          "Tasks known",
          `${tasks.filter(task => task.verdict === "known").length} of ${tasks.length}`,
          "95 % right, loss < 0.15",
        )}
      {circuits.length > 0 && tile("Circuits that hold", `${holding} of ${circuits.length}`, "every check keeps its bound")}
      {geometric && tile("Edges of a circuit", short(geometric), "geometric mean")}
    </dl>
  );
}
