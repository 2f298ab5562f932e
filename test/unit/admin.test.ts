/** The HTTP interface as scripts, supervisors and browsers use it. */
import { describe, expect, test } from "vitest";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { request as send } from "node:http";
import { connect } from "node:net";
import type { AuditEntry } from "../../src/core/audit/audit-store.ts";
import { audited } from "../../src/core/audit/audited.ts";
import { withoutKeys } from "../../src/core/contracts/reconciliation.ts";
import { createAdmin, createWaitingAdmin } from "../../src/ops/admin/admin.ts";
import type { AdminPort } from "../../src/ops/admin/port.ts";
import { FRESH_TIMEOUT } from "../../src/ops/admin/bodies.ts";
import { RateLimit, REQUESTS_AT_ONCE, REQUESTS_PER_SECOND } from "../../src/ops/admin/rate-limit.ts";
import type { Entrance, Token } from "../../src/ops/admin/admission.ts";
import { createLogger } from "../../src/ops/logger.ts";
import { sinkStatus, statusDocument } from "../support/daemon/status-document.ts";
import { reportOf } from "../support/model/reports.ts";

const LOOKS = "token-that-looks-0123456789abcdef";
const ACTS = "token-that-acts-0123456789abcdefg";
const sha256 = (token: string) => createHash("sha256").update(token).digest("hex");
const TOKENS: readonly Token[] = [
  { role: "viewer", name: null, sha256: sha256(LOOKS) },
  { role: "operator", name: "carol", sha256: sha256(ACTS) },
];
const entrance = (tokens: readonly Token[], hosts: readonly string[], limit = new RateLimit({ elapsed: () => 0 })) =>
  ({ kind: "tcp", tokens, hosts, limit }) as const;
const OPEN: Entrance = entrance([], ["127.0.0.1"]);
const GUARDED: Entrance = entrance(TOKENS, ["0.0.0.0", "millrace.example"]);

const REPORT = reportOf({
  id: "r1",
  missing: 1,
  sample: [{ kind: "missing", key: { id: "canary" }, columns: [], why: "unknown" }],
  movingSample: [{ key: { id: "canary" }, equalAt: "0/1" }],
});
const AWAY = { code: "MR2001", message: "the server can't be reached", hint: null, at: "2026-11-20T03:00:00Z" };

/** An interface over nothing, and what it was told to do. */
function served(entrance: Entrance = { kind: "socket" }, others: Partial<AdminPort> = {}) {
  const told: string[] = [];
  const logged: unknown[] = [];
  const kept: AuditEntry[] = [];
  const output = { write: (line: string) => logged.push(JSON.parse(line)) };
  const secrets = new Secrets();
  secrets.add("mill");
  const logger = createLogger({ level: "info", redact: (line) => line, output });
  const port: AdminPort = {
    version: "0.0.0",
    isOver: () => false,
    status: async () =>
      statusDocument({
        sinks: [
          sinkStatus("cache", { state: "retrying", error: { ...AWAY, message: "a place nobody may see" } }),
          sinkStatus("redis://millrace:mill@h", { state: "failed", needsPerson: true, error: AWAY }),
          sinkStatus("letters", { deadLetters: 3 }),
        ],
      }),
    metrics: async () => ({ contentType: "text/plain", text: "m 1\n" }),
    pause: async (sink) => {
      if (sink === "none") throw new MillraceError({ code: "MR1114", kind: "fatal", message: "there is no sink" });
      told.push(`pause ${sink ?? "all"}`);
    },
    resume: async (sink) => void told.push(`resume ${sink ?? "all"}`),
    wait: async (timeoutMs) => ({ reached: timeoutMs > 0, missing: [] }),
    fresh: async ({ at }, timeoutMs) => ({ reached: timeoutMs > 0, position: at, missing: [] }),
    startSnapshot: async ({ where }) => {
      told.push(`snapshot where ${where}`);
      return [];
    },
    snapshots: async () => [],
    cancelSnapshot: async () => false,
    repair: (sinks, tables) => ({ id: `r3 ${sinks.join()} ${tables.join()}` }),
    replayLetters: async ({ ids }) => ({ replayed: ids?.length ?? 0, superseded: 0, failed: 0 }),
    discardLetters: async () => 0,
    reports: async () => [{ id: "r1", drift: false }],
    report: async (id) => (id === "r1" ? withoutKeys(REPORT) : null),
    view: async () => ({
      history: [],
      stepSeconds: 5,
      day: [],
      dayStepSeconds: 120,
      retentionSeconds: null,
      tables: [],
      reads: [],
      deadLetters: [],
      letterGroups: [],
    }),
    audit: async (limit) => kept.slice(0, limit),
    audited: (order, work) => audited(stateOf(kept), order, work),
    reconcile: () => ({ id: "r2" }),
    reconciliation: () => ({}),
    stopReconciliation: () => true,
    redact: (json) => secrets.redactJson(json),
    copy: async () => "/copy",
    ...others,
  };
  return { app: createAdmin(port, entrance, logger), told, logged, kept };
}

