// The circuit's largest paths, each with its signed product; a click traces one in the picture.

import { change, payload, session } from "../session";
import { notes } from "../notes";
import { nameOf } from "../names";
import { along, pathsOf, type ShownPath } from "../graph/paths";
import type { Unrolled } from "../graph/unroll";
import type { Circuit, OvPath } from "../payload/types";
import { count } from "../numbers";
import { Panel } from "../parts/Panel";
import { Token, Weight } from "../parts/text";

export function PathList({ circuit, plane }: { circuit: Circuit; plane: Unrolled }) {
  const paths = pathsOf(circuit),
    chosen = session.value.path;
  if (!circuit.paths)
    return (
      <Panel title="Paths" data={() => null}>
        <p class="none">The answers of this task are not one token each, so no paths lead to them.</p>
      </Panel>
    );
  const answers = circuit.pairs[0]?.answers.map(node => circuit.nodes[node].text ?? "");
  const differ = circuit.pairs.some(pair => pair.answers.some((node, i) => node !== circuit.pairs[0].answers[i]));
  const list = (kind: "ov" | "qk", title: string, about: string, total: number) => (
    <div>
      <h4>{title}</h4>
      <p class="about">
        {about} {count(total)} in all{total > 24 ? ", the largest 24 are listed" : ""}.
      </p>
      <ol class="paths">
        {paths
          .filter(path => path.kind === kind)
          .map(path => (
            <li key={path.id}>
              <button
                type="button"
                class={along(path, plane, circuit).isWhole ? "" : "elsewhere"}
                aria-pressed={chosen === path.id}
                onClick={() => change({ path: chosen === path.id ? null : path.id, node: null })}
              >
                <Weight value={path.product} />
                <Route path={path} circuit={circuit} />
              </button>
            </li>
          ))}
      </ol>
    </div>
  );
  return (
    <Panel
      title="Paths from token to answer"
      data={() => circuit.paths}
      about={
        <>
          A path's number is the product of all weights along it
          {answers && (
            <>
              : above zero it pushes towards <Token text={answers[0]} />, below towards <Token text={answers[1]} />
            </>
          )}
          . It is of weights alone; click one to light up where it runs on this prompt. Pale ones do not run here: some node on
          the way is silent.{differ && " This task's answers differ from pair to pair; these paths end in those of pair 1."}
        </>
      }
    >
      {list("ov", "Through values and neurons", "What is read at a token and carried to the answer.", circuit.paths.n_ov)}
      {list(
        "qk",
        "Into attention scores",
        "Two ways that meet in a head: what a query looks for, what a key offers; above zero the head looks there.",
        circuit.paths.n_qk,
      )}
    </Panel>
  );
}

function Route({ path, circuit }: { path: ShownPath; circuit: Circuit }) {
  const way = ({ starts, nodes }: OvPath) => (
    <span class="way">
      {starts.length ? starts.slice(0, 2).map(([text]) => <Token text={payload.value.texts[text]} />) : <i>position</i>}
      {nodes.map(node => (
        <>
          <span class="muted"> → </span>
          <code title={nameOf(circuit.nodes[node])}>
            {notes.value.labels[nameOf(circuit.nodes[node])] ?? nameOf(circuit.nodes[node])}
          </code>
        </>
      ))}
    </span>
  );
  return (
    <span class="route">
      {path.kind === "ov" ? (
        <>
          {way(path.ways[0])}
          <span class="muted"> → answer</span>
        </>
      ) : (
        <>
          <span class="half">query</span>
          {way(path.ways[0])}
          <br />
          <span class="half">key</span>
          {way(path.ways[1])}
        </>
      )}
    </span>
  );
}
