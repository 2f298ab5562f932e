/** How the source is reached: TLS by sslmode, logins, poolers, and what is said when it can't be. */
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { factory } from "../../connectors/postgres/sink/config.ts";
import { sinkError } from "../../connectors/postgres/sink/errors.ts";
import { classify } from "../../connectors/postgres/source/errors.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { connect } from "../../src/postgres/connect.ts";
import { learnFolder, roomFix } from "../../src/postgres/data-folder.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { openState } from "../../src/state/open.ts";
import { classify as ofState } from "../../src/state/postgres/errors.ts";
import { freePort } from "../../scripts/services/processes/port.ts";
import { selfSigned } from "../support/network/certificate.ts";
import { listening } from "../support/network/listening.ts";
import { checkSource, createLog, Follower, never, openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase, ownPostgres, postgres, type FreshDatabase } from "../support/run/services.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";

const CANARY = "canary-3f1c-secret";

function withUrl(url: string, change: (url: URL) => void): string {
  const changed = new URL(url);
  change(changed);
  return changed.href;
}

/** Runs capture over that URL and says whether the server saw it encrypted. */
async function captured(database: FreshDatabase, url: string): Promise<boolean> {
  await using source = await openSource(database, { url });
  const log = await createLog(source, true);
  await log.copy!.close();
  await using follower = await Follower.from(source, log.position);
  await database.query("insert into t select generate_series(1, 20000)");
  expect(await follower.catchUp(source)).toHaveLength(20_000);
  const { rows } = await database.query<{ ssl: boolean }>(
    `select s.ssl from pg_stat_ssl s join pg_replication_slots r on r.active_pid = s.pid where r.slot_name = $1`,
    [`millrace_${database.name}`],
  );
  await database.query("truncate t");
  await follower[Symbol.asyncDispose]();
  await expect
    .poll(async () => {
      const gone = await database.query("select 1 from pg_replication_slots where slot_name = $1 and active", [
        `millrace_${database.name}`,
      ]);
      return gone.rowCount;
    })
    .toBe(0);
  await database.query("select pg_drop_replication_slot($1)", [`millrace_${database.name}`]);
  return rows[0]!.ssl;
}

test("sslmode means what it means to psql", async () => {
  await using named = await selfSigned(["localhost", "127.0.0.1"]);
  await using other = await selfSigned(["localhost", "127.0.0.1"]);
  await using server = await ownPostgres({ tls: named });
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key)");
  const over = (parameters: Record<string, string>): string =>
    withUrl(database.url, (url) => {
      for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    });
  const trusted = { sslrootcert: named.certificatePath };
  expect(await captured(database, over({ sslmode: "disable" }))).toBe(false);
  expect(await captured(database, over({}))).toBe(true);
  expect(await captured(database, over({ sslmode: "require" }))).toBe(true);
  expect(await captured(database, over({ sslmode: "verify-full", ...trusted }))).toBe(true);
  const refused = { sslrootcert: other.certificatePath };
  for (const sslmode of ["verify-ca", "verify-full", "require"]) {
    await expect(captured(database, over({ sslmode, ...refused }))).rejects.toMatchObject({
      code: "MR2003",
      kind: "blocked",
    });
  }
});

test("the server's name counts with verify-full alone", async () => {
  await using certificate = await selfSigned(["db.example"]);
  await using server = await ownPostgres({ tls: certificate });
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key)");
  const over = (sslmode: string): string =>
    withUrl(database.url, (url) => {
      url.searchParams.set("sslmode", sslmode);
      url.searchParams.set("sslrootcert", certificate.certificatePath);
    });
  expect(await captured(database, over("verify-ca"))).toBe(true);
  await expect(captured(database, over("verify-full"))).rejects.toMatchObject({ code: "MR2003", kind: "blocked" });
});

test("a server without TLS is used plainly by prefer alone", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  expect(
    await captured(
      database,
      withUrl(database.url, (url) => url.searchParams.set("sslmode", "prefer")),
    ),
  ).toBe(false);
  const strict = withUrl(database.url, (url) => url.searchParams.set("sslmode", "require"));
  await expect(captured(database, strict)).rejects.toMatchObject({ code: "MR2003", kind: "blocked" });
});

test("a wrong password waits for somebody, and is in no part of the error", async () => {
  await using server = await ownPostgres({ auth: ["host all all 127.0.0.1/32 scram-sha-256"] });
  const database = { name: "nowhere", url: server.url };
  const url = withUrl(server.url, (u) => {
    u.password = CANARY;
  });
  const source = await openSource(database, { url });
  const error: unknown = await createLog(source).catch((e: unknown) => e);
  expect(error).toMatchObject({ code: "MR2002", kind: "blocked" });
  expect(everything(error)).not.toContain(CANARY);
  expect(JSON.stringify(await checkSource(database, { url }))).not.toContain(CANARY);
});