/** Newest first. */
function stateOf(kept: AuditEntry[]) {
  const audit = {
    begin: async (entry: Pick<AuditEntry, "who" | "via" | "action" | "subject" | "before">) => {
      kept.unshift({ ...entry, id: kept.length + 1, at: "t", endedAt: null, after: null, error: null });
      return kept.length;
    },
    end: async (id: number, end: Pick<AuditEntry, "after" | "error">) => {
      const at = kept.findIndex((entry) => entry.id === id);
      kept[at] = { ...kept[at]!, ...end, endedAt: "t" };
    },
    list: async () => kept,
  };
  return { audit, sinks: { all: async () => [] }, deadLetters: { waiting: async () => new Map() } };
}

/** From fastify's tree of routes: each line is a part of a path, below the part that it continues. */
function routesOf(tree: string): string[] {
  const parts: string[] = [];
  return tree.split("\n").flatMap((line) => {
    const [, indent = "", part = "", methods = ""] = /^(.*?)[└├]── (\S+)(?: \(([A-Z, ]+)\))?/.exec(line) ?? [];
    if (part === "") return [];
    parts.splice(indent.length / 4, Infinity, part);
    const path = parts.join("").replace(":id", "{id}");
    return methods.split(", ").flatMap((method) => (["", "HEAD"].includes(method) ? [] : [`${method} ${path}`]));
  });
}

const failure = (code: string) => ({ error: { code, message: expect.any(String), hint: null } });

describe("requests that act", () => {
  test("one without a body means all sinks, as an empty object does", async () => {
    const { app, told } = served();
    expect((await app.inject({ method: "POST", url: "/api/v1/pause" })).statusCode).toBe(200);
    expect((await app.inject({ method: "POST", url: "/api/v1/resume", payload: {} })).statusCode).toBe(200);
    expect((await app.inject({ method: "POST", url: "/api/v1/pause", payload: { sink: "cache" } })).statusCode).toBe(
      200,
    );
    expect((await app.inject({ method: "POST", url: "/api/v1/wait" })).json()).toEqual({ reached: true, missing: [] });
    const headers = { "content-type": "application/json" };
    const none = await app.inject({ method: "POST", url: "/api/v1/wait", headers, payload: "null" });
    expect(none.statusCode).toBe(400);
    expect(none.json()).toMatchObject({ error: { code: "MR1155", message: expect.stringContaining("object") } });
    expect(told).toEqual(["pause all", "resume all", "pause cache"]);
  });

  test.each([
    ["a misspelt field", { payload: { snik: "cache" } }, 400],
    ["a field of another type", { payload: { sink: 5 } }, 400],
    ["a list", { payload: ["cache"] }, 400],
    ["broken JSON", { payload: '{"sink"', headers: { "content-type": "application/json" } }, 400],
    ["a form", { payload: "sink=cache", headers: { "content-type": "application/x-www-form-urlencoded" } }, 415],
    ["plain text", { payload: "{}", headers: { "content-type": "text/plain" } }, 415],
  ])("%s changes nothing, and is the sender's fault", async (_what, request, status) => {
    const { app, told } = served();
    const answer = await app.inject({ method: "POST", url: "/api/v1/pause", ...request });
    expect(answer.statusCode).toBe(status);
    expect(answer.json()).toEqual(failure("MR1155"));
    expect(told).toEqual([]);
  });

  test("what outlives its run, whatever it fails with, is to be asked again", async () => {
    const over = async (): Promise<never> => await Promise.reject(new DOMException("the work is over", "AbortError"));
    const aborted = { wait: over, fresh: over };
    const closed = {
      isOver: () => true,
      startSnapshot: async () => Promise.reject(new Error("the connection is closed")),
    };
    for (const [change, method, url] of [
      [aborted, "POST", "/api/v1/wait"],
      [aborted, "GET", "/api/v1/fresh"],
      [closed, "POST", "/api/v1/snapshots"],
    ] as const) {
      const answer = await served({ kind: "socket" }, change).app.inject({ method, url });
      expect({ status: answer.statusCode, after: answer.headers["retry-after"], body: answer.json() }).toEqual({
        status: 503,
        after: "1",
        body: failure("MR1116"),
      });
    }
  });

  test("what the daemon refuses keeps its number", async () => {
    const { app } = served();
    const answer = await app.inject({ method: "POST", url: "/api/v1/pause", payload: { sink: "none" } });
    expect({ status: answer.statusCode, body: answer.json() }).toEqual({ status: 409, body: failure("MR1114") });
  });

  test("a path that is not there is an error of the same form", async () => {
    const { app } = served();
    for (const [method, url] of [
      ["GET", "/api/v1/nope"],
      ["GET", "/api/v1/pause"],
    ] as const) {
      const answer = await app.inject({ method, url });
      expect({ status: answer.statusCode, body: answer.json() }).toEqual({ status: 404, body: failure("MR1155") });
    }
  });
});

