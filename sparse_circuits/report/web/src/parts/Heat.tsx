// Tokens coloured by a node's activation: zero is white (dark: the paper), blue is above, orange below.

import { decimal, known, visible } from "../numbers";

export const heat = (value: number, largest: number): string => {
  const share = largest ? Math.min(1, Math.abs(value) / largest) : 0;
  return share < 0.01
    ? "transparent"
    : `color-mix(in srgb, var(${value < 0 ? "--cold" : "--warm"}) ${(100 * share ** 0.75).toFixed(0)}%, transparent)`;
};

interface Props {
  tokens: string[];
  values: number[];
  largest: number;
  mark?: number;
  fade?: boolean;
}

export function Heat({ tokens, values, largest, mark, fade }: Props) {
  return (
    <div class={`heat ${fade ? "fade" : ""}`}>
      {tokens.map((token, i) => {
        const strong = known(values[i]) && Math.abs(values[i]) > 0.55 * largest;
        return (
          <>
            <span
              class={`${i === mark ? "mark" : ""} ${strong ? "strong" : ""}`}
              style={{ background: heat(values[i] ?? 0, largest) }}
              title={`${decimal(values[i])} at ${visible(token)}`}
            >
              {visible(token)}
            </span>
            {token.includes("\n") && <br />}
          </>
        );
      })}
    </div>
  );
}

export const Scale = ({ largest }: { largest: number }) => (
  <span class="scale" aria-label={`Colours from ${decimal(-largest, 2)} to ${decimal(largest, 2)}, zero white`}>
    <span>{decimal(-largest, 2)}</span>
    <i />
    <span>0</span>
    <i class="up" />
    <span>{decimal(largest, 2)}</span>
  </span>
);
