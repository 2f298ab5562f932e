/** The complete programs of docs/library.md do what they say, on real servers. exactly-once.ts: test/fault/library. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { Example } from "../../support/library/example.ts";
import {
  type FreshDatabase,
  freshDatabase,
  freshKeyPrefix,
  freshMysqlDatabase,
  mysqlFlavours,
  mysqlUrl,
  redisUrl,
} from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

const following = (source: FreshDatabase, program: Example) =>
  eventually(async () => {
    expect(program.exit, program.output).toBeNull();
    // A slot that is being made has no such position yet.
    const { rowCount } = await source.query(
      "select from pg_replication_slots where database = $1 and active and confirmed_flush_lsn is not null",
      [source.name],
    );
    return rowCount === 1;
  });

test("cache invalidation", async () => {
  await using source = await freshDatabase();
  await using keys = freshKeyPrefix();
  using folder = temporaryFolder();
  await source.query("create table products (id int primary key, name text)");
  const PREFIX = `${keys.prefix}product:`;
  const environment = {
    SOURCE: source.url,
    REDIS: redisUrl(),
    PREFIX,
    NAME: source.name,
    STATE: `sqlite:${folder.file("s.db")}`,
  };
  const cache = new Redis(redisUrl());
  try {
    await cache.mset(`${PREFIX}1`, "one", `${PREFIX}2`, "two");
    await using program = new Example("cache-invalidation.ts", environment);
    await following(source, program);
    await source.query("insert into products values (1, 'a')");
    await eventually(async () => expect(await cache.mget(`${PREFIX}1`, `${PREFIX}2`)).toEqual([null, "two"]));
    expect(await program.end(), program.output).toBe(0);
  } finally {
    cache.disconnect();
  }
});

test("outbox", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  const got: { readonly key: unknown; readonly body: unknown }[] = [];
  let refused = 1;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const isRefused = refused-- > 0;
      if (!isRefused)
        got.push({ key: request.headers["idempotency-key"], body: JSON.parse(Buffer.concat(chunks).toString()) });
      response.writeHead(isRefused ? 503 : 204).end();
    });
  }).listen(0, "127.0.0.1");
  try {
    await source.query(
      "create table outbox (id int primary key, payload jsonb not null); insert into outbox values (1, '{\"n\":1}')",
    );
    await eventually(() => server.listening);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it listens on a port
    const TARGET = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const environment = { SOURCE: source.url, TARGET, NAME: source.name, STATE: `sqlite:${folder.file("s.db")}` };
    await using program = new Example("outbox.ts", environment);
    await eventually(() => expect(got, program.output).toHaveLength(1));
    await source.query("begin; insert into outbox values (2, '{\"n\":2}'), (3, '{\"n\":3}'); commit");
    await eventually(() => expect(got.map(({ body }) => body)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]));
    expect(new Set(got.map(({ key }) => key)).size).toBe(3);
    expect(await program.end(), program.output).toBe(0);
  } finally {
    server.close();
  }
});

for (const flavour of mysqlFlavours)
  test(`audit log of ${flavour}`, flavour === "mysql" ? {} : { tags: "heavy" }, async () => {
    await using source = await freshMysqlDatabase(mysqlUrl(flavour));
    using folder = temporaryFolder();
    const url = new URL(mysqlUrl(flavour));
    url.pathname = `/${source.name}`;
    await source.connection.query("create table accounts (id bigint primary key, cents bigint not null)");
    const FILE = folder.file("audit.ndjson");
    const environment = { SOURCE: url.href, FILE, NAME: source.name };
    const lines = () =>
      readFileSync(FILE, "utf8")
        .split("\n")
        .filter((line) => line.includes('"op"') && !line.includes('"schema",'))
        .map((line): Record<string, unknown> => JSON.parse(line));
    const commands = [
      "insert into accounts values (1, 9007199254740993)",
      "update accounts set cents = 5",
      "delete from accounts",
    ];
    for (const [i, sql] of commands.entries()) {
      await using program = new Example("audit-log.ts", environment);
      if (i === 0) await eventually(() => expect(readFileSync(FILE, "utf8"), program.output).toContain("position"));
      await source.connection.query(sql);
      await eventually(() => expect(lines(), program.output).toHaveLength(i + 1), { withinMs: 15_000 });
      await program.end(i === 1 ? "SIGKILL" : "SIGTERM");
    }
    const rich = { id: "1", cents: "9007199254740993" };
    const poor = { id: "1", cents: "5" };
    expect(lines()).toMatchObject([
      { op: "c", table: `${source.name}.accounts`, before: null, after: rich },
      { op: "u", before: rich, after: poor },
      { op: "d", before: poor, after: null },
    ]);
  });

test("live query", async () => {
  await using source = await freshDatabase();
  await source.query(
    "create table orders (id int primary key, status text); insert into orders values (1, 'open'), (2, 'paid')",
  );
  const probe = createServer().listen(0, "127.0.0.1");
  await eventually(() => probe.listening);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it listens on a port
  const PORT = String((probe.address() as AddressInfo).port);
  probe.close();
  await using program = new Example("live-query.ts", { SOURCE: source.url, PORT, NAME: source.name });
  await following(source, program);
  const ending = new AbortController();
  const answer = await eventually(() => fetch(`http://127.0.0.1:${PORT}/`, { signal: ending.signal }));
  let text = "";
  const reading = (async () => {
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) text += chunk;
  })().catch(() => undefined);
  await eventually(() => expect(text, program.output).toContain('"id":1'));
  await source.query("update orders set status = case id when 1 then 'paid' else 'open' end");
  await eventually(() =>
    expect(text).toContain('event: change\ndata: {"put":[{"id":2,"status":"open"}],"removed":["1"]}'),
  );
  ending.abort();
  await reading;
  expect(await program.end(), program.output).toBe(0);
});
