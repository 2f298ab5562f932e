/** A new epoch is above every epoch that a sink shows, by its checkpoint or its rows. */
import { copyFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const PREPARE = `create table item (id int primary key, name text);
  insert into item select g, 'n' || g from generate_series(1, 100) g`;
const DROP_SLOT =
  "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()";

async function command(pipeline: RunningPipeline, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await pipeline.installation.command(...args);
  expect({ args, exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ args, exitCode: 0, stderr: "" });
  return stdout;
}

async function expectEqual({ sinks, source, installation }: RunningPipeline): Promise<void> {
  expect(await sinks.differences(source.url, installation.folder, ["item"])).toEqual([]);
}

test(
  "what the sinks keep for themselves is torn down after a recovery: rows of the second epoch are followed",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds: CHOSEN_KINDS });
    await pipeline.settled();
    await pipeline.daemon.stop();
    await pipeline.run(DROP_SLOT);
    await command(pipeline, "recover", "--yes");
    await pipeline.run("update item set name = 'second' where id <= 50");
    await command(pipeline, "run", "--once");
    await command(pipeline, "teardown", "--sink-metadata", "--yes");
    // Nobody reads this: the rows that are left in the sinks are not to stay.
    await pipeline.run("delete from item where id in (8, 9)");
    await command(pipeline, "run", "--once");
    await pipeline.run("update item set name = 'third'; delete from item where id = 7");
    await command(pipeline, "run", "--once");
    await expectEqual(pipeline);
    expect(JSON.parse(await command(pipeline, "offsets", "show", "--json"))).toMatchObject({ source: { epoch: 3 } });
  },
);

test(
  "the state is restored to before a recovery: check and recover tell that the sinks are ahead, and they end equal",
  { tags: "long" },
  async () => {
    // recover has it with two sinks.
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds: CHOSEN_KINDS });
    await pipeline.settled();
    await pipeline.daemon.stop();
    const folder = join(pipeline.installation.folder, ".millrace");
    const copies = join(pipeline.installation.folder, "copies");
    copyAll(folder, copies);
    await pipeline.run(DROP_SLOT);
    await command(pipeline, "recover", "--yes");
    await pipeline.run("update item set name = 'second'; delete from item where id > 90");
    await command(pipeline, "run", "--once");
    copyAll(copies, folder);
    await pipeline.run("update item set name = 'third' where id <= 50; insert into item values (500, 'new')");
    const plan = await pipeline.installation.command("recover", "--json");
    expect(plan.exitCode).toBe(4);
    expect(JSON.parse(plan.stdout)).toMatchObject({ epoch: 3, lost: { code: expect.stringMatching(/^MR/) } });
    await command(pipeline, "recover", "--yes");
    await expectEqual(pipeline);
    await pipeline.run("update item set name = 'last'");
    await command(pipeline, "run", "--once");
    await expectEqual(pipeline);
  },
);

function copyAll(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name));
}
