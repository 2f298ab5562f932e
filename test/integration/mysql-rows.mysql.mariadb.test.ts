import { describe, expect, test } from "vitest";
import { Decoder, TOOK_END, TOOK_PAYLOAD } from "../../connectors/mysql/source/rows/decoder.ts";
import {
  FORMAT_DESCRIPTION,
  PARTIAL_UPDATE_ROWS,
  TRANSACTION_PAYLOAD,
  XID,
} from "../../connectors/mysql/source/wire/event-header.ts";
import type { Statement } from "../../connectors/mysql/source/events/log-events.ts";
import { type Definition, walkLog } from "../../connectors/mysql/source/events/log-walk.ts";
import { packPosition } from "../../connectors/mysql/source/wire/position.ts";
import { Server } from "../../connectors/mysql/source/wire/server.ts";
import { parseMysqlUrl } from "../../connectors/mysql/url.ts";
import { SpooledEvent } from "../../connectors/mysql/source/wire/spool.ts";
import { RowTarget } from "../../connectors/mysql/source/rows/rows.ts";
import { Block } from "../../src/core/model/block.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { endOfLog, readLog } from "../support/mysql/mysql-log.ts";
import { decodeLog, type Decoded, type DecodeOptions } from "../support/mysql/mysql-rows.ts";
import {
  freshMysqlDatabase,
  mysqlFlavours,
  mysqlUrl,
  ownMysql,
  type FreshMysqlDatabase,
  type MysqlFlavour,
} from "../support/run/services.ts";

interface Written {
  readonly events: readonly Buffer[];
  readonly decode: (options?: Partial<DecodeOptions>) => Decoded;
}

/** What these statements leave in the log. */
async function written(
  flavour: MysqlFlavour,
  database: FreshMysqlDatabase,
  statements: readonly string[],
): Promise<Written> {
  const from = await endOfLog(mysqlUrl(flavour));
  for (const statement of statements) await database.connection.query(statement);
  const events = await readLog(mysqlUrl(flavour), from);
  return { events, decode: (options) => decodeLog(events, { schema: database.name, ...options }) };
}

