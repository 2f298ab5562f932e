/** The dashboard of a real daemon, in a real browser: it shows what is, and its buttons do what they say. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import {
  act,
  axeFindings,
  DashboardBrowser,
  part,
  type Seen,
  signIn,
  widthBeyond,
} from "../../support/daemon/dashboard-browser.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const LOOKS = "token-that-looks-0123456789abcdef";
const ACTS = "token-that-acts-0123456789abcdefg";
/** The page asks every two seconds. */
const PATIENCE = { timeout: 60_000 };
const HOSTILE = `<img src=x onerror="window['ran']=1">\u202E"'`;
const WIDTHS = { phone: 390, desk: 1280 };
/** Writes the pictures of the documents: MILLRACE_TEST_PICTURES=1 npm test -- test/e2e/operate/dashboard */
const PICTURES =
  process.env["MILLRACE_TEST_PICTURES"] === "1" ? join(import.meta.dirname, "../../../docs/images") : null;

const BUSY_MS = 90_000;

let pipeline: RunningPipeline;
let browser: DashboardBrowser;
let url: string;

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

beforeAll(async () => {
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  pipeline = await RunningPipeline.start(
    `create table customers (id int primary key, name text, city text);
     insert into customers select g, 'c' || g, 'Basel' from generate_series(1, 2000) g;
     create table orders (id int primary key, customer int, amount int, note text);
     insert into orders select g, g % 2000, g % 900, 'x' from generate_series(1, 8000) g;
     create table products (id int primary key, title text); insert into products select g, 'p' || g from generate_series(1, 300) g;
     create table quiet (id int primary key); insert into quiet values (1);
     create table ${quoted(HOSTILE)} (id int primary key); insert into ${quoted(HOSTILE)} values (1)`,
    {
      kinds: ["postgres", "redis"],
      configure: ({ sinks, ...config }) => ({
        ...config,
        ...(PICTURES === null ? {} : { name: "shop" }),
        sinks: { warehouse: sinks["postgres"]!, cache: sinks["redis"]! },
        admin: {
          listen: `127.0.0.1:${port}`,
          tokens: [
            { role: "viewer", token: LOOKS },
            { role: "operator", name: "carol", token: ACTS },
          ],
        },
      }),
    },
  );
  await pipeline.settled();
  await pipeline.sinks.target!.query("alter table public.orders add constraint small check (amount < 1000)");
  browser = await DashboardBrowser.connect(url);
});

afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await pipeline?.[Symbol.asyncDispose]();
});

test("without a token it asks for one; a wrong one is refused, a viewer's shows and does not act", async () => {
  await using seen = await browser.open(null);
  const { page } = seen;
  await page.getByLabel("Token").waitFor();
  expect(await axeFindings(page)).toEqual([]);
  await signIn(page, "wrong");
  await page.getByText("This token is not one of them.").waitFor(PATIENCE);
  await signIn(page, LOOKS);
  await page.getByRole("heading", { name: "All is well" }).waitFor(PATIENCE);
  expect(await page.title()).toBe(`${pipeline.installation.name} · Millrace`);
  const buttons = page.getByRole("button", { name: /^(Pause|Resync|Resume) / });
  expect(await buttons.count()).toBeGreaterThan(5);
  for (const button of await buttons.all()) expect(await button.isDisabled()).toBe(true);
  await page.getByText("This token may look, not act").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor(PATIENCE);
});

