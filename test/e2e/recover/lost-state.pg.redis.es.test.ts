/**
 * The way out of every gap: with the state file moved away, everything is read again into every sink, over what it holds.
 */
import { renameSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const TABLES = ["kept", "emptied"];
const PREPARE = `create table kept (id int primary key, body text);
  create table emptied (id int primary key, body text);
  insert into kept select g, 'first' from generate_series(1, 300) g;
  insert into emptied select g, 'first' from generate_series(1, 40) g`;
/** Changes that no log brings to the sinks: made while there is no slot, or before the one that is made anew. */
const UNSEEN = `update kept set body = 'unseen' where id <= 50; delete from kept where id between 60 and 90;
  insert into kept select g, 'unseen' from generate_series(1000, 1020) g; delete from emptied`;

test.for([
  { what: "with the slot dropped, by a first copy", dropSlot: true },
  { what: "with the slot left, by reads beside the stream", dropSlot: false },
])("everything is equal again after the state was lost, $what", async ({ dropSlot }, { skip }) => {
  skip(!isLongForm() && dropSlot, "it is part of the long form");
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: CHOSEN_KINDS });
  await pipeline.run("update kept set body = 'streamed' where id > 200");
  await pipeline.expectEqual(TABLES);
  await pipeline.daemon.stop();
  const { source, installation } = pipeline;
  const slot = `millrace_${source.name}`;
  if (dropSlot) await source.query("select pg_drop_replication_slot($1)", [slot]);
  await source.query(UNSEEN);
  if (!dropSlot) await source.query("select pg_replication_slot_advance($1, pg_current_wal_lsn())", [slot]);
  const refused = await installation.run().ended;
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toMatch(dropSlot ? /MR2010: .*does not exist/ : /MR2010: .*is confirmed up to/);
  expect(refused.stderr).toContain("millrace recover");
  const state = join(installation.folder, ".millrace", `${source.name}.db`);
  renameSync(state, `${state}.old`);
  pipeline.daemon = installation.run();
  await pipeline.daemon.streaming();
  await pipeline.run("update kept set body = 'after' where id = 100");
  await pipeline.expectEqual(TABLES);
});