const typesOf = (events: readonly Buffer[]): number[] => events.map((event) => event[4] ?? 0);

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("of a statement that is too large for memory, whoever walks the log gets the beginning", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const server = new Server(parseMysqlUrl(mysqlUrl(flavour), ""), 1);
    const end = async (): Promise<bigint> => {
      const { file, position } = await endOfLog(mysqlUrl(flavour));
      return packPosition(server.names.learn(file), position);
    };
    const from = await end();
    await database.connection.query(`create table large (id int primary key) /* ${"x".repeat(9_000_000)} */`);
    await database.connection.query("create table small (id int primary key)");
    const seen: (readonly [made: string, isWhole: boolean])[] = [];
    const onDefinition = (_: bigint, { renames: [made] }: Definition, { isWhole, schema }: Statement): void => {
      if (made !== undefined && schema === database.name) seen.push([made.to.table, isWhole]);
    };
    await walkLog(server, from, await end(), { onDefinition }, AbortSignal.timeout(30_000));
    expect(seen).toEqual([
      ["large", false],
      ["small", true],
    ]);
  });

  test("inserts, updates and deletes carry old and new rows, numbered through the transaction", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      "create table t (id int primary key, v varchar(10))",
      "begin",
      "insert into t values (1, 'a'), (2, null)",
      "update t set v = 'b' where id = 1",
      "update t set id = 3 where id = 2",
      "delete from t where id = 1",
      "commit",
    ]);
    expect(decode().rows.map(({ op, index, before, after }) => ({ op, index, before, after }))).toEqual([
      { op: "c", index: 0, before: null, after: ["1", "a"] },
      { op: "c", index: 1, before: null, after: ["2", null] },
      { op: "u", index: 2, before: ["1", "a"], after: ["1", "b"] },
      { op: "u", index: 3, before: ["2", null], after: ["3", null] },
      { op: "d", index: 4, before: ["1", "b"], after: null },
    ]);
  });

  test("rows of tables that nobody captures are counted, whatever they hold", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    await using other = await freshMysqlDatabase(mysqlUrl(flavour));
    const all = `${other.name}.t`;
    const { decode } = await written(flavour, database, [
      "set sql_mode = ''",
      `create table ${all} (id int primary key, a decimal(20,5), b bit(9), c timestamp(3) null, d datetime(5), e time(1),
        f enum('x','y'), g set('x','y'), h varchar(300), i char(10), j blob, k longtext, l json, m geometry, n double, o year, p date)`,
      "create table t (id int primary key)",
      "begin",
      `insert into ${all} values (1, 1.5, 3, now(), now(), '01:02:03', 'x', 'x,y', repeat('h', 300), 'i', 'j', 'k', '[1]', point(1,1), 1, 2024, now()), (2, null, 1, null, now(), null, 'y', '', '', '', '', '', '{}', null, null, null, null)`,
      `update ${all} set n = 5`,
      "insert into t values (1)",
      `delete from ${all}`,
      "insert into t values (2)",
      "commit",
    ]);
    expect(decode().rows.map(({ index }) => index)).toEqual([4, 7]);
    expect(decode({ schema: other.name }).rows.map(({ index }) => index)).toEqual([0, 1, 2, 3, 5, 6]);
  });

  test("the log names columns, keys and types; generated and invisible columns are there", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      `create table \`a.b \`\`c\` (\`x y\` int not null, b varchar(50) character set latin1 not null, s int as (\`x y\` * 2) stored,
        v int as (\`x y\` * 3) virtual, hidden int invisible default 7, primary key (b, \`x y\`), key k ((lower(b))))`.replace(
        ", key k ((lower(b)))",
        flavour === "mysql" ? ", key k ((lower(b)))" : "",
      ),
      "insert into `a.b ``c` (`x y`, b) values (5, 'é')",
    ]);
    const { rows, maps } = decode();
    const table = rows[0]?.table;
    expect(table?.table).toBe("a.b `c");
    expect(table?.columns.map(({ name, native, nullable }) => [name, native, nullable])).toEqual([
      ["x y", "int", false],
      ["b", "varchar(50)", false],
      ["s", "int", true],
      ["v", "int", true],
      ["hidden", "int", true],
    ]);
    expect(rows[0]?.after).toEqual(["5", "é", "10", "15", "7"]);
    expect(maps[0]?.metadata.primaryKey).toEqual([1, 0]);
  });

  test("a table that changes its shape between statements is read in the shape of each", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      "create table t (id int primary key, a int, b int)",
      "insert into t values (1, 2, 3)",
      "alter table t drop column a, add column c varchar(5) first",
      "insert into t values ('x', 4, 5)",
      "rename table t to u",
      "insert into u values ('y', 6, 7)",
    ]);
    const found = decode().rows.map(({ table, after }) => [
      table.table,
      table.columns.map((c) => c.name).join(),
      after,
    ]);
    expect(found).toEqual([
      ["t", "id,a,b", ["1", "2", "3"]],
      ["t", "c,id,b", ["x", "4", "5"]],
      ["u", "c,id,b", ["y", "6", "7"]],
    ]);
  });

  test("one statement that changes several tables", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      "create table a (id int primary key, v int)",
      "create table b (id int primary key, v int)",
      "insert into a values (1, 1), (2, 2)",
      "insert into b values (1, 1), (2, 2)",
      "update a join b using (id) set a.v = 10, b.v = 20",
    ]);
    const updates = decode().rows.filter(({ op }) => op === "u");
    expect(updates.map(({ table, after }) => [table.table, ...(after ?? [])].join()).toSorted()).toEqual([
      "a,1,10",
      "a,2,10",
      "b,1,20",
      "b,2,20",
    ]);
  });

  test("what zero dates become is the table's choice, and their number is known", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+03:00'",
      "create table t (id int primary key, a date, b datetime(2), c timestamp null)",
      "insert into t values (1, '0000-00-00', '2023-02-31 10:11:12.5', '0000-00-00 00:00:00')",
      "insert into t values (2, '2024-02-29', '2024-12-31 10:11:12.5', '2024-07-01 03:00:01')",
    ]);
    const asNull = decode();
    expect(asNull.maps[0]?.plan?.metZeroDates.count).toBe(3);
    const after = (decoded: Decoded) => decoded.rows.map((row) => row.after?.slice(1));
    const real = ["2024-02-29", "2024-12-31 10:11:12.5", "2024-07-01 00:00:01+00"];
    expect(after(asNull)).toEqual([[null, null, null], real]);
    expect(after(decode({ zeroDates: "epoch" }))).toEqual([
      ["1970-01-01", "1970-01-01 00:00:00", "1970-01-01 00:00:00+00"],
      real,
    ]);
    expect(after(decode({ zeroDates: "text" }))).toEqual([
      ["0000-00-00", "2023-02-31 10:11:12.50", "0000-00-00 00:00:00"],
      ["2024-02-29", "2024-12-31 10:11:12.50", "2024-07-01 00:00:01"],
    ]);
  });

  test("a key that holds a date which does not exist is that date as a text, and neither a null nor another one", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+03:00'",
      "create table t (a date, b datetime(2), c timestamp(3), primary key (a, b, c))",
      "insert into t values ('0000-00-00', '2023-02-31 10:11:12.5', '0000-00-00 00:00:00')",
      "insert into t values ('2024-02-29', '2024-12-31 10:11:12.5', '2024-07-01 03:00:01')",
    ]);
    const rows = [
      ["0000-00-00", "2023-02-31 10:11:12.50", "0000-00-00 00:00:00.000+00"],
      ["2024-02-29", "2024-12-31 10:11:12.5", "2024-07-01 00:00:01+00"],
    ];
    for (const zeroDates of ["null", "epoch"] as const) {
      const decoded = decode({ zeroDates });
      expect(decoded.rows.map(({ after }) => after)).toEqual(rows);
    }
    expect(decode({ zeroDates: "text" }).rows[0]?.after).toEqual([...rows[0]!.slice(0, 2), "0000-00-00 00:00:00.000"]);
  });

  test.each(["MINIMAL", "NOBLOB"])("a session that writes %s images stops the stream", async (image) => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      "create table t (id int primary key, a int default 5, b text)",
      "insert into t values (1, 2, 'x')",
      `set binlog_row_image = '${image}'`,
      "update t set a = 3",
    ]);
    expect(() => decode()).toThrow(expect.objectContaining({ code: "MR2103", kind: "fatal" }));
    // Tables that nobody captures stop nothing.
    expect(decode({ schema: "elsewhere" }).rowCount).toBeGreaterThanOrEqual(2);
  });

  test("rows as large as the server sends them, over several packets", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { decode } = await written(flavour, database, [
      "create table t (id int primary key, b longblob)",
      "insert into t values (1, repeat(x'ab', 20000000)), (2, x'cd')",
    ]);
    const { rows } = decode();
    expect(rows[0]?.after?.[1]).toHaveLength(2 + 40_000_000);
    expect(rows[1]?.after).toEqual(["2", "\\xcd"]);
  });
});

