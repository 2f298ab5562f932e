/**
 * A login may not touch one table's place in a target any more: the table is suspended there, over a restart too, the others go
 * on, and it is read again when it may. Of Kafka's topics integration/kafka-login has it.
 * @module-tag heavy
 */
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { type Asked, httpGateway, type Reply } from "../../support/network/http-gateway.ts";
import { clickhouseUrl, elasticsearchUrl, freshBucket, freshDatabase, redisUrl } from "../../support/run/services.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { refusal } from "../../support/warehouses/clickhouse-gateway.ts";
import { searchCall } from "../../support/caches/search-rows.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = `create table held (id int primary key, n int); create table free (id int primary key, n int);
  insert into held select g, 0 from generate_series(1, 50) g; insert into free select g, 0 from generate_series(1, 50) g`;
const HELD = "held";

/** A kind of sink, and how its login loses a table, and gets it back. */
interface Door extends AsyncDisposable {
  readonly change: (options: object) => object;
  set(pipeline: RunningPipeline, isDenied: boolean): Promise<void>;
}

/** Servers of the tests have no users: what stands before them refuses as they do. */
async function gate(
  target: string,
  refuse: (asked: Asked) => Promise<Reply | null>,
  change: (url: string) => (options: object) => object,
): Promise<Door> {
  let isShut = false;
  const gateway = await httpGateway(
    target,
    async (asked) => (isShut ? await refuse(asked) : null) ?? (await asked.pass()),
  );
  return {
    change: change(gateway.url),
    set: async (_, isDenied) => void (isShut = isDenied),
    [Symbol.asyncDispose]: () => gateway[Symbol.asyncDispose](),
  };
}

const SECURITY = { type: "security_exception", reason: "action is unauthorized for user [millrace] on indices" };
const JSON_ANSWER = { "content-type": "application/json" };

function indicesIn(text: string): Readonly<Record<string, { readonly aliases: object }>> {
  return JSON.parse(text);
}

interface BulkAnswer {
  readonly items: readonly object[];
}

/** As Elasticsearch's own security: of a bulk each item by itself, of another request the whole. */
async function searchRefusal({ path, body, pass }: Asked): Promise<Reply | null> {
  const { text: known } = await searchCall(elasticsearchUrl(), "GET", `/*public.${HELD}-*/_alias`);
  const names = Object.entries(indicesIn(known)).flatMap(([index, { aliases }]) => [index, ...Object.keys(aliases)]);
  const isHeld = (text: string): boolean =>
    text.includes(`public.${HELD}`) ||
    names.some((name) => text.includes(name) || text.includes(encodeURIComponent(name)));
  const denied = { status: 403, headers: JSON_ANSWER, body: JSON.stringify({ error: SECURITY, status: 403 }) };
  if (!path.includes("/_bulk")) {
    if (path.includes("/_aliases")) return isHeld(body.toString()) ? denied : null;
    if (!isHeld(path)) return null;
    if (!path.includes("ignore_unavailable=true")) return denied;
    // What may not be seen is left out.
    const reply = await pass();
    const found: object = JSON.parse(reply.body.toString());
    const seen = Object.entries(found).filter(([index]) => !isHeld(index));
    return { status: 200, headers: JSON_ANSWER, body: JSON.stringify(Object.fromEntries(seen)) };
  }
  const lines = body.toString().trimEnd().split("\n");
  const items: { readonly lines: readonly string[]; readonly isHeld: boolean }[] = [];
  for (let i = 0; i < lines.length;) {
    const size = lines[i]!.startsWith('{"delete"') ? 1 : 2;
    items.push({ lines: lines.slice(i, i + size), isHeld: isHeld(path) || isHeld(lines[i]!) });
    i += size;
  }
  if (items.every((one) => !one.isHeld)) return null;
  const passed = items.filter((one) => !one.isHeld);
  let answered: readonly object[] = [];
  if (passed.length > 0) {
    const reply = await pass({ body: Buffer.from(`${passed.flatMap((one) => one.lines).join("\n")}\n`) });
    const { items: done }: BulkAnswer = JSON.parse(reply.body.toString());
    answered = done;
  }
  let at = 0;
  const refused = { index: { _index: "", status: 403, error: SECURITY } };
  const all = items.map((one) => (one.isHeld ? refused : answered[at++]!));
  return { status: 200, headers: JSON_ANSWER, body: JSON.stringify({ took: 1, errors: true, items: all }) };
}

/** As the server does without a grant: its lists leave the table out, and every other statement is refused. */
async function columnsRefusal({ body, pass }: Asked): Promise<Reply | null> {
  const sql = body.toString("latin1");
  if (/ FROM system\./.test(sql))
    return await pass({ body: Buffer.from(sql.replaceAll(`'${HELD}'`, "'hidden'"), "latin1") });
  return sql.includes(`\`${HELD}\``) ? refusal(497, "Not enough privileges. (ACCESS_DENIED)") : null;
}

