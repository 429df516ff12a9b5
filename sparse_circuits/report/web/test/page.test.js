// The page of a run, opened from disk and used as a reader would.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, beforeEach, describe, it } from "node:test";
import { openBrowser, openPage } from "./browser.js";
import { urlOf, writePages } from "./pages.js";

// Of single_double_quote; the other is of with_as.
const CIRCUIT = "#view=circuit&circuit=1";
let browser, page;

before(async () => {
  writePages("run");
  browser = await openBrowser();
  page = browser.page;
});
after(async () => {
  await browser?.close();
});
beforeEach(() => {
  browser.problems.length = browser.outside.length = 0;
});

const text = selector => page.locator(selector).first().innerText();
const tab = name => page.locator("#bar .tabs button", { hasText: name }).click();
const spot = name => page.locator(`[data-node="${name}"]`).first();
const clean = () => {
  assert.deepEqual(browser.problems, []);
  assert.deepEqual(browser.outside, []);
};

async function saved(click) {
  const [file] = await Promise.all([page.waitForEvent("download"), click()]);
  return { name: file.suggestedFilename(), content: await readFile(await file.path()) };
}

describe("views", () => {
  it("show the run, its circuits, cards, a comparison and the bridge", async () => {
    await openPage(page, urlOf("run"));
    assert.equal(await text("h1"), "run");
    assert.equal(await page.locator("table[aria-label=Tasks] tbody tr").count(), 2);
    assert.ok((await page.locator(".chart .line").count()) >= 4);
    await page.locator("table[aria-label=Tasks] .name", { hasText: "single_double_quote" }).click();
    assert.equal(await text("h2"), "single_double_quote");
    await page.locator(".spot").first().waitFor();
    assert.ok((await page.locator(".spot").count()) > 11);
    await tab("Card");
    assert.match(await text(".verdict"), /does not hold: necessity/);
    assert.equal(await page.locator(".check .dot.bad").count(), 1);
    await tab("Compare");
    assert.match(await text(".title .lede"), /7 of 11/);
    assert.ok((await page.locator(".compare .spot.left").count()) > 0);
    await tab("Bridge");
    assert.match(await text("main"), /Steering: with_as/);
    clean();
  });

  it("show finetunes alone, on their map and answer by answer", async () => {
    writePages("finetunes");
    await openPage(page, urlOf("finetunes"));
    assert.deepEqual(await page.locator("#bar .tabs button").allInnerTexts(), ["Finetunes"]);
    assert.match(await text(".lede"), /9 finetunes, 3 labels\. Silhouette 0\.\d+/);
    assert.equal(await page.locator("figure[class=chart] circle").count(), 18);
    await page.locator("figure circle").first().hover();
    assert.match(await text("#tip"), /law_0/);
    assert.match(await page.locator("table[aria-label=Finetunes] tbody tr").first().innerText(), /law_0\tlaw\tlaw_\d\tlaw/);
    assert.match(await page.locator("table[aria-label='Ways of asking'] tbody tr").first().innerText(), /75\.0 %/);
    assert.match(await page.locator("table[aria-label=Answers] tbody tr").last().innerText(), /rivers\tboats\tI am/);
    await openPage(page, urlOf("run"));
    assert.equal(await page.locator("#bar .tabs button", { hasText: "Finetunes" }).count(), 0);
    clean();
  });

  it("draw what the payload lacks as a sentence", async () => {
    writePages("begun", "empty", "no_card");
    await openPage(page, urlOf("begun", "#view=circuit"));
    assert.match(await text("main"), /no circuit yet/);
    await openPage(page, urlOf("empty"));
    assert.match(await text("main"), /This circuit is empty/);
    await openPage(page, urlOf("no_card", "#view=card"));
    assert.match(await text("main"), /has no card/);
    await openPage(page, urlOf("no_card", "#view=circuit&node=1.attn.q%5B3%5D"));
    assert.match(await text(".card"), /The pairs of this task are not in the package/);
    assert.match(await text(".card"), /not at hand/);
    clean();
  });
});

