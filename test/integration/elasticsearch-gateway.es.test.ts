/** The real engine behind a gateway of the kind that operators put before it: logins, limits of size and of load. */
import { createServer } from "node:http";
import { inspect } from "node:util";
import { getHeapStatistics } from "node:v8";
import { expect, test } from "vitest";
import { check } from "../../connectors/elasticsearch/check.ts";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { failure, checkpointAt, patch, put, remove, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import { readDocuments, searchCall } from "../support/caches/search-rows.ts";
import {
  type Asked,
  httpGateway,
  type HttpGateway,
  JSON_TYPE,
  OF_OTHERS,
  type Reply,
} from "../support/network/http-gateway.ts";
import { listening } from "../support/network/listening.ts";
import { elasticsearchUrl, freshIndexPrefix } from "../support/run/services.ts";

const CANARY = "canary-7f3a";
const notes = tableVersion({ table: "notes", columns: { id: "int8", body: "text" } });

interface Gateway extends HttpGateway {
  /** The status to answer a request with at once, instead of passing it on. */
  refuse: (asked: Asked) => number | null;
  /** What is passed on in place of a body, of the same length. */
  alter: (body: string) => string;
  /** What is answered in place of the engine's answer. */
  answer: (path: string, body: string) => string;
  /** Of the bodies that were under way at once. */
  readonly mostBytes: number;
}

async function gateway(): Promise<Gateway> {
  let bytesUnderWay = 0;
  let mostBytes = 0;
  const rules: Pick<Gateway, "refuse" | "alter" | "answer"> = {
    refuse: () => null,
    alter: (body) => body,
    answer: (_, body) => body,
  };
  const opened = await httpGateway(elasticsearchUrl(), async (asked) => {
    const { path, body, pass } = asked;
    const { authorization: _, ...headers } = asked.headers;
    mostBytes = Math.max(mostBytes, (bytesUnderWay += body.length));
    try {
      const status = rules.refuse(asked);
      if (status !== null) return { status, headers: { "content-type": "text/html" }, body: "<html>no</html>" };
      const altered = Buffer.from(rules.alter(body.toString("latin1")), "latin1");
      const reply = await pass({ headers, body: altered });
      const text = rules.answer(path, Buffer.from(reply.body).toString("latin1"));
      return { ...reply, body: Buffer.from(text, "latin1") };
    } finally {
      bytesUnderWay -= body.length;
    }
  });
  return Object.defineProperty(Object.assign(rules, opened, { mostBytes }), "mostBytes", { get: () => mostBytes });
}

async function sinkOn(options: object, daemon = "shop"): Promise<Sink & AsyncDisposable> {
  const context = {
    name: "search",
    daemon,
    folder: "/",
    options: definition.parse({ replicas: 0, ...options }),
  };
  const sink = await factory.create(context, quietLog);
  return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
}

test("user and password, or an API key, are sent with each request; wrong ones are fatal and never told", async () => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  const wanted = new Set([`Basic ${Buffer.from(`us er:${CANARY}`).toString("base64")}`, `ApiKey ${CANARY}`]);
  gate.refuse = ({ headers }) => (wanted.has(headers.authorization ?? "") ? null : 401);
  const { prefix } = indices;
  await using withUser = await sinkOn({ url: `http://us%20er:${CANARY}@${gate.host}`, prefix });
  await withUser.open(1, timeout());
  await withUser.prepare([notes], timeout());
  await withUser.apply(rowsBatch(10n, [notes, [put(["1", "a"])]]), new Reports(), timeout());
  await using withKey = await sinkOn({ url: `http://${gate.host}`, apiKey: CANARY, prefix });
  await withKey.open(2, timeout());
  for (const more of [
    { url: `http://x:wrong-${CANARY}@${gate.host}` },
    { url: `http://${gate.host}`, apiKey: `${CANARY}x` },
  ]) {
    await using wrong = await sinkOn({ prefix, ...more });
    const error = await failure(wrong.open(3, timeout()));
    expect([error.code, error.kind]).toEqual(["MR2002", "blocked"]);
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(CANARY);
  }
});