test("a sink is paused and goes on, a table is read again, and each action is in the audit log", async () => {
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const cache = page.getByRole("article", { name: /^cache/ });
  await cache.getByText("streaming").waitFor(PATIENCE);
  await act(page, "Pause sink cache", true);
  await cache.getByText("paused").waitFor(PATIENCE);
  await page.getByText("Sink cache is paused; the source keeps its log for it").waitFor(PATIENCE);
  await act(page, "Resume sink cache", false);
  await cache.getByText("streaming").waitFor(PATIENCE);
  await act(page, "Pause table public.products", true);
  const products = part(page, "tables").getByRole("row", { name: /^public\.products/ });
  await products.getByText(/^paused in /).waitFor(PATIENCE);
  await act(page, "Resume table public.products", false);
  await products.getByText("followed").waitFor(PATIENCE);
  await act(page, "Resync table public.products", true);
  await page.getByRole("status").getByText("Table public.products is read again.").waitFor(PATIENCE);
  // A table in one sink alone.
  await page.getByRole("button", { name: "public.products", exact: true }).click();
  const inCache = part(page, "tables").getByRole("row", { name: /^→ cache/ });
  const inWarehouse = part(page, "tables").getByRole("row", { name: /^→ warehouse/ });
  await act(page, "Pause table public.products in sink cache", true);
  await inCache.getByText("paused").waitFor(PATIENCE);
  await products.getByText("paused in cache").waitFor(PATIENCE);
  await inWarehouse.getByText("followed").waitFor(PATIENCE);
  await act(page, "Resume table public.products in sink cache", false);
  await inCache.getByText("followed").waitFor(PATIENCE);
  await act(page, "Resync table public.products in sink warehouse", true);
  await page.getByRole("status").getByText("Table public.products in sink warehouse is read again.").waitFor(PATIENCE);
  expect(await axeFindings(page)).toEqual([]);
  await act(page, "Resync sink cache", true);
  await page.getByRole("status").getByText("Every table is read again for sink cache.").waitFor(PATIENCE);
  await pipeline.settled();
  const rows = part(page, "actions").locator("tbody tr");
  await eventually(async () => {
    const told = await Promise.all((await rows.all()).map((row) => row.innerText()));
    expect(told.map((text) => text.replaceAll(/\s+/g, " ").replace(/^\S+ /, ""))).toEqual([
      "carol HTTP from 127.0.0.1 snapshot start cache done",
      "carol HTTP from 127.0.0.1 snapshot start warehouse, public.products done",
      "carol HTTP from 127.0.0.1 resume cache, public.products done",
      "carol HTTP from 127.0.0.1 pause cache, public.products done",
      "carol HTTP from 127.0.0.1 snapshot start public.products done",
      "carol HTTP from 127.0.0.1 resume public.products done",
      "carol HTTP from 127.0.0.1 pause public.products done",
      "carol HTTP from 127.0.0.1 resume cache done",
      "carol HTTP from 127.0.0.1 pause cache done",
    ]);
  });
});

test("dead letters are grouped by cause, and replayed and discarded one by one or as a group", async () => {
  await pipeline.sinks.target!.query("alter table public.customers add constraint known check (city <> 'Nowhere')");
  await pipeline.run("update orders set amount = 5000 where id in (1, 2)");
  await pipeline.run("update customers set city = 'Nowhere' where id between 1 and 5");
  await pipeline.settled();
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const groups = part(page, "letters").locator("tbody tr:not(.inner)");
  const letters = part(page, "letters").locator("tbody tr.inner");
  await groups.nth(1).waitFor(PATIENCE);
  const cellsOf = async (at: number) => await groups.nth(at).getByRole("cell").allInnerTexts();
  expect((await cellsOf(0)).slice(0, 3)).toEqual(["public.customers", "warehouse", "5"]);
  expect((await cellsOf(1)).slice(0, 3)).toEqual(["public.orders", "warehouse", "2"]);
  await act(page, await labelOf(groups.nth(0), "Discard"), true);
  await page.getByRole("status").getByText("5 letters were discarded.").waitFor(PATIENCE);
  await groups.nth(1).waitFor({ ...PATIENCE, state: "detached" });
  await groups.nth(0).getByRole("button").first().click();
  await letters.nth(1).waitFor(PATIENCE);
  expect(await axeFindings(page)).toEqual([]);
  await act(page, await labelOf(letters.nth(0), "Discard"), true);
  await letters.nth(1).waitFor({ ...PATIENCE, state: "detached" });
  await pipeline.sinks.target!.query(
    "alter table public.orders drop constraint small; alter table public.customers drop constraint known",
  );
  await act(page, await labelOf(letters.nth(0), "Replay"), false);
  await page.getByText("No row was refused.").waitFor(PATIENCE);
  await pipeline.run(
    "update orders set amount = 1 where id in (1, 2); update customers set city = 'Basel' where id < 6",
  );
  await pipeline.settled();
});

