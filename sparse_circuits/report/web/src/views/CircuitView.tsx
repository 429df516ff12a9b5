// A circuit on a prompt: the picture, the node that is selected, and the paths.

import { useMemo, useRef } from "preact/hooks";
import { isOnItsWay, prompt, whyNoPrompt } from "../prompt";
import { change, payload, selectNode, session, undo, canUndo } from "../session";
import { asFile, notes } from "../notes";
import { found } from "../search";
import { hasLogits } from "../payload/prompt";
import type { Circuit } from "../payload/types";
import type { Pan } from "../graph/pan";
import { along, pathsOf } from "../graph/paths";
import { merged, unreached, unroll } from "../graph/unroll";
import { isEnd, nameOf } from "../names";
import { count, percent } from "../numbers";
import { Panel } from "../parts/Panel";
import { download } from "../parts/picture";
import { Prose, Token } from "../parts/text";
import { gone, isEditing, toggleAblation, toggleCut } from "../edits";
import { NodeCard } from "./NodeCard";
import { PathList } from "./PathList";
import { PlaneView } from "./Plane";
import { Pinned } from "./Pinned";
import { Tables } from "./Tables";
import { Toolbar } from "./Toolbar";
import { Try } from "./Try";

export function CircuitView({ circuit }: { circuit: Circuit }) {
  const { node, path, meaning, threshold, pinned } = session.value,
    control = useRef<Pan>(null),
    here = prompt.value;
  const isMerged = session.value.merged || !here || !hasLogits(here);
  const plane = useMemo(() => (isMerged ? merged(circuit, here) : unroll(circuit, here)), [circuit, here, isMerged]);
  const shown = path ? pathsOf(circuit).find(each => each.id === path) : undefined;
  const traced = useMemo(() => (shown ? along(shown, plane, circuit) : null), [path, plane]);
  const place = circuit.nodes.findIndex(each => nameOf(each) === node),
    left = unreached(circuit, plane);
  if (!circuit.nodes.some(each => !isEnd(each)))
    return (
      <section class="panel">
        <p class="none">
          This circuit is empty: with every node at its mean the task's target is reached, or nothing was found. There is
          nothing to draw; its card may still say why.
        </p>
      </section>
    );
  const onNode = (name: string) => {
    const own = circuit.nodes.find(each => nameOf(each) === name);
    if (isEditing.value && own && !isEnd(own)) toggleAblation(name);
    else selectNode(name);
  };
  return (
    <>
      <div class="title">
        <h2>{circuit.task}</h2>
        <p class="lede">
          <Prose text={circuit.summary} /> · {count(circuit.n_nodes)} nodes, {count(circuit.n_edges)} edges ·{" "}
          <span class={circuit.verdict.startsWith("holds") ? "holds" : "fails"}>{circuit.verdict || "no card"}</span>
        </p>
      </div>
      <Toolbar circuit={circuit} />
      <div class="workbench">
        <div class="main">
          <Panel
            title="Circuit"
            name={`${circuit.task}-circuit`}
            data={() => ({ ...circuit, activations: undefined, attention: undefined })}
            class="board"
            tools={
              <span class="tools left">
                <button type="button" onClick={() => control.current?.zoom(1.25)} aria-label="Larger">
                  +
                </button>
                <button type="button" onClick={() => control.current?.zoom(0.8)} aria-label="Smaller">
                  −
                </button>
                <button type="button" onClick={() => control.current?.fit()}>
                  Fit
                </button>
                <button type="button" disabled={!canUndo.value} onClick={undo} title="Undo (Ctrl Z)">
                  Undo
                </button>
              </span>
            }
          >
            <PlaneView
              circuit={circuit}
              plane={plane}
              prompt={isMerged ? null : here}
              control={control}
              onNode={onNode}
              onEdge={(source, target) => {
                if (isEditing.value) toggleCut(source, target);
              }}
              look={{
                meaning,
                threshold,
                node,
                pinned,
                found: found.value,
                labels: notes.value.labels,
                traced,
                gone: gone.value,
              }}
            />
            <Legend />
            {here && !hasLogits(here) && (
              <p class="foot">
                This pair's answers are none of those that the file draws, so all tokens are drawn as one; its activations and
                attention are on the nodes' cards.
              </p>
            )}
            {left > 0 && !isMerged && (
              <p class="foot">
                {left} of the circuit's nodes {left === 1 ? "is" : "are"} silent here or not looked at, and not drawn; “all
                tokens as one” shows every node.
              </p>
            )}
          </Panel>
          {here && <Answer />}
          {isOnItsWay.value && <p class="none">Pair {session.value.pair + 1} is on its way from the server …</p>}
          {whyNoPrompt.value && (
            <p class="fails" role="alert">
              {whyNoPrompt.value}
            </p>
          )}
          <Pinned circuit={circuit} />
          {payload.value.live && <Try circuit={circuit} />}
          <PathList circuit={circuit} plane={plane} />
        </div>
        <aside class="side">{place >= 0 ? <NodeCard circuit={circuit} place={place} /> : <Guide circuit={circuit} />}</aside>
      </div>
      <Tables circuit={circuit} />
    </>
  );
}

