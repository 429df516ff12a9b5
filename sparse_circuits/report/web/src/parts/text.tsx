// Tokens, weights and prose. Text from the payload only ever becomes a text node.

import { exact, signed, signOf, visible, type Maybe } from "../numbers";

export const Token = ({ text }: { text: string }) => (
  <span class="token" title={text.length > 40 ? `${text.length} characters` : undefined}>
    {visible(text)}
  </span>
);
export const Weight = ({ value, digits }: { value: Maybe; digits?: number }) => (
  <span class={`weight ${signOf(value)}`} title={exact(value)}>
    {signed(value, digits)}
  </span>
);
// Summaries mark code with backticks.
export const Prose = ({ text }: { text: string }) => (
  <>{text.split("`").map((part, i) => (i % 2 ? <code>{part}</code> : part))}</>
);
