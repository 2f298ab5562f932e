/**
 * Rows of MySQL and MariaDB from the log to blocks, with every value of 12 columns (one of them JSON, as text) and every
 * checksum: from events in memory, and from the live dump. Compared with the dump alone, undecoded; with `@vlasky/zongji`'s
 * own row path, with settings that lose nothing; and for MySQL with Debezium's engine, if it is available. Rates are rows
 * per second of this process's CPU time.
 */
import ZongJi from "@vlasky/zongji";
import { createConnection, type Connection } from "mysql2/promise";
import { columnsOf } from "../connectors/mysql/source/rows/columns.ts";
import { Decoder, TOOK_TABLE_NEEDED } from "../connectors/mysql/source/rows/decoder.ts";
import { RowTarget } from "../connectors/mysql/source/rows/rows.ts";
import { mariadb } from "../scripts/services/servers/mysql/mariadb.ts";
import { dumpLog, endOfLog, type LogPosition } from "../scripts/services/servers/mysql/mysql-dump.ts";
import { mysql } from "../scripts/services/servers/mysql/mysql.ts";
import { Block } from "../src/core/model/block.ts";
import { ByteWriter } from "../src/core/bytes.ts";
import { tableId } from "../src/core/model/schema.ts";
import { Debezium, DEBEZIUM } from "./debezium.ts";
import { DebeziumMysql } from "./debezium-mysql.ts";
import { median, type BenchOptions, type BenchReport, type Line } from "./report.ts";

const ROWS = 500_000;
const ROWS_PER_TRANSACTION = 100;
/** A block is cut at a transaction once it has this many bytes, as in a stream. */
const BLOCK_BYTES = 4 * 1024 * 1024;
const DATABASE = "bench";
const OWN_TARGET = 400_000;
const ZONGJI_TARGET = 2.5;

const ORDERS = `create table orders (
  id bigint primary key, customer_id bigint not null, status varchar(16) not null, total decimal(12,2) not null,
  currency char(3) not null, items int not null, weight double, paid tinyint(1) not null, note text,
  attributes json not null, created_at datetime(3) not null, updated_at timestamp(6) not null)`;

const DEBEZIUM_TARGET = 3;

type Who = "millrace, from memory" | "millrace, live" | "dump alone" | "zongji" | "debezium";
const ALL: readonly Who[] = ["millrace, from memory", "millrace, live", "dump alone", "zongji"];

interface Figures {
  readonly rowsPerCpuSecond: number;
  readonly rowsPerSecond: number;
}

interface Place {
  readonly url: string;
  readonly from: LogPosition;
  readonly rows: number;
  readonly events: readonly Buffer[];
  /** For MySQL only: MariaDB needs another connector. */
  readonly debezium: DebeziumMysql | undefined;
}

export async function run({ scale, runs, log }: BenchOptions): Promise<BenchReport> {
  const lines: Line[] = [];
  const ratios: BenchReport["ratios"][number][] = [];
  await using engine = await Debezium.provide(log);
  for (const definition of [mysql, mariadb]) {
    await using server = await definition.start({ own: true });
    const peer = definition === mysql ? engine : undefined;
    const place = await load(definition.name, server.url, Math.round(ROWS * scale), peer, log);
    await using debezium = place.debezium;
    const everybody: readonly Who[] = debezium === undefined ? ALL : [...ALL, "debezium"];
    const results = new Map<Who, Figures[]>();
    for (let i = 0; i < runs; i++) {
      for (const who of everybody) {
        const figures = await measured(place, who);
        results.set(who, [...(results.get(who) ?? []), figures]);
        log(`capture-mysql: ${definition.name}, ${who}: ${Math.round(figures.rowsPerCpuSecond)} rows per CPU second`);
      }
    }
    const of = (who: Who, name: keyof Figures): number => median((results.get(who) ?? []).map((each) => each[name]));
    for (const who of everybody) {
      const figures = { "rows/CPU s": of(who, "rowsPerCpuSecond"), "rows/s": of(who, "rowsPerSecond") };
      lines.push({ work: definition.name, who: who === "debezium" ? DEBEZIUM : who, figures });
    }
    const ours = of("millrace, live", "rowsPerCpuSecond");
    ratios.push(
      { what: `${definition.name}: rows per CPU second`, value: ours, target: OWN_TARGET, atLeast: true },
      {
        what: `${definition.name}: against zongji's row path`,
        value: ours / of("zongji", "rowsPerCpuSecond"),
        target: ZONGJI_TARGET,
        atLeast: true,
      },
    );
    if (debezium === undefined) continue;
    ratios.push({
      what: `${definition.name}: rows/s, against Debezium's engine`,
      value: of("millrace, live", "rowsPerSecond") / of("debezium", "rowsPerSecond"),
      target: DEBEZIUM_TARGET,
      atLeast: true,
    });
  }
  return { name: "capture-mysql", lines, ratios };
}

