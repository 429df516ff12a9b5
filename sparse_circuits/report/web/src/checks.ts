// The checks of a faithfulness card in plain words.

import type { Check } from "./payload/types";
import { known } from "./numbers";

export const fails = ({ loss, at_most, at_least }: Check): boolean =>
  (known(loss) && known(at_most) && loss > at_most) || (known(loss) && known(at_least) && loss < at_least);

const WORDS: Record<string, [string, string]> = {
  model: ["whole model", "Nothing is ablated."],
  circuit: ["circuit alone", "Everything outside stands at its mean; the circuit must answer by itself."],
  circuit_raw: ["circuit alone, not calibrated", "The same without the calibration of its margins."],
  necessity: ["model without the circuit", "Only the circuit is ablated; the model must fail."],
  random: ["best random circuit", "The best of the random circuits of the same size; they must fail."],
  random_calibrated: ["best random circuit, calibrated", "The same, each calibrated on its own."],
  outside: ["other nodes ablated", "As many random nodes outside the circuit are ablated; the model must not mind."],
  ablated: ["everything ablated", "No node is left; the bigram table answers alone."],
  "partial_0.0": ["0 % of the rest ablated", "Any part of the rest may stay or go."],
  "partial_0.25": ["25 % of the rest ablated", "Any part of the rest may stay or go."],
  "partial_0.5": ["50 % of the rest ablated", "Any part of the rest may stay or go."],
  "partial_0.75": ["75 % of the rest ablated", "Any part of the rest may stay or go."],
  "partial_1.0": ["100 % of the rest ablated", "Any part of the rest may stay or go."],
  frozen_norms: ["norms of the whole model", "The norms divide by what they divide by in the whole model."],
  resample: ["the rest at random values", "Nodes outside take what they were at random tokens instead of their means."],
  swapped: ["search with answers swapped", "The same search for the wrong answers; it must find nothing."],
  coin: ["search with answers by a coin", "The same search for answers that a coin decides; it must find nothing."],
  random_weights: ["search in shuffled weights", "The same search in a model with shuffled weights; it must find nothing."],
};

export const nameOfCheck = (check: Check): string => WORDS[check.name]?.[0] ?? check.name;
export const aboutCheck = (check: Check): string => WORDS[check.name]?.[1] ?? check.about;

const has =
  (...names: string[]) =>
  (check: Check) =>
    names.includes(check.name);
export const CHAPTERS: { title: string; about: string; holds: (check: Check) => boolean }[] = [
  {
    title: "Is it enough?",
    about: "The circuit answers while the rest is taken away, all of it or any part.",
    holds: check => has("circuit", "frozen_norms")(check) || check.name.startsWith("partial"),
  },
  {
    title: "Is it needed?",
    about: "Without it the model fails; without others it does not.",
    holds: has("necessity", "outside"),
  },
  {
    title: "Could it be chance?",
    about: "What random circuits and searches for nonsense reach: they have to fail.",
    holds: has("random", "swapped", "coin", "random_weights"),
  },
  {
    title: "For comparison",
    about: "No bounds here.",
    holds: has("model", "circuit_raw", "random_calibrated", "ablated", "resample"),
  },
];
