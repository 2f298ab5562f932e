/**
 * ClickHouse's engine (chDB, in this process) behind a small copy of the HTTP interface of clickhouse-server. It is not
 * the server: it has one login without a password, no grants to take away and no cluster, and it runs one statement at
 * a time. The statements, the storage and the errors are the engine's own.
 *
 *   node front.ts PORT DATA_FOLDER CHDB_FOLDER
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";

interface Session {
  query(sql: string, format?: string): string;
  queryAsync(sql: string, options: { format: string }): Promise<{ bytes(): Uint8Array }>;
  close(): void;
}

const [port = "", folder = "", chdb = ""] = process.argv.slice(2);
const bodies = join(folder, "bodies");
mkdirSync(bodies, { recursive: true });
const { Session: Engine }: { Session: new (path: string) => Session } = createRequire(join(chdb, "package.json"))(
  "chdb",
);
const session = new Engine(join(folder, "store"));

const LOGIN_FAILED = 516;
/** Of the addresses' parameters, those that are no settings. */
const NO_SETTINGS = new Set([
  "query",
  "database",
  "query_id",
  "user",
  "password",
  "default_format",
  "session_id",
  "session_check",
  "wait_end_of_query",
]);
/** The statuses that the server gives to some codes; all others are 500. */
const STATUSES: Readonly<Record<number, number>> = {
  60: 404,
  81: 404,
  62: 400,
  47: 404,
  497: 403,
  [LOGIN_FAILED]: 403,
};
/** How an insert names the form of its body. */
const STATEMENT = /^\s*insert\s+into\s[^]*?\sformat\s+\w+\s*?\n/i;
const STATEMENT_BYTES_MAX = 1024 * 1024;
const INSERT = /^(\s*insert\s+into\s[^]*?)\s+format\s+(\w+)\s*$/i;

let last: Promise<unknown> = Promise.resolve();
const applied = new Map<string, string>();

const server = createServer((request, response) => {
  void buffer(request).then(
    (body) => (last = last.then(async () => answer(request, body, response)).catch(() => response.destroy())),
    () => response.destroy(),
  );
});
server.listen(Number(port), "127.0.0.1");
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    void last.then(() => {
      session.close();
      process.exit(0);
    });
  });
}

async function answer(request: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://front");
  if (pathname === "/ping") {
    response.end("Ok.\n");
    return;
  }
  if (!isDefaultLogin(request, searchParams)) {
    refuse(response, LOGIN_FAILED, "Authentication failed. (AUTHENTICATION_FAILED)");
    return;
  }
  response.setHeader("X-ClickHouse-Query-Id", searchParams.get("query_id") ?? randomUUID());
  try {
    use(searchParams.get("database") ?? "default");
    setAll([...searchParams].filter(([name]) => !NO_SETTINGS.has(name)));
    const format = searchParams.get("default_format") ?? "TabSeparated";
    const result = await run(searchParams.get("query"), body, format);
    response.setHeader("X-ClickHouse-Summary", JSON.stringify({ result_bytes: String(result.length) }));
    response.end(result);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    refuse(response, Number(/Code: (\d+)/.exec(text)?.[1] ?? 1002), text.replace(/^[^]*?DB::Exception: /, ""));
  }
}

/** The rows of an insert may be binary, so the engine reads them from a file. They follow the statement's line. */
async function run(head: string | null, body: Buffer, format: string): Promise<Uint8Array> {
  const byteCount =
    head === null ? (STATEMENT.exec(body.toString("latin1", 0, STATEMENT_BYTES_MAX))?.[0].length ?? 0) : 0;
  const insert = INSERT.exec(head ?? body.toString("utf8", 0, byteCount));
  const rows = body.subarray(byteCount);
  if (insert === null || rows.length === 0) return await ask(head ?? body.toString(), format);
  const file = join(bodies, "body");
  writeFileSync(file, rows);
  try {
    return await ask(`${insert[1]} FROM INFILE '${file}' FORMAT ${insert[2]}`, format);
  } finally {
    rmSync(file);
  }
}

async function ask(sql: string, format: string): Promise<Uint8Array> {
  return (await session.queryAsync(sql, { format: /\bFORMAT\s+(\w+)\s*$/i.exec(sql)?.[1] ?? format })).bytes();
}

function use(database: string): void {
  session.query(`USE \`${database.replaceAll(/[\\`]/g, "\\$&")}\``);
}

/** Settings hold for one statement; only those that change are set. */
function setAll(wanted: readonly (readonly [string, string])[]): void {
  const next = new Map(wanted);
  for (const name of applied.keys()) {
    if (next.has(name)) continue;
    session.query(`SET ${name} = DEFAULT`);
    applied.delete(name);
  }
  for (const [name, value] of next) {
    if (applied.get(name) === value) continue;
    session.query(`SET ${name} = '${value.replaceAll(/[\\']/g, "\\$&")}'`);
    applied.set(name, value);
  }
}

function isDefaultLogin({ headers }: IncomingMessage, parameters: URLSearchParams): boolean {
  const basic = Buffer.from((headers.authorization ?? "").replace(/^Basic /, ""), "base64").toString();
  const user =
    headers["x-clickhouse-user"] ?? parameters.get("user") ?? (basic === "" ? "default" : basic.split(":")[0]);
  const password = headers["x-clickhouse-key"] ?? parameters.get("password") ?? basic.split(":")[1] ?? "";
  return user === "default" && password === "";
}

function refuse(response: ServerResponse, code: number, text: string): void {
  response.statusCode = STATUSES[code] ?? 500;
  response.setHeader("X-ClickHouse-Exception-Code", String(code));
  response.end(`Code: ${code}. DB::Exception: ${text}\n`);
}