async function bucketRefusal({ path }: Asked): Promise<Reply | null> {
  if (!decodeURIComponent(path).includes(HELD)) return null;
  const body = "<Error><Code>AccessDenied</Code><Message>as S3 says it</Message></Error>";
  return { status: 403, headers: { "content-type": "application/xml" }, body };
}

async function redisDoor(): Promise<Door> {
  const user = `cache_${randomUUID().slice(0, 8)}`;
  const redis = new Redis(redisUrl());
  const of = async (...patterns: readonly string[]): Promise<void> =>
    void (await redis.call("ACL", "SETUSER", user, "on", "nopass", "resetkeys", ...patterns, "allcommands"));
  await of("~*");
  return {
    change(options) {
      const url = new URL(redisUrl());
      url.username = user;
      url.password = "x";
      return { ...options, url: url.href };
    },
    async set({ sinks: { keyPrefix } }, isDenied) {
      await of(...(isDenied ? [`~${keyPrefix}_millrace*`, `~${keyPrefix}public:free:*`] : ["~*"]));
    },
    async [Symbol.asyncDispose]() {
      await redis.call("ACL", "DELUSER", user);
      redis.disconnect();
    },
  };
}

/** The role makes the tables, and loses what it may do with one of them. */
async function postgresDoor(): Promise<Door> {
  const role = `writer_${randomUUID().slice(0, 8)}`;
  const database = await freshDatabase();
  const { rows } = await database.query("select current_user as name");
  await database.query(`create role ${role} login in role "${rows[0]!.name}"`);
  return {
    change(options) {
      const url = new URL("url" in options ? String(options.url) : "");
      url.username = role;
      return { ...options, url: url.href };
    },
    async set({ sinks: { target } }, isDenied) {
      const [verb, to] = isDenied ? ["revoke", "from"] : ["grant", "to"];
      await target!.query(`${verb} all on public.${HELD} ${to} ${role}`);
    },
    async [Symbol.asyncDispose]() {
      await database.query(`drop role ${role}`);
      await database[Symbol.asyncDispose]();
    },
  };
}

const DOORS: Readonly<Partial<Record<SinkKind, () => Promise<Door>>>> = {
  redis: redisDoor,
  postgres: postgresDoor,
  elasticsearch: () => gate(elasticsearchUrl(), searchRefusal, (url) => (options) => ({ ...options, url })),
  clickhouse: () => gate(clickhouseUrl(), columnsRefusal, (url) => (options) => ({ ...options, url })),
  "ducklake-s3": bucketDoor,
  "files-s3": bucketDoor,
};

async function bucketDoor(): Promise<Door> {
  await using bucket = await freshBucket();
  return await gate(bucket.options.endpoint, bucketRefusal, (endpoint) => (options) => ({
    ...options,
    s3: { ...bucket.options, endpoint },
  }));
}

test.each(Object.entries(DOORS))("%s", async (kind, door) => {
  await using opened = await door();
  await using pipeline = await RunningPipeline.start(TABLES, {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a key of DOORS
    kinds: [kind as SinkKind],
    configure: (config: PipelineConfig) => ({ ...config, sinks: { [kind]: opened.change(config.sinks[kind]!) } }),
  });
  await pipeline.settled();
  const suspended = async () =>
    (await pipeline.installation.ask<StatusDocument>("GET", "/api/v1/status"))!.tables.suspended;
  const isHeldAlone = async (): Promise<void> => {
    await eventually(async () => {
      await pipeline.run("update held set n = n + 1; update free set n = n + 1");
      expect(await suspended()).toMatchObject([
        { table: "public.held", error: { code: "MR1324", message: expect.stringContaining("MR2008") } },
      ]);
    });
    await eventually(async () => {
      const { source, installation, sinks } = pipeline;
      expect(await sinks.differences(source.url, installation.folder, ["free"])).toEqual([]);
    });
  };
  await opened.set(pipeline, true);
  await isHeldAlone();
  await pipeline.restart();
  await isHeldAlone();
  const again = async (): Promise<void> => {
    await opened.set(pipeline, false);
    await eventually(async () => expect(await suspended()).toEqual([]), { withinMs: 60_000 });
    await pipeline.expectEqual(["held", "free"]);
  };
  await again();
  // Before a start, which looks at the targets first.
  await pipeline.daemon.stop();
  await opened.set(pipeline, true);
  await pipeline.start();
  await isHeldAlone();
  await again();
});