test("rows that were refused are replayed as a group", async () => {
  await pipeline.sinks.target!.query("alter table public.orders add constraint small check (amount < 1000)");
  await pipeline.run("update orders set amount = 5000 where id in (11, 12, 13)");
  await pipeline.settled();
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const group = part(page, "letters").locator("tbody tr:not(.inner)").first();
  await group.waitFor(PATIENCE);
  await pipeline.sinks.target!.query("alter table public.orders drop constraint small");
  await act(page, "Replay all dead letters of sink warehouse", false);
  await page.getByRole("status").getByText("The dead letters of sink warehouse were read again.").waitFor(PATIENCE);
  await page.getByText("No row was refused.").waitFor(PATIENCE);
  await pipeline.run("update orders set amount = 1 where id in (11, 12, 13)");
  await pipeline.settled();
});

test(
  "a read shows from its start how many rows there are, and the metrics say the same",
  { tags: "heavy" },
  async () => {
    const locker = await pipeline.sinks.target!.connect();
    try {
      await locker.query("begin; lock table public.orders in access exclusive mode");
      await using seen = await browser.open(ACTS);
      const { page } = seen;
      const cells = part(page, "tables")
        .getByRole("row", { name: /^public\.orders/ })
        .getByRole("cell");
      await eventually(async () => expect(await cells.nth(3).innerText()).toMatch(/^≈ 8,\d{3}$/));
      await page.getByRole("button", { name: "public.orders", exact: true }).click();
      await act(page, "Resync table public.orders in sink warehouse", true);
      const read = part(page, "reads").locator(".read", { hasText: "public.orders → warehouse" });
      await read.getByText(/of about 8,\d{3} rows/).waitFor(PATIENCE);
      await locker.query("rollback");
    } finally {
      await locker.end();
    }
    await pipeline.settled();
    const text = await metrics();
    expect(text).toContain("# TYPE millrace_snapshot_share gauge");
    expect(text).toContain("# TYPE millrace_snapshot_remaining_seconds gauge");
    await pipeline.installation.command("reconcile");
    await using seen = await browser.open(ACTS);
    const { page } = seen;
    await page.getByRole("button", { name: "public.orders", exact: true }).click();
    await part(page, "tables")
      .getByRole("row", { name: /^→ cache.*= 8,000/ })
      .waitFor(PATIENCE);
    await part(page, "tables")
      .getByRole("row", { name: /^public\.orders.*= 8,000/ })
      .waitFor(PATIENCE);
    // A count of some time ago is no figure of now, which a difference to the estimate would look like a loss.
    await page.clock.setSystemTime(Date.now() + 28 * 60_000);
    await part(page, "tables")
      .getByRole("row", { name: /^→ cache.*8,000 of 8,000, 28 min ago/ })
      .waitFor(PATIENCE);
    await part(page, "tables")
      .getByRole("row", { name: /^public\.orders.*≈ 8,\d{3}/ })
      .waitFor(PATIENCE);
  },
);

test("what differs is named on top with a button that repairs it, and the page has the newest comparison", async () => {
  await pipeline.sinks.target!.query("update public.customers set city = 'Bern' where id < 5");
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const proof = part(page, "proof");
  await proof.waitFor(PATIENCE);
  await pipeline.installation.command("reconcile");
  await proof
    .getByRole("row", { name: /differs/ })
    .first()
    .waitFor(PATIENCE);
  await page.getByText(/^4 rows differed in the comparison/).waitFor(PATIENCE);
  await act(page, "Repair what differed", true);
  await page.getByText(/^4 rows differed, 4 repaired in the comparison/).waitFor(PATIENCE);
  const { rows } = await pipeline.sinks.target!.query("select from public.customers where city <> 'Basel'");
  expect(rows).toEqual([]);
  await page.getByRole("button", { name: "Repair what differed" }).waitFor({ state: "detached" });
  await part(page, "actions")
    .getByRole("row", { name: /carol.*reconcile/ })
    .first()
    .waitFor(PATIENCE);
  await pipeline.installation.command("reconcile");
  await page.getByText(/rows differed/).waitFor({ state: "detached" });
});