describe("MySQL alone", () => {
  test("compressed transactions bring their rows, and everything else of theirs", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl("mysql"));
    const { events, decode } = await written("mysql", database, [
      "create table t (id int primary key, v text)",
      "set binlog_transaction_compression = on",
      "begin",
      `insert into t values ${Array.from({ length: 500 }, (_, i) => `(${i}, repeat('text', 50))`).join(",")}`,
      "delete from t where id = 7",
      "commit",
      "set binlog_transaction_compression = off",
      "insert into t values (7, 'again')",
    ]);
    expect(typesOf(events)).toContain(TRANSACTION_PAYLOAD);
    const { rows, controls } = decode();
    expect(rows).toHaveLength(502);
    expect(rows[500]).toMatchObject({ op: "d", index: 500, before: ["7", "text".repeat(50)] });
    // One of them inside.
    const outside = typesOf(events).filter((type) => type === XID).length;
    expect(controls.filter((type) => type === XID).length).toBeGreaterThan(outside);
  });

  test("a large compressed transaction is unpacked in parts of whole events", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl("mysql"));
    const { events } = await written("mysql", database, [
      "create table t (id int primary key, v longtext)",
      "set binlog_transaction_compression = on",
      "insert into t values (1, repeat('a', 3000000)), (2, repeat('b', 3000000)), (3, repeat('c', 12000000)), (4, 'd')",
    ]);
    const payload = events.findLast((event) => event[4] === TRANSACTION_PAYLOAD)!;
    const format = events.find((event) => event[4] === FORMAT_DESCRIPTION)!;
    const open = (): { decoder: Decoder; target: RowTarget } => {
      const out = new ByteWriter();
      const target = new RowTarget(out, new Block(out.bytes));
      const decoder = new Decoder(target, { zeroDates: () => "null" });
      decoder.take(format, 0, format.length);
      return { decoder, target };
    };
    for (const take of [
      (decoder: Decoder) => decoder.take(payload, 0, payload.length),
      (decoder: Decoder) => decoder.takeSpooled(spooled(payload)),
    ]) {
      const { decoder, target } = open();
      await using _ = decoder.events;
      const partRows: number[] = [];
      expect(take(decoder)).toBe(TOOK_PAYLOAD);
      do {
        let took = decoder.takeInner();
        for (; took !== TOOK_END; took = decoder.takeInner())
          if (decoder.needed !== undefined) decoder.needed.version = null;
        partRows.push(target.index);
      } while (await decoder.events.nextPart());
      expect(target.index).toBe(4);
      expect(partRows.length).toBeGreaterThan(2);
    }
    const flipped = Buffer.from(payload);
    flipped[100]! ^= 1;
    for (const bad of [spooled(flipped), spooled(payload, 1)]) {
      const { decoder } = open();
      await using _ = decoder.events;
      expect(() => decoder.takeSpooled(bad)).toThrow(expect.objectContaining({ code: "MR2023" }));
    }
  });

  test("partial updates of JSON are completed from the old document", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl("mysql"));
    const document = JSON.stringify({ a: { "k y": [1, 2, { z: "x".repeat(100) }] }, b: "y".repeat(200), n: 1, "": [] });
    const changes = [
      "j = json_set(j, '$.n', 2.50)",
      `j = json_set(j, '$.a."k y"[1]', json_object('new', 'v'), '$.b', 'short')`,
      "j = json_remove(j, '$.a.\"k y\"[0]')",
      "j = json_set(j, '$.\"größe\"', json_array(true, null)), k = json_set(k, '$[last]', 7)",
      "j = json_insert(j, '$.a.\"k y\"[99]', 'behind'), v = 2",
      "j = json_array_insert(j, '$.a.\"k y\"[0]', 'before')",
      "j = json_replace(j, '$.\"\"', cast('2024-02-29' as date)), k = null",
      "j = null",
    ];
    const states: (string | null)[][] = [];
    const from = await endOfLog(mysqlUrl("mysql"));
    const { connection } = database;
    await connection.query("create table t (id int primary key, v int, j json, k json)");
    await connection.query("insert into t values (1, 1, ?, '[1, 2, \"long enough to be left alone\"]')", [document]);
    await connection.query("set binlog_row_value_options = PARTIAL_JSON");
    for (const change of changes) {
      await connection.query(`update t set ${change}`);
      states.push(...(await database.texts("select id, v, j, k from t")));
    }
    const events = await readLog(mysqlUrl("mysql"), from);
    expect(typesOf(events).filter((type) => type === PARTIAL_UPDATE_ROWS).length).toBeGreaterThan(5);
    const { rows } = decodeLog(events, { schema: database.name });
    expect(rows.slice(1).map(({ after }) => after)).toEqual(states);
    expect(rows.slice(2).map(({ before }) => before)).toEqual(states.slice(0, -1));
    const whole = decodeLog(events, { schema: database.name }).rowCount;
    expect(decodeLog(events, { schema: "elsewhere" }).rowCount).toBe(whole);
  });

  test("a table without a primary key has the invisible one that the server makes", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl("mysql"));
    const { decode } = await written("mysql", database, [
      "set sql_generate_invisible_primary_key = on",
      "create table t (v int)",
      "insert into t values (5), (6)",
    ]);
    const { rows, maps } = decode();
    expect(maps[0]?.metadata.names).toEqual(["my_row_id", "v"]);
    expect(maps[0]?.metadata.primaryKey).toEqual([0]);
    expect(rows.map(({ after }) => after)).toEqual([
      ["1", "5"],
      ["2", "6"],
    ]);
  });

  test("indexes on expressions and on arrays of JSON add no columns", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl("mysql"));
    const { decode } = await written("mysql", database, [
      "create table t (id int primary key, j json, key e ((id + 1)), key m ((cast(j->'$.a' as unsigned array))))",
      `insert into t values (1, '{"a": [1, 2]}')`,
    ]);
    expect(decode().rows[0]?.after).toEqual(["1", '{"a": [1, 2]}']);
  });

  test("the columns of a key are known that has the beginning of one", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl("mysql"));
    const { decode } = await written("mysql", database, [
      "create table t (a int, b varchar(100), primary key (b(10), a))",
      "insert into t values (1, 'x')",
    ]);
    const { metadata } = decode().maps[0]!;
    expect(metadata.primaryKey).toEqual([1, 0]);
  });
});

