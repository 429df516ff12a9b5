// What a served page may ask of the model behind it, as report/server/api.py answers; addresses are relative, so the token in the
// page's own goes along.

import type { HeadShares, Notes } from "./payload/types";
import type { Intervention } from "./session";

export interface RunRequest {
  circuit: number;
  prompt: string;
  interventions: Intervention[];
  cuts: [string, string][];
  // Null: those of the circuit's task.
  answers: [string, string] | null;
}
export interface Likely {
  token: string;
  probability: number;
}
// Of the positive and the negative answer.
export type Odds = [number, number];
export interface Outcome {
  tokens: string[];
  model: Likely[] | null;
  // Why there is no whole model.
  why: string | null;
  circuit: Likely[] | null;
  answers: { model: Odds | null; circuit: Odds } | null;
  why_answers: string | null;
  activations: Record<string, number[]> | null;
}
// Wherever there are two, the positive prompt's comes first.
export interface ShownPair {
  prompts: [string, string];
  tokens: [string[], string[]];
  answers: [string, string];
  probabilities: { model: Odds | null; circuit: Odds };
  activations: Record<string, [number[], number[]]>;
  attention: HeadShares[];
}
export interface SteerRequest {
  circuit_node: string;
  from_prompt: string;
  to_prompt: string;
  strength: number;
}
export interface Steered {
  tokens: string[];
  before: Likely[];
  after: Likely[];
}

async function post<Answer>(verb: string, body: unknown, signal?: AbortSignal): Promise<Answer> {
  const response = await fetch(`./api/${verb}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const answer = (await response.json().catch(() => null)) as { error?: string } | null;
  if (!response.ok)
    throw new Error(answer?.error ?? `The server answered with status ${response.status}: is it still running?`);
  return answer as Answer;
}

export const run = (request: RunRequest, signal: AbortSignal) => post<Outcome>("run", request, signal);
export const pair = (circuit: number, index: number) => post<ShownPair>("pair", { circuit, index });
export const steer = (request: SteerRequest) => post<Steered>("steer", request);
export const saveNotes = (circuit: number, notes: Notes) => post<object>("labels", { circuit, ...notes });
export const cancel = () => post<{ cancelled: number }>("cancel", {});