test("a suspended table says what to do, and is followed again; a read that waits is cancelled", async () => {
  await pipeline.source.query("alter table quiet drop constraint quiet_pkey");
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const row = part(page, "tables").getByRole("row", { name: /^public\.quiet/ });
  await row.getByText("suspended").waitFor(PATIENCE);
  await page.getByText(/Table public\.quiet is suspended/).waitFor(PATIENCE);
  // Its number says what it means.
  const top = page.getByRole("region", { name: /need/ });
  await top
    .getByRole("button", { name: /^MR\d{4}: what it means$/ })
    .first()
    .click();
  const dialog = page.getByRole("dialog", { name: /^MR\d{4}: .+/ });
  await dialog.getByRole("heading", { name: /^MR\d{4}: .+/ }).waitFor(PATIENCE);
  expect(await axeFindings(page)).toEqual([]);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await pipeline.source.query("alter table quiet add primary key (id)");
  await row.getByText("followed").waitFor(PATIENCE);
  await pipeline.settled();
  const locker = await pipeline.source.connect();
  try {
    await locker.query("begin; lock table customers in access exclusive mode");
    await act(page, "Resync table public.customers", true);
    const reads = part(page, "reads");
    await reads
      .getByText(/customers/)
      .first()
      .waitFor(PATIENCE);
    for (const sink of ["warehouse", "cache"]) await act(page, `Cancel the read of public.customers for ${sink}`, true);
    await eventually(async () => (await reads.locator(".read").count()) === 0);
  } finally {
    await locker.end();
  }
});

test("hostile names are text, and the page asks nobody else", async () => {
  await using seen = await browser.open(ACTS);
  const { page, origins, errors } = seen;
  const cell = part(page, "tables").getByRole("rowheader", { name: /img src/ });
  await cell.waitFor(PATIENCE);
  expect(await cell.textContent()).toBe(`public.${HOSTILE}`);
  expect(await page.evaluate("window.ran")).toBeUndefined();
  await page.getByRole("searchbox").fill("img");
  expect(await part(page, "tables").locator("tbody tr").count()).toBe(1);
  expect([...origins]).toEqual([url]);
  expect(errors).toEqual([]);
  // Were a script in it all the same, the policy would not run it.
  await page.evaluate(
    `document.body.append(Object.assign(document.createElement("img"), { src: "http://elsewhere.test/x.png" }))`,
  );
  const refused = await page.evaluate(
    `(() => { try { document.body.innerHTML = "<b>x</b>"; return false } catch { return true } })()`,
  );
  expect(refused).toBe(true);
});

test("the way of a row is a picture: each sink with its state and how far it is behind, and a button where one helps", async () => {
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const flow = page.getByRole("region", { name: "From the source to the sinks" });
  const cache = flow.getByRole("listitem").filter({ hasText: "cache" });
  await cache.getByText("streaming").waitFor(PATIENCE);
  expect(await cache.innerText()).toMatch(/behind · .*\/s/);
  expect(await flow.locator("path.good").count()).toBe(2);
  await cache.getByRole("link", { name: "cache" }).click();
  expect(new URL(page.url()).hash).toBe("#/sink/cache");
  await page.getByRole("heading", { name: "cache", exact: true }).waitFor(PATIENCE);
  await page.getByRole("link", { name: "Overview" }).click();
  await act(page, "Pause sink cache", true);
  await cache.getByText("paused").waitFor(PATIENCE);
  expect(await flow.locator("path.warning").count()).toBe(1);
  await act(page, "Resume sink cache, which waits", false);
  await cache.getByText("streaming").waitFor(PATIENCE);
});