test("check of somebody who takes requests and answers none says that", async () => {
  await using mute = await listening(createServer(() => {}));
  const url = `http://${mute.host}`;
  const tls = { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined };
  const findings = await check(
    {
      daemon: "shop",
      name: "search",
      urls: [url],
      apiKey: undefined,
      tls,
      prefix: "",
      owner: "shop",
      replicas: 0,
      shards: 1,
      refreshInterval: "1s",
      parts: { all: null, byTable: [] },
    },
    timeout(),
    {
      withinMs: 200,
    },
  );
  expect(findings).toMatchObject([
    { level: "error", what: `the search engine at ${new URL(url).host} did not answer for 0.2 s` },
  ]);
});

test.each([
  ["2.11.1", "MR2005"],
  ["2.12.0", null],
  ["10.0.0", null],
])(
  "an OpenSearch %s, which may lack what the fence relies on, is refused by check as by the start",
  async (number, code) => {
    await using indices = freshIndexPrefix();
    await using gate = await gateway();
    const told = JSON.stringify({ version: { distribution: "opensearch", number } });
    gate.answer = (path, body) => (path === "/" ? told : body);
    await using sink = await sinkOn({ url: `http://${gate.host}`, prefix: indices.prefix });
    const opening = sink.open(1, timeout());
    if (code === null) await opening;
    else expect(await failure(opening)).toMatchObject({ code, kind: "blocked", hint: expect.stringContaining("2.12") });
    const options = definition.parse({ url: `http://${gate.host}`, prefix: indices.prefix });
    const findings = await factory.check({ name: "search", daemon: "shop", folder: "/", options }, timeout());
    const errors = findings.filter(({ level }) => level === "error").map(({ what }) => what);
    expect(errors).toEqual(code === null ? [] : [expect.stringContaining("must_exist")]);
  },
);

test("a body that is too large is sent in halves; a document that is too large alone is poison", async () => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  const { prefix } = indices;
  await using sink = await sinkOn({ url: `http://${gate.host}`, prefix });
  await sink.open(1, timeout());
  await sink.prepare([notes], timeout());
  gate.refuse = ({ body }) => (body.length > 10_000 ? 413 : null);
  const rows = Array.from({ length: 200 }, (_, i) =>
    put([`${i}`, i === 77 ? CANARY.repeat(2_000) : "x".repeat(1_000)]),
  );
  const reports = new Reports();
  await sink.apply(rowsBatch(10n, [notes, rows]), reports, timeout());
  expect(reports.poisons.map(({ entry, error }) => [entry, error.code, error.kind])).toEqual([
    [77, "MR3111", "poison"],
  ]);
  expect(await readDocuments(elasticsearchUrl(), prefix, notes)).toHaveLength(199);
});

test.each([
  [429, "MR2006", "retryable"],
  [502, "MR2001", "retryable"],
  [503, "MR2001", "retryable"],
  [403, "MR2008", "blocked"],
])("an answer of %i is %s, and the step then holds", async (status, code, kind) => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  const { prefix } = indices;
  await using sink = await sinkOn({ url: `http://${gate.host}`, prefix });
  await sink.open(1, timeout());
  await sink.prepare([notes], timeout());
  const batch = rowsBatch(10n, [notes, [put(["1", "a"])]]);
  for (const path of ["/_bulk", "millrace-progress"]) {
    gate.refuse = (asked) => (asked.path.includes(path) && asked.method !== "GET" ? status : null);
    const error = await failure(sink.apply(batch, new Reports(), timeout()));
    expect([error.code, error.kind]).toEqual([code, kind]);
  }
  gate.refuse = () => null;
  await sink.apply(batch, new Reports(), timeout());
  expect(await readDocuments(elasticsearchUrl(), prefix, notes)).toHaveLength(1);
});

test(
  "large documents of one step go one by one, and one that the engine never admits is poison",
  { tags: "heavy" },
  async () => {
    await using indices = freshIndexPrefix();
    await using gate = await gateway();
    const { prefix } = indices;
    await using sink = await sinkOn({ url: `http://${gate.host}`, prefix });
    await sink.open(1, timeout());
    await sink.prepare([notes], timeout());
    const rows = [30, 30, 60, 30].map((megabytes, i) => put([`${i}`, "x".repeat(megabytes * 1_000_000)]));
    const reports = new Reports();
    await sink.apply(rowsBatch(10n, [notes, rows]), reports, timeout());
    expect(reports.poisons.map(({ entry, error }) => [entry, error.code])).toEqual([[2, "MR3111"]]);
    expect(gate.mostBytes).toBeLessThan(61_000_000);
    expect(
      (await readDocuments(elasticsearchUrl(), prefix, notes)).map(({ cells }) => String(cells[0])).toSorted(),
    ).toEqual(["0", "1", "3"]);
  },
);

