// One prompt of a held-out pair: its tokens, and what nodes and heads of the circuit do at each of them.

import { Matrix } from "./packed";
import { bytesOf } from "./read";
import type { Circuit, Num, Payload } from "./types";

export type Side = 0 | 1;
export type Where = "circuit" | "model";

export interface Prompt {
  tokens: string[];
  answer: { node: number; text: string };
  other: { node: number; text: string };
  probability: Record<Where, Num>;
  activation(node: number, token: number, where?: Where): number;
  activations(node: number, where?: Where): number[];
  // What a query position gives to each key up to itself and, last, to the sink; null for a head that is not in the circuit.
  attention(layer: number, head: number, query: number): number[] | null;
}

export function promptsOf(circuit: Circuit, payload: Payload): (pair: number, side: Side) => Prompt | null {
  const matrices = circuit.activations && {
    circuit: new Matrix(circuit.activations.circuit),
    model: new Matrix(circuit.activations.model),
  };
  const shares = new Map(circuit.attention.map(each => [`${each.layer}.${each.head}`, bytesOf(each.shares)]));
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
  const shareStarts = starts(length => (length * (length + 3)) / 2);

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
      activations,
      activation: (node, token, where = "circuit") =>
        circuit.nodes[node].site === "logits" ? 0 : matrices[where].at(node, columns[place] + token),
      attention(layer, head, query) {
        const bytes = shares.get(`${layer}.${head}`);
        if (!bytes) return null;
        const start = shareStarts[place] + (query * (query + 3)) / 2;
        return Array.from(bytes.subarray(start, start + query + 2), byte => byte / 255);
      },
    };
  };
}
