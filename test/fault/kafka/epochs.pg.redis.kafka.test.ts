/**
 * The capturing daemon goes on in a new epoch: the applying side crosses by itself, and its sinks equal the source.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { setBack, watchTarget } from "../../support/load/version-watch.ts";
import { eventually } from "../../support/run/waiting.ts";

const MADE = `create table item (id int primary key, n int, body text);
  insert into item select g, 0, repeat(md5(g::text), 9) from generate_series(1, 300) g;
  create table note (id int primary key, n int); insert into note select g, 0 from generate_series(1, 40) g`;
const TABLES = ["item", "note"];

async function start(kinds: readonly SinkKind[] = ["postgres", "redis"]): Promise<ThroughKafka> {
  const through = await ThroughKafka.start(MADE, { kinds });
  await through.applying.expectEqual(TABLES);
  return through;
}

/** Changes that no log has, while the slot is gone; then `recover` on the capturing side. */
async function loseSlot(through: ThroughKafka, unseen: string): Promise<void> {
  const { source, capture } = through;
  await through.capturing.stop();
  await source.query(`select pg_drop_replication_slot('millrace_${capture.name}')`);
  await source.query(unseen);
  const recovered = await capture.command("recover", "--yes");
  expect(recovered, recovered.stderr).toMatchObject({ exitCode: 0 });
  through.capturing = capture.run();
  await through.capturing.streaming();
}

async function expectCrossed(through: ThroughKafka): Promise<void> {
  const { applying } = through;
  await eventually(
    async () =>
      expect(await applying.sinks.differences(applying.source.url, applying.installation.folder, TABLES)).toEqual([]),
    { withinMs: 90_000 },
  );
  await applying.run("update note set n = n + 1 where id % 3 = 0; delete from item where id = 7");
  await applying.expectEqual(TABLES);
}

const UNSEEN = `update item set n = 1 where id < 40; delete from item where id > 290; insert into item values (1000, 5, 'unseen');
  delete from note where id = 3`;

test("while it runs, the applying side follows into the new epoch: no restart, no row set back", async () => {
  await using through = await start();
  const { applying } = through;
  await watchTarget(applying.sinks.target!, TABLES);
  await loseSlot(through, UNSEEN);
  await expectCrossed(through);
  expect(applying.daemon.exited).toBe(false);
  expect(applying.daemon.said).toContain("MR3521");
  expect(await setBack(applying.sinks.target!)).toEqual([]);
  const { snapshots } = JSON.parse((await applying.installation.command("snapshot", "list", "--json")).stdout);
  expect(snapshots).toContainEqual(
    expect.objectContaining({
      tableId: "public.item",
      sink: "postgres",
      scope: { kind: "differences" },
      state: "done",
    }),
  );
});

test(
  "away meanwhile, it reads the old epoch to its end for its history, crosses over two epochs at once, and survives a kill in between",
  { tags: "long" },
  async () => {
    await using through = await start(["postgres", "redis", "postgres-history"]);
    const { applying, capture } = through;
    await applying.daemon.stop();
    await applying.run("update item set n = 71 where id = 50");
    await applying.run("update item set n = 72 where id = 50");
    expect((await capture.command("wait")).exitCode).toBe(0);
    await loseSlot(through, UNSEEN);
    await applying.run("update item set n = 73 where id = 50; delete from note where id = 4");
    await loseSlot(through, "update item set n = 74 where id = 51; insert into note values (900, 1)");

    applying.daemon = applying.installation.run({ MILLRACE_FAILPOINTS: "start.gap-listed=kill@1" });
    await applying.killed("start.gap-listed");
    applying.daemon = applying.installation.run();
    await applying.daemon.streaming();
    await expectCrossed(through);
    const { target } = applying.sinks;
    const { rows } = await target!.query<{ table_schema: string }>(
      "select table_schema from information_schema.columns where table_name = 'item' and column_name = '_millrace_offset'",
    );
    const kept = await target!.query<{ n: number }>(
      `select n from "${rows[0]!.table_schema}".item where id = 50 and _millrace_op = 'u' order by _millrace_version`,
    );
    expect(kept.rows.map(({ n }) => n)).toEqual(expect.arrayContaining([71, 72]));
  },
);

test(
  "with a paused sink, and while the capturing daemon does not answer, it waits for no one for ever",
  { tags: "long" },
  async () => {
    await using through = await start();
    const { applying } = through;
    const command = async (...args: readonly string[]): Promise<void> => {
      const result = await applying.installation.command(...args);
      expect(result, result.stderr).toMatchObject({ exitCode: 0 });
    };
    await command("pause", "--sink", "redis");
    await applying.run("update note set n = 5 where id < 9");
    await loseSlot(through, UNSEEN);
    await through.capturing.stop();
    await eventually(() => expect(applying.daemon.said).toContain("MR3521"), { withinMs: 60_000 });
    expect(applying.daemon.exited).toBe(false);
    through.capturing = through.capture.run();
    await through.capturing.streaming();
    await eventually(
      async () => {
        const { rows } = await applying.sinks.target!.query("select from item where id = 1000");
        expect(rows).toHaveLength(1);
      },
      { withinMs: 120_000 },
    );
    await command("resume", "--sink", "redis");
    await expectCrossed(through);
  },
);

test(
  "a log that begins again in an earlier epoch stops the applying side, and recover goes on in it",
  { tags: "long" },
  async () => {
    await using through = await start();
    const { applying, capture } = through;
    await loseSlot(through, UNSEEN);
    await expectCrossed(through);
    await through.capturing.stop();
    await applying.run("update item set n = 31 where id < 20");
    const torn = await capture.command("teardown", "--sink-metadata", "--yes");
    expect(torn, torn.stderr).toMatchObject({ exitCode: 0 });
    through.capturing = capture.run();
    await through.capturing.streaming();
    await applying.run("update item set n = 32 where id < 10");
    const { exitCode, stderr } = await applying.daemon.ended;
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringContaining("MR3521") });
    const again = await applying.installation.run().ended;
    expect(again).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR3521") });
    const recovered = await applying.installation.command("recover", "--yes");
    expect(recovered, recovered.stderr).toMatchObject({ exitCode: 0 });
    applying.daemon = applying.installation.run();
    await applying.daemon.streaming();
    await expectCrossed(through);
  },
);
