/** Two caches in one database, where the keys of one sink lie within those of the other. */
import { expect, test } from "vitest";
import { RunningPipeline, type PipelineConfig } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

test("a table whose keys would lie among those of another sink is refused by number, until that sink has others", async () => {
  let config: PipelineConfig | undefined;
  const withInner = (to: string): PipelineConfig => {
    const redis: Record<string, unknown> = { ...config!.sinks["redis"] };
    const inner = { ...redis, prefix: `${String(redis["prefix"])}${to}`, tables: ["orders.*"] };
    return { ...config!, sinks: { redis, inner } };
  };
  await using pipeline = await RunningPipeline.start(
    `create schema docs; create schema orders;
     create table docs.orders (kind text, id int, body text, primary key (kind, id));
     insert into docs.orders values ('line', 1, 'of docs'), ('line', 2, 'of docs');
     create table orders.line (id int primary key, body text);
     insert into orders.line values (1, 'of orders')`,
    {
      kinds: ["redis"],
      configure: (given) => {
        config = given;
        return withInner("docs:");
      },
    },
  );
  const { installation, sinks } = pipeline;
  using cache = pipeline.cache();
  const body = async (key: string) => await cache.hget(`${sinks.keyPrefix}${key}`, "body");
  const suspended = async (): Promise<string[]> =>
    (await installation.status()).tables.suspended.map(({ table, sink, error }) => `${sink} ${table} ${error.code}`);

  await eventually(async () => expect(await body("docs:orders:line:1")).toBe("of orders"));
  await eventually(async () => expect(await suspended()).toEqual(["redis docs.orders MR1305"]));
  await pipeline.run(`update docs.orders set body = 'more of docs'; insert into orders.line values (3, 'of orders')`);
  // The outer sink has it under a key of its own, and so it is past the update.
  await eventually(async () => expect(await body("orders:line:3")).toBe("of orders"));
  await eventually(async () => expect(await body("docs:orders:line:3")).toBe("of orders"));
  expect(await body("docs:orders:line:1")).toBe("of orders");
  expect(await body("docs:orders:line:2")).toBeNull();

  const { exitCode, stdout } = await installation.command("check");
  expect(exitCode).not.toBe(0);
  expect(stdout).toMatch(
    /ERROR +redis: table docs\.orders would be written to .*docs:orders:… in sink redis, where sink inner writes /,
  );

  await pipeline.daemon.stop();
  installation.configure(withInner("other:"));
  await pipeline.start();
  await eventually(async () => expect(await suspended()).toEqual([]));
  await eventually(async () => expect(await body("docs:orders:line:2")).toBe("more of docs"));
  expect(await body("other:orders:line:1")).toBe("of orders");

  // The other way round: it flows, and the other sink comes.
  await pipeline.daemon.stop();
  installation.configure(withInner("docs:"));
  await pipeline.run("update docs.orders set body = 'too late'; insert into orders.line values (4, 'of orders')");
  await pipeline.start();
  await eventually(async () => expect(await suspended()).toEqual(["redis docs.orders MR1305"]));
  await eventually(async () => expect(await body("orders:line:4")).toBe("of orders"));
  await eventually(async () => expect(await body("docs:orders:line:1")).toBe("of orders"));
  expect(await body("docs:orders:line:2")).not.toBe("too late");
});