async function load(
  name: string,
  url: string,
  rows: number,
  engine: Debezium | undefined,
  log: BenchOptions["log"],
): Promise<Place> {
  log(`capture-mysql: writing ${rows} rows to ${name}`);
  const connection = await createConnection({ uri: url });
  await connection.query(`create database ${DATABASE} character set utf8mb4`);
  await connection.query(`use ${DATABASE}`);
  await connection.query(ORDERS);
  const debezium = engine === undefined ? undefined : await DebeziumMysql.prime(engine, url, connection, DATABASE);
  const from = await endOfLog(url);
  for (let first = 0; first < rows; first += ROWS_PER_TRANSACTION) {
    await insertOrders(connection, first, Math.min(ROWS_PER_TRANSACTION, rows - first));
  }
  await connection.end();
  const events: Buffer[] = [];
  await dumpLog(url, from, (bytes, start, end) => events.push(Buffer.from(bytes.subarray(start, end))));
  return { url, from, rows, events, debezium };
}

async function insertOrders(connection: Connection, first: number, count: number): Promise<void> {
  const values = Array.from({ length: count }, (_, i) => {
    const id = first + i;
    const note = id % 3 === 0 ? "null" : `'a note that belongs to order ${id}'`;
    const attributes = `{"source": "web", "items": [${id % 7}, ${id % 11}], "gift": ${id % 2 === 0}, "weight": ${(id % 1000) / 8}}`;
    const status = ["new", "paid", "shipped", "done"][id % 4];
    const created = `date_sub(now(3), interval ${id % 100_000} second)`;
    return `(${id},${(id * 7919) % 100_000},'${status}',${(id * 31) % 100_000}.${10 + (id % 90)},'EUR',${(id % 9) + 1},${(id % 1000) / 7},${id % 2},${note},'${attributes}',${created},now(6))`;
  });
  await connection.query(`insert into orders values ${values.join(",")}`);
}

async function measured(place: Place, who: Who): Promise<Figures> {
  if (who === "debezium") return await byDebezium(place);
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  const count = await rowsBy(place, who);
  const cpu = process.cpuUsage(cpuBefore);
  if (count !== place.rows) throw new Error(`${count} of ${place.rows} rows came by ${who}`);
  return {
    rowsPerCpuSecond: count / ((cpu.user + cpu.system) / 1e6),
    rowsPerSecond: count / ((performance.now() - startedMs) / 1000),
  };
}

/** A separate process, whose figures begin with its first row. */
async function byDebezium({ debezium, rows }: Place): Promise<Figures> {
  const { seconds, cpuSeconds } = await debezium!.count(rows, DATABASE);
  return { rowsPerSecond: rows / seconds, rowsPerCpuSecond: rows / cpuSeconds };
}

async function rowsBy(place: Place, who: Exclude<Who, "debezium">): Promise<number> {
  switch (who) {
    case "millrace, from memory": {
      const reader = new Reader();
      for (const event of place.events) reader.take(event, 0, event.length);
      return reader.finish();
    }
    case "millrace, live": {
      const reader = new Reader();
      await dumpLog(place.url, place.from, (bytes, start, end) => reader.take(bytes, start, end));
      return reader.finish();
    }
    case "dump alone": {
      let byteCount = 0;
      await dumpLog(place.url, place.from, (_bytes, start, end) => (byteCount += end - start));
      return byteCount > place.rows ? place.rows : 0;
    }
    case "zongji":
      return byZongji(place);
    default:
      return who satisfies never;
  }
}

/** Does with events what a stream does, but without a socket: fills blocks and releases them. */
class Reader {
  readonly #out = new ByteWriter(BLOCK_BYTES * 2);
  readonly #target = new RowTarget(this.#out, new Block(this.#out.bytes, 64 * 1024));
  readonly #decoder = new Decoder(this.#target, { zeroDates: () => "null" });
  rowCount = 0;

  constructor() {
    this.#next();
  }

  take(bytes: Buffer, start: number, end: number): void {
    while (this.#decoder.take(bytes, start, end) === TOOK_TABLE_NEEDED) this.#resolve();
    if (this.#out.length >= BLOCK_BYTES) this.#next();
  }

  #resolve(): void {
    const map = this.#decoder.needed!;
    const { schema, table } = map;
    map.version = {
      id: tableId(schema, table),
      schema,
      table,
      dialect: "mysql",
      relation: 1,
      columns: columnsOf(map, { key: ["id"], zeroDates: "null" }),
      key: map.metadata.primaryKey,
      deferrableKey: false,
      version: 1,
      since: { epoch: 1, commit: 0n, index: 0 },
      fingerprint: "",
    };
  }

  #next(): void {
    const { block } = this.#target;
    this.rowCount += block.count;
    this.#out.reset();
    block.reset(this.#out.bytes);
    this.#target.adopt(block, block.transactions.add(1n, 1n, 0n, 0));
  }

  finish(): number {
    this.#next();
    return this.rowCount;
  }
}

function byZongji({ url, from, rows }: Place): Promise<number> {
  const { hostname, port, username } = new URL(url);
  return new Promise((resolve, reject) => {
    // With settings that lose nothing: dates and JSON as texts, in UTC.
    const reader = new ZongJi({
      host: hostname,
      port: Number(port),
      user: username,
      dateStrings: true,
      jsonStrings: true,
      timezone: "Z",
    });
    let count = 0;
    reader.on("error", reject);
    reader.on("binlog", (event: unknown) => {
      if (typeof event !== "object" || event === null || !("rows" in event) || !Array.isArray(event.rows)) return;
      count += event.rows.length;
      if (count < rows) return;
      reader.stop();
      resolve(count);
    });
    reader.start({
      serverId: 77_001,
      filename: from.file,
      position: from.position,
      includeEvents: ["tablemap", "writerows", "rotate"],
    });
  });
}
