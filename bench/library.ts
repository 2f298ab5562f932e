/**
 * `follow` in a program of one loop that adds up a column, beside the clients that Node programs have without it in the same
 * loop: pg-logical-replication with its own pgoutput plugin and with wal2json, with flow control and an acknowledgement for
 * each transaction; zongji for MySQL. Each reads the same inserts in a fresh process; its figures begin with the first row.
 * Then each is killed while it keeps the ids of rows in a journal, together with its position where it has one.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { createConnection } from "mysql2/promise";
import { endOfLog } from "../scripts/services/servers/mysql/mysql-dump.ts";
import { mysql } from "../scripts/services/servers/mysql/mysql.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { connected } from "./clients.ts";
import { entriesOf, type Figures, type Task, type Who } from "./library-task.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median, type Ratio } from "./report.ts";
import { SETTINGS, until } from "./slot.ts";

const ROWS = 500_000;
const ROWS_PER_TRANSACTION = 100;
/** Lower ids are those of rows that do not count. */
const FIRST = 1_000_000;
/** More than one batch for each kill, at any scale. */
const KILLED_ROWS = 100_000;
const KILLS = 5;
const TARGET = 1.2;
const PROGRAM = join(import.meta.dirname, "library-program.ts");
const NAME = "bench_peer";

/** A database with `orders`, and who reads it. */
interface Place extends AsyncDisposable {
  readonly kind: string;
  readonly url: string;
  readonly peers: readonly Exclude<Who, "millrace">[];
  /** Ids of rows that do not count. */
  readonly spare: Iterator<number, never>;
  insert(first: number, count: number): Promise<void>;
  /** From where a peer reads what is inserted next. */
  fromNow(who: Who): Promise<string>;
}

export async function run({ scale, runs, log, takes }: BenchOptions): Promise<BenchReport> {
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  for (const [kind, start] of [
    ["postgres", startPostgres],
    ["mysql", startMysql],
  ] as const) {
    if (!takes(kind)) continue;
    await using place = await start();
    const measured = await measure(place, { rows: Math.round(ROWS * scale), runs, log });
    const killed = await kill(place, { rows: KILLED_ROWS, first: FIRST + (runs + 1) * ROWS, log });
    lines.push(...measured.lines, ...killed);
    ratios.push(...measured.ratios);
  }
  return { name: "library", lines, ratios };
}

