// Numbers and token texts as a reader sees them.

export type Maybe = number | null | undefined;
export const known = (value: Maybe): value is number => typeof value === "number" && Number.isFinite(value);

export const count = (value: Maybe): string => (known(value) ? value.toLocaleString("en-US") : "–");
export const decimal = (value: Maybe, digits = 3): string =>
  known(value) ? (value < 0 ? "−" : "") + Math.abs(value).toFixed(digits) : "–";
export const percent = (value: Maybe, digits = 1): string => (known(value) ? `${(100 * value).toFixed(digits)} %` : "–");
export const exact = (value: Maybe): string =>
  known(value) ? (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value) : "not a number";

export function signed(value: Maybe, digits = 3): string {
  if (!known(value)) return "not a number";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.001 || size >= 1e5) ? size.toExponential(1) : String(+size.toPrecision(digits));
  return (value > 0 ? "+" : value < 0 ? "−" : "") + text;
}

export function short(value: Maybe): string {
  if (!known(value)) return "–";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(2);
  for (const [size, unit] of [
    [1e9, " B"],
    [1e6, " M"],
    [1e3, " k"],
  ] as const)
    if (Math.abs(value) >= Math.max(size, 1e4)) return `${+(value / size).toPrecision(3)}${unit}`;
  return Math.abs(value) >= 100 ? count(Math.round(value)) : String(+value.toPrecision(3));
}

export const signOf = (value: Maybe): string => (known(value) && value < 0 ? "negative" : "positive");

const LONGEST = 40;

// Spaces and line ends at the edges of a token are part of it, so they are drawn; a corpus may hold tokens of any length.
export function visible(text: string, longest = LONGEST): string {
  const drawn = text
    .slice(0, 4 * longest)
    .replaceAll("\n", "↵")
    .replaceAll("\t", "⇥")
    .replace(/^ +| +$/g, spaces => "␣".repeat(spaces.length));
  return drawn.length > longest || text.length > 4 * longest ? `${drawn.slice(0, longest)}…` : drawn;
}
