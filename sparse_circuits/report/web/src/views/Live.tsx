// With the model behind the page: type a prompt, change nodes and edges, see the answers move.

import { computed, signal } from "@preact/signals";
import { change, prompt, session, type Intervention } from "../session";
import type { Circuit } from "../payload/types";
import { percent, visible } from "../numbers";
import { Panel } from "../parts/Panel";
import { cancel, run, saveNotes, type Answer } from "../server";
import { notes } from "../notes";
import { say } from "../parts/message";

export const isEditing = signal(false);
const text = signal<string | null>(null);
const answer = signal<{ before: Answer; after: Answer | null } | null>(null);
const isRunning = signal(false),
  mistake = signal("");

export const gone = computed(() => ({
  nodes: new Set(session.value.interventions.map(each => each.node)),
  cuts: new Set(session.value.cuts.map(ends => ends.join(" → "))),
}));

const without = (node: string) => session.value.interventions.filter(each => each.node !== node);
export const setIntervention = (each: Intervention): void => change({ interventions: [...without(each.node), each] });

export function toggleAblation(node: string): void {
  const others = without(node);
  change({
    interventions:
      others.length < session.value.interventions.length ? others : [...others, { node, kind: "ablate", value: null }],
  });
}

export function toggleCut(source: string, target: string): void {
  const others = session.value.cuts.filter(([a, b]) => a !== source || b !== target);
  change({ cuts: others.length < session.value.cuts.length ? others : [...others, [source, target]] });
}

async function ask(circuit: Circuit, typed: string): Promise<void> {
  const { interventions, cuts } = session.value,
    request = { circuit: session.value.circuit, prompt: typed };
  [isRunning.value, mistake.value] = [true, ""];
  try {
    const before = await run({ ...request, interventions: [], cuts: [] });
    answer.value = {
      before,
      after: interventions.length || cuts.length ? await run({ ...request, interventions, cuts }) : null,
    };
  } catch (error) {
    mistake.value = `${circuit.task}: ${(error as Error).message}`;
  }
  isRunning.value = false;
}

export function Try({ circuit }: { circuit: Circuit }) {
  const { interventions, cuts } = session.value,
    typed = text.value ?? prompt.value?.tokens.join("") ?? "";
  const words = ({ kind, value }: Intervention) =>
    kind === "ablate" ? "ablated" : kind === "scale" ? `times ${value}` : `set to ${value}`;
  return (
    <Panel
      title="Try it"
      data={() => ({ prompt: typed, interventions, cuts, answer: answer.value })}
      about="The model answers this prompt: the whole model and the circuit alone, as they are and with your changes. Cuts are the circuit's alone."
    >
      <textarea
        aria-label="Prompt"
        rows={4}
        value={typed}
        onInput={event => {
          text.value = event.currentTarget.value;
        }}
      />
      <div class="row">
        <button type="button" class="strong" disabled={isRunning.value} onClick={() => ask(circuit, typed)}>
          {isRunning.value ? "Running …" : "Run"}
        </button>
        {isRunning.value && (
          <button type="button" onClick={() => cancel().catch(() => undefined)}>
            Cancel
          </button>
        )}
        <button
          type="button"
          onClick={() => {
            text.value = null;
          }}
        >
          Prompt of the pair
        </button>
        <label>
          <input
            type="checkbox"
            checked={isEditing.value}
            onChange={event => {
              isEditing.value = event.currentTarget.checked;
            }}
          />{" "}
          clicks in the picture ablate nodes and cut edges
        </label>
        <button
          type="button"
          onClick={() =>
            saveNotes(session.value.circuit, notes.value).then(
              () => say("Labels and groups are in the circuit's file."),
              error => say(error.message),
            )
          }
        >
          Save labels and groups
        </button>
      </div>
      {(interventions.length > 0 || cuts.length > 0) && (
        <div class="row">
          {interventions.map(each => (
            <button type="button" class="chip" onClick={() => toggleAblation(each.node)}>
              {each.node} {words(each)} ✕
            </button>
          ))}
          {cuts.map(ends => (
            <button type="button" class="chip" onClick={() => toggleCut(...ends)}>
              {ends.join(" → ")} cut ✕
            </button>
          ))}
        </div>
      )}
      {mistake.value && (
        <p class="fails" role="alert">
          {mistake.value}
        </p>
      )}
      {answer.value && <Answers {...answer.value} />}
    </Panel>
  );
}

function Answers({ before, after }: { before: Answer; after: Answer | null }) {
  const list = (title: string, found: Answer["model"] | null | undefined) => (
    <div>
      <h5>{title}</h5>
      <ul class="bars">
        {(found ?? []).slice(0, 6).map(each => (
          <li>
            <span class="token">{visible(each.token, 20)}</span>
            <i>
              <b style={{ width: `${100 * each.probability}%` }} />
            </i>
            <span>{percent(each.probability, 1)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
  const of = (pair: [number, number] | null | undefined) => (pair ? `${percent(pair[0], 2)} : ${percent(pair[1], 2)}` : "–");
  return (
    <div aria-live="polite">
      <div class="two">
        {list("whole model", before.model)}
        {after && list("whole model, changed", after.model)}
        {before.circuit && list("circuit", before.circuit)}
        {after?.circuit && list("circuit, changed", after.circuit)}
      </div>
      <p class="about">
        Positive against negative answer: model {of(before.answers.model)}
        {after && (
          <>
            {" "}
            → <b>{of(after.answers.model)}</b>
          </>
        )}
        ; circuit {of(before.answers.circuit)}
        {after && (
          <>
            {" "}
            → <b>{of(after.answers.circuit)}</b>
          </>
        )}
        .
      </p>
    </div>
  );
}

export function NodeEdits({ name }: { name: string }) {
  const value = signal("0"),
    own = session.value.interventions.find(each => each.node === name);
  const number = () => (Number.isFinite(Number(value.value)) ? Number(value.value) : 0);
  return (
    <div class="row edits">
      <button type="button" aria-pressed={own?.kind === "ablate"} onClick={() => toggleAblation(name)}>
        {own ? "Undo the change" : "Ablate"}
      </button>
      <input
        type="number"
        step="any"
        aria-label="Value"
        defaultValue="0"
        onInput={event => {
          value.value = event.currentTarget.value;
        }}
      />
      <button type="button" onClick={() => setIntervention({ node: name, kind: "scale", value: number() })}>
        Scale by it
      </button>
      <button type="button" onClick={() => setIntervention({ node: name, kind: "set", value: number() })}>
        Set to it
      </button>
    </div>
  );
}