describe("over TCP without tokens", () => {
  test("a report comes without keys of rows; null is none", async () => {
    const { app } = served(OPEN);
    const found = await app.inject("/api/v1/reports/r1");
    expect(found.json()).toMatchObject({ report: { id: "r1", tables: [{ table: "public.orders", missing: 1 }] } });
    expect(found.body).not.toContain("canary");
    expect((await app.inject("/api/v1/reports/r2")).json()).toEqual({ report: null });
  });

  test("it shows, and does nothing", async () => {
    const { app, told } = served(OPEN);
    for (const url of ["/healthz", "/metrics", "/api/v1/status", "/api/v1/reports", "/api/v1/openapi.json"])
      expect([url, (await app.inject(url)).statusCode]).toEqual([url, 200]);
    for (const [method, url] of [
      ["POST", "/api/v1/pause"],
      ["POST", "/api/v1/resume"],
      ["POST", "/api/v1/snapshots"],
      ["DELETE", "/api/v1/snapshots/1"],
      ["POST", "/api/v1/repair"],
      ["POST", "/api/v1/wait"],
    ] as const) {
      const answer = await app.inject({ method, url });
      expect({ url, status: answer.statusCode, body: answer.json() }).toEqual({
        url,
        status: 401,
        body: failure("MR1152"),
      });
    }
    expect(told).toEqual([]);
  });
});