function Answer() {
  const here = prompt.value;
  if (!here) return null;
  const bar = (title: string, value: number | null) => (
    <div class="answer">
      <span>{title}</span>
      <i>
        <b style={{ width: `${100 * (value ?? 0)}%` }} />
      </i>
      <span>{percent(value, 1)}</span>
    </div>
  );
  return (
    <Panel
      title="The prompt and its answer"
      data={() => ({ tokens: here.tokens, answer: here.answer.text, other: here.other.text, probability: here.probability })}
      name="prompt"
      about={
        <>
          How likely the right answer, <Token text={here.answer.text} />, is against the other one,{" "}
          <Token text={here.other.text} />; the circuit's is calibrated.
        </>
      }
    >
      <pre class="prompt">
        {here.tokens.map(each => (each.length > 400 ? `${each.slice(0, 400)}…` : each)).join("")}
        <mark>{here.answer.text.slice(0, 80)}</mark>
      </pre>
      {bar("circuit alone", here.probability.circuit)}
      {bar("whole model", here.probability.model)}
    </Panel>
  );
}

function Legend() {
  const { meaning } = session.value,
    sample = (name: string, text: string, width = 3) => (
      <span>
        <svg class="graph sample" viewBox="0 0 34 10" aria-hidden="true">
          <path class={name} d="M0 5H34" stroke-width={width} />
        </svg>
        {text}
      </span>
    );
  const signs = {
    weight: ["positive weight", "negative weight"],
    flow: ["pushes up here (weight × activation)", "pushes down here"],
    effect: ["loss rises without it", "loss falls without it"],
  }[meaning];
  return (
    <div class="legend">
      {sample("link edge positive", signs[0])}
      {sample("link edge negative", signs[1])}
      {meaning === "effect" && sample("link edge unmeasured", "not measured", 1.4)}
      {sample("wire", "channel of the residual stream", 1.6)}
      {sample("link match", "query meets key", 1.4)}
      {sample("link readout positive", "unembedding", 2)}
    </div>
  );
}

function Guide({ circuit }: { circuit: Circuit }) {
  return (
    <section class="panel guide">
      <header>
        <h3>How to read this</h3>
      </header>
      <div class="content">
        <p>
          Tokens run from left to right, the model's sublayers from bottom to top. Each <b>grey wire</b> is one channel of the
          residual stream at one token; it keeps its number all the way up.
        </p>
        <p>
          A <b>pill</b> is a node: a channel that a sublayer reads or writes, a neuron, or a head's query (q), key (k) or value
          (v). The dotted ones at the ends are the embedding and the two answers.
        </p>
        <p>
          A <b>line</b> is one exact weight, blue above zero and orange below, as thick as it is large. Lines from one token to
          another are attention: from the token that is looked at to the one that looks.
        </p>
        <p>
          Only what the answer to this prompt is made of is drawn: nodes that are zero at a token are left out there, and of
          each head the keys that it looks at most are shown. Pills are tinted by their activation.
        </p>
        <p>
          <b>Select a node</b> to see what it reads and writes, when it is active, and what it means to the whole model. Press{" "}
          <kbd>?</kbd> for the keys.
        </p>
        {notes.value.groups.length > 0 && (
          <>
            <h4>Groups</h4>
            <ul class="groups">
              {notes.value.groups.map(group => (
                <li>
                  <b>{group.name}</b>{" "}
                  {group.nodes.map(each => (
                    <button type="button" class="chip" onClick={() => selectNode(each)}>
                      {notes.value.labels[each] ?? each}
                    </button>
                  ))}
                </li>
              ))}
            </ul>
          </>
        )}
        <div class="row">
          <button
            type="button"
            onClick={() => download(JSON.stringify(asFile(), null, 1), `${circuit.task}.notes.json`)}
            title="Notes.load reads this file; circuit.with_notes(...).save(...) puts it into the circuit's"
          >
            Download labels and groups
          </button>
          {session.value.path && (
            <button type="button" onClick={() => change({ path: null })}>
              Clear the path
            </button>
          )}
        </div>
      </div>
    </section>
  );
}
