/** The dashboard in a real browser: what a person sees and does there. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from "playwright-core";
import { chromiumUrl } from "../run/services.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

export interface Seen extends AsyncDisposable {
  readonly page: Page;
  /** Origins that the page asked for something. */
  readonly origins: ReadonlySet<string>;
  /** What the page logged as an error, refusals by its policy among it. */
  readonly errors: readonly string[];
}

export class DashboardBrowser implements AsyncDisposable {
  readonly #browser: Browser;
  readonly #url: string;

  private constructor(browser: Browser, url: string) {
    this.#browser = browser;
    this.#url = url;
  }

  static async connect(url: string): Promise<DashboardBrowser> {
    return new DashboardBrowser(await chromium.connectOverCDP(chromiumUrl()), url);
  }

  /** The page; with a token it has signed in. */
  async open(token: string | null, options: BrowserContextOptions = {}): Promise<Seen> {
    const context = await this.#browser.newContext({ locale: "en-GB", timezoneId: "UTC", ...options });
    const page = await context.newPage();
    const origins = new Set<string>();
    const errors: string[] = [];
    page.on("request", (request) => origins.add(new URL(request.url()).origin));
    page.on("console", (message) => {
      if (message.type() === "error" && !message.text().includes("401")) errors.push(message.text());
    });
    page.on("pageerror", (error) => errors.push(String(error)));
    await page.goto(this.#url, { waitUntil: "load" });
    if (token !== null) await signIn(page, token);
    return { page, origins, errors, [Symbol.asyncDispose]: () => context.close() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }
}

export async function signIn(page: Page, token: string): Promise<void> {
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Open" }).click();
}

/** What axe finds wrong, with the elements. */
export async function axeFindings(page: Page): Promise<readonly string[]> {
  await page.evaluate(AXE);
  return await page.evaluate<string[]>(
    `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
       violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html.slice(0, 160)).join(" | ")))`,
  );
}

export async function widthBeyond(page: Page): Promise<number> {
  return await page.evaluate<number>(TOO_WIDE);
}

/** Presses a button, and answers the question that it may ask. */
export async function act(page: Page, name: string, isAsked: boolean): Promise<void> {
  await page.getByRole("button", { name, exact: true }).click();
  if (!isAsked) return;
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button").first().click();
  await dialog.waitFor({ state: "detached" });
}

export function part(page: Page, id: string): Locator {
  return page.locator(`#${id}`);
}
