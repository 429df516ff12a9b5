// Dragging and zooming a picture. Only the box around it moves, which is a layer of its own: nothing is drawn again on the way
// (moving the SVG itself, browsers do draw it again).

export interface Pan {
  fit(): void;
  zoom(factor: number): void;
  show(x: number, y: number): void;
  stop(): void;
}

const SMALLEST = 0.25,
  LARGEST = 2.5,
  LOWEST = 300;

// The frame's rows follow up and down, and stay at the left.
export function pan(frame: HTMLElement, picture: SVGSVGElement): Pan {
  const rows = [...frame.querySelectorAll<SVGSVGElement>(".rows")],
    mover = picture.parentElement as HTMLElement;
  const size = () => picture.viewBox.baseVal;
  let [x, y, scale] = [0, 0, 1],
    from: { x: number; y: number; pointer: number } | null = null;
  const move = () => {
    mover.style.transform = `translate(${x}px, ${y}px)`;
    for (const row of rows) row.style.transform = `translateY(${y}px)`;
  };
  // The size, unlike a scale in the transform, keeps text sharp.
  const resize = () => {
    for (const each of [picture, ...rows]) {
      each.setAttribute("width", String(each.viewBox.baseVal.width * scale));
      each.setAttribute("height", String(each.viewBox.baseVal.height * scale));
    }
    move();
  };

  function zoomAt(factor: number, atX: number, atY: number): void {
    const next = Math.min(LARGEST, Math.max(SMALLEST, scale * factor));
    [x, y] = [atX - ((atX - x) * next) / scale, atY - ((atY - y) * next) / scale];
    scale = next;
    resize();
  }

  function fit(): void {
    frame.style.maxHeight = "";
    const { clientWidth, clientHeight: highest } = frame,
      { width, height } = size();
    if (!clientWidth || !width) return;
    scale = Math.min(1.15, Math.max(0.62, Math.min(clientWidth / width, highest / height)));
    // A low picture needs no high frame.
    const clientHeight = Math.min(highest, Math.max(LOWEST, height * scale));
    frame.style.maxHeight = `${clientHeight + 2}px`;
    // What does not fit shows its end, where the answer is read.
    x = width * scale <= clientWidth ? (clientWidth - width * scale) / 2 : clientWidth - width * scale;
    y = height * scale <= clientHeight ? (clientHeight - height * scale) / 2 : 0;
    resize();
  }

  const down = (event: PointerEvent) => {
    if (event.button !== 0 || (event.target as Element).closest(".spot, .reach")) return;
    from = { x: event.clientX - x, y: event.clientY - y, pointer: event.pointerId };
    frame.setPointerCapture(event.pointerId);
  };
  const drag = (event: PointerEvent) => {
    if (!from || from.pointer !== event.pointerId) return;
    [x, y] = [event.clientX - from.x, event.clientY - from.y];
    move();
  };
  const up = () => {
    from = null;
  };
  const wheel = (event: WheelEvent) => {
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey)
      zoomAt(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
    else {
      [x, y] = [x - event.deltaX - (event.shiftKey ? event.deltaY : 0), y - (event.shiftKey ? 0 : event.deltaY)];
      move();
    }
  };
  const listeners: [string, (event: never) => void][] = [
    ["pointerdown", down],
    ["pointermove", drag],
    ["pointerup", up],
    ["pointercancel", up],
    ["wheel", wheel],
  ];
  for (const [name, listener] of listeners) frame.addEventListener(name, listener as EventListener, { passive: false });
  let fitted = 0;
  const watcher = new ResizeObserver(() => {
    if (frame.clientWidth !== fitted) {
      fitted = frame.clientWidth;
      fit();
    }
  });
  watcher.observe(frame);

  return {
    fit,
    zoom: factor => zoomAt(factor, frame.clientWidth / 2, frame.clientHeight / 2),
    show(atX, atY) {
      const [left, top, margin] = [atX * scale + x, atY * scale + y, 40];
      x += Math.max(0, margin - left) - Math.max(0, left - frame.clientWidth + margin);
      y += Math.max(0, margin - top) - Math.max(0, top - frame.clientHeight + margin);
      move();
    },
    stop() {
      watcher.disconnect();
      for (const [name, listener] of listeners) frame.removeEventListener(name, listener as EventListener);
    },
  };
}
