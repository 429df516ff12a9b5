// A panel as a file: SVG, PNG or JSON. The pictures stand alone: what the style sheet says is written into them.

const SHOWN = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linecap",
  "opacity",
  "visibility",
  "font-family",
  "font-size",
  "font-weight",
  "font-style",
  "text-anchor",
  "display",
];

export function svgOf(panel: HTMLElement): string {
  const picture = panel.querySelector<SVGSVGElement>("svg.picture");
  return picture ? standalone(picture) : wrapped(panel);
}

// Every element with the style that it has now, so that programs that know no style sheets show it alike.
function standalone(picture: SVGSVGElement): string {
  const copy = picture.cloneNode(true) as SVGSVGElement;
  const originals = [picture, ...picture.querySelectorAll("*")],
    copies = [copy, ...copy.querySelectorAll("*")];
  copies.forEach((element, i) => {
    // What only catches the pointer is not drawn.
    if (originals[i].classList.contains("reach")) return element.remove();
    dress(element, originals[i]);
  });
  // The rows and their names lie behind and before the picture.
  for (const row of picture.closest(".frame")?.querySelectorAll(".rows > *") ?? []) {
    const own = row.cloneNode(true) as Element;
    dress(own, row);
    if (row.tagName === "rect") copy.prepend(own);
    else copy.append(own);
  }
  const { width, height } = picture.viewBox.baseVal;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  copy.setAttribute("style", `background:${getComputedStyle(document.body).backgroundColor}`);
  return new XMLSerializer().serializeToString(copy);
}

function dress(element: Element, original: Element): void {
  const style = getComputedStyle(original);
  element.setAttribute("style", SHOWN.map(name => `${name}:${style.getPropertyValue(name)}`).join(";"));
  for (const name of ["class", "tabindex", "role", "aria-label"]) element.removeAttribute(name);
}

// A panel of text and tables, as a foreign object with the page's own style sheet.
function wrapped(panel: HTMLElement): string {
  const { width } = panel.getBoundingClientRect(),
    height = panel.scrollHeight;
  const style = [...document.querySelectorAll("style")].map(each => each.textContent).join("\n");
  const root = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  root.setAttribute("width", String(width));
  root.setAttribute("height", String(height));
  root.setAttribute("data-theme", document.documentElement.dataset.theme ?? "light");
  const sheet = document.createElementNS("http://www.w3.org/2000/svg", "style"),
    inside = document.createElementNS("http://www.w3.org/2000/svg", "foreignObject");
  sheet.textContent = style;
  inside.setAttribute("width", "100%");
  inside.setAttribute("height", "100%");
  const body = document.createElement("div");
  body.className = "exported";
  body.append(panel.cloneNode(true));
  inside.append(body);
  root.append(sheet, inside);
  return new XMLSerializer().serializeToString(root);
}

export async function pngOf(panel: HTMLElement): Promise<Blob> {
  const text = svgOf(panel),
    image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * image.width;
  canvas.height = 2 * image.height;
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) =>
    canvas.toBlob(blob => (blob ? resolve(blob) : reject(new Error("This browser draws no PNG: save the SVG."))), "image/png"),
  );
}

export function download(content: Blob | string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
