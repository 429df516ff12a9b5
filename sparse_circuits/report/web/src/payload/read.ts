// From the text in the page to the payload: base64, then zlib.

import type { Payload } from "./types";

export const SCHEMA = { name: "sparse_circuits.report", version: 2 };

export async function readPayload(text: string): Promise<Payload> {
  if (typeof DecompressionStream === "undefined")
    throw new Error(
      "This browser cannot unpack the page's data: open it in Chrome 80, Firefox 113, Safari 16.4 or newer. The same data lie beside it in report.json.",
    );
  const stream = new Blob([bytesOf(text.trim())]).stream().pipeThrough(new DecompressionStream("deflate"));
  const payload = JSON.parse(await new Response(stream).text()) as Payload;
  if (payload.schema?.name !== SCHEMA.name || payload.schema.version !== SCHEMA.version)
    throw new Error(
      `This page reads data of ${SCHEMA.name} ${SCHEMA.version}, and was given ${payload.schema?.name} ${payload.schema?.version}: write the report again.`,
    );
  return payload;
}

export function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const binary = atob(base64),
    bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