test("channel_binding=require means what it means to psql: no password in clear, no login that is not bound", async () => {
  await using named = await selfSigned(["localhost", "127.0.0.1"]);
  const tip = async (auth: string, parameters: Record<string, string> = {}) => {
    const line = auth.replace(" all all ", " all reader ");
    await using server = await ownPostgres({ tls: named, auth: [line, "host all postgres 127.0.0.1/32 trust"] });
    await using database = await freshDatabase(server);
    await database.query(`create role reader superuser login password '${CANARY}'`);
    const url = withUrl(database.url, (changed) => {
      changed.username = "reader";
      changed.password = CANARY;
      for (const [name, value] of Object.entries({ channel_binding: "require", sslmode: "require", ...parameters }))
        changed.searchParams.set(name, value);
    });
    await using source = await openSource(database, { url });
    return await source.log.tip(never);
  };
  expect(await tip("hostssl all all 127.0.0.1/32 scram-sha-256")).toBeGreaterThan(0n);
  const refused = { code: "MR2003", message: expect.stringContaining("channel_binding=require forbids") };
  for (const method of ["password", "trust"])
    await expect(tip(`hostssl all all 127.0.0.1/32 ${method}`)).rejects.toMatchObject(refused);
  const disabled = { sslmode: "disable" };
  await expect(tip("host all all 127.0.0.1/32 password", disabled)).rejects.toMatchObject({ code: "MR2004" });
});

test("of a full disk the data directory is named that the server told last, to whichever role", async () => {
  await using database = await freshDatabase();
  const role = `role_${database.name}`;
  await database.query(`create role ${role} login`);
  try {
    const address = parsePostgresUrl(database.url);
    const login = async (user: string): Promise<string> => {
      const { client } = await connect({ ...address, user }, { signal: never });
      await client.end();
      return roomFix(address, "");
    };
    const { rows } = await database.query<{ folder: string }>("select current_setting('data_directory') as folder");
    // Of the server that this one has replaced.
    learnFolder(address, { folder: "/former/data", started: "before" });
    expect(await login(role)).toContain("the server's data directory");
    expect(await login(address.user)).toContain(rows[0]!.folder);
    expect(await login(role)).toContain(rows[0]!.folder);
  } finally {
    await database.query(`drop role ${role}`);
  }
});

test("a database that does not exist, and a server that is not there", async () => {
  await using database = await freshDatabase();
  await using missing = await openSource(database, {
    url: withUrl(database.url, (url) => (url.pathname = "/nowhere")),
  });
  await expect(missing.log.tip(never)).rejects.toMatchObject({ code: "MR2002", kind: "blocked" });
  await using nobody = await openSource(database, { url: withUrl(database.url, (url) => (url.port = "1")) });
  await expect(nobody.log.tip(never)).rejects.toMatchObject({ code: "MR2001", kind: "retryable" });
});

test("a database whose encoding can't be turned into UTF8 is told with the way out", async () => {
  await using database = await freshDatabase(postgres(), "MULE_INTERNAL");
  const hint = expect.stringContaining("MULE_INTERNAL");
  await using source = await openSource(database);
  await expect(source.log.tip(never)).rejects.toMatchObject({ code: "MR2027", kind: "fatal", hint });
  await expect(openState(database.url, { name: "shop" })).rejects.toMatchObject({ code: "MR1216", hint });
  const context = { name: "replica", daemon: "shop", folder: "/", options: { url: database.url, ...DEFAULT_FORM } };
  expect(await factory.check(context, never)).toMatchObject([{ level: "error", fix: hint }]);
});

test("a pooler is told from a server by its refusal of the replication parameter", async () => {
  // What PgBouncer answers to a startup message with a parameter that it does not know.
  const pooler = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      const fields = Buffer.from("SFATAL\0C08P01\0Munsupported startup parameter: replication\0\0");
      const head = Buffer.alloc(5);
      head[0] = 0x45;
      head.writeInt32BE(4 + fields.length, 1);
      socket.end(Buffer.concat([head, fields]));
    });
  });
  const port = await freePort();
  await new Promise<void>((resolve) => pooler.listen(port, "127.0.0.1", resolve));
  try {
    await using database = await freshDatabase();
    const url = withUrl(database.url, (u) => {
      u.port = String(port);
      u.searchParams.set("sslmode", "disable");
    });
    await using source = await openSource(database, { url });
    await expect(createLog(source)).rejects.toMatchObject({ code: "MR2004", kind: "fatal" });
  } finally {
    pooler.close();
  }
});

function everything(error: unknown): string {
  const parts: string[] = [];
  for (let e = error; e instanceof Error; e = e.cause)
    parts.push(e.message, e.stack ?? "", JSON.stringify(e), String(findMillraceError(e)?.hint));
  return parts.join("\n");
}

const GREETINGS = {
  http: "HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello",
  ssh: "SSH-2.0-OpenSSH_9.2p1\r\n",
  bytes: Buffer.from(Array.from({ length: 300 }, (_, i) => (i * 37) % 256)),
};

test.each(Object.entries(GREETINGS))("a port at which another program answers: %s", async (spoken, greeting) => {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy()).resume();
    if (spoken === "http") socket.once("data", () => socket.end(greeting));
    else socket.write(greeting);
  });
  await using opened = await listening(server);
  for (const mode of ["disable", "prefer", "require"]) {
    const address = parsePostgresUrl(`postgres://u:p@${opened.host}/d?connect_timeout=2&sslmode=${mode}`);
    const failure = await connect(address, { signal: AbortSignal.timeout(10_000) }).catch((error: unknown) => error);
    for (const { kind, message } of [
      classify(failure, "connecting"),
      sinkError(failure, "connecting"),
      ofState(failure),
    ])
      expect({ mode, message, waits: kind === "retryable" || kind === "blocked" }).toMatchObject({ waits: true });
  }
});
