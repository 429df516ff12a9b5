// One prompt of a held-out pair: its tokens, and what nodes and heads of the circuit do at each of them.

import { nameOf } from "../names";
import type { ShownPair } from "../server";
import { Matrix } from "./packed";
import { bytesOf } from "./read";
import type { Circuit, HeadShares, Num, Payload } from "./types";

export type Side = 0 | 1;
export type Where = "circuit" | "model";

export interface Prompt {
  tokens: string[];
  // The node is -1 where the file's pairs do not have this answer.
  answer: { node: number; text: string };
  other: { node: number; text: string };
  probability: Record<Where, Num>;
  // Where its activations are known.
  wheres: Where[];
  activation(node: number, token: number, where?: Where): number;
  activations(node: number, where?: Where): number[];
  // What a query position gives to each key up to itself and, last, to the sink; null for a head that is not in the circuit.
  attention(layer: number, head: number, query: number): number[] | null;
}

export const hasLogits = ({ answer, other }: Prompt): boolean => answer.node >= 0 && other.node >= 0;

export function promptsOf(circuit: Circuit, payload: Payload): (pair: number, side: Side) => Prompt | null {
  const matrices = circuit.activations && {
    circuit: new Matrix(circuit.activations.circuit),
    model: new Matrix(circuit.activations.model),
  };
  const attentionFrom = unpack(circuit.attention);
  const lengths = circuit.pairs.map(pair => pair.tokens[0].length);
  const starts = (size: (length: number) => number) => {
    let sum = 0;
    return [...lengths, ...lengths].map(length => {
      const start = sum;
      sum += size(length);
      return start;
    });
  };
  const columns = starts(length => length);
  const shareStarts = starts(nShares);

  return (pair, side) => {
    const found = circuit.pairs[pair];
    if (!found || !matrices) return null;
    const place = pair + side * circuit.pairs.length,
      length = lengths[pair];
    const answers = found.answers.map(node => ({ node, text: circuit.nodes[node].text ?? "" }));
    const activations = (node: number, where: Where = "circuit") =>
      circuit.nodes[node].site === "logits" ? [] : matrices[where].row(node, columns[place], columns[place] + length);
    return {
      tokens: found.tokens[side].map(token => payload.texts[token]),
      answer: answers[side],
      other: answers[1 - side],
      probability: { circuit: found.circuit[side], model: found.model[side] },
      wheres: ["circuit", "model"],
      activations,
      activation: (node, token, where = "circuit") =>
        circuit.nodes[node].site === "logits" ? 0 : matrices[where].at(node, columns[place] + token),
      attention: attentionFrom(shareStarts[place]),
    };
  };
}

// A pair that the server sent, as one of the file's.
export function servedPrompt(circuit: Circuit, pair: ShownPair, side: Side): Prompt {
  const answers = pair.answers.map(text => ({
    node: circuit.nodes.findIndex(node => node.site === "logits" && node.text === text),
    text,
  }));
  const activations = (node: number) => pair.activations[nameOf(circuit.nodes[node])]?.[side] ?? [];
  return {
    tokens: pair.tokens[side],
    answer: answers[side],
    other: answers[1 - side],
    probability: { circuit: pair.probabilities.circuit[side], model: pair.probabilities.model?.[side] ?? null },
    wheres: ["circuit"],
    activations,
    activation: (node, token) => activations(node)[token] ?? 0,
    attention: unpack(pair.attention)(side * nShares(pair.tokens[0].length)),
  };
}

// How many shares a prompt takes: for each query its keys, itself among them, and the sink.
const nShares = (length: number): number => (length * (length + 3)) / 2;

function unpack(heads: HeadShares[]): (start: number) => Prompt["attention"] {
  const shares = new Map(heads.map(each => [`${each.layer}.${each.head}`, bytesOf(each.shares)]));
  return start => (layer, head, query) => {
    const from = start + nShares(query);
    const row = shares.get(`${layer}.${head}`)?.subarray(from, from + query + 2);
    return row ? Array.from(row, byte => byte / 255) : null;
  };
}
