/** The HTTP interface as scripts, supervisors and browsers use it. */
import { describe, expect, test } from "vitest";
import { MillraceError } from "../../src/core/errors.ts";
import { type AdminPort, createAdmin, type Token } from "../../src/ops/admin.ts";

const TOKENS: readonly Token[] = [
  { role: "viewer", token: "token-that-looks" },
  { role: "operator", token: "token-that-acts" },
];

/** An interface over nothing, and what it was told to do. */
function served(tokens: readonly Token[] = []) {
  const told: string[] = [];
  const port: AdminPort = {
    status: async () => ({
      name: "shop",
      phase: "streaming",
      source: {
        kind: "postgres",
        position: null,
        acknowledged: null,
        lagBytes: null,
        lagSeconds: null,
        retainedBytes: null,
        safeBytes: null,
        zeroDates: null,
        safeSeconds: null,
        warnings: [],
        error: null,
        goneBack: null,
        copy: null,
      },
      sinks: [],
      tables: { captured: 0, aside: [], refused: [], unreadable: [] },
      refills: 0,
      snapshots: [],
      reconcile: { next: null, last: null },
      daemon: null,
    }),
    ready: () => false,
    metrics: async () => ({ contentType: "text/plain", text: "m 1\n" }),
    pause: async (sink) => {
      if (sink === "none") throw new MillraceError({ code: "MR1306", kind: "fatal", message: "there is no sink" });
      told.push(`pause ${sink ?? "all"}`);
    },
    resume: async (sink) => void told.push(`resume ${sink ?? "all"}`),
    wait: async (timeoutMs) => ({ reached: timeoutMs > 0, missing: [] }),
    startSnapshot: async () => [],
    snapshots: async () => [],
    cancelSnapshot: async () => false,
    reports: async () => [{ id: "r1", drift: false }],
  };
  return { app: createAdmin(port, tokens), told };
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

  test("a page of another origin can't act, a page of the same can", async () => {
    const { app, told } = served();
    const send = (origin: string) =>
      app.inject({ method: "POST", url: "/api/v1/pause", headers: { host: "127.0.0.1:8642", origin } });
    const foreign = await send("https://elsewhere.example");
    expect(foreign.statusCode).toBe(403);
    expect(foreign.json()).toEqual(failure("MR1157"));
    expect((await send("null")).statusCode).toBe(403);
    expect(told).toEqual([]);
    expect((await send("http://127.0.0.1:8642")).statusCode).toBe(200);
  });

  test("what the daemon refuses keeps its number", async () => {
    const { app } = served();
    const answer = await app.inject({ method: "POST", url: "/api/v1/pause", payload: { sink: "none" } });
    expect({ status: answer.statusCode, body: answer.json() }).toEqual({ status: 409, body: failure("MR1306") });
  });

  test("a path that is not there is an error of the same form", async () => {
    const { app } = served();
    for (const [method, url] of [
      ["GET", "/api/v1/nope"],
      ["GET", "/api/v1/pause"],
    ] as const) {
      const answer = await app.inject({ method, url });
      expect({ status: answer.statusCode, body: answer.json() }).toEqual({ status: 404, body: failure("MR1156") });
    }
  });
});

describe("with tokens", () => {
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

  test("health and readiness are open, with a query too; nothing else is", async () => {
    const { app } = served(TOKENS);
    expect((await app.inject("/healthz")).statusCode).toBe(200);
    expect((await app.inject("/healthz?probe=1")).statusCode).toBe(200);
    expect((await app.inject("/readyz")).statusCode).toBe(503);
    for (const url of ["/metrics", "/api/v1/status", "/api/v1/nope", "/", "/%68ealthz/../metrics"]) {
      const answer = await app.inject(url);
      expect([url, answer.statusCode, answer.headers["www-authenticate"]]).toEqual([url, 401, "Bearer"]);
      expect(answer.json()).toEqual(failure("MR1151"));
    }
  });

  test("a viewer looks, an operator acts, and the word Bearer may be written in any case", async () => {
    const { app, told } = served(TOKENS);
    const act = (token: string) => app.inject({ method: "POST", url: "/api/v1/pause", headers: bearer(token) });
    expect((await app.inject({ url: "/api/v1/status", headers: bearer("token-that-looks") })).statusCode).toBe(200);
    expect(
      (await app.inject({ method: "HEAD", url: "/metrics", headers: bearer("token-that-looks") })).statusCode,
    ).toBe(200);
    expect((await act("token-that-looks")).json()).toEqual(failure("MR1152"));
    expect((await act("token-that-act")).statusCode).toBe(401);
    expect(told).toEqual([]);
    expect((await act("token-that-acts")).statusCode).toBe(200);
    const lower = { authorization: "bearer token-that-looks" };
    expect((await app.inject({ url: "/metrics", headers: lower })).statusCode).toBe(200);
  });
});
