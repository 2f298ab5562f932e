/** Errors in the state: who has a copy of it reads in them what the log shows, and no more. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { openState } from "../../src/state/open.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { eventually } from "../support/run/waiting.ts";

test("errors that the state keeps are masked as in the log", async () => {
  const secret = "canary_of_the_state";
  await using pipeline = await RunningPipeline.start(`create table ${secret} (id int primary key)`, {
    kinds: ["duckdb", "postgres"],
    configure: (config) => ({ ...config, maskKey: secret }),
  });
  const { installation, sinks } = pipeline;
  const target = sinks.target!;
  // One table's error in one sink, a row's, and the sink's own, each naming the table.
  await pipeline.run(`insert into ${secret} values (1)`);
  await pipeline.settled();
  await target.query(`alter table public.${secret} add constraint small check (id < 9)`);
  await pipeline.run(`insert into ${secret} values (10)`);
  await pipeline.settled();
  await target.query(`create view public.shows as select id from public.${secret}`);
  await pipeline.run(`alter table ${secret} alter column id type bigint; insert into ${secret} values (2)`);
  await eventually(async () => expect((await installation.status()).tables.suspended).toHaveLength(1));
  await pipeline.run(`alter table ${secret} drop constraint ${secret}_pkey; insert into ${secret} values (3)`);
  await eventually(async () => expect((await installation.status()).tables.suspended).toHaveLength(2));
  await pipeline.daemon.stop();
  const file = join(installation.folder, ".millrace", `${pipeline.source.name}.db`);
  const state = await openState(`sqlite:${file}`, { readOnly: true });
  const texts = [
    ...(await state.suspensions.list()).map(({ error }) => error.message),
    ...(await state.deadLetters.list()).map(({ reason }) => reason),
  ];
  await state.close();
  expect(texts).toHaveLength(3);
  for (const text of texts) expect(text).toContain("***");
  expect(texts.join("\n")).not.toContain(secret);
});