test("MariaDB's compressed events are read as the others", async () => {
  await using database = await freshMysqlDatabase(mysqlUrl("mariadb"));
  const { connection } = database;
  const [[before = null] = []] = await database.texts("select @@global.log_bin_compress");
  await connection.query("set global log_bin_compress = on");
  try {
    const { events, decode } = await written("mariadb", database, [
      "create table t (id int primary key, v varchar(1000))",
      `insert into t values (1, repeat('a', 900)), (2, 'b')`,
      "update t set v = concat(v, 'c')",
      "delete from t",
    ]);
    expect(typesOf(events)).toEqual(expect.arrayContaining([166, 167, 168]));
    expect(decode().rows.map(({ op, before: old, after }) => [op, (old ?? after)?.[1]?.length])).toEqual([
      ["c", 900],
      ["c", 1],
      ["u", 900],
      ["u", 1],
      ["d", 901],
      ["d", 2],
    ]);
    expect(decode({ schema: "elsewhere" }).rowCount).toBe(decode().rowCount);
  } finally {
    await connection.query(`set global log_bin_compress = ${before}`);
  }
});

test("a log without names of columns is refused for tables that are captured, and for no others", async () => {
  await using server = await ownMysql("mariadb", { settings: { "binlog-row-metadata": "MINIMAL" } });
  await using database = await freshMysqlDatabase(server.url);
  const from = await endOfLog(server.url);
  await database.connection.query("create table t (id int primary key, v text)");
  await database.connection.query("insert into t values (1, 'x')");
  const events = await readLog(server.url, from);
  expect(() => decodeLog(events, { schema: database.name })).toThrow(expect.objectContaining({ code: "MR2103" }));
  expect(decodeLog(events, { schema: "elsewhere" }).rowCount).toBe(1);
});

/** As the socket brings it, in parts that end anywhere. */
function spooled(event: Buffer, missing = 0): SpooledEvent {
  const spool = new SpooledEvent(event.length, 256, true);
  const end = event.length - missing;
  for (let at = 0; at < end; at += 101) spool.append(event.subarray(at, Math.min(at + 101, end)));
  return spool;
}
