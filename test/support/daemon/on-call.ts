/**
 * All that a person on call looks at, of one daemon: `status` with its exit code, `wait`, `/readyz`, what the webhook was told,
 * and the dashboard in a browser. Whatever it is that they say, they say the same.
 */
import type { Page } from "playwright-core";
import { expect } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import type { Condition } from "../../../src/core/conditions/condition.ts";
import { type Listener, listener } from "../network/listener.ts";
import { eventually } from "../run/waiting.ts";
import { type Daemon, Installation, type InstallationConfig } from "./daemon-process.ts";
import { DashboardBrowser, type Seen } from "./dashboard-browser.ts";
import { COMMAND_EVERY_MS, expectExplained, firstSaid, TOLD_WITHIN_MS, WELL_WITHIN_MS } from "./told.ts";

const TOKEN = "token-that-acts-0123456789abcdefg";

/** What each of them comes to. */
export interface Verdict {
  /** Of the dashboard, which `status` says too. */
  readonly headline: string;
  readonly ready: boolean;
  /** Of `status --exit-code`. */
  readonly exitCode: number;
  /** Of `wait`: all that was committed is in every sink. Null: `wait` may have something to store first, which can't be stored. */
  readonly reaches: boolean | null;
}

const WELL: Verdict = { headline: "All is well", ready: true, exitCode: 0, reaches: true };
/** Every sink has what it can have, and a person has to do something. */
export const ACT: Verdict = { headline: "1 thing needs you", ready: true, exitCode: 3, reaches: true };
export const ACT_UNREADY: Verdict = { ...ACT, ready: false, reaches: false };
/** All goes on, later than it should. */
export const SLOW: Verdict = { headline: "Nothing needs you", ready: true, exitCode: 0, reaches: false };
export const UNREADY: Verdict = { ...ACT_UNREADY, headline: "Not ready; nothing needs you so far" };

export class OnCall implements AsyncDisposable {
  readonly installation: Installation;
  readonly #url: string;
  readonly #receiver: Listener;
  #browser: DashboardBrowser | null = null;
  #seen: Seen | null = null;

  private constructor(installation: Installation, url: string, receiver: Listener) {
    this.installation = installation;
    this.#url = url;
    this.#receiver = receiver;
  }

  /** The daemon is not started yet. */
  static async of(config: InstallationConfig): Promise<OnCall> {
    const receiver = await listener();
    const address = `127.0.0.1:${await freePort()}`;
    const installation = new Installation({
      ...config,
      admin: { listen: address, tokens: [{ role: "operator", token: TOKEN }] },
      // By then the source was asked as well whose stream has broken, and all say the same of it.
      notify: { webhook: receiver.url, after: "3s", level: "watch" },
    });
    return new OnCall(installation, `http://${address}`, receiver);
  }

  /** Runs the daemon, and opens its dashboard when all is well. */
  async begin(): Promise<Daemon> {
    const daemon = this.installation.run();
    await this.expectWell();
    await this.lookAtPage();
    return daemon;
  }

  /** Opens the dashboard of the daemon, which runs. */
  async lookAtPage(): Promise<void> {
    this.#browser = await DashboardBrowser.connect(this.#url);
    this.#seen = await this.#browser.open(TOKEN);
  }

