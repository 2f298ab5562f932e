/**
 * The size of a DuckDB file after its rows were deleted and made again, and updated with a list in them, many times over,
 * beside that of a fresh copy of the same rows.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { postgres } from "../scripts/services/postgres.ts";
import { connected } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import type { BenchOptions, BenchReport, Line } from "./report.ts";
import { SETTINGS } from "./slot.ts";

const ROWS = 100_000;
const ROUNDS = 24;
const WANTED = 2;
const FILL = `insert into worn select g, md5(g::text || random()), array[md5(random()::text)] from generate_series(1, $1) g`;

export async function run({ scale, log }: BenchOptions): Promise<BenchReport> {
  const rowCount = Math.round(ROWS * scale);
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  const from = await connected(source.url);
  await from.query("create table worn (id int primary key, body text, tags text[])");
  await from.query(FILL, [rowCount]);
  const fresh = await sizeAfter(source.url, async () => undefined);
  const worn = await sizeAfter(source.url, async (settled) => {
    for (let round = 0; round < ROUNDS; round++) {
      if (round % 2 === 0) {
        await from.query("delete from worn");
        await from.query(FILL, [rowCount]);
      } else await from.query("update worn set tags = array[md5(random()::text)]");
      await settled();
      log(`growth: round ${round + 1} of ${ROUNDS}`);
    }
  });
  await from.end();
  const line = (who: string, bytes: number): Line => ({ work: `${rowCount} rows`, who, figures: { MB: bytes / 1e6 } });
  return {
    name: "growth",
    lines: [line("fresh", fresh), line(`after ${ROUNDS} rounds`, worn)],
    ratios: [
      { what: "size after the rounds against a fresh copy", value: worn / fresh, target: WANTED, atLeast: false },
    ],
  };
}

async function sizeAfter(url: string, wear: (settled: () => Promise<void>) => Promise<void>): Promise<number> {
  await using daemon = new MeasuredDaemon((folder) => ({
    name: "bench",
    source: { kind: "postgres", url, heartbeat: "200ms" },
    sinks: { warehouse: { kind: "duckdb", path: join(folder, "w.duckdb") } },
  }));
  await daemon.catchUp();
  daemon.start();
  const settled = (): Promise<void> => daemon.caughtUp("bench");
  await wear(settled);
  await settled();
  await daemon.stop();
  const size = statSync(join(daemon.folder, "w.duckdb")).size;
  const client = await connected(url);
  await client.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  await client.query("drop publication millrace_bench");
  await client.end();
  return size;
}
