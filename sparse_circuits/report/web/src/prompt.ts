// The prompt that is looked at: of one of the file's pairs or, when served, of any held-out pair of the task.

import { computed, effect, signal } from "@preact/signals";
import { promptsOf, servedPrompt, type Prompt, type Side } from "./payload/prompt";
import { pair as askForPair, type ShownPair } from "./server";
import { circuit, payload, session } from "./session";

// Pairs that were asked for, by circuit and index: null while they are on their way, a sentence where they do not come.
const served = signal<Record<string, ShownPair | string | null>>({});

const inFile = computed(() => circuit.value && promptsOf(circuit.value, payload.value));
export const nPairs = computed(() =>
  Math.max(circuit.value?.pairs.length ?? 0, payload.value.live?.circuits[session.value.circuit]?.n_pairs ?? 0),
);

// Of the pair that is looked at: where it is kept, if not in the file.
const key = computed(() => {
  const { pair, circuit: place } = session.value;
  return pair >= (circuit.value?.pairs.length ?? 0) && pair < nPairs.value ? `${place} ${pair}` : null;
});
const found = computed(() => (key.value === null ? null : served.value[key.value]));
export const isOnItsWay = computed(() => key.value !== null && found.value === null);
export const whyNoPrompt = computed(() => (typeof found.value === "string" ? found.value : null));

const prompts = computed(() =>
  ([0, 1] as const).map((side): Prompt | null => {
    if (key.value === null) return inFile.value?.(session.value.pair, side) ?? null;
    const own = circuit.value;
    return own && found.value && typeof found.value === "object" ? servedPrompt(own, found.value, side) : null;
  }),
);
export const promptOf = (side: Side): Prompt | null => prompts.value[side];
export const prompt = computed(() => promptOf(session.value.side));

// Asks for what is looked at, once.
export function fetchPairs(): void {
  effect(() => {
    const { pair, circuit: place } = session.value,
      wanted = key.value;
    if (wanted === null || served.peek()[wanted] !== undefined) return;
    const keep = (value: ShownPair | string | null) => {
      served.value = { ...served.peek(), [wanted]: value };
    };
    keep(null);
    askForPair(place, pair).then(keep, error => keep((error as Error).message));
  });
}