  get page(): Page {
    if (this.#seen === null) throw new Error("the dashboard was not opened");
    return this.#seen.page;
  }

  /** The first thing said says all of this, everything agrees on it, and the error's page is what `explain` prints. */
  async expectTold(parts: readonly RegExp[], code: string, verdict: Verdict): Promise<void> {
    await eventually(
      async () => {
        const said = await firstSaid(this.installation);
        for (const part of parts) expect(said).toMatch(part);
        if (this.#seen !== null) {
          const first = await this.page.locator(".attention li").first().innerText();
          for (const part of parts) expect(first).toMatch(part);
        }
        await this.#expectOne(verdict);
      },
      { withinMs: TOLD_WITHIN_MS, everyMs: COMMAND_EVERY_MS },
    );
    await expectExplained(this.installation, code);
  }

  /** Of several at once: `status` and the dashboard list them, and everything agrees on them. */
  async expectListed(sinks: Readonly<Record<string, readonly RegExp[]>>, verdict: Verdict): Promise<void> {
    await eventually(
      async () => {
        const { stdout } = await this.installation.command("status");
        const items = this.#seen === null ? [] : await this.page.locator(".attention li").allInnerTexts();
        for (const [sink, parts] of Object.entries(sinks)) {
          const said = new RegExp(`! sink ${sink} (?:.*\\n.*)`).exec(stdout)?.[0] ?? stdout;
          const item = items.find((text) => text.includes(`Sink ${sink} `)) ?? items.join("\n");
          for (const text of this.#seen === null ? [said] : [said, item])
            for (const part of parts) expect(text).toMatch(part);
        }
        expect(stdout.match(/^ {2}! /gm)).toHaveLength(Object.keys(sinks).length);
        await this.#expectOne(verdict);
      },
      { withinMs: TOLD_WITHIN_MS, everyMs: COMMAND_EVERY_MS },
    );
  }

  async expectWell(): Promise<void> {
    await eventually(async () => await this.#expectOne(WELL), { withinMs: WELL_WITHIN_MS, everyMs: COMMAND_EVERY_MS });
  }

  /** Whatever the others can still say. */
  async expectWebhook(what: RegExp): Promise<void> {
    await eventually(
      () => expect([...this.#toldOpen().values()].map((one) => one.what)).toContainEqual(expect.stringMatching(what)),
      { withinMs: TOLD_WITHIN_MS },
    );
  }

  async #expectOne({ headline, ready, exitCode, reaches }: Verdict): Promise<void> {
    const answer = await fetch(`${this.#url}/readyz`);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the answer of the daemon, in its documented shape
    const readiness = (await answer.json()) as { readonly ready: boolean; readonly reasons: readonly string[] };
    const status = await this.installation.command("status", "--exit-code");
    const waited = await this.installation.command("wait", "--timeout", reaches === true ? "30s" : "300ms");
    const told = [...this.#toldOpen().values()].map(({ what }) => what);
    const listed = status.stdout.split("\n").flatMap((line) => (line.startsWith("  ! ") ? [line.slice(4)] : []));
    const shown = this.#seen === null ? null : await shownOn(this.page);
    const title = shown?.headline ?? headline;
    expect({
      headline: title,
      readyz: [answer.status, readiness.ready, readiness.reasons.length === 0],
      exitCode: status.exitCode,
      wait: waited.exitCode,
    }).toEqual({
      headline,
      readyz: [ready ? 200 : 503, ready, ready],
      exitCode,
      wait: reaches === null ? waited.exitCode : reaches ? 0 : 5,
    });
    expect(status.stdout.toLowerCase()).toContain(headline.toLowerCase());
    const gists = sorted(listed);
    expect({ page: sorted(shown?.items ?? listed), webhook: sorted(told) }).toEqual({ page: gists, webhook: gists });
    for (const reason of readiness.reasons) expect(gists).toContain(gist(reason));
  }

  /** By id: what the receiver was told, and not that it has ended. */
  #toldOpen(): ReadonlyMap<string, Condition> {
    const open = new Map<string, Condition>();
    for (const { body } of this.#receiver.heard) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the message of the daemon, in its documented shape
      const { began, changed, ended } = body as Readonly<Record<"began" | "changed" | "ended", readonly Condition[]>>;
      for (const { id } of ended) open.delete(id);
      for (const condition of [...began, ...changed]) open.set(condition.id, condition);
    }
    return open;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#seen?.[Symbol.asyncDispose]();
    await this.#browser?.[Symbol.asyncDispose]();
    await this.installation[Symbol.asyncDispose]();
    await this.#receiver[Symbol.asyncDispose]();
  }
}

async function shownOn(page: Page): Promise<{ readonly headline: string; readonly items: readonly string[] }> {
  const attention = page.locator(".attention");
  return {
    headline: await attention.getByRole("heading").innerText(),
    items: await attention.locator("li a bdi").allInnerTexts(),
  };
}

/** What it is about, without figures that move and what follows. */
function gist(text: string): string {
  return text
    .toLowerCase()
    .replace(/[,;:(].*$/s, "")
    .replaceAll(/\d+/g, "#")
    .trim();
}

function sorted(texts: readonly string[]): readonly string[] {
  return texts.map(gist).toSorted();
}
