/**
 * Live query: a browser sees the open orders, and each change of them, as server-sent events. The rows are kept in memory, so
 * there is nothing to store: each start reads them again.
 *
 *   SOURCE=postgres://… PORT=8080 node live-query.ts       new EventSource("http://localhost:8080/")
 */
import { createServer, type ServerResponse } from "node:http";
import { follow, type Row } from "millrace";

const { SOURCE = "", PORT = "8080", NAME = "live" } = process.env;
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());

const open = new Map<string, Row>();
const clients = new Set<ServerResponse>();
const server = createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  clients.add(response);
  request.on("close", () => clients.delete(response));
  response.write(event("rows", [...open.values()]));
});
server.listen(Number(PORT), "127.0.0.1");

for await (const transaction of follow({
  source: SOURCE,
  tables: ["public.orders"],
  name: NAME,
  signal: stopping.signal,
})) {
  const changed: { put: Row[]; removed: string[] } = { put: [], removed: [] };
  for (const change of transaction.changes) {
    if (change.op === "t") changed.removed.push(...open.keys());
    if (change.op === "t" || change.op === "s" || change.op === "schema") continue;
    const key = idOf(change.key);
    const before = idOf(change.before ?? change.key);
    if (before !== key) remove(before);
    // What the log did not carry is as it was.
    const row = change.after === null ? null : { ...(open.get(before) ?? open.get(key)), ...change.after };
    if (row === null || row["status"] !== "open") remove(key);
    else {
      open.set(key, row);
      changed.put.push(row);
    }
  }
  for (const key of changed.removed) open.delete(key);
  if (changed.put.length + changed.removed.length > 0)
    for (const client of clients) client.write(event("change", changed));
  await transaction.done();

  function remove(key: string): void {
    if (open.has(key)) changed.removed.push(key);
  }
}
for (const client of clients) client.end();
server.close();

function event(name: string, data: unknown): string {
  const text = JSON.stringify(data, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value));
  return `event: ${name}\ndata: ${text}\n\n`;
}

function idOf({ id }: Row): string {
  return typeof id === "bigint" ? String(id) : JSON.stringify(id);
}
