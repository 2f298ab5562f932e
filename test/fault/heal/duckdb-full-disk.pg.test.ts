/** A disk that is full while DuckDB writes a table anew: the daemon says so, and nothing is lost. */
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROW_COUNT = 80_000;
/** A limit of the process in place of the disk's: no file grows further. */
const LIMIT_SPARE_BYTES = 512 * 1024;

test(
  "a disk that is full while a table is rewritten is told, loses no row, and the table is rewritten later",
  { timeout: 240_000, tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      `create table worn (id int primary key, tags text[], body text);
     insert into worn select g, array['a'], md5(g::text) from generate_series(1, ${ROW_COUNT}) g`,
      { kinds: ["duckdb"] },
    );
    const { installation } = pipeline;
    await pipeline.expectEqual(["worn"]);
    const limit = (bytes: string) =>
      execFileSync("prlimit", [`--fsize=${bytes}`, "--pid", String(pipeline.daemon.pid)]);
    const file = join(installation.folder, "warehouse.duckdb");
    await pipeline.run(`update worn set tags = array['b']`);
    await pipeline.settled();
    await pipeline.run(`update worn set tags = array['c']`);
    await eventually(() => expect(pipeline.daemon.said).toContain("it is rewritten beside the stream"), {
      withinMs: 30_000,
      everyMs: 5,
    });
    limit(`${statSync(file).size + LIMIT_SPARE_BYTES}:unlimited`);
    let changed = 0;
    await eventually(
      async () => {
        await pipeline.run(
          `update worn set body = md5(random()::text), tags = array['d'] where id % 40 = ${changed++ % 40}`,
        );
        expect(pipeline.daemon.said).toContain("MR3213");
      },
      { withinMs: 60_000, everyMs: 200 },
    );
    expect(pipeline.daemon.exited).toBe(false);
    limit("unlimited:unlimited");
    await pipeline.run("insert into worn values (0, array['new'], 'row')");
    await pipeline.expectEqual(["worn"]);

    await pipeline.daemon.stop();
    await pipeline.start();
    await pipeline.run("update worn set tags = array['e']");
    await eventually(
      async () => expect((await installation.status()).sinks).toMatchObject([{ deadRows: expect.closeTo(0, -3) }]),
      { withinMs: 60_000 },
    );
    await pipeline.expectEqual(["worn"]);
  },
);
