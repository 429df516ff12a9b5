// One short message at the foot of the page, for a moment.

import { signal } from "@preact/signals";

const message = signal("");
let timer = 0;

export function say(text: string): void {
  message.value = text;
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    message.value = "";
  }, 4000);
}

export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${text}`);
  } catch {
    say(`Copy this: ${text}`);
  }
}

export const Message = () => (
  <div id="message" role="status" hidden={!message.value}>
    {message.value}
  </div>
);
