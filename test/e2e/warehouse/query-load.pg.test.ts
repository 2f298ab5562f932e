/** Queries that need far more memory than the sink has, beside a writer: the sink does not notice. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const QUERY =
  "select count(distinct a.body || b.body) from public.wide a join public.wide b on a.n % 50 = b.n % 50 where a.id < 4000";

test("large joins cost the sink no row, no reopening and no process", { tags: "long" }, async () => {
  await using pipeline = await RunningPipeline.start(
    "create table wide (id int primary key, n int, body text); insert into wide select g, g, repeat(md5(g::text), 20) from generate_series(1, 40000) g",
    {
      kinds: ["duckdb"],
      configure: (config) => ({
        ...config,
        sinks: Object.fromEntries(
          Object.entries(config.sinks).map(([name, sink]) => [name, { ...sink, memoryLimit: "128MB" }]),
        ),
      }),
    },
  );
  const { installation } = pipeline;
  await pipeline.settled();
  const asking = Promise.all(Array.from({ length: 3 }, () => installation.command("query", QUERY, "--timeout", "20s")));
  for (let i = 0; i < 6; i++) {
    await pipeline.run(`update wide set n = n + 1, body = repeat(md5(n::text), 20) where id % 6 = ${i}`);
    await pipeline.settled(60_000);
  }
  // Whatever became of the queries: an answer, or too little memory or time of their own.
  for (const { exitCode, signal } of await asking) expect([exitCode, signal]).toEqual([expect.any(Number), null]);
  expect(pipeline.complaints()).toEqual([]);
  expect((await installation.status()).sinks).toMatchObject([{ state: "streaming", error: null, deadLetters: 0 }]);
  await pipeline.expectEqual(["wide"]);
});
