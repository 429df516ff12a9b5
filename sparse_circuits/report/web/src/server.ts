// What a served page may ask of the model behind it; addresses are relative, so the token in the page's own goes along.

import type { Notes } from "./payload/types";
import type { Intervention } from "./session";

export interface Request {
  circuit: number | null;
  prompt: string;
  interventions: Intervention[];
  cuts: [string, string][];
}
export interface Likely {
  token: string;
  probability: number;
}
export interface Answer {
  tokens: string[];
  model: Likely[];
  circuit: Likely[] | null;
  // Of the positive and the negative answer.
  answers: { model: [number, number] | null; circuit: [number, number] | null };
}

async function post(verb: string, body: unknown): Promise<unknown> {
  const response = await fetch(`./api/${verb}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = (await response.json().catch(() => null)) as { error?: string } | null;
  if (!response.ok)
    throw new Error(answer?.error ?? `The server answered with status ${response.status}: is it still running?`);
  return answer;
}

export const run = (request: Request): Promise<Answer> => post("run", request) as Promise<Answer>;
export const cancel = (): Promise<unknown> => post("cancel", {});
export const saveNotes = (circuit: number, notes: Notes): Promise<unknown> => post("labels", { circuit, ...notes });
