// A titled part of the page that can fill the screen and be saved as SVG, PNG or JSON.

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { download, pngOf, svgOf } from "./picture";
import { say } from "./message";

interface Props {
  title: string;
  about?: ComponentChildren;
  data: () => unknown;
  name?: string;
  tools?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}

export function Panel({ title, about, data, name, tools, children, ...props }: Props) {
  const frame = useRef<HTMLElement>(null),
    [isFull, setFull] = useState(false);
  const file = name ?? title.toLowerCase().replace(/[^\w]+/g, "-");
  const content = () => frame.current?.querySelector(".content") as HTMLElement;
  const png = () =>
    pngOf(content()).then(
      blob => download(blob, `${file}.png`),
      error => say(String(error.message ?? error)),
    );
  return (
    <section
      ref={frame}
      class={`panel ${props.class ?? ""} ${isFull ? "full" : ""}`}
      aria-label={title}
      onKeyDown={event => {
        if (event.key === "Escape" && isFull) {
          setFull(false);
          event.stopPropagation();
        }
      }}
    >
      <header>
        <h3>{title}</h3>
        {tools}
        <span class="tools">
          <button type="button" title="Save this panel as SVG" onClick={() => download(svgOf(content()), `${file}.svg`)}>
            SVG
          </button>
          <button type="button" title="Save this panel as PNG" onClick={png}>
            PNG
          </button>
          <button
            type="button"
            title="Save this panel's numbers as JSON"
            onClick={() => download(JSON.stringify(data(), null, 1), `${file}.json`)}
          >
            JSON
          </button>
          <button
            type="button"
            title={isFull ? "Back to its place (Escape)" : "Fill the screen"}
            aria-label={isFull ? "Leave full screen" : "Full screen"}
            onClick={() => setFull(!isFull)}
          >
            {isFull ? "✕" : "⤢"}
          </button>
        </span>
      </header>
      {about && <p class="about">{about}</p>}
      <div class="content">{children}</div>
    </section>
  );
}
