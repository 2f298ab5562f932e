/**
 * Rows that a filter leaves out, in a log for other daemons: it has no key of theirs. Where Postgres logs only the keys of old
 * rows, nobody could tell which ones to leave out, and the table waits.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { Installation } from "../../support/daemon/daemon-process.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { eventually } from "../../support/run/waiting.ts";

/** In every key of a row that never matches, and in no other. */
const CANARY = "Kanarienvogel";
const PREPARE = `create table person (code text primary key, country text, n int);
  create table plain (id int primary key);
  insert into person values ('a1', 'AT', 0), ('a2', 'AT', 0), ('a3', 'AT', 0), ('d1-${CANARY}', 'DE', 1), ('d2-${CANARY}', 'DE', 2)`;

const ofOthers = (n: number): string =>
  `insert into person values ('n${n}-${CANARY}', 'DE', 0); update person set n = ${n} where country = 'DE';
   delete from person where code in ('d${n}-${CANARY}', 'n${n}-${CANARY}')`;

const suspendedIn = async (installation: Installation): Promise<readonly string[]> =>
  (await installation.status()).tables.suspended.map(({ table, error }) => `${table} ${error.code}`);

test("a filter that asks more than the key waits for whole old rows", async () => {
  await using through = await ThroughKafka.start(PREPARE, {
    kinds: ["postgres"],
    capture: { tables: { "public.person": { where: "country = 'AT'" } } },
  });
  const { applying, capture, topics, source } = through;
  const target = applying.sinks.target!;
  const expectSuspended = async (...tables: readonly string[]): Promise<void> => {
    await eventually(async () => {
      for (const one of [capture, applying.installation]) expect(await suspendedIn(one)).toEqual(tables);
    });
  };
  const expectRows = async (...codes: readonly string[]): Promise<void> => {
    await eventually(async () => {
      const { rows } = await target.query<{ code: string }>("select code from public.person order by code");
      expect(rows.map(({ code }) => code)).toEqual(codes);
    });
  };
  let mark = 0;
  /** All that was committed before has passed. */
  const passed = async (): Promise<void> => {
    await applying.run(`insert into plain values (${++mark})`);
    await eventually(async () =>
      expect((await target.query("select from public.plain where id = $1", [mark])).rows).toHaveLength(1),
    );
  };
  const expectUntold = async (): Promise<void> => {
    await passed();
    const names = await topics.names();
    expect(names).toContain(`${topics.prefix}${source.name}._log`);
    for (const name of names) {
      const records = await topics.read(name);
      expect(records.filter(({ key, value }) => `${key} ${value}`.includes(CANARY))).toEqual([]);
    }
  };

  await expectSuspended("public.person MR1020");
  const { exitCode, stdout } = await capture.command("check");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("REPLICA IDENTITY FULL") });
  await applying.run(ofOthers(1));
  await expectUntold();

  await applying.run("alter table person replica identity full");
  await expectSuspended();
  await expectRows("a1", "a2", "a3");
  expect((await capture.command("check")).exitCode).toBe(0);
  await through.captureAgain({ tables: { "public.person": { where: "country = 'AT'" } } });
  await applying.run(ofOthers(2));
  await applying.run("delete from person where code = 'a1'; update person set country = 'DE' where code = 'a2'");
  await expectRows("a3");
  await expectUntold();

  await applying.run(`alter table person replica identity default; ${ofOthers(3)}`);
  await expectSuspended("public.person MR1020");
  await expectUntold();
});
