// The note beside the pointer.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";

const shown = signal<{ x: number; y: number; content: ComponentChildren } | null>(null);

export const showTip = (event: PointerEvent, content: ComponentChildren): void => {
  shown.value = { x: event.clientX, y: event.clientY, content };
};
export const hideTip = (): void => {
  shown.value = null;
};

export function Tip() {
  if (!shown.value) return null;
  const { x, y, content } = shown.value;
  const style = {
    left: x > innerWidth - 320 ? undefined : `${x + 14}px`,
    right: x > innerWidth - 320 ? `${innerWidth - x + 10}px` : undefined,
    top: y > innerHeight - 180 ? undefined : `${y + 16}px`,
    bottom: y > innerHeight - 180 ? `${innerHeight - y + 10}px` : undefined,
  };
  return (
    <div id="tip" role="status" style={style}>
      {content}
    </div>
  );
}
