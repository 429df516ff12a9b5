// Keys that work everywhere but in fields of text.

import { nPairs } from "./prompt";
import { change, openCircuit, payload, selectNode, session, undo, type View } from "./session";
import { selectNext } from "./search";
import { signal } from "@preact/signals";

export const isHelpOpen = signal(false);

export const KEYS: [string, string][] = [
  ["1 – 5", "overview, circuit, card, compare, bridge"],
  ["[ and ]", "previous and next circuit"],
  ["← and →", "previous and next prompt; inside the picture: walk between nodes"],
  ["s", "the pair's other side"],
  ["w", "lines: weight, weight × activation, loss without it"],
  ["m", "token by token, or all tokens as one"],
  ["p", "pin the node"],
  ["/", "find a node; Enter goes to the next"],
  ["l", "label the node"],
  ["Ctrl Z", "undo"],
  ["Escape", "close what is open, let go of node and path"],
  ["t", "dark or light"],
  ["?", "this list"],
];

const VIEWS: View[] = ["overview", "circuit", "card", "compare", "bridge"];
const MEANINGS = ["weight", "flow", "effect"] as const;

export function listen(): void {
  addEventListener("keydown", event => {
    const field = (event.target as Element).closest("input, textarea, select");
    if (event.key === "z" && (event.ctrlKey || event.metaKey) && !field) {
      event.preventDefault();
      return undo();
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (field) {
      if (event.key === "Escape") (field as HTMLElement).blur();
      if (event.key === "Enter" && field.id === "search") selectNext();
      return;
    }
    const act = actions[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
}

const step = (value: number, by: number, length: number) => (length ? (value + by + length) % length : 0);
const focus = (id: string) => document.getElementById(id)?.focus();

const actions: Record<string, () => void> = {
  ...Object.fromEntries(VIEWS.map((view, i) => [String(i + 1), () => change({ view })])),
  "[": () => openCircuit(step(session.value.circuit, -1, payload.value.circuits.length), session.value.view),
  "]": () => openCircuit(step(session.value.circuit, 1, payload.value.circuits.length), session.value.view),
  ArrowLeft: () => change({ pair: step(session.value.pair, -1, nPairs.value) }),
  ArrowRight: () => change({ pair: step(session.value.pair, 1, nPairs.value) }),
  s: () => change({ side: session.value.side ? 0 : 1 }),
  w: () => change({ meaning: MEANINGS[step(MEANINGS.indexOf(session.value.meaning), 1, MEANINGS.length)] }),
  m: () => change({ merged: !session.value.merged }),
  p: () => {
    const { node, pinned } = session.value;
    if (node) change({ pinned: pinned.includes(node) ? pinned.filter(each => each !== node) : [...pinned, node] });
  },
  "/": () => focus("search"),
  l: () => focus("label"),
  t: toggleTheme,
  "?": () => {
    isHelpOpen.value = !isHelpOpen.value;
  },
  Escape: () => {
    if (isHelpOpen.value) isHelpOpen.value = false;
    else if (session.value.path) change({ path: null });
    else if (session.value.node) selectNode(null);
  },
};

export function toggleTheme(): void {
  change({ theme: document.documentElement.dataset.theme === "dark" ? "light" : "dark" });
}
