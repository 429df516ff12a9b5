// A served page asks the model behind it: here a stand-in that answers by the contract.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, it } from "node:test";
import { openBrowser, openPage } from "./browser.js";
import { pathOf, writePages } from "./pages.js";

let browser,
  page,
  server,
  asked = [];
const TOKEN = "a-token";

before(async () => {
  writePages("served");
  const content = await readFile(pathOf("served"));
  server = createServer(async (request, response) => {
    if (request.url === `/${TOKEN}/`) return response.writeHead(200, { "Content-Type": "text/html" }).end(content);
    if (!request.url.startsWith(`/${TOKEN}/api/`)) return response.writeHead(404).end();
    let body = "";
    for await (const part of request) body += part;
    const call = { verb: request.url.split("/").at(-1), ...JSON.parse(body) };
    asked.push(call);
    const share = call.interventions?.length ? 0.25 : 0.75;
    if (call.prompt?.includes("too long"))
      return response.writeHead(413).end(JSON.stringify({ error: "The prompt is too long: shorten it." }));
    response.end(
      JSON.stringify({
        tokens: ["a"],
        model: [{ token: "<b>", probability: share }],
        circuit: [{ token: "c", probability: share }],
        answers: { model: [share, 1 - share], circuit: [share, 1 - share] },
      }),
    );
  });
  await new Promise(done => server.listen(0, "127.0.0.1", done));
  browser = await openBrowser();
  page = browser.page;
  await page.context().unrouteAll();
  await page
    .context()
    .route(/^(https?|wss?):/, route =>
      new URL(route.request().url()).hostname === "127.0.0.1" ? route.continue() : route.abort(),
    );
  await openPage(page, `http://127.0.0.1:${server.address().port}/${TOKEN}/#view=circuit&circuit=1&merged=true`);
});
after(async () => {
  await browser?.close();
  server?.close();
});

const panel = () => page.locator("section[aria-label='Try it']");
const run = async () => {
  await panel().locator("button", { hasText: /^Run$/ }).click();
  await panel().locator("text=Positive against negative").waitFor();
};

it("a prompt is answered by model and circuit", async () => {
  await panel().locator("textarea").fill("print('a");
  await run();
  assert.deepEqual(asked, [{ verb: "run", circuit: 1, prompt: "print('a", interventions: [], cuts: [] }]);
  assert.match(await panel().innerText(), /75\.00 % : 25\.00 %/);
});

it("clicks ablate nodes and cut edges, and the answer moves", async () => {
  await panel().locator("input[type=checkbox]").check();
  await page.locator("[data-node='1.attn.q[3]']").click();
  await page.locator(".reach[data-edge='1.attn.act_in[2] → 1.attn.q[3]']").dispatchEvent("click");
  assert.equal(await page.locator(".spot.gone").count(), 1);
  asked = [];
  await run();
  await panel().locator("text=25.00 %").first().waitFor();
  assert.deepEqual(asked.at(-1).interventions, [{ node: "1.attn.q[3]", kind: "ablate", value: null }]);
  assert.deepEqual(asked.at(-1).cuts, [["1.attn.act_in[2]", "1.attn.q[3]"]]);
});

it("labels go to the circuit's file, and errors come back as sentences", async () => {
  await panel().locator("button", { hasText: "Save labels" }).click();
  await page.locator("#message", { hasText: "in the circuit's file" }).waitFor();
  assert.deepEqual(asked.at(-1), {
    verb: "labels",
    circuit: 1,
    labels: { "1.attn.q[3]": "looks for quotes" },
    groups: [{ name: "quotes", nodes: ["1.attn.q[3]", "1.attn.k[3]"] }],
  });
  await panel().locator("textarea").fill("too long");
  await panel().locator("button", { hasText: /^Run$/ }).click();
  assert.match(await panel().locator("[role=alert]").innerText(), /The prompt is too long/);
});
