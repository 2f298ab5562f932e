import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { duckdbSink } from "../../connectors/duckdb/sink.ts";
import { duckdbTarget } from "../support/warehouses/duckdb-target.ts";
import { expectedAfter, batches } from "../support/warehouses/duckdb-writer.ts";
import { failure, timeout } from "../conformance/stage.ts";

const WRITER = fileURLToPath(new URL("../support/warehouses/duckdb-writer.ts", import.meta.url));
const KILLS = 10;
/** Up to so long after a batch the process is killed; a batch takes some tens of milliseconds. */
const KILL_WITHIN_MS = 60;

test(
  "a writer that is killed at any moment leaves rows and progress that belong together",
  { tags: "heavy" },
  async () => {
    await using target = duckdbTarget();
    let reached = 0;
    for (let kill = 1; kill <= KILLS; kill++) {
      const writer = startWriter(target.path, kill);
      await line(writer);
      // Anywhere in the next batches: the moment is what the test is about, nothing waits for it.
      await delay(Math.random() * KILL_WITHIN_MS);
      writer.kill("SIGKILL");
      await once(writer, "exit");

      const sink = duckdbSink({
        name: "w",
        owner: "shop/w",
        path: target.path,
        memoryLimit: "256MB",
        threads: 2,
        schema: undefined,
      });
      const held = await sink.open(kill, timeout());
      const n = Number(held?.position.commit);
      expect(n).toBeGreaterThan(reached);
      reached = n;
      const rows = await target.readRows(batches);
      const found = rows.map(({ cells }) => cells.join(" ")).toSorted();
      expect(found).toEqual(expectedAfter(n).toSorted());
      await sink.close();
    }
  },
);

test("the log beside the file stays small, and closing folds it in", async () => {
  await using target = duckdbTarget();
  const writer = startWriter(target.path, 1);
  let logBytesMax = 0;
  for (let i = 0; i < 40; i++) {
    await line(writer);
    logBytesMax = Math.max(logBytesMax, statSync(`${target.path}.wal`, { throwIfNoEntry: false })?.size ?? 0);
  }
  writer.kill("SIGKILL");
  await once(writer, "exit");
  expect(logBytesMax).toBeLessThan(32 * 1024 * 1024);
  const sink = target.makeSink();
  await sink.open(2, timeout());
  await sink.close();
  expect(statSync(`${target.path}.wal`, { throwIfNoEntry: false })).toBeUndefined();
});

test("a file that another process has open is refused by its pid, and opens once that process is gone", async () => {
  await using target = duckdbTarget();
  const writer = startWriter(target.path, 1);
  await line(writer);
  const sink = target.makeSink("w");
  const error = await failure(sink.open(2, timeout()));
  expect(error.code).toBe("MR3201");
  expect(error.kind).toBe("blocked");
  expect(error.message).toContain(`pid ${writer.pid}`);
  writer.kill("SIGKILL");
  await once(writer, "exit");
  expect(await sink.open(2, timeout())).not.toBeNull();
  await sink.close();
});

function startWriter(path: string, lease: number): ChildProcess {
  return spawn(process.execPath, [WRITER, path, String(lease)], { stdio: ["ignore", "pipe", "inherit"] });
}

async function line(writer: ChildProcess): Promise<void> {
  await once(writer.stdout!, "data");
}
