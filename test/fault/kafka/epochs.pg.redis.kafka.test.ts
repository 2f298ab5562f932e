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

async function writeForeign({ topics, capture }: ThroughKafka): Promise<void> {
  const topic = `${topics.prefix}${capture.name}._log`;
  await topics.write([{ topic, partition: 0, offset: 0n, key: null, value: "hello", headers: new Map() }]);
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
  await writeForeign(through);
  const source = async () => (await applying.installation.status()).source;
  await eventually(async () => expect((await source()).hints).not.toEqual([]));
  // The last frame of an epoch is read again, with the records behind it.
  await applying.run("update note set n = n");
  await applying.expectEqual(TABLES);
  await loseSlot(through, UNSEEN);
  await expectCrossed(through);
  expect(applying.daemon.exited).toBe(false);
  // It reads nothing of the former epoch again before its last frame, however long that is.
  await eventually(async () => expect(await source()).toMatchObject({ hints: [] }));
  expect(applying.daemon.said).toContain("MR2013");
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
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringContaining("MR2013") });
    const again = await applying.installation.run().ended;
    expect(again).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR2013") });
    const recovered = await applying.installation.command("recover", "--yes");
    expect(recovered, recovered.stderr).toMatchObject({ exitCode: 0 });
    applying.daemon = applying.installation.run();
    await applying.daemon.streaming();
    await expectCrossed(through);
  },
);
