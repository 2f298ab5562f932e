/** A stretch of each server's log, kept with what its rows are: a test compares a live server, others need none. */
import { readFileSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { endOfLog, readLog } from "./mysql-log.ts";
import { decodeLog } from "./mysql-rows.ts";
import type { FreshMysqlDatabase, MysqlFlavour } from "../run/services.ts";

const FILE = new URL("../../golden/mysql-rows.json", import.meta.url);

const Recording = z.object({
  schema: z.string(),
  events: z.array(z.string()),
  columns: z.array(z.object({ name: z.string(), native: z.string(), nullable: z.boolean() })),
  rows: z.array(
    z.object({
      op: z.string(),
      index: z.number(),
      before: z.array(z.string().nullable()).nullable(),
      after: z.array(z.string().nullable()).nullable(),
    }),
  ),
});
const Recordings = z.object({ mysql: Recording, mariadb: Recording }).partial();

export type MysqlRecording = z.infer<typeof Recording>;

export function readRecording(flavour: MysqlFlavour): MysqlRecording {
  const recording = Recordings.parse(JSON.parse(readFileSync(FILE, "utf8")))[flavour];
  if (recording === undefined) throw new Error(`nothing is recorded of ${flavour}`);
  return recording;
}

export function writeRecording(flavour: MysqlFlavour, recording: MysqlRecording): void {
  const all: unknown = JSON.parse(readFileSync(FILE, "utf8"));
  writeFileSync(FILE, `${JSON.stringify({ ...Recordings.parse(all), [flavour]: recording }, null, 1)}\n`);
}

export function eventsOf(recording: MysqlRecording): Buffer[] {
  return recording.events.map((event) => Buffer.from(event, "base64"));
}

/** Types of everyday and rare kinds, compressed and partial events among plain ones. */
export async function record(
  flavour: MysqlFlavour,
  url: string,
  database: FreshMysqlDatabase,
): Promise<MysqlRecording> {
  const isMysql = flavour === "mysql";
  const run = (sql: string) => database.connection.query(sql);
  await run("set sql_mode = '', time_zone = '+00:00', names utf8mb4");
  await run(`create table golden (id bigint unsigned not null, name varchar(40) character set latin1 not null,
    amount decimal(12,2), at datetime(6), seen timestamp(3) null, span time(2), flag bit(1), bits bit(12),
    kind enum('a','ü') character set utf8mb4, marks set('x','y','z'), body text character set utf8mb4, raw binary(4),
    shape geometry, doc ${isMysql ? "json" : "longtext character set utf8mb4"}, ${isMysql ? "v vector(2)," : ""} f float,
    y year, hidden int invisible default 3, primary key (name, id))`);
  const from = await endOfLog(url);
  await run(isMysql ? "set binlog_row_value_options = PARTIAL_JSON" : "set global log_bin_compress = on");
  await run("begin");
  await run(`insert into golden (id, name, amount, at, seen, span, flag, bits, kind, marks, body, raw, shape, doc, f, y)
    values (18446744073709551615, 'naïve', -1234.50, '2024-02-29 12:34:56.789012', '2024-07-01 00:00:00.123',
      '-100:00:00.25', b'1', b'101010101010', 'ü', 'x,z', '日本語 text', x'01ff', st_geomfromtext('point(1 2)', 3857),
      '{"a": [1, 2.5, "x"], "long": "${"y".repeat(60)}"}', 0.1, 2024),
      (2, 'b', null, '0000-00-00', null, null, null, null, null, '', null, null, null, null, null, 0)`);
  await run("update golden set amount = 0.01, doc = json_set(doc, '$.a[1]', true) where name = 'naïve'");
  if (isMysql) await run("update golden set v = string_to_vector('[1,-0.5]') where name = 'b'");
  await run("delete from golden where id = 2");
  await run("commit");
  if (isMysql) {
    await run("set binlog_row_value_options = ''");
    await run("set binlog_transaction_compression = on");
  } else {
    await run("set global log_bin_compress = off");
  }
  await run("update golden set y = 1999");
  const events = await readLog(url, from);
  const { rows } = decodeLog(events, { schema: database.name });
  const columns = rows[0]?.table.columns ?? [];
  return Recording.parse({
    schema: database.name,
    events: events.map((event) => event.toString("base64")),
    columns: columns.map(({ name, native, nullable }) => ({ name, native, nullable })),
    rows: rows.map(({ op, index, before, after }) => ({ op, index, before, after })),
  });
}
