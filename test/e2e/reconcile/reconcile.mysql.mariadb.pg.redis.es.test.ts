/**
 * `reconcile` with MySQL and MariaDB as the source.
 * @module-tag heavy
 */
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

const TABLES = [
  `create table orders (id bigint unsigned auto_increment primary key, name varchar(40) character set latin1, note text,
     amount decimal(20,4), made datetime(6), seen timestamp(3) null, flag bit(1), bits bit(12), kind enum('a','b,c','d''e'),
     tags set('x','y','z'), body json, raw varbinary(20), fixed binary(4), ratio double, single_ratio float, at_time time(2),
     born year, small tinyint, middle mediumint unsigned) character set utf8mb4`,
  "create table pairs (a int, b varchar(10), c int, primary key (b, a))",
  "create table moving (id int primary key, n int)",
];

const ROWS = `insert into orders (name, note, amount, made, seen, flag, bits, kind, tags, body, raw, fixed, ratio, single_ratio, at_time, born, small, middle) values
  ('Müller', 'ü€😀', -12.5, '2024-02-29 23:59:59.120000', '2024-01-02 03:04:05.120', 1, 4000, 'b,c', 'x,z', '{"a": [1, 2.5, null], "b": "ü"}', x'00ff', x'0102', 0.1, 3.14159274, '-838:59:58.50', 1999, -5, 16000000),
  (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
  ('', '', 0, '1000-01-01', '1970-01-01 00:00:01', 0, 0, 'd''e', '', '[]', '', '', -1.5, 0, '00:00:00', 0, 127, 0)`;

/** On a session of its own, as the others' statements would wait for its end. */
async function keepMoving({ url }: MysqlPipeline, signal: AbortSignal): Promise<void> {
  const client = await createConnection({ uri: url });
  for (let n = 1; !signal.aborted; n++) {
    await client.query(`replace into moving values (${n % 200}, ${n})`);
    await client.query(`delete from moving where id = ${(n * 7) % 200}`);
    await client.query("select sleep(0.02)");
  }
  await client.end();
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("no drift while rows move; what is changed in a sink by hand is found, and repaired", async () => {
    const pairs = Array.from({ length: 400 }, (_, i) => `(${i}, 'b${i % 7}', ${i})`).join(", ");
    await using pipeline = await MysqlPipeline.start(flavour, [...TABLES, ROWS, `insert into pairs values ${pairs}`], {
      kinds: ["postgres", "duckdb", "redis", "elasticsearch"],
    });
    await pipeline.settled();
    const stopping = new AbortController();
    const moving = keepMoving(pipeline, stopping.signal);
    try {
      const quiet = await reconcile(pipeline.installation);
      expect({ exitCode: quiet.exitCode, drift: driftOf(quiet.found), rest: quiet.found.notComparable }).toEqual({
        exitCode: 0,
        drift: {},
        rest: [],
      });
      const { target } = pipeline.sinks;
      const { name } = pipeline.source;
      await target!.query(`update "${name}".orders set note = null where id = 3`);
      await target!.query(`delete from "${name}".pairs where a = 8`);
      await target!.query(`insert into "${name}".pairs values (1000, 'b', 0, 1, now())`);
      const drift = {
        postgres: [`${name}.orders 3 different note`, `${name}.pairs b 1000 extra`, `${name}.pairs b1 8 missing`],
      };
      const { exitCode, found } = await reconcile(pipeline.installation, "--repair");
      expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({
        exitCode: 3,
        drift,
        rest: [],
      });
      expect(found.tables.reduce((sum, { repaired }) => sum + repaired, 0)).toBe(3);
      const after = await reconcile(pipeline.installation);
      expect({ exitCode: after.exitCode, drift: driftOf(after.found) }).toEqual({ exitCode: 0, drift: {} });
    } finally {
      stopping.abort();
      await moving;
    }
  });
});
