/** The report as a browser shows it. */
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { summaryOf } from "../../src/core/comparison-verdict.ts";
import type { ReconcileDocument, ReportSummary } from "../../src/core/contracts/reconciliation.ts";
import { htmlReport } from "../../src/reconcile/report/page.ts";
import { reportOf, tableFound } from "../support/model/reports.ts";
import { chromiumUrl } from "../support/run/services.ts";

const ADDRESS = "http://report.test/";
const WIDTHS = { phone: 390, desk: 1280 };

let browser: Browser;
beforeAll(async () => {
  browser = await chromium.connectOverCDP(chromiumUrl());
});
afterAll(() => browser.close());

interface Shown extends AsyncDisposable {
  readonly page: Page;
  /** Everything that the page asked for, itself included. */
  readonly requests: readonly string[];
}

async function show(html: string, options: BrowserContextOptions = {}): Promise<Shown> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const requests: string[] = [];
  await context.route("**", async (route) => {
    const url = route.request().url();
    requests.push(url);
    if (url === ADDRESS) await route.fulfill({ contentType: "text/html", body: html });
    else await route.fulfill({ status: 200, contentType: "text/javascript", body: "window.ran = true" });
  });
  await page.goto(ADDRESS, { waitUntil: "load" });
  return { page, requests, [Symbol.asyncDispose]: () => context.close() };
}

const RUNS = 30;

function history(): ReportSummary[] {
  return Array.from({ length: RUNS - 1 }, (_, i) => {
    const at = new Date(Date.UTC(2026, 10, 19 - i, 2));
    const finishedAt = new Date(at.getTime() + (300 + ((i * 71) % 120)) * 1000).toISOString();
    const differing = { different: i % 9 === 4 ? i : 0, missing: i % 11 === 6 ? 3 : 0 };
    return { ...summaryOf(reportOf({ id: `r${i}`, ...differing })), startedAt: at.toISOString(), finishedAt };
  });
}

/** Some rows of a busy night; `name` stands wherever others choose the words. */
function found(name: string): ReconcileDocument {
  const sample = [
    { kind: "missing", key: { [name]: name }, columns: [], why: "unknown" },
    {
      kind: "different",
      key: { id: "1001" },
      columns: [name, "amount"],
      why: "beyond-log",
      values: { [name]: { expected: name, found: null }, amount: { expected: null, found: name } },
    },
  ] as const;
  return {
    ...reportOf({ id: "20261120T020000000Z-x1", missing: 4 }),
    tables: [
      tableFound({
        table: name,
        sourceRows: 1_204_332,
        compared: 1_204_332,
        missing: 4,
        extra: 1,
        different: 12,
        sample,
      }),
      tableFound({
        table: "public.line",
        sink: "search",
        sourceRows: 5_000,
        compared: 4_000,
        different: 41,
        repaired: 41,
        coverage: [
          { upTo: { [name]: name }, rows: 4_000, at: "2026-11-20T02:00:00.000Z", position: "0/1A2B3C4D" },
          {
            upTo: { tenant: `a-long-tenant-${"of-a-name".repeat(9)}`, id: "5000" },
            rows: null,
            at: null,
            position: null,
          },
        ],
        listing: { at: "2026-11-20T01:00:00.000Z", position: "0/1A2B3C" },
      }),
      tableFound({ table: "public.users", sink: "cache", sourceRows: 80_211, compared: 80_211, deadLetters: 2 }),
    ],
    notComparable: [{ sink: "replica", table: null, reason: `paused: ${name}` }],
    suspended: [{ table: name, code: "MR1309", message: name }],
  };
}

const HOSTILE: readonly (readonly [what: string, name: string])[] = [
  ["a script", `<script>window.ran = true</script>`],
  ["an attribute's end", `"><img src=x onerror="window.ran = true">`],
  ["an attribute in single quotes", `' onload='window.ran = true`],
  [
    "the end of everything around it",
    `</title></style></text></svg><svg onload="window.ran = true"><script src="http://elsewhere.test/x.js"></script>`,
  ],
  ["a template, and a comment that does not end", `\${window.ran = true}{{7*7}}<!--`],
  ["entities, letters that turn, a zero", `&lt;script&gt;\u202E\u0000<iframe src="javascript:parent.ran = true">`],
];