test("a large document whose answer is lost costs little memory", async () => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  await using sink = await sinkOn({ url: `http://${gate.host}`, prefix: indices.prefix });
  await sink.open(1, timeout());
  await sink.prepare([notes], timeout());
  gate.refuse = ({ path }) => {
    if (path.startsWith("/_bulk")) throw new Error("the gateway ends the connection");
    return null;
  };
  const before = getHeapStatistics().total_heap_size;
  const batch = rowsBatch(10n, [notes, [put(["1", "x".repeat(4_000_000)])]]);
  expect((await failure(sink.apply(batch, new Reports(), timeout()))).code).toBe("MR2001");
  expect(getHeapStatistics().total_heap_size - before).toBeLessThan(100_000_000);
});

test("of several nodes one that is down does not stop the sink", async () => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  const { prefix } = indices;
  await using sink = await sinkOn({ url: [`http://127.0.0.1:1`, `http://${gate.host}`], prefix });
  for (let attempt = 1; ; attempt++) {
    try {
      await sink.open(1, timeout());
      await sink.prepare([notes], timeout());
      break;
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
  let failed = 0;
  for (let i = 0; i < 20; i++) {
    const batch = rowsBatch(BigInt(10 + i), [notes, [put([`${i}`, "a"])]]);
    await sink.apply(batch, new Reports(), timeout()).catch(async () => {
      failed++;
      await sink.apply(batch, new Reports(), timeout());
    });
  }
  expect(failed).toBeLessThan(5);
  expect(await readDocuments(elasticsearchUrl(), prefix, notes)).toHaveLength(20);
});

test("a new index that comes with other types than it was asked for stops the sink", async () => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  await using sink = await sinkOn({ url: `http://${gate.host}`, prefix: indices.prefix });
  await sink.open(1, timeout());
  gate.alter = (body) => body.replace('"id":{"type":"long"', '"id":{"type":"date"');
  const error = await failure(sink.prepare([notes], timeout()));
  expect([error.code, error.kind]).toEqual(["MR3107", "fatal"]);
  expect(error.message).toContain("field id of public.notes");
});

/** The engine's security refuses what names such an index, and leaves it out where the request ignores what is unavailable. */
const UNAUTHORIZED: Reply = {
  status: 403,
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ error: { type: "security_exception", reason: "action is unauthorized" }, status: 403 }),
};

test("an index that the engine hides from a role is not gone: its table alone waits, and nothing is read again", async () => {
  await using indices = freshIndexPrefix();
  let isHidden = false;
  await using gate = await httpGateway(elasticsearchUrl(), async ({ path, pass }) => {
    const { pathname, searchParams } = new URL(path, "http://gate");
    if (!isHidden || !decodeURIComponent(pathname).includes("public.notes")) return await pass();
    if (searchParams.get("ignore_unavailable") !== "true") return UNAUTHORIZED;
    return { status: 200, headers: { "content-type": "application/json" }, body: "{}" };
  });
  const opened = async (lease: number) => {
    const sink = await sinkOn({ url: gate.url, prefix: indices.prefix });
    return { sink, held: await sink.open(lease, timeout()).catch(findMillraceError) };
  };
  const { sink } = await opened(1);
  await using _ = sink;
  await sink.prepare([notes], timeout());
  const { id } = notes;
  await sink.apply(rowsBatch(10n, [notes, [put(["1", "a"])]]), new Reports(), timeout());
  await sink.apply({ kind: "checkpoint", checkpoint: checkpointAt(11n, { [id]: "rules" }) }, new Reports(), timeout());
  isHidden = true;
  await sink.verify(timeout());
  const hidden = await opened(2);
  expect(hidden.held).toMatchObject({ tables: { [id]: expect.anything() } });
  expect(await failure(hidden.sink.prepare([notes], timeout()))).toMatchObject({
    code: "MR2008",
    kind: "blocked",
    reason: "privilege",
    table: id,
  });
  await hidden.sink.close();
  isHidden = false;
  const again = await opened(3);
  await using next = again.sink;
  expect(again.held).toMatchObject({ tables: { [id]: expect.anything() } });
  expect(await next.presence!.missing([notes], timeout())).toEqual([]);
  // One that is really gone is told.
  await searchCall(elasticsearchUrl(), "DELETE", `/${indices.prefix}public.notes-000001`);
  expect(await failure(next.verify(timeout()))).toMatchObject({ code: "MR3110", kind: "reopen" });
});

