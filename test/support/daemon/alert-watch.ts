/** A real Prometheus with the alert rules of deploy/ over a real daemon. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { stringify } from "yaml";
import * as z from "zod";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { prometheus } from "../../../scripts/services/servers/prometheus.ts";
import type { RunningService } from "../../../scripts/services/service.ts";
import { eventually } from "../run/waiting.ts";

export const ALERT_RULES = readFileSync(
  join(import.meta.dirname, "../../../deploy/prometheus/millrace.rules.yml"),
  "utf8",
);
const TOKEN = "token-that-looks-0123456789abcdef";

const LABELS = z.record(z.string(), z.string());
const SAMPLES = z.object({
  result: z.array(z.object({ metric: LABELS, value: z.tuple([z.number(), z.string()]) })),
});
const ALERTS = z.object({ alerts: z.array(z.object({ state: z.string(), labels: LABELS })) });

/** Where a daemon is to be scraped: `admin` belongs into its configuration. */
export interface ScrapedDaemon {
  readonly port: number;
  readonly admin: object;
}

export async function scrapedDaemon(): Promise<ScrapedDaemon> {
  const port = await freePort();
  return { port, admin: { listen: `127.0.0.1:${port}`, tokens: [{ role: "viewer", token: TOKEN }] } };
}

export class AlertWatch implements AsyncDisposable {
  readonly #server: RunningService;

  private constructor(server: RunningService) {
    this.#server = server;
  }

  /** Scrapes each second, and fires at once: promtool has shown how long each rule waits. */
  static async start({ port }: ScrapedDaemon): Promise<AlertWatch> {
    const scrape = {
      global: { scrape_interval: "1s", evaluation_interval: "1s" },
      rule_files: ["rules.yml"],
      scrape_configs: [
        {
          job_name: "millrace",
          authorization: { credentials: TOKEN },
          static_configs: [{ targets: [`127.0.0.1:${port}`] }],
        },
      ],
    };
    const hasty = ALERT_RULES.replaceAll(/for: \S+/g, "for: 0s");
    const files = { "prometheus.yml": stringify(scrape), "rules.yml": hasty };
    return new AlertWatch(await prometheus.start({ own: true, files }));
  }

  async query(expr: string) {
    return (await this.#ask(`query?query=${encodeURIComponent(expr)}`, SAMPLES)).result;
  }

  async #value(expr: string): Promise<number[]> {
    return (await this.query(expr)).map(({ value: [, text] }) => Number(text));
  }

  /** Names of alerts, sorted. */
  async firing(): Promise<readonly string[]> {
    const { alerts } = await this.#ask("alerts", ALERTS);
    const names = alerts.filter(({ state }) => state === "firing").map(({ labels }) => labels["alertname"] ?? "");
    return [...new Set(names)].toSorted((a, b) => (a < b ? -1 : 1));
  }

  /** Resolves when these fire, others or not. `meanwhile` runs before each look. */
  async fires(names: readonly string[], withinMs = 60_000, meanwhile?: () => Promise<unknown>): Promise<void> {
    const look = async (): Promise<void> => {
      await meanwhile?.();
      expect(await this.firing()).toEqual(expect.arrayContaining([...names]));
    };
    await eventually(look, { withinMs, everyMs: 500 });
  }

  /** Resolves when the daemon is scraped and nothing fires. */
  async quiet(withinMs = 60_000): Promise<void> {
    await eventually(async () => expect(await this.#value("millrace_source_up")).toEqual([1]), { withinMs });
    await eventually(async () =>
      expect(await this.#value(`count_over_time(up{job="millrace"}[1m]) >= 5`)).toHaveLength(1),
    );
    await eventually(async () => expect(await this.firing()).toEqual([]), { withinMs, everyMs: 500 });
  }

  async #ask<T>(path: string, data: z.ZodType<T>): Promise<T> {
    const answer = await fetch(`${this.#server.url}/api/v1/${path}`, { signal: AbortSignal.timeout(10_000) });
    return z.object({ data }).parse(await answer.json()).data;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}
