/**
 * `follow` in a program of one loop that adds up a column, beside pg-logical-replication's own pgoutput plugin in the same
 * loop, with flow control and an acknowledgement for each transaction. Each reads the same inserts, from a slot of its own, in
 * a fresh process; its figures begin with the first row.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { connected } from "./clients.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median } from "./report.ts";
import { SETTINGS, Slot } from "./slot.ts";

const ROWS = 500_000;
const ROWS_PER_TRANSACTION = 100;
const TARGET = 1.2;
const PROGRAM = join(import.meta.dirname, "library-program.ts");
const OURS = "millrace";
const PEER = "pg-logical-replication";
/** Slot and publication. */
const PEER_NAME = "bench_peer";

interface Figures {
  readonly count: number;
  readonly sum: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly memoryMiB: number;
}

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  const rows = Math.round(ROWS * scale);
  await using server = await postgres.start({ own: true, settings: SETTINGS });
  const folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  const admin = await connected(server.url);
  const program = async (who: string, at: string, wanted: number): Promise<Figures> => {
    const started = await promisify(execFile)(process.execPath, [PROGRAM, who, server.url, at, String(wanted)]);
    return JSON.parse(started.stdout);
  };
  try {
    await admin.query(ORDERS);
    await admin.query(`create publication ${PEER_NAME} for table orders`);
    await admin.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [PEER_NAME]);
    const state = `sqlite:${join(folder, "follow.db")}`;
    await insertOrders(admin, 0, 1, 1);
    await program(PEER, PEER_NAME, 1);
    const first = program(OURS, state, 1);
    // Its slot begins behind that row.
    await new Slot(admin, "millrace_follow").streaming();
    await insertOrders(admin, 1, 1, 1);
    await first;
    const samples = new Map<string, Figures[]>([
      [OURS, []],
      [PEER, []],
    ]);
    for (let i = 0, first = 2; i < runs; i++, first += rows) {
      log(`library: writing ${rows} rows`);
      await insertOrders(admin, first, rows, ROWS_PER_TRANSACTION);
      await admin.query("checkpoint");
      const wantedSum = rows * first + (rows * (rows - 1)) / 2;
      for (const [who, at] of [
        [OURS, state],
        [PEER, PEER_NAME],
      ] as const) {
        const figures = await program(who, at, rows);
        // The peer had not read the row that ours began with.
        const isWhole = figures.count >= rows && figures.sum >= wantedSum;
        if (!isWhole) throw new Error(`${who} read ${figures.count} of ${rows} rows`);
        samples.get(who)!.push(figures);
        log(`library: ${who} ${Math.round(rows / figures.seconds)} rows/s`);
      }
    }
    const lines = [...samples].map(([who, own]): Line => {
      const of = (value: (one: Figures) => number) => median(own.map(value));
      return {
        work: "inserts",
        who,
        figures: {
          "rows/s": of(({ seconds }) => rows / seconds),
          "CPU µs a row": of(({ cpuSeconds }) => (cpuSeconds * 1e6) / rows),
          "memory MiB": of(({ memoryMiB }) => memoryMiB),
        },
      };
    });
    const [ours, peer] = lines;
    const ratio = (ours?.figures["rows/s"] ?? Number.NaN) / (peer?.figures["rows/s"] ?? Number.NaN);
    return {
      name: "library",
      lines,
      ratios: [{ what: `against ${PEER}`, value: ratio, target: TARGET, atLeast: true }],
    };
  } finally {
    await admin.end();
    rmSync(folder, { recursive: true, force: true });
  }
}