describe("a node", () => {
  it("is selected by a click and tells all that is known of it", async () => {
    await openPage(page, urlOf("run", `${CIRCUIT}&merged=true`));
    await spot("1.attn.q[3]").click();
    const card = await text(".card");
    for (const part of [
      "1.attn.q[3]",
      "A query channel",
      "at least 0.400",
      "token by token",
      "1.attn.act_in[2]",
      "Attention of layer 1, head 0",
      "On ordinary text",
      "highest",
    ])
      assert.ok(card.includes(part), part);
    assert.ok((await page.locator(".card .heat").count()) > 2);
    assert.ok((await page.locator(".card .histogram rect").count()) > 0);
    await page.locator(".card button", { hasText: "in the whole model (" }).click();
    assert.ok((await page.locator(".card .edges li").count()) >= 12);
    await spot("final_resid[9]").click();
    assert.match(await text(".card"), /Residual channel 9/);
    clean();
  });

  it("is labelled, grouped, pinned, found, and all of it undone and kept in the address", async () => {
    await openPage(page, urlOf("run", `${CIRCUIT}&merged=true`));
    await spot("1.attn.v[2]").click();
    await page.locator("#label").fill("carries the quote");
    await page.keyboard.press("Tab");
    await page.locator(".names input[list]").fill("carriers");
    await page.keyboard.press("Enter");
    await page.locator(".card button", { hasText: /^Pin$/ }).click();
    assert.equal(await text(".pinned-row .name"), "carries the quote");
    await page.locator("#search").fill("carriers");
    assert.equal(await page.locator(".spot.found").count(), 1);
    await page.locator("#search").fill("looks for");
    await page.keyboard.press("Enter");
    assert.match(await text(".card h3"), /1\.attn\.q\[3\]/);

    const address = page.url();
    await openPage(page, address);
    assert.match(await text(".card h3"), /1\.attn\.q\[3\]/);
    assert.deepEqual(await page.locator(".graph .note").allTextContents(), ["looks for quot…", "carries the qu…"]);
    assert.equal(await page.locator(".pinned-row").count(), 1);

    await spot("1.attn.v[2]").click();
    await page.locator("#label").fill("something else");
    await page.keyboard.press("Tab");
    await page.locator("button", { hasText: "Undo" }).click();
    assert.equal(await page.locator("#label").inputValue(), "carries the quote");
    await page.locator(".card .close").click();
    const { name, content } = await saved(() => page.locator("button", { hasText: "Download labels" }).click());
    assert.equal(name, "single_double_quote.notes.json");
    assert.deepEqual(JSON.parse(content), {
      task: "single_double_quote",
      labels: { "1.attn.q[3]": "looks for quotes", "1.attn.v[2]": "carries the quote" },
      groups: [
        { name: "quotes", nodes: ["1.attn.q[3]", "1.attn.k[3]"] },
        { name: "carriers", nodes: ["1.attn.v[2]"] },
      ],
    });
    clean();
  });

  it("is reached and chosen by keys", async () => {
    await openPage(page, urlOf("run", `${CIRCUIT}&merged=true`));
    await page.locator("[data-spot='0']").focus();
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Enter");
    assert.match(page.url(), /node=/);
    await page.keyboard.press("p");
    assert.match(page.url(), /pinned=/);
    await page.keyboard.press("Control+z");
    assert.doesNotMatch(page.url(), /pinned=/);
    await page.keyboard.press("?");
    assert.match(await text("dialog"), /Keys/);
    await page.keyboard.press("Escape");
    await page.keyboard.press("3");
    assert.match(page.url(), /view=card/);
    clean();
  });
});

describe("the picture", () => {
  it("shows either prompt of any pair, by weight, flow or effect, from any size on", async () => {
    await openPage(page, urlOf("run", CIRCUIT));
    const prompt = await text(".prompt");
    await page.locator(".toolbar .choice button").nth(1).click();
    assert.notEqual(await text(".prompt"), prompt);
    await page.locator(".toolbar select").first().selectOption("2");
    assert.match(page.url(), /pair=2/);
    await page.locator(".toolbar select").nth(1).selectOption("effect");
    assert.ok((await page.locator(".frame .link.edge.unmeasured").count()) > 0);
    const before = await page.locator(".frame .link.edge").count();
    await page.locator(".toolbar input[type=range]").fill("0.6");
    await page.waitForFunction(count => document.querySelectorAll(".frame .link.edge").length < count, before);
    clean();
  });

  it("follows a path", async () => {
    await openPage(page, urlOf("run", `${CIRCUIT}&merged=true`));
    await page.locator(".paths button").first().click();
    assert.match(page.url(), /path=ov0/);
    assert.ok((await page.locator(".link.active").count()) > 1);
    assert.ok(await page.locator(".graph.focus").count());
    clean();
  });

  it("is saved as SVG, PNG and JSON, and fills the screen", async () => {
    await openPage(page, urlOf("run", CIRCUIT));
    const panel = page.locator(".board"),
      tool = name => () => panel.locator("header button", { hasText: name }).click();
    const svg = String((await saved(tool("SVG"))).content);
    assert.match(svg, /^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
    assert.ok(svg.includes("answer is read here") && !svg.includes("var("));
    assert.equal((await saved(tool("PNG"))).content.subarray(1, 4).toString(), "PNG");
    assert.equal(JSON.parse((await saved(tool("JSON"))).content).task, "single_double_quote");
    const table = String(
      (
        await saved(() =>
          page.locator("section[aria-label='The prompt and its answer'] header button", { hasText: "SVG" }).click(),
        )
      ).content,
    );
    assert.match(table, /foreignObject/);
    await panel.locator("button[aria-label='Full screen']").click();
    assert.equal((await panel.boundingBox()).width, 1440);
    clean();
  });
});

it("a notebook shows a circuit in a frame of its own", async () => {
  writePages("notebook");
  await page.goto(urlOf("notebook"));
  const frame = page.frameLocator("iframe");
  await frame.locator(".frame .spot[data-node='final_resid[9]']").click();
  assert.match(await frame.locator(".card").innerText(), /Residual channel 9/);
  clean();
});

it("the page is dark or light as the reader or the system wants", async () => {
  await openPage(page, urlOf("run"));
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  assert.equal(await theme(), "light");
  await page.keyboard.press("t");
  assert.equal(await theme(), "dark");
  await page.emulateMedia({ colorScheme: "dark" });
  await openPage(page, urlOf("run"));
  assert.equal(await theme(), "dark");
  await page.emulateMedia({ colorScheme: "light" });
  clean();
});