test("a sink, a table and a report have pages of their own, which links lead to and addresses open", async () => {
  await pipeline.sinks.target!.query("alter table public.orders add constraint little check (amount < 1000)");
  await pipeline.run("update orders set amount = 5000 where id = 21");
  await pipeline.settled();
  await pipeline.installation.command("reconcile");
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const title = (name: string | RegExp) => page.getByRole("heading", { level: 2, name, exact: true });
  // From the overview to a report, to a table, to a sink.
  await part(page, "proof").getByText("equal except for 1 dead letter").first().waitFor(PATIENCE);
  await part(page, "proof").getByRole("link").first().click();
  await page
    .getByRole("heading", { name: "The sinks are equal to the source except for 1 dead letter" })
    .waitFor(PATIENCE);
  const ofOrders = part(page, "compared").locator("tbody tr", { hasText: "public.orders" });
  expect(await ofOrders.getByText("equal", { exact: true }).count()).toBe(1);
  expect(await ofOrders.getByText("equal except for 1 dead letter", { exact: true }).count()).toBe(1);
  const compared = part(page, "compared").locator("tbody tr", { hasText: "public.customers" });
  expect(await compared.count()).toBe(2);
  expect(await compared.first().innerText()).toMatch(/equal\s+2,000\s+2,000/);
  expect(await axeFindings(page)).toEqual([]);
  await part(page, "compared").getByRole("link", { name: "public.orders" }).first().click();
  await title("public.orders").waitFor(PATIENCE);
  expect(await part(page, "tables").locator("tbody tr").count()).toBe(3);
  expect(await part(page, "letters").locator("tbody tr").count()).toBe(1);
  // It would replay those of other tables too.
  expect(
    await part(page, "letters")
      .getByRole("button", { name: /^Replay all/ })
      .count(),
  ).toBe(0);
  expect(await axeFindings(page)).toEqual([]);
  await act(page, "Pause table public.orders in sink cache", true);
  await part(page, "tables").getByText("paused in cache").waitFor(PATIENCE);
  await act(page, "Resume table public.orders in sink cache", false);
  await part(page, "tables")
    .getByRole("row", { name: /^→ cache/ })
    .getByText("followed")
    .waitFor(PATIENCE);
  await part(page, "tables").getByRole("link", { name: "cache" }).click();
  await title("cache").waitFor(PATIENCE);
  // The title follows the heading.
  await eventually(async () => expect(await page.title()).toBe(`cache · ${pipeline.installation.name} · Millrace`));
  expect(await page.getByRole("article").count()).toBe(1);
  expect(await part(page, "letters").count()).toBe(0);
  const chart = page.getByRole("slider", { name: /^Throughput/ });
  expect(await chart.getAttribute("aria-valuetext")).not.toContain("warehouse");
  expect(await axeFindings(page)).toEqual([]);
  // The address alone leads there, and from there to a part of the overview.
  await page.reload();
  await title("cache").waitFor(PATIENCE);
  await page.getByRole("navigation").getByRole("link", { name: "Offsets" }).click();
  await part(page, "offsets").waitFor(PATIENCE);
  await eventually(async () =>
    expect(await page.evaluate("document.getElementById('offsets').getBoundingClientRect().top")).toBeLessThan(900),
  );
  await page.goBack();
  await title("cache").waitFor(PATIENCE);
  for (const [hash, text] of [
    ["#/table/no.such", "No table has this name now."],
    ["#/sink/none", "No sink has this name now."],
    ["#/report/none", "No report of this number is kept."],
  ] as const) {
    await page.evaluate(`location.hash = ${JSON.stringify(hash)}`);
    await page.getByText(text).waitFor(PATIENCE);
  }
  await page.evaluate(`location.hash = "#/table/" + encodeURIComponent(${JSON.stringify(`public.${HOSTILE}`)})`);
  await title(`public.${HOSTILE}`).waitFor(PATIENCE);
  expect(await page.evaluate("window.ran")).toBeUndefined();
  expect(seen.errors).toEqual([]);
  await pipeline.sinks.target!.query("alter table public.orders drop constraint little");
  await pipeline.run("update orders set amount = 1 where id = 21");
  await pipeline.settled();
});

test("charts go back as far as is asked, and one moment is pointed at in all", async () => {
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const charts = part(page, "charts");
  const chart = page.getByRole("slider", { name: /^Lag/ });
  const length = async () => Number(await chart.getAttribute("aria-valuemax"));
  await eventually(async () => expect(await length()).toBeGreaterThan(3));
  await chart.focus();
  await page.keyboard.press("ArrowLeft");
  expect(await charts.locator(".cursor").count()).toBe(4);
  const fine = await length();
  await charts.getByRole("button", { name: "24 h" }).click();
  expect(await charts.getByRole("button", { name: "24 h" }).getAttribute("aria-pressed")).toBe("true");
  expect(await charts.locator(".cursor").count()).toBe(0);
  expect(await length()).toBeLessThan(fine);
  await charts.getByRole("button", { name: "5 min" }).click();
  expect(await length()).toBeLessThan(60);
});