describe("over TCP", () => {
  const ask = (entrance: Entrance, headers: Record<string, string>, method: "GET" | "POST" = "GET") =>
    served(entrance).app.inject({ method, url: "/api/v1/status", headers });

  test.each(["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.evil.example", "[::1", "1"])(
    "a request for the host %j is refused",
    async (host) => {
      const answer = await ask(OPEN, { host });
      expect({ status: answer.statusCode, body: answer.json() }).toEqual({ status: 403, body: failure("MR1157") });
      const asker = { host, authorization: `Bearer ${ACTS}` };
      expect((await ask(GUARDED, asker)).statusCode).toBe(403);
    },
  );

  test.each(["127.0.0.1:8642", "localhost", "LocalHost:8642", "[::1]:8642", "10.1.2.3"])(
    "a request for the host %j is answered",
    async (host) => expect((await ask(OPEN, { host })).statusCode).toBe(200),
  );

  test("a name that the configuration has is answered, in any case", async () => {
    const asker = { host: "Millrace.Example:443", authorization: `Bearer ${LOOKS}` };
    expect((await ask(GUARDED, asker)).statusCode).toBe(200);
  });

  test("a page of another origin gets nothing, a page of the same does", async () => {
    const host = "127.0.0.1:8642";
    for (const origin of ["https://elsewhere.example", "null", "http://127.0.0.1:9000"]) {
      const answer = await ask(OPEN, { host, origin });
      expect({ status: answer.statusCode, body: answer.json() }).toEqual({ status: 403, body: failure("MR1157") });
    }
    expect((await ask(OPEN, { host, origin: `http://${host}` })).statusCode).toBe(200);
  });

  test("SQL and rows are not to be had, whatever the token", async () => {
    const { app, told } = served(GUARDED);
    const headers = { authorization: `Bearer ${ACTS}` };
    const sent = { method: "POST", url: "/api/v1/snapshots", headers } as const;
    const answer = await app.inject({ ...sent, payload: { where: "true" } });
    expect({ status: answer.statusCode, body: answer.json() }).toEqual({ status: 400, body: failure("MR1155") });
    for (const [method, url] of [
      ["POST", "/api/v1/query"],
      ["POST", "/api/v1/reconcile"],
      ["GET", "/api/v1/reconcile"],
    ] as const)
      expect([url, (await app.inject({ method, url, headers })).statusCode]).toEqual([url, 404]);
    expect(told).toEqual([]);
    expect((await app.inject({ ...sent, payload: { tables: [] } })).statusCode).toBe(200);
    const local = served();
    await local.app.inject({ method: "POST", url: "/api/v1/snapshots", payload: { where: "id = 1" } });
    expect(local.told).toEqual(["snapshot where id = 1"]);
  });

  test("the number of a read is a number", async () => {
    const { app } = served();
    const cancel = async (id: string) => await app.inject({ method: "DELETE", url: `/api/v1/snapshots/${id}` });
    expect((await cancel("7")).json()).toEqual({ cancelled: false });
    for (const id of ["null", "0", "-1", "1e3", "7,7", "99999999999999999"])
      expect([id, (await cancel(id)).statusCode]).toEqual([id, 400]);
  });

  test("openapi.json names what is served, all of it and nothing else", async () => {
    const { app } = served(OPEN);
    const document = (await app.inject("/api/v1/openapi.json")).json<{ paths: Record<string, object> }>();
    expect(document).toMatchObject({ openapi: "3.1.0", info: { version: "0.0.0" } });
    const named = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const there = routesOf(app.printRoutes({ commonPrefix: false }));
    expect(named.toSorted()).toEqual(there.toSorted());
    expect(named.length).toBeGreaterThan(10);
  });

  test("an address that asks too often waits, and a wrong token costs it more; health is always answered", async () => {
    let elapsedMs = 0;
    const limit = new RateLimit({ elapsed: () => elapsedMs });
    const { app } = served(entrance(TOKENS, [], limit));
    const headers = { authorization: `Bearer ${LOOKS}` };
    const ask = () => app.inject({ url: "/metrics", headers });
    for (let i = 0; i < REQUESTS_AT_ONCE; i++) expect((await ask()).statusCode).toBe(200);
    const refused = await ask();
    expect([refused.statusCode, refused.headers["retry-after"], refused.json()]).toEqual([429, "1", failure("MR1161")]);
    expect((await app.inject("/healthz")).statusCode).toBe(200);
    // Applications ask this at each of their commits.
    const fresh = (headers: Readonly<Record<string, string>>) =>
      app.inject({ url: "/api/v1/fresh?at=0/1&sink=cache", headers });
    expect((await fresh(headers)).json()).toEqual({ reached: true, position: "0/1", missing: [] });
    expect((await fresh({ authorization: "Bearer x" })).statusCode).toBe(429);
    expect((await app.inject({ url: "/metrics", headers, remoteAddress: "10.0.0.9" })).statusCode).toBe(200);
    elapsedMs += 1000;
    for (let i = 0; i < REQUESTS_PER_SECOND; i++) expect((await ask()).statusCode).toBe(200);
    expect((await ask()).statusCode).toBe(429);
    elapsedMs += 3_600_000;
    const guess = () => app.inject({ url: "/metrics", headers: { authorization: "Bearer x" } });
    let guesses = 0;
    while ((await guess()).statusCode === 401) guesses++;
    expect(guesses).toBe(Math.ceil(REQUESTS_AT_ONCE / 21));
  });

  test("freshness: 200 in time, 504 later, and what a query gets wrong is named", async () => {
    const { app } = served(GUARDED);
    const ask = (query: string) =>
      app.inject({ url: `/api/v1/fresh?${query}`, headers: { authorization: `Bearer ${LOOKS}` } });
    expect((await ask("at=0/1&timeout=0ms")).statusCode).toBe(504);
    expect((await ask("at=0/1&table=a.b&table=a.c&timeout=2s")).statusCode).toBe(200);
    for (const query of ["timeout=soon", "timeout=2h", "at="]) expect((await ask(query)).statusCode).toBe(400);
    const long = await ask("timeout=7h");
    expect(long.statusCode).toBe(400);
    expect(long.json()).toMatchObject({ error: { message: expect.stringContaining("a duration from 0ms to 1h") } });
    const described = new RegExp(FRESH_TIMEOUT);
    const spelled = ["0ms", "500ms", "999999ms", "2s", "999s", "59m", "1h", "60m", "7h", "1d", "soon", ""];
    const taken = await Promise.all(spelled.map(async (one) => (await ask(`timeout=${one}`)).statusCode !== 400));
    expect(spelled.filter((one, i) => described.test(one) && !taken[i])).toEqual([]);
    expect(spelled.filter((one) => described.test(one))).toHaveLength(7);
    expect((await app.inject("/api/v1/fresh")).statusCode).toBe(401);
  });

  test("a body or header that is too large is refused", async () => {
    const { app, told } = served(GUARDED);
    const headers = { authorization: `Bearer ${ACTS}` };
    const sent = { method: "POST", url: "/api/v1/pause", headers } as const;
    const large = await app.inject({ ...sent, payload: { sink: "x".repeat(300_000) } });
    expect({ status: large.statusCode, body: large.json() }).toEqual({ status: 413, body: failure("MR1155") });
    expect(told).toEqual([]);
    await app.listen({ host: "127.0.0.1", port: 0 });
    const port = Number(new URL(app.listeningOrigin).port);
    const status = await new Promise((resolve, reject) => {
      const large = { "x-large": "x".repeat(9_000) };
      send({ host: "127.0.0.1", port, path: "/healthz", headers: large }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      })
        .on("error", reject)
        .end();
    });
    await app.close();
    expect(status).toBe(431);
  });

  test(
    "a request that arrives too slowly is cut, and a look that takes too long says so",
    { tags: "long" },
    async () => {
      const { app } = served(OPEN, { status: async () => await new Promise<never>(() => {}) });
      await app.listen({ host: "127.0.0.1", port: 0 });
      const port = Number(new URL(app.listeningOrigin).port);
      const slow = connect({ host: "127.0.0.1", port });
      slow.write("GET /healthz HTTP/1.1\r\nhost: localhost\r\n");
      const [first] = await Promise.all([once(slow, "data"), once(slow, "close")]);
      expect(String(first)).toContain("408 Request Timeout");
      const answer = await fetch(`http://127.0.0.1:${port}/api/v1/status`);
      expect([answer.status, await answer.json()]).toEqual([503, failure("MR1119")]);
      await app.close();
    },
  );

  test("no answer is kept, framed, sniffed or read by another page", async () => {
    const { headers } = await served(OPEN).app.inject("/api/v1/status");
    expect(headers).toMatchObject({
      "cache-control": "no-store",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      "cross-origin-resource-policy": "same-origin",
      "x-content-type-options": "nosniff",
    });
  });
});

