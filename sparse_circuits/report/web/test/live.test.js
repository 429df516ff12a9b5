// A served page and the real server behind it: what it shows moves by what Python's direct calls say.

import assert from "node:assert/strict";
import { after, afterEach, before, it } from "node:test";
import { openBrowser, openPage } from "./browser.js";
import { circuitsAlone, notesIn, view, writeRun } from "./served.js";

let browser, page, run, expected, server, address;

before(async () => {
  run = writeRun();
  expected = run.expected;
  browser = await openBrowser();
  page = browser.page;
  await open(run.folder, "#view=circuit&circuit=1&merged=true");
});
after(async () => {
  await browser?.close();
  server?.kill();
  run?.remove();
});
afterEach(() => {
  assert.deepEqual(browser.problems, []);
  assert.deepEqual(browser.outside, []);
});

async function open(folder, hash) {
  server?.kill();
  ({ server, address } = await view(folder));
  browser.home = address;
  await openPage(page, address + hash);
}
const panel = name => page.locator(`section[aria-label='${name}']`);
const button = name => panel("Try it").locator("button", { hasText: name });
const type = text => panel("Try it").locator("textarea").fill(text);
const click = name => page.locator(`[data-node='${name}']`).first().click();
const numbers = text => [...text.matchAll(/([\d.]+) %/g)].map(each => Number(each[1]));

// Runs the prompt; of the model, then of the circuit, the odds as they are shown, in percent: before, and after the changes.
async function odds() {
  await button(/^Run$/).click();
  await button(/^Run$/).and(page.locator(":enabled")).waitFor();
  return Promise.all(["model", "circuit"].map(async side => numbers(await page.locator(`[data-odds=${side}]`).innerText())));
}

// To the digits that are shown.
function near(shown, probabilities, digits = 2) {
  assert.equal(shown.length, probabilities.length);
  shown.forEach((each, i) =>
    assert.ok(Math.abs(each - 100 * probabilities[i]) < 0.51 * 10 ** -digits, `${each} % for ${probabilities[i]}`),
  );
}

it("a prompt is answered by model and circuit as by direct calls", async () => {
  await type(expected.prompt);
  const [model, circuit] = await odds();
  near(model, expected.plain.model);
  near(circuit, expected.plain.circuit);
  assert.equal(await panel("Try it").locator(".bars").count(), 2);
});

it("a click ablates a node, and probabilities change by as much as in Python", async () => {
  await panel("Try it").locator("input[type=checkbox]").check();
  await click(expected.node);
  assert.equal(await page.locator(".spot.gone").count(), 1);
  const [model, circuit] = await odds();
  for (const [side, shown] of [
    ["model", model],
    ["circuit", circuit],
  ]) {
    near(shown, [...expected.plain[side], ...expected.ablated[side]]);
    const change = shown[2] - shown[0];
    assert.ok(Math.abs(change) > 1, "a change that is seen");
    assert.ok(Math.abs(change - 100 * (expected.ablated[side][0] - expected.plain[side][0])) < 0.0101);
  }
  await click(expected.node);
});

it("a click cuts an edge", async () => {
  await page.locator(`.reach[data-edge='${expected.edge.join(" → ")}']`).dispatchEvent("click");
  const [, circuit] = await odds();
  near(circuit, [...expected.plain.circuit, ...expected.cut.circuit]);
  assert.notEqual(circuit[2], circuit[0]);
});

it("what takes long is cancelled, and the next question is answered", async () => {
  // The server is held up, so that there is something to wait for.
  server.kill("SIGSTOP");
  await button(/^Run$/).click();
  const answered = page.waitForResponse(/api\/cancel$/);
  await button("Cancel").click();
  await panel("Try it").locator("[role=alert]", { hasText: "Cancelled." }).waitFor();
  server.kill("SIGCONT");
  assert.equal((await answered).status(), 200);
  near((await odds())[1], [...expected.plain.circuit, ...expected.cut.circuit]);
});

it("what cannot be answered is said in words", async () => {
  await type("");
  await button(/^Run$/).click();
  await panel("Try it").locator("[role=alert]", { hasText: "The prompt has 0 tokens" }).waitFor();
  // The browser notes the refusal, too.
  assert.match(browser.problems.pop(), /400 \(Bad Request\)/);
});

it("labels are kept in the circuit's file, and found from a fresh address", async () => {
  await panel("Try it").locator("input[type=checkbox]").uncheck();
  await click(expected.node);
  await page.locator("#label").fill("carries the <b>quote</b>");
  await page.keyboard.press("Tab");
  await button("Save labels").click();
  await page.locator("#message", { hasText: "in the circuit's file" }).waitFor();
  const kept = { labels: { [expected.node]: "carries the <b>quote</b>" }, groups: [] };
  assert.deepEqual(notesIn(run.folder), kept);
  await openPage(page, `${address}#view=circuit&circuit=1&merged=true&node=${encodeURIComponent(expected.node)}`);
  assert.equal(await page.locator("#label").inputValue(), kept.labels[expected.node]);
});

it("any held-out pair is asked of the server and drawn like the file's", async () => {
  await openPage(page, `${address}#view=circuit&circuit=1&node=${encodeURIComponent(expected.node)}`);
  const choice = page.locator(".toolbar select").first();
  assert.equal(await choice.locator("option").count(), 40);
  await choice.selectOption(String(expected.pair.index));
  await page.waitForFunction(text => document.querySelector(".prompt")?.textContent.startsWith(text), expected.pair.prompt);
  near(numbers(await page.locator(".answer").first().innerText()), [expected.pair.circuit], 1);
  assert.ok((await page.locator(".frame .spot").count()) > 11);
  assert.ok((await page.locator(".card .pattern rect").count()) > 10);
  assert.match(await page.locator(".card").innerText(), /in the circuit alone/);
});

it("the dense model is steered through the bridge", async () => {
  await openPage(page, `${address}#view=bridge`);
  const steer = panel("Steer the dense model"),
    { node, from, to, strength, before, after } = expected.steering;
  await steer.locator("textarea").nth(0).fill(from);
  await steer.locator("textarea").nth(1).fill(to);
  await steer.locator("input[list]").fill(node);
  await steer.locator("input[type=range]").fill(String(strength));
  await steer.locator(".bars").nth(1).waitFor();
  near(numbers(await steer.locator("[aria-label='as it is']").innerText()), before);
  near(numbers(await steer.locator("[aria-label=pushed]").innerText()), after);
});

it("circuits without their model say what they cannot answer, and why", async () => {
  await open(circuitsAlone(run.folder), "#view=circuit");
  await type(expected.prompt);
  near((await odds())[1], expected.plain.circuit);
  assert.match(await panel("Try it").innerText(), /The whole model is not at hand/);
  assert.equal(await panel("Try it").locator(".bars").count(), 1);
  await page.locator("#bar select").selectOption({ label: "with_as" });
  await button(/^Run$/).click();
  await panel("Try it").locator("text=A circuit of with_as scores answers of this task only").waitFor();
  await page.keyboard.press("5");
  assert.match(await page.locator("main").innerText(), /No steering here\. .+bridge/);
});