test("charts are for the keyboard too, and a question is closed by Escape", async () => {
  await using seen = await browser.open(ACTS);
  const { page } = seen;
  const chart = page.getByRole("slider", { name: /^Throughput/ });
  await eventually(async () => expect(Number(await chart.getAttribute("aria-valuemax"))).toBeGreaterThan(1));
  await chart.focus();
  const now = await chart.getAttribute("aria-valuetext");
  await page.keyboard.press("Home");
  expect(await chart.getAttribute("aria-valuenow")).toBe("0");
  expect(await chart.getAttribute("aria-valuetext")).not.toBe(now);
  expect(now).toMatch(/warehouse .*\/s, cache .*\/s/);
  const pause = page.getByRole("button", { name: "Pause sink cache" });
  await pause.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  expect(await page.evaluate(`document.activeElement.getAttribute("aria-label")`)).toBe("Pause sink cache");
});

test.each(Object.entries(WIDTHS))(
  "on a %s nothing is cut off and axe finds nothing, in light and in dark",
  { tags: "heavy" },
  async (_name, width) => {
    await pipeline.installation.command("reconcile");
    for (const colorScheme of ["light", "dark"] as const) {
      await using seen = await shown(width, colorScheme);
      const { page } = seen;
      await part(page, "proof").getByText("equal").first().waitFor(PATIENCE);
      expect(await widthBeyond(page)).toBe(0);
      expect(await axeFindings(page)).toEqual([]);
      for (const hash of await pagesOf(page)) {
        await page.evaluate(`location.hash = ${JSON.stringify(hash)}`);
        await page.getByRole("link", { name: "Overview" }).waitFor(PATIENCE);
        await page.locator("tbody tr").first().waitFor(PATIENCE);
        expect([hash, await widthBeyond(page), await axeFindings(page)]).toEqual([hash, 0, []]);
      }
    }
  },
);

test("the pictures of the documents", async ({ skip }) => {
  const folder = PICTURES ?? skip("it is for MILLRACE_TEST_PICTURES=1");
  await busy();
  for (const colorScheme of ["light", "dark"] as const) {
    for (const [name, width] of Object.entries(WIDTHS)) {
      await using seen = await shown(width, colorScheme);
      await part(seen.page, "proof").getByText("equal").first().waitFor(PATIENCE);
      await seen.page.screenshot({
        path: join(folder, `dashboard-${name}-${colorScheme}.png`),
      });
    }
  }
});

/** A sink's, a table's and the newest report's. */
async function pagesOf(page: Page): Promise<readonly string[]> {
  const report = await part(page, "proof").getByRole("link").first().getAttribute("href");
  return ["#/sink/warehouse", "#/table/public.orders", report!];
}

async function metrics(): Promise<string> {
  const answer = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${LOOKS}` } });
  return await answer.text();
}

/** The whole name of the button in this row. */
async function labelOf(row: Locator, label: string): Promise<string> {
  const name = await row.getByRole("button", { name: new RegExp(`^${label} `) }).getAttribute("aria-label");
  return name ?? "none";
}

async function shown(width: number, colorScheme: "light" | "dark"): Promise<Seen> {
  const seen = await browser.open(ACTS, {
    viewport: { width, height: width === WIDTHS.phone ? 900 : 1180 },
    colorScheme,
  });
  await part(seen.page, "tables").getByRole("rowheader", { name: "public.orders" }).waitFor(PATIENCE);
  return seen;
}

/** Some minutes of changes, and a row that is refused. */
async function busy(): Promise<void> {
  await pipeline.source.query(`drop table if exists ${quoted(HOSTILE)}, quiet`);
  await pipeline.installation.command("reconcile");
  await pipeline.sinks.target!.query("alter table public.orders add constraint tiny check (amount < 1000)");
  await pipeline.run("update orders set amount = 5000 where id = 9");
  const untilMs = Date.now() + BUSY_MS;
  const ask = (action: string) => pipeline.installation.ask("POST", `/api/v1/${action}`, { sink: "cache" });
  for (let i = 0; Date.now() < untilMs; i++) {
    if (i === 300) await ask("pause");
    if (i === 420) await ask("resume");
    const first = (i * 7) % 7000;
    const last = first + 20 + Math.round(60 * (1 + Math.sin(i / 60)));
    await pipeline.run(`update orders set note = 'n${i}' where id between ${first} and ${last};
      update customers set city = 'Bern' where id = ${1 + (i % 2000)}`);
    await sleep(100);
  }
}