test("every action is in the audit log: who, what, and how it ended", async () => {
  const { app } = served(GUARDED);
  const headers = { authorization: `Bearer ${ACTS}` };
  const act = (method: "POST" | "DELETE", url: string, payload?: object) =>
    app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
  await act("POST", "/api/v1/pause", { sink: "cache" });
  await act("POST", "/api/v1/pause", { sink: "none" });
  await act("POST", "/api/v1/snapshots", { tables: ["public.t"] });
  await act("DELETE", "/api/v1/snapshots/7");
  await act("POST", "/api/v1/dlq/replay", { ids: [3] });
  await act("POST", "/api/v1/wait");
  const { entries } = (await app.inject({ url: "/api/v1/audit?limit=9", headers })).json<{ entries: AuditEntry[] }>();
  expect(entries.map(({ who, via }) => `${who}, ${via}`)).toEqual(Array(5).fill("carol, HTTP from 127.0.0.1"));
  expect(entries.map(({ action, subject, after, error }) => ({ action, subject, after, error }))).toEqual([
    {
      action: "dlq replay",
      subject: { letters: { count: 1, ids: [3] }, sinks: [] },
      after: { sinks: {}, replayed: 1, superseded: 0, failed: 0 },
      error: null,
    },
    { action: "snapshot cancel", subject: { id: 7 }, after: { sinks: {}, cancelled: false }, error: null },
    {
      action: "snapshot start",
      subject: { sinks: [], tables: ["public.t"], isPart: false },
      after: { sinks: {}, tables: [] },
      error: null,
    },
    { action: "pause", subject: { sinks: ["none"] }, after: null, error: "MR1114" },
    { action: "pause", subject: { sinks: ["cache"] }, after: { sinks: {} }, error: null },
  ]);
  const local = served();
  await local.app.inject({ method: "POST", url: "/api/v1/snapshots", payload: { where: "email = 'secret'" } });
  expect(local.kept[0]?.subject).toEqual({ sinks: [], tables: [], isPart: true });
});