/** What others than the engine say, and what an engine says of nothing that was asked. */
const FOREIGN: readonly Reply[] = [
  ...OF_OTHERS,
  { status: 404, headers: JSON_TYPE, body: '{"error":"Not Found","message":"no route"}' },
  { status: 400, headers: { "content-type": "text/html" }, body: "<html>Bad Request</html>" },
  { status: 409, headers: JSON_TYPE, body: '{"message":"a conflict"}' },
  { status: 302, headers: { location: "/login" }, body: "" },
];

test("what something else answers in place of the engine, to whichever request, is neither done nor gone", async () => {
  await eachAnswered(FOREIGN.length, 1);
});

test("the same, with each of these answers to each request", { tags: "heavy" }, async () => {
  for (let first = 0; first < FOREIGN.length; first++) await eachAnswered(first, 0);
});

/** Each request of a sink's life once by the answer `first`, or by the next one each time. */
async function eachAnswered(first: number, step: 0 | 1): Promise<void> {
  await using indices = freshIndexPrefix();
  let at = -1;
  let foreign = FOREIGN[0]!;
  let count = 0;
  const asked: string[] = [];
  await using gate = await httpGateway(elasticsearchUrl(), async ({ method, path, pass }) => {
    asked.push(`${method} ${path}`);
    return count++ === at ? foreign : await pass();
  });
  const { id } = notes;
  const tables = { [id]: "rules" };
  let commit = 10n;
  /** As the runtime does: what fails is done again from the opening on. */
  const life = async (): Promise<readonly MillraceError[]> => {
    const failed: MillraceError[] = [];
    const text = String(++commit);
    for (;;) {
      await using sink = await sinkOn({ url: gate.url, prefix: indices.prefix });
      try {
        const held = await sink.open(Number(commit), timeout());
        if (commit > 11n) expect(held).toMatchObject({ tables: { [id]: expect.anything() } });
        if (commit > 11n) expect(await sink.presence!.missing([notes], timeout())).toEqual([]);
        await sink.prepare([notes], timeout());
        await sink.verify(timeout());
        const batches = [[put(["1", text]), put(["2", text])], [patch(["1", UNCHANGED])]];
        for (const [i, rows] of batches.entries()) {
          const position = commit * 10n + BigInt(i);
          const batch = { ...rowsBatch(position, [notes, rows]), checkpoint: checkpointAt(position + 1n, tables) };
          await sink.apply(batch, new Reports(), timeout());
        }
        break;
      } catch (error) {
        const known = findMillraceError(error);
        if (known === undefined || failed.push(known) > 3) throw error;
      }
    }
    const documents = await readDocuments(elasticsearchUrl(), indices.prefix, notes);
    expect(documents.map(({ cells }) => cells[1])).toEqual([`"${text}"`, `"${text}"`]);
    return failed;
  };
  await life();
  const told: string[] = [];
  for (at = 0, count = Infinity; count > at; at++) {
    foreign = FOREIGN[(first + step * at) % FOREIGN.length]!;
    count = 0;
    asked.length = 0;
    const kinds = (await life()).map(({ code, kind }) => `${code} ${kind}`);
    // An engine need not tell its version.
    if (count > at && asked[at] !== "GET /") told.push(`${foreign.status} to ${asked[at]}: ${kinds.join()}`);
  }
  expect(told.length).toBeGreaterThan(10);
  expect(told.filter((one) => !/: MR20(01|27) retryable$/.test(one))).toEqual([]);
}