test("charts are drawn: a bar as long as its share, a column for every run", async () => {
  await using shown = await show(htmlReport(found("public.orders"), history()), {
    viewport: { width: WIDTHS.desk, height: 900 },
  });
  const { page } = shown;
  expect(await page.locator("h1").innerText()).toBe("shop 17 rows differ");
  const bars = page.locator("section", { hasText: "Drift by kind" }).locator(".bar svg");
  const lengths: number[] = [];
  for (const bar of await bars.all()) {
    const parts = await Promise.all((await bar.locator("rect").all()).map(widthOf));
    lengths.push(parts.reduce((sum, width) => sum + width, 0) / (await widthOf(bar)));
  }
  // Of 41 and 17 rows, the longest over the whole width.
  expect(lengths).toEqual([expect.closeTo(1, 2), expect.closeTo(17 / 41, 2)]);
  const runs = page.locator("section", { hasText: "Past runs" }).locator("figure.columns g");
  expect(await runs.count()).toBe(2 * RUNS);
  const boxes = await Promise.all((await runs.locator("rect:first-of-type").all()).map((part) => part.boundingBox()));
  const heights = boxes.map((box) => box?.height ?? 0);
  expect(Math.min(...heights)).toBeGreaterThan(0);
  expect(new Set(heights.slice(RUNS)).size).toBeGreaterThan(5);
  const fill = `getComputedStyle(document.querySelector("rect.different")).fill`;
  expect(await page.evaluate(fill)).toBe("rgb(217, 119, 6)");
});

async function widthOf(drawn: Locator): Promise<number> {
  return (await drawn.boundingBox())?.width ?? 0;
}

test.each(HOSTILE)(
  "%s in a name is text: it runs nothing, loads nothing and is shown as it is",
  async (_what, name) => {
    await using shown = await show(htmlReport(found(name), history()));
    const { page, requests } = shown;
    await page.waitForLoadState("networkidle");
    expect(requests).toEqual([ADDRESS]);
    expect(await page.evaluate("window.ran")).toBeUndefined();
    const visible = name.replaceAll("\u0000", "\u{FFFD}");
    expect(await page.locator(".results tr:nth-child(2) td").first().textContent()).toBe(visible);
    expect(await page.locator("script, iframe, img, object, link").count()).toBe(0);
  },
);

test("were a script in it all the same, it would not run, and nothing would be fetched", async () => {
  const tags = `<script>window.ran = true</script><script src="http://elsewhere.test/x.js"></script>
    <img src="http://elsewhere.test/x.png" onerror="window.ran = true"><style>body{display:none}</style></body>`;
  const html = htmlReport(found("public.orders"), history()).replace("</body>", tags);
  await using shown = await show(html);
  await shown.page.waitForLoadState("networkidle");
  expect(await shown.page.evaluate("window.ran")).toBeUndefined();
  expect(shown.requests).toEqual([ADDRESS]);
  expect(await shown.page.locator("h1").isVisible()).toBe(true);
  // The same without its policy does: what is said above is proven by it.
  await using open = await show(html.replace(/<meta http-equiv[^>]*>/, ""));
  await open.page.waitForLoadState("networkidle");
  expect(await open.page.evaluate("window.ran")).toBe(true);
  expect(open.requests.length).toBeGreaterThan(1);
});

/** A4 between its margins. */
const PAPER = { width: 718, height: 1_000 };
const COLORS = {
  light: "rgb(18, 32, 47) rgb(246, 247, 249)",
  dark: "rgb(232, 237, 242) rgb(14, 20, 27)",
  paper: "rgb(18, 32, 47) rgb(255, 255, 255)",
};
const SHOWN = `((style) => style.color + " " + style.backgroundColor)(getComputedStyle(document.body))`;
const TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

test.each(Object.entries(WIDTHS))(
  "on a %s nothing is cut off, in light and in dark, and it can be printed",
  async (_name, width) => {
    const html = htmlReport(found(`public.${"a_very_long_name_of_a_table_".repeat(4)}`), history());
    for (const colorScheme of ["light", "dark"] as const) {
      await using shown = await show(html, { viewport: { width, height: 800 }, colorScheme });
      const { page } = shown;
      expect(await page.evaluate(TOO_WIDE)).toBe(0);
      expect(await page.evaluate(SHOWN)).toBe(COLORS[colorScheme]);
      await page.emulateMedia({ media: "print" });
      await page.setViewportSize(PAPER);
      expect(await page.evaluate(TOO_WIDE)).toBe(0);
      expect(await page.evaluate(SHOWN)).toBe(COLORS.paper);
      expect((await page.pdf({ format: "A4" })).subarray(0, 5).toString()).toBe("%PDF-");
    }
  },
);