test("who gave an order is logged, without conditions and tokens", async () => {
  const { app, logged } = served(GUARDED);
  const headers = { authorization: `Bearer ${ACTS}` };
  await app.inject({ method: "POST", url: "/api/v1/pause", headers, payload: { sink: "cache" } });
  await app.inject({ method: "POST", url: "/api/v1/pause", headers: {}, payload: {} });
  await app.inject({ method: "POST", url: "/api/v1/wait", headers });
  expect(logged).toMatchObject([
    { level: "info", by: "carol", via: "HTTP from 127.0.0.1", order: "POST /api/v1/pause", sink: "cache" },
  ]);
  const local = served();
  const asker = { "user-agent": "millrace (alice)" };
  await local.app.inject({ method: "POST", url: "/api/v1/resume", headers: asker });
  const snapshot = { tables: ["public.t"], where: "email = 'secret'" };
  await local.app.inject({ method: "POST", url: "/api/v1/snapshots", payload: snapshot });
  expect(local.logged).toMatchObject([
    { by: "alice", via: "command line", order: "POST /api/v1/resume" },
    { by: "unknown", via: "socket", order: "POST /api/v1/snapshots", tables: ["public.t"] },
  ]);
  expect(JSON.stringify([logged, local.logged])).not.toMatch(/secret|token-that/);
});

describe("with tokens", () => {
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

  test("health and readiness are open, with a query too; nothing else is", async () => {
    const { app } = served(GUARDED);
    expect((await app.inject("/healthz")).statusCode).toBe(200);
    expect((await app.inject("/healthz?probe=1")).statusCode).toBe(200);
    const readiness = await app.inject("/readyz");
    expect(readiness.statusCode).toBe(503);
    expect(readiness.json()).toEqual({
      ready: false,
      reasons: [
        "sink redis://millrace:***@h is failed and waits for you: MR2001, somebody has to act",
        "sink cache does not take rows, 0.0 s and 0 B of log behind: MR2001",
      ],
    });
    for (const url of ["/metrics", "/api/v1/status", "/api/v1/nope", "/", "/%68ealthz/../metrics"]) {
      const answer = await app.inject(url);
      expect([url, answer.statusCode, answer.headers["www-authenticate"]]).toEqual([url, 401, "Bearer"]);
      expect(answer.json()).toEqual(failure("MR1151"));
    }
  });

  test("a browser without a token gets the page, which asks for one", async () => {
    const { app } = served(GUARDED);
    const answer = await app.inject({ url: "/", headers: { accept: "text/html,*/*" } });
    expect([answer.statusCode, answer.headers["content-type"]]).toEqual([401, "text/html; charset=utf-8"]);
    expect(answer.headers["content-security-policy"]).toContain("script-src 'sha256-");
    expect(answer.body).not.toContain("shop");
  });

  test("while the process waits the page and its documents say for what, and everything else is refused with it", async () => {
    const waiting = { status: statusDocument(), error: AWAY, redact: (json: string) => json };
    const app = createWaitingAdmin(waiting, GUARDED);
    const headers = bearer(ACTS);
    expect((await app.inject({ url: "/", headers })).body).toContain("<html");
    const view = await app.inject({ url: "/api/v1/dashboard?since=", headers });
    expect(view.json()).toMatchObject({ role: "operator", tables: [], history: [] });
    for (const url of ["/healthz", "/readyz", "/api/v1/status", "/api/v1/errors"])
      expect([url, (await app.inject({ url, headers })).statusCode]).toEqual([url, 200]);
    const refused = await app.inject({ method: "POST", url: "/api/v1/pause", headers });
    expect([refused.statusCode, refused.json()]).toEqual([503, failure("MR2001")]);
    expect((await app.inject("/api/v1/dashboard")).statusCode).toBe(401);
  });

  test("a viewer looks, an operator acts, and the word Bearer may be written in any case", async () => {
    const { app, told } = served(GUARDED);
    const act = (token: string) => app.inject({ method: "POST", url: "/api/v1/pause", headers: bearer(token) });
    expect((await app.inject({ url: "/api/v1/status", headers: bearer(LOOKS) })).statusCode).toBe(200);
    expect((await app.inject({ method: "HEAD", url: "/metrics", headers: bearer(LOOKS) })).statusCode).toBe(200);
    expect((await act(LOOKS)).json()).toEqual(failure("MR1152"));
    expect((await act(ACTS.slice(1))).statusCode).toBe(401);
    expect(told).toEqual([]);
    expect((await act(ACTS)).statusCode).toBe(200);
    const lower = { authorization: `bearer ${LOOKS}` };
    expect((await app.inject({ url: "/metrics", headers: lower })).statusCode).toBe(200);
  });
});