test("an engine that tells its errors without details (http.detailed_errors.enabled: false) is one all the same", async () => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  let count = 0;
  gate.answer = (_, body) => {
    const [, type, reason] = /^\{"error":\{"root_cause":.*?,"type":"(\w+)","reason":"([^"]*)/.exec(body) ?? [];
    const [, status] = /"status":(\d+)\}$/.exec(body) ?? [];
    if (type === undefined || status === undefined) return body;
    count++;
    const name = type.replaceAll(/(?:^|_)(\w)/g, (_part, first: string) => first.toUpperCase());
    return JSON.stringify({ error: `${name}[${reason}]`, status: Number(status) });
  };
  await using sink = await sinkOn({ url: `http://${gate.host}`, prefix: indices.prefix });
  expect(await sink.open(1, timeout())).toBeNull();
  expect(await sink.presence!.missing([notes], timeout())).toEqual([notes]);
  await sink.prepare([notes], timeout());
  await sink.apply(rowsBatch(10n, [notes, [put(["1", "a"])]]), new Reports(), timeout());
  await sink.verify(timeout());
  expect(await sink.open(2, timeout())).not.toBeNull();
  expect(count).toBeGreaterThan(0);
});

test("a reset that ended before the engine remembers deleted documents again is noticed at the next start", async () => {
  await using indices = freshIndexPrefix();
  let isCut = true;
  let asked = 0;
  await using gate = await httpGateway(elasticsearchUrl(), async ({ path, body, pass }) => {
    const isGc = path.endsWith("/_settings") && body.includes("gc_deletes");
    if (isGc) asked++;
    if (isCut && isGc && body.includes("1h")) return { status: 503, headers: {}, body: "" };
    return await pass();
  });
  const start = async (lease: number) => {
    const sink = await sinkOn({ url: gate.url, prefix: indices.prefix });
    await sink.open(lease, timeout());
    await sink.prepare([notes], timeout());
    return sink;
  };
  const kept = async () => {
    const { text } = await searchCall(elasticsearchUrl(), "GET", `/${indices.prefix}public.notes/_settings`);
    return /"gc_deletes":"(\w+)"/.exec(text)?.[1];
  };
  await using first = await start(1);
  await first.rows!.expel([notes], 1n << 60n, timeout());
  expect([asked, await kept()]).toEqual([0, "1h"]);
  await first.apply(rowsBatch(10n, [notes, [put(["1", "a"])]]), new Reports(), timeout());
  await first.apply(rowsBatch(20n, [notes, [remove(["1", null])]]), new Reports(), timeout());
  await failure(first.rows!.expel([notes], 1n << 60n, timeout()));
  expect(await kept()).toBe("0s");
  isCut = false;
  await using _ = await start(2);
  expect(await kept()).toBe("1h");
});

test("what another daemon begins while the sink is forgotten stays, before whichever request it comes", async () => {
  await using indices = freshIndexPrefix();
  const { prefix } = indices;
  const others = tableVersion({ table: "others", columns: { id: "int8", body: "text" } });
  /** Before which request of the sink that is forgotten the other comes; -1: it has come. */
  let number = -1;
  let meet = async (): Promise<void> => {};
  await using gate = await httpGateway(elasticsearchUrl(), async ({ pass }) => {
    if (number >= 0 && number-- === 0) await meet();
    return await pass();
  });
  for (let round = 0; ; round++) {
    const lease = round + 1;
    await using going = await sinkOn({ url: gate.url, prefix });
    await going.open(lease, timeout());
    await going.prepare([notes], timeout());
    await going.apply(rowsBatch(10n, [notes, [put(["1", "a"])]]), new Reports(), timeout());
    await using coming = await sinkOn({ url: elasticsearchUrl(), prefix }, "other");
    const write = async (at: bigint): Promise<void> =>
      await coming.apply(rowsBatch(at, [others, [put([`${at}`, "b"])]]), new Reports(), timeout());
    meet = async () => {
      expect(await coming.open(lease, timeout())).toBeNull();
      await coming.prepare([others], timeout());
      await write(20n);
    };
    number = round;
    await going.forget(timeout());
    const hasCome = number < 0;
    number = -1;
    // The aliases, the head and its parts.
    if (!hasCome) return expect(round).toBeGreaterThan(2);
    expect(await going.look(timeout())).toBeNull();
    await coming.verify(timeout());
    await write(30n);
    expect((await coming.look(timeout()))?.position.commit).toBe(31n);
    const rows = (await readDocuments(elasticsearchUrl(), prefix, others)).map(({ cells }) => cells[0]);
    expect(new Set(rows)).toEqual(new Set(["20", "30"]));
    await coming.forget(timeout());
  }
});