async function measure(
  place: Place,
  { rows, runs, log }: { readonly rows: number; readonly runs: number; readonly log: BenchOptions["log"] },
): Promise<Pick<BenchReport, "lines" | "ratios">> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  const state = `sqlite:${join(folder, "follow.db")}`;
  const everybody: readonly Who[] = ["millrace", ...place.peers];
  const samples = new Map<Who, Figures[]>(everybody.map((who) => [who, []]));
  try {
    await begin(place, { state });
    for (let i = 0, first = FIRST; i < runs; i++, first += rows) {
      log(`library: ${place.kind}, writing ${rows} rows`);
      const from = new Map<Who, string>();
      for (const who of place.peers) from.set(who, await place.fromNow(who));
      await place.insert(first, rows);
      const sum = rows * first + (rows * (rows - 1)) / 2;
      for (const who of everybody) {
        const task = { who, source: place.url, from: from.get(who) ?? "", state, first, last: first + rows - 1 };
        const figures: Figures = JSON.parse(await output(program(task)));
        if (figures.count !== rows || figures.sum !== sum)
          throw new Error(`${who} read ${figures.count} of ${rows} rows`);
        samples.get(who)!.push(figures);
        log(`library: ${who} ${Math.round(rows / figures.seconds)} rows/s`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const rateOf = (who: Who): number => median(samples.get(who)!.map(({ seconds }) => rows / seconds));
  const lines = everybody.map((who): Line => {
    const of = (value: (one: Figures) => number) => median(samples.get(who)!.map(value));
    return {
      work: `inserts, ${place.kind}`,
      who,
      figures: {
        "rows/s": rateOf(who),
        "CPU µs a row": of(({ cpuSeconds }) => (cpuSeconds * 1e6) / rows),
        "memory MiB": of(({ memoryMiB }) => memoryMiB),
      },
    };
  });
  const ratios = place.peers.map((who): Ratio => {
    return { what: `against ${who}`, value: rateOf("millrace") / rateOf(who), target: TARGET, atLeast: true };
  });
  return { lines, ratios };
}

/** The same rows for each of them, which is killed five times on its way. */
async function kill(
  place: Place,
  { rows, first, log }: { readonly rows: number; readonly first: number; readonly log: BenchOptions["log"] },
): Promise<readonly Line[]> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  const lines: Line[] = [];
  try {
    for (const [i, who] of (["millrace", ...place.peers] as const).entries()) {
      const own = first + i * rows;
      const journal = join(folder, `${i}.journal`);
      const from = who === "millrace" ? "" : await place.fromNow(who);
      const task: Task = { who, source: place.url, from, state: "", first: own, last: own + rows - 1, journal };
      if (who === "millrace") await begin(place, { state: "", journal });
      await place.insert(own, rows);
      for (let killed = 0; killed < KILLS; killed++) {
        const before = sizeOf(journal);
        const running = program(task);
        const ended = once(running, "exit");
        await until(async () => sizeOf(journal) > before || running.exitCode !== null);
        if (running.exitCode !== null) throw new Error(`${who} came to its end before it was killed`);
        running.kill("SIGKILL");
        await ended;
      }
      await output(program(task));
      const ids = entriesOf(readFileSync(journal, "utf8")).flatMap((entry) => entry.ids.filter((id) => id >= own));
      const distinct = new Set(ids).size;
      const figures = { missing: rows - distinct, twice: ids.length - distinct };
      log(`library: ${who}, ${KILLS} kills: ${figures.missing} missing, ${figures.twice} twice`);
      lines.push({ work: `${KILLS} kills, ${place.kind}`, who, figures });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return lines;
}

/** The first start of `follow`, which sees nothing that was written before it. */
async function begin(place: Place, keeps: Pick<Task, "state" | "journal">): Promise<void> {
  const first = { who: "millrace", source: place.url, from: "", first: -Infinity, last: -Infinity } as const;
  const running = program({ ...first, ...keeps });
  const ended = output(running);
  // A row that came before its start is not seen.
  const writing = until(async () => {
    await place.insert(place.spare.next().value, 1);
    return running.exitCode !== null;
  });
  await Promise.all([ended, writing]);
}

function program(task: Task): ChildProcess {
  const text = JSON.stringify(task, (_key, value: unknown) => (value === -Infinity ? Number.MIN_SAFE_INTEGER : value));
  return spawn(process.execPath, [PROGRAM, text], { stdio: ["ignore", "pipe", "inherit"] });
}

async function output(running: ChildProcess): Promise<string> {
  const [told] = await Promise.all([text(running.stdout!), once(running, "exit")]);
  if (running.exitCode !== 0) throw new Error(`the program ended with ${running.exitCode ?? running.signalCode}`);
  return told;
}

function sizeOf(path: string): number {
  return existsSync(path) ? statSync(path).size : 0;
}

function* spareIds(): Generator<number, never> {
  for (let id = 1; ; id++) yield id;
}

async function startPostgres(): Promise<Place> {
  const server = await postgres.start({ own: true, settings: SETTINGS, extension: "wal2json" });
  const admin = await connected(server.url);
  await admin.query(ORDERS);
  await admin.query(`create publication ${NAME}_pgoutput for table orders`);
  const plugins = { "pg-logical-replication, pgoutput": "pgoutput", "pg-logical-replication, wal2json": "wal2json" };
  return {
    kind: "postgres",
    url: server.url,
    spare: spareIds(),
    peers: ["pg-logical-replication, pgoutput", "pg-logical-replication, wal2json"],
    insert: async (first, count) => {
      await insertOrders(admin, first, count, ROWS_PER_TRANSACTION);
      if (count > 1) await admin.query("checkpoint");
    },
    fromNow: async (who) => {
      if (who !== "pg-logical-replication, pgoutput" && who !== "pg-logical-replication, wal2json") return "";
      const slot = `${NAME}_${plugins[who]}`;
      await until(async () => {
        const { rows } = await admin.query("select from pg_replication_slots where slot_name = $1 and active", [slot]);
        return rows.length === 0;
      });
      await admin.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", [
        slot,
      ]);
      await admin.query("select pg_create_logical_replication_slot($1, $2)", [slot, plugins[who]]);
      return slot;
    },
    [Symbol.asyncDispose]: async () => {
      await admin.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function startMysql(): Promise<Place> {
  const server = await mysql.start({ own: true });
  const admin = await createConnection({ uri: server.url });
  await admin.query("create database bench character set utf8mb4");
  await admin.query("use bench");
  await admin.query(`create table orders (
    id bigint primary key, customer_id bigint not null, status varchar(16) not null, total decimal(12,2) not null,
    currency char(3) not null, items int not null, weight double, paid tinyint(1) not null, note text,
    email varchar(100) not null, created_at datetime(3) not null, updated_at timestamp(6) not null)`);
  return {
    kind: "mysql",
    url: server.url,
    spare: spareIds(),
    peers: ["zongji"],
    insert: async (first, count) => {
      for (let at = first; at < first + count; at += ROWS_PER_TRANSACTION) {
        const ids = Array.from({ length: Math.min(ROWS_PER_TRANSACTION, first + count - at) }, (_, i) => at + i);
        const rows = ids.map((n) => {
          const note = n % 3 === 0 ? "null" : `'a note that belongs to order ${n}'`;
          return `(${n},${(n * 7919) % 100_000},'${["new", "paid", "shipped", "done"][n % 4]!}',${n % 1000}.25,'EUR',${(n % 9) + 1},
            ${(n % 1000) / 7},${n % 2},${note},'customer${n % 100_000}@example.com',now(3),now(6))`;
        });
        await admin.query(`insert into orders values ${rows.join(",")}`);
      }
    },
    fromNow: async () => {
      const { file, position } = await endOfLog(server.url);
      return `${file}:${position}`;
    },
    [Symbol.asyncDispose]: async () => {
      await admin.end();
      await server[Symbol.asyncDispose]();
    },
  };
}
