// With the models behind the page: the dense model's next tokens, pushed along one node of the sparse one.

import { signal } from "@preact/signals";
import { nameOf } from "../names";
import { decimal, visible } from "../numbers";
import { Likeliest } from "../parts/Likeliest";
import { Panel } from "../parts/Panel";
import { steer, type SteerRequest, type Steered } from "../server";
import { circuit, payload } from "../session";

const STRONGEST = 5;

const asked = signal<SteerRequest | null>(null);
const answer = signal<Steered | null>(null);
const isRunning = signal(false),
  mistake = signal("");

// What sublayers read, in circuits and where steering was measured: from these places a bridge leads.
const handles = (): string[] => {
  const nodes = payload.value.circuits.flatMap(circuit =>
    circuit.nodes.filter(node => node.site.endsWith("act_in")).map(nameOf),
  );
  return [...new Set([...payload.value.steering.flatMap(each => each.nodes), ...nodes])];
};

function start(): SteerRequest {
  const [from, to] = circuit.value?.pairs[0]?.tokens.map(each => each.map(token => payload.value.texts[token]).join("")) ?? [
    "",
    "",
  ];
  return { circuit_node: handles()[0] ?? "", from_prompt: from, to_prompt: to, strength: 1 };
}

async function ask(request: SteerRequest): Promise<void> {
  [isRunning.value, mistake.value] = [true, ""];
  try {
    answer.value = await steer(request);
  } catch (error) {
    mistake.value = (error as Error).message;
  }
  isRunning.value = false;
}

export function Steer() {
  const live = payload.value.live;
  if (!live?.steering)
    return (
      <section class="panel">
        <p class="none">No steering here. {live?.why_no_steering}</p>
      </section>
    );
  const request = asked.value ?? start();
  const edit = (patch: Partial<SteerRequest>) => {
    asked.value = { ...request, ...patch };
  };
  const prompt = (title: string, key: "from_prompt" | "to_prompt") => (
    <label>
      {title}
      <textarea rows={4} value={request[key]} onInput={event => edit({ [key]: event.currentTarget.value })} />
    </label>
  );
  return (
    <Panel
      title="Steer the dense model"
      data={() => ({ ...request, answer: answer.value })}
      about="The dense model reads the first prompt, pushed along a node of the sparse one by what the node differs between the two prompts, times the strength. Both have equally many tokens."
    >
      <div class="two">
        {prompt("It reads", "from_prompt")}
        {prompt("and is pushed towards", "to_prompt")}
      </div>
      <div class="row">
        <label>
          Node{" "}
          <input
            type="text"
            list="handles"
            value={request.circuit_node}
            onInput={event => edit({ circuit_node: event.currentTarget.value.trim() })}
          />
        </label>
        <datalist id="handles">
          {handles().map(each => (
            <option value={each} />
          ))}
        </datalist>
        <label>
          Strength{" "}
          <input
            type="range"
            min={-STRONGEST}
            max={STRONGEST}
            step="0.1"
            value={request.strength}
            onInput={event => edit({ strength: Number(event.currentTarget.value) })}
            onChange={() => ask(asked.value ?? request)}
          />{" "}
          <output>{decimal(request.strength, 1)}</output>
        </label>
        <button type="button" class="strong" disabled={isRunning.value} onClick={() => ask(request)}>
          {isRunning.value ? "Running …" : "Steer"}
        </button>
      </div>
      {mistake.value && (
        <p class="fails" role="alert">
          {mistake.value}
        </p>
      )}
      {answer.value && (
        <div aria-live="polite">
          <p class="about">
            After <span class="token">{visible(answer.value.tokens.slice(-8).join(""))}</span> the likeliest next tokens are
          </p>
          <div class="two">
            <Likeliest title="as it is" tokens={answer.value.before} />
            <Likeliest title="pushed" tokens={answer.value.after} />
          </div>
        </div>
      )}
    </Panel>
  );
}
