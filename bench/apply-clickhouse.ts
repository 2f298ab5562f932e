/**
 * Postgres to ClickHouse against a bare load: the same client inserts the resulting rows from memory as JSONEachRow, its
 * usual form, into an equal table of the same server.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from "@clickhouse/client";
import { clickhouse } from "../scripts/services/servers/clickhouse.ts";
import type { RunningService } from "../scripts/services/service.ts";
import { againstLoad, type Loaded, type LoadTarget } from "./against-load.ts";
import type { Backlog, Work } from "./backlog.ts";
import { rowsOf } from "./orders.ts";
import type { BenchOptions, BenchReport } from "./report.ts";

const ROWS = 500_000;
const WANTED = 0.8;
const ROWS_PER_INSERT = 100_000;
const ASK_EVERY_MS = 100;

export async function run(options: BenchOptions): Promise<BenchReport> {
  await using server = await clickhouse.start({ own: true });
  await using target = new ClickhouseTarget(server);
  return await againstLoad(
    "apply-clickhouse",
    target,
    { rowCount: Math.round(ROWS * options.scale), wanted: WANTED },
    options,
  );
}

class ClickhouseTarget implements LoadTarget {
  readonly peer = "bare JSONEachRow insert";
  readonly serverPid: number | undefined;
  readonly #url: string;
  readonly #client: ClickHouseClient;
  #version = 1;

  constructor({ url, pid }: RunningService) {
    this.serverPid = pid;
    this.#url = url;
    const { origin, username, password } = new URL(url);
    this.#client = createClient({
      url: origin,
      username: username || "default",
      password,
      request_timeout: 600_000,
      log: { level: ClickHouseLogLevel.OFF },
    });
  }

  sink(): object {
    return { kind: "clickhouse", url: this.#url };
  }

  async prepare(): Promise<void> {
    await this.#client.command({ query: "CREATE TABLE public.peer AS public.orders" });
  }

  /** Without a container the engine runs one statement at a time: asked all the time, it would do nothing else. */
  async hasMark(name: string): Promise<boolean> {
    await sleep(ASK_EVERY_MS);
    return (await this.#count(`public.mark WHERE name = '${name}'`)) > 0;
  }

  async load(work: Work, { source }: Backlog): Promise<Loaded> {
    const batches: object[][] = [[]];
    const version = { _millrace_version: this.#version++ };
    for await (const row of rowsOf(source, work)) {
      if (batches.at(-1)!.length === ROWS_PER_INSERT) batches.push([]);
      batches.at(-1)!.push({ ...row, paid: row["paid"] === "t", ...version });
    }
    const startedMs = performance.now();
    for (const values of batches) {
      await this.#client.insert({
        table: "public.peer",
        values,
        format: "JSONEachRow",
        clickhouse_settings: { async_insert: 0, date_time_input_format: "best_effort" },
      });
    }
    return { seconds: (performance.now() - startedMs) / 1000 };
  }

  async count(): Promise<{ own: number; peer: number }> {
    return { own: await this.#count("public.orders FINAL"), peer: await this.#count("public.peer FINAL") };
  }

  async #count(from: string): Promise<number> {
    const answer = await this.#client.query({ query: `SELECT count() AS n FROM ${from}`, format: "JSONEachRow" });
    const [row] = await answer.json<{ n: string | number }>();
    return Number(row?.n ?? 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close();
  }
}
