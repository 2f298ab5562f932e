/**
 * One program of the benchmark `library`, alone in its process: adds up the rows of `orders` from `first` to `last`. With a
 * journal it writes there what each transaction brought, with the position behind it, as its own database would have it.
 */
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import ZongJi from "@vlasky/zongji";
import { LogicalReplicationService, PgoutputPlugin, Wal2JsonPlugin } from "pg-logical-replication";
import { entriesOf, type Figures, type Task, type Who } from "./library-task.ts";
import type * as Library from "../src/library/millrace.ts";

/** As an application imports it: compiled. */
const LIBRARY = "../dist/millrace.js";

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by library.ts
const task = JSON.parse(process.argv[2] ?? "{}") as Task;

let count = 0;
let sum = 0;
let isComplete = false;
let ids: number[] = [];
let begun: { readonly ms: number; readonly cpu: NodeJS.CpuUsage } | undefined;

/** The start is not in the figures: they begin with the first row. */
function take(value: unknown): void {
  const id = Number(value);
  if (id >= task.last) isComplete = true;
  if (id < task.first) return;
  begun ??= { ms: performance.now(), cpu: process.cpuUsage() };
  count++;
  sum += id;
  if (task.journal !== undefined) ids.push(id);
}

/** What a crash left of a line was not stored. */
function opened(path: string): { readonly file: number; readonly position: string | null } {
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  if (whole !== text) truncateSync(path, Buffer.byteLength(whole));
  return { file: openSync(path, "a"), position: entriesOf(whole).at(-1)?.position ?? null };
}

const journal = task.journal === undefined ? null : opened(task.journal);

function store(position: string): void {
  if (journal === null) return;
  writeSync(journal.file, `${JSON.stringify({ position, ids })}\n`);
  ids = [];
}

async function millrace(): Promise<void> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- compiled from that file
  const { follow } = (await import(LIBRARY)) as typeof Library;
  const { source, state } = task;
  const keeps = journal === null ? { state } : { from: journal.position };
  const tables = [source.startsWith("mysql:") ? "bench.orders" : "public.orders"];
  const open: { done(): Promise<void> }[] = [];
  for await (const transaction of follow({ source, tables, snapshot: "none", ...keeps })) {
    for (const change of transaction.changes) if (change.op === "c") take(change.after?.["id"]);
    // As docs/library.md says it: several transactions are stored at once.
    open.push(transaction);
    if (transaction.hasNext && !isComplete) continue;
    store(transaction.position);
    await Promise.all(open.splice(0).map((one) => one.done()));
    if (isComplete) return;
  }
}

/** Of pgoutput's plugin, and of wal2json. */
interface Message {
  readonly tag?: string;
  readonly new?: { readonly id: unknown };
  readonly action?: string;
  readonly columns?: readonly { readonly value: unknown }[];
}

/** Acknowledges each transaction, with flow control. */
async function byService(plugin: PgoutputPlugin | Wal2JsonPlugin, isEnd: (message: Message) => boolean): Promise<void> {
  const service = new LogicalReplicationService(
    { connectionString: task.source },
    { acknowledge: { auto: false, timeoutSeconds: 0 }, flowControl: { enabled: true } },
  );
  await new Promise<void>((resolve, reject) => {
    service.on("error", reject);
    service.on("data", async (lsn, message) => {
      if (!isEnd(message)) return;
      store(lsn);
      await service.acknowledge(lsn);
      if (isComplete) resolve();
    });
    service.subscribe(plugin, task.from).catch(reject);
  });
  await service.stop();
}

const programs: Readonly<Record<Who, () => Promise<void>>> = {
  millrace,
  "pg-logical-replication, pgoutput": () =>
    byService(new PgoutputPlugin({ protoVersion: 1, publicationNames: [task.from] }), (message) => {
      if (message.tag === "insert") take(message.new?.id);
      return message.tag === "commit";
    }),
  "pg-logical-replication, wal2json": () =>
    byService(new Wal2JsonPlugin({ formatVersion: "2", addTables: "public.orders" }), (message) => {
      if (message.action === "I") take(message.columns?.[0]?.value);
      return message.action === "C";
    }),
  zongji: async () => {
    const { hostname, port, username } = new URL(task.source);
    const reader = new ZongJi({ host: hostname, port: Number(port), user: username, dateStrings: true, timezone: "Z" });
    const [filename = "", position = ""] = (journal?.position ?? task.from).split(":");
    await new Promise<void>((resolve, reject) => {
      reader.on("error", reject);
      reader.on("binlog", (event) => {
        if (event.getTypeName() === "Xid") {
          // Its own `position` moves behind the transaction with the event that follows.
          store(`${reader.options.filename}:${event.nextPosition}`);
          if (isComplete) resolve();
        } else if ("rows" in event && Array.isArray(event.rows))
          for (const row of event.rows) if ("id" in row) take(row.id);
      });
      const includeEvents = ["tablemap", "writerows", "rotate", "xid"];
      reader.start({ serverId: 77_001, filename, position: Number(position), includeEvents });
    });
    reader.stop();
  },
};

await programs[task.who]();
if (journal !== null) closeSync(journal.file);
const seconds = (performance.now() - (begun?.ms ?? 0)) / 1000;
const { user, system } = process.cpuUsage(begun?.cpu);
const { maxRSS } = process.resourceUsage();
const figures: Figures = { count, sum, seconds, cpuSeconds: (user + system) / 1e6, memoryMiB: maxRSS / 1024 };
process.stdout.write(JSON.stringify(figures));
process.exit(0);