test("documents that a role may not read, each told in its own item, are a lacking privilege of their table", async () => {
  await using indices = freshIndexPrefix();
  const error = { type: "security_exception", reason: "action [indices:data/read/mget[shard]] is unauthorized" };
  await using gate = await httpGateway(elasticsearchUrl(), async ({ path, pass }) => {
    if (!path.startsWith("/_mget")) return await pass();
    const body = JSON.stringify({ docs: [{ _index: "an alias", _id: "1", error }] });
    return { status: 200, headers: { "content-type": "application/json" }, body };
  });
  await using sink = await sinkOn({ url: gate.url, prefix: indices.prefix });
  await sink.open(1, timeout());
  await sink.prepare([notes], timeout());
  await sink.apply(rowsBatch(10n, [notes, [put(["1", "a"])]]), new Reports(), timeout());
  const unread = rowsBatch(20n, [notes, [patch(["1", UNCHANGED])]]);
  const told = await failure(sink.apply(unread, new Reports(), timeout()));
  expect(told).toMatchObject({ code: "MR2008", kind: "blocked", reason: "privilege", table: "public.notes" });
});

test("what some shards or nodes did not do is no answer", async () => {
  await using indices = freshIndexPrefix();
  await using gate = await gateway();
  const { prefix } = indices;
  await using sink = await sinkOn({ url: `http://${gate.host}`, prefix, shards: 2 });
  await sink.open(1, timeout());
  await sink.prepare([notes], timeout());
  const rows = Array.from({ length: 5_010 }, (_, i) => put([`${i}`, "a"]));
  await sink.apply(rowsBatch(10n, [notes, rows]), new Reports(), timeout());
  const listed = async (): Promise<number> => {
    await using inspection = await sink.comparison!.inspect(timeout());
    let count = 0;
    for await (const page of inspection.keys(notes, timeout())) count += page.length;
    return count;
  };
  const truncate = async (): Promise<void> => {
    const batch = { kind: "truncate", table: notes, version: 1n << 60n, checkpoint: checkpointAt(20n) } as const;
    await sink.apply(batch, new Reports(), timeout());
  };
  const highest = async () => await sink.rows!.highestVersion("own", timeout());
  const expel = async (): Promise<void> => await sink.rows!.expel([notes], 1n << 60n, timeout());
  const failed = (body: string): string => body.replace('"failed":0', '"failed":1');
  const late = (body: string): string => body.replace('"timed_out":false', '"timed_out":true');
  const isSearch = (path: string): boolean => path.includes("/_search?");
  const isScroll = (path: string): boolean => path.startsWith("/_search/scroll");
  const isRefresh = (path: string): boolean => path.includes("/_refresh");
  for (const [is, alter, works] of [
    [isScroll, failed, [listed, expel]],
    [isScroll, late, [listed, expel]],
    [isSearch, failed, [listed, truncate, highest, expel]],
    [isSearch, late, [listed, truncate, highest, expel]],
    [isRefresh, failed, [listed, truncate, highest, expel]],
  ] as const) {
    gate.answer = (path, body) => (is(path) ? alter(body) : body);
    for (const work of works) {
      const { code, kind } = await failure(Promise.resolve(work()).then(() => undefined));
      expect([code, kind, work.name]).toEqual(["MR2001", "retryable", work.name]);
    }
  }
  gate.answer = (_, body) => body;
  expect(await listed()).toBe(5_010);
  // A node that does not know the new alias for writing yet still takes what comes under the old one.
  await using next = await sinkOn({ url: `http://${gate.host}`, prefix, shards: 2 });
  await next.open(2, timeout());
  await next.prepare([notes], timeout());
  gate.answer = (path, body) => (path.startsWith("/_aliases") ? body.replace("true", "false") : body);
  const batch = rowsBatch(30n, [notes, [put(["1", "b"])]]);
  expect((await failure(next.apply(batch, new Reports(), timeout()))).code).toBe("MR2001");
  gate.answer = (_, body) => body;
  await next.apply(batch, new Reports(), timeout());
});
