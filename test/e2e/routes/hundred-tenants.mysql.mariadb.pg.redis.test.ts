/**
 * A hundred databases of MySQL, and of MariaDB, are one table of each sink.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { SinkSet } from "../../support/daemon/sink-set.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";

const COUNT = 100;
const ROWS = 3;

test.for(mysqlFlavours)("%s: dropped, restored and truncated, with kills", async (flavour) => {
  await using source = await freshMysqlDatabase(mysqlUrl(flavour));
  await using sinks = await SinkSet.create(["postgres", "sqlite", "redis"]);
  const { connection } = source;
  const made = new Set<string>();
  await using _ = {
    [Symbol.asyncDispose]: async () => {
      for (const name of made) await connection.query(`drop database if exists ${name}`);
    },
  };
  const of = (tenant: number | string): string => `${source.name}_t${tenant}`;
  const create = async (tenant: number | string, note = `${tenant}`): Promise<void> => {
    made.add(of(tenant));
    await connection.query(`create database ${of(tenant)}`);
    await connection.query(`create table ${of(tenant)}.orders (id int primary key, note varchar(40))`);
    const rows = Array.from({ length: ROWS }, (__, i) => `(${i + 1}, '${note}')`);
    await connection.query(`insert into ${of(tenant)}.orders values ${rows.join(", ")}`);
  };
  for (let tenant = 1; tenant <= COUNT; tenant++) await create(tenant);
  await using installation = new Installation({
    name: source.name,
    source: { kind: "mysql", url: mysqlUrl(flavour), heartbeat: "500ms", tables: [`${of("*")}.*`] },
    sinks: sinks.config,
    tables: { [`${of("*")}.orders`]: { into: "shared.orders", add: { tenant: "$1" } } },
  });
  let daemon = installation.run();
  await daemon.streaming();
  const found = async (): Promise<Readonly<Record<string, string>>> => {
    await daemon.settled(90_000);
    const { rows } = await sinks.target!.query<{ tenant: string; notes: string }>(
      "select tenant, string_agg(id || ' ' || note, ', ' order by id) as notes from shared.orders group by tenant",
    );
    return Object.fromEntries(rows.map(({ tenant, notes }) => [tenant, notes]));
  };
  const whole = (note: string): string => Array.from({ length: ROWS }, (__, i) => `${i + 1} ${note}`).join(", ");
  const expected: Record<string, string> = Object.fromEntries(
    Array.from({ length: COUNT }, (__, i) => [`${i + 1}`, whole(`${i + 1}`)]),
  );
  expect(await found()).toEqual(expected);
  await daemon.kill();
  await connection.query(`drop database ${of(1)}`);
  await connection.query(`drop database ${of(2)}`);
  await create(2, "restored");
  await connection.query(`delete from ${of(2)}.orders where id = 1`);
  await connection.query(`truncate table ${of(3)}.orders`);
  await create("late");
  daemon = installation.run();
  await daemon.streaming();
  Object.assign(expected, { 2: "2 restored, 3 restored", late: whole("late") });
  delete expected["3"];
  // The rows of the one that was dropped stay.
  expect(await found()).toEqual(expected);
  await connection.query(`truncate table ${of(4)}.orders`);
  await connection.query(`insert into ${of(4)}.orders values (9, 'again')`);
  await connection.query(`rename table ${of(5)}.orders to ${of(6)}.moved`);
  await daemon.kill();
  daemon = installation.run();
  await daemon.streaming();
  Object.assign(expected, { 4: "9 again" });
  expect(await found()).toEqual(expected);
  const { exitCode, stdout } = await installation.command("reconcile");
  expect({ exitCode }, stdout).toEqual({ exitCode: 0 });
});
