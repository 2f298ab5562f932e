/**
 * Audit log: every change of every table as a line of a file, with the values before and after. The file's last line says where
 * to go on: rows and position are one write, and a line that a crash has cut off is removed at the next start.
 *
 *   SOURCE=mysql://… FILE=audit.ndjson node audit-log.ts
 */
import { open, readFile } from "node:fs/promises";
import { follow } from "millrace";

const { SOURCE = "", FILE = "audit.ndjson", NAME = "audit" } = process.env;
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());

const file = await open(FILE, "a");
const text = await readFile(FILE, "utf8");
const end = text.lastIndexOf('\n{"position":');
const whole = end < 0 ? "" : text.slice(0, text.indexOf("\n", end + 1) + 1);
await file.truncate(Buffer.byteLength(whole));
const from = end < 0 ? null : String(JSON.parse(whole.slice(end + 1)).position);

const transactions = follow({
  source: SOURCE,
  snapshot: "none",
  name: NAME,
  from,
  // So soon after its first start the program has a position, from which on nothing is missing.
  heartbeat: "1s",
  signal: stopping.signal,
  log: ({ level, message }) => level === "info" || console.error(message),
});
for await (const transaction of transactions) {
  const { changes, position, version, commitTime, isLast } = transaction;
  const lines = changes.map((change) => {
    const { op, source, schema } = change;
    const table = `${source.schema}.${source.table}`;
    const values = "after" in change ? { key: change.key, before: change.before, after: change.after } : {};
    return line({ op, table, commitTime, transaction: version, isLast, ...values, schema: schema.version });
  });
  await file.appendFile(`${lines.join("")}\n${line({ position })}`);
  await file.datasync();
  await transaction.done();
}
await file.close();

/** 64-bit integers keep their digits as texts. */
function line(entry: object): string {
  return `${JSON.stringify(entry, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value))}\n`;
}
