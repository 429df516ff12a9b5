// With the model behind the page: type a prompt, change nodes and edges, see the answers move.

import { signal } from "@preact/signals";
import { isEditing, toggleAblation, toggleCut } from "../edits";
import { notes } from "../notes";
import { Panel } from "../parts/Panel";
import { say } from "../parts/message";
import type { Circuit } from "../payload/types";
import { prompt, promptOf } from "../prompt";
import { cancel, run, saveNotes, type Outcome } from "../server";
import { payload, session, type Intervention } from "../session";
import { Answers } from "./Answers";

// Null: the pair's prompt, whichever it is.
const text = signal<string | null>(null);
const answer = signal<{ circuit: number; before: Outcome; after: Outcome | null } | null>(null);
const waiting = signal<AbortController | null>(null),
  mistake = signal("");

// Where the task's answers differ from pair to pair, those of the pair that is looked at.
function answersOfPair(): [string, string] | null {
  const [positive, negative] = [promptOf(0), promptOf(1)];
  const areFixed = payload.value.live?.circuits[session.value.circuit]?.answers;
  return areFixed || !positive || !negative ? null : [positive.answer.text, negative.answer.text];
}

async function ask(circuit: Circuit, typed: string): Promise<void> {
  const { interventions, cuts } = session.value,
    asked = { circuit: session.value.circuit, prompt: typed, answers: answersOfPair() },
    own = new AbortController();
  [waiting.value, mistake.value] = [own, ""];
  try {
    const before = await run({ ...asked, interventions: [], cuts: [] }, own.signal);
    const isChanged = interventions.length > 0 || cuts.length > 0;
    const after = isChanged ? await run({ ...asked, interventions, cuts }, own.signal) : null;
    answer.value = { circuit: asked.circuit, before, after };
  } catch (error) {
    mistake.value = own.signal.aborted ? "Cancelled." : `${circuit.task}: ${(error as Error).message}`;
  }
  waiting.value = null;
}

// The page stops waiting, and the server working.
function giveUp(): void {
  waiting.value?.abort();
  cancel().catch(error => say(error.message));
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
      about="The whole model and the circuit alone answer this prompt, as they are and with your changes; both are changed alike."
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
        <button type="button" class="strong" disabled={waiting.value !== null} onClick={() => ask(circuit, typed)}>
          {waiting.value ? "Running …" : "Run"}
        </button>
        {waiting.value && (
          <button type="button" onClick={giveUp}>
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
      {answer.value?.circuit === session.value.circuit && <Answers {...answer.value} />}
    </Panel>
  );
}
