/** What the sink makes of servers that refuse, each on a server of its own. */
import { randomUUID } from "node:crypto";
import { inspect } from "node:util";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { definition, factory } from "../../connectors/redis/config.ts";
import type { Finding } from "../../src/core/contracts/connector.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { failure, put, remove, Reports, rowsBatch, timeout, type Write } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { ownAddress } from "../support/network/own-address.ts";
import { selfSigned } from "../support/network/certificate.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { caches, freshKeyPrefix, ownRedis, redisUrl } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const CANARY = "canary-7f3a";
const users = tableVersion({ table: "users", columns: { id: "int8", name: "text" } });

function contextOf(options: object) {
  return { name: "cache", daemon: "shop", folder: "/", options: definition.parse(options) };
}

async function sinkOn(options: object): Promise<Sink & AsyncDisposable> {
  const sink = await factory.create(contextOf(options), quietLog);
  return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
}

const prepared = new WeakSet<Sink>();

async function write(sink: Sink, at: bigint, count = 1, size = 1): Promise<void> {
  const rows = Array.from({ length: count }, (_, i) => put([`${i}`, "x".repeat(size)]));
  if (!prepared.has(sink)) await sink.prepare([users], timeout());
  prepared.add(sink);
  await sink.apply(rowsBatch(at, [users, rows]), new Reports(), timeout());
}

function byId(findings: readonly Finding[], id: string): string | undefined {
  return findings.find((finding) => finding.id === id)?.level;
}

test("no server, no name, no number: each its own error", async () => {
  const found = async (url: string) => {
    await using sink = await sinkOn({ url });
    const { code, kind, hint } = await failure(sink.open(1, timeout()));
    expect(hint).toBeTruthy();
    return [code, kind];
  };
  expect(await found("redis://127.0.0.1:1/0")).toEqual(["MR2001", "retryable"]);
  expect(await found("redis://no-such-host.invalid/0")).toEqual(["MR2001", "retryable"]);
  expect(await found(`${redisUrl()}/99`)).toEqual(["MR2004", "blocked"]);
  expect(await found("redis://127.0.0.1:1/x")).toEqual(["MR2004", "fatal"]);
});

test("a wrong password waits for somebody, and nobody is told which", async () => {
  await using server = await ownRedis();
  const admin = new Redis(server.url);
  await admin.config("SET", "requirepass", CANARY);
  admin.disconnect();
  const { host } = new URL(server.url);
  for (const url of [`redis://${host}`, `redis://:wrong-${CANARY}@${host}`, `redis://nobody:${CANARY}@${host}`]) {
    await using sink = await sinkOn({ url });
    const error = await failure(sink.open(1, timeout()));
    expect([error.code, error.kind]).toEqual(["MR2002", "blocked"]);
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(CANARY);
    const findings = await factory.check(contextOf({ url }), timeout());
    expect(byId(findings, "redis.connect")).toBe("error");
    expect(JSON.stringify(findings)).not.toContain(CANARY);
  }
  await using sink = await sinkOn({ url: `redis://:${CANARY}@${host}` });
  await sink.open(1, timeout());
  await write(sink, 10n);
});

test("a user that is gone, off or lacks a command is told while it is connected, and let in again", async () => {
  await using server = await ownRedis();
  const admin = new Redis(server.url);
  const user = async (...rules: readonly string[]) => await admin.call("ACL", "SETUSER", "millrace", ...rules);
  await user("on", `>${CANARY}`, "allkeys", "allcommands");
  const { host } = new URL(server.url);
  await using sink = await sinkOn({ url: `redis://millrace:${CANARY}@${host}` });
  await sink.open(1, timeout());
  await write(sink, 1n);
  let at = 1n;
  const kept = async (): Promise<string> => {
    const { code, kind } = await failure(sink.verify(timeout()).then(() => write(sink, ++at)));
    return `${code} ${kind}`;
  };
  await user("-evalsha", "-eval");
  expect(await kept()).toBe("MR2008 blocked");
  await user("+evalsha", "+eval");
  await write(sink, ++at);
  await admin.call("ACL", "DELUSER", "millrace");
  // The server ends its connections.
  await eventually(async () => expect(await kept()).toBe("MR2002 blocked"));
  await user("on", `>${CANARY}`, "allkeys", "allcommands");
  await sink.open(1, timeout());
  await write(sink, ++at);
  // It keeps those of one that is off.
  await user("off");
  await write(sink, ++at);
  await admin.call("CLIENT", "KILL", "USER", "millrace");
  await eventually(async () => expect(await kept()).toBe("MR2002 blocked"));
  await user("on");
  await sink.open(1, timeout());
  await write(sink, ++at);
  admin.disconnect();
});

/** What the script calls for a row that it writes, deletes or looks up, and for the fence. */
const CALLED = ["get", "hget", "hmget", "set", "del", "exists"];

test.each(caches())(
  "$name: a command that the user may no longer call in a script is told, and no row goes back",
  async ({ url }) => {
    const admin = new Redis(url());
    const name = `cache_${randomUUID().slice(0, 8)}`;
    const user = async (...rules: readonly string[]) => await admin.call("ACL", "SETUSER", name, ...rules);
    const own = new URL(url());
    own.username = name;
    own.password = CANARY;
    await using keys = freshKeyPrefix(url());
    try {
      await user("on", `>${CANARY}`, "allkeys", "allcommands");
      await using sink = await sinkOn({ url: own.href, prefix: keys.prefix });
      const apply = async (at: bigint, ...rows: readonly Write[]): Promise<void> => {
        const reports = new Reports();
        await sink.apply(rowsBatch(at, [users, rows]), reports, timeout());
        expect(reports.poisons).toEqual([]);
      };
      const there = async () =>
        await Promise.all(["1", "2"].map((id) => admin.exists(`${keys.prefix}public:users:${id}`)));
      let lease = 1;
      await sink.open(lease, timeout());
      await sink.prepare([users], timeout());
      await apply(10n, put(["1", "a"]), put(["2", "b"]), put(["3", "c"]));
      await apply(20n, remove(["1", null]));
      // Of an older read.
      const late = [put(["1", "a"], { at: 15n }), put(["2", "d"], { at: 25n }), remove(["3", null], { at: 25n })];
      for (const command of CALLED) {
        await user(`-${command}`);
        const told = await failure(apply(30n, ...late));
        expect({ command, told }).toMatchObject({ told: { code: "MR2008", kind: "blocked" } });
        expect(await there()).toEqual([0, 1]);
        await user(`+${command}`);
        await sink.open(++lease, timeout());
        await sink.prepare([users], timeout());
      }
      await apply(30n, ...late);
      expect(await there()).toEqual([0, 1]);
      expect(await admin.hget(`${keys.prefix}public:users:2`, "name")).toBe("d");
    } finally {
      await admin.call("ACL", "DELUSER", name);
      admin.disconnect();
    }
  },
);

test("a server that takes no client says why, and its limit", async (context) => {
  await using server = await ownRedis({ settings: { bind: "* -::*" } });
  const admin = new Redis(server.url);
  await using sink = await sinkOn({ url: server.url });
  await sink.open(1, timeout());
  await admin.config("SET", "maxclients", "2");
  await using other = await sinkOn({ url: server.url });
  expect(await failure(other.open(2, timeout()))).toMatchObject({ code: "MR2006", kind: "retryable" });
  await sink.open(3, timeout());
  await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  await admin.config("SET", "maxclients", "1");
  const full = async () => await failure(sink.verify(timeout()));
  await eventually(async () => expect((await full()).code).toBe("MR2006"));
  expect((await full()).message).toMatch(/no connection left .*: maxclients was 10000 when Millrace asked last$/);
  await admin.config("SET", "maxclients", "100", "protected-mode", "yes");
  await sink.open(4, timeout());
  const url = new URL(server.url);
  url.hostname = ownAddress(context);
  for (const login of ["", CANARY]) {
    url.password = login;
    await using far = await sinkOn({ url: url.href });
    expect(await failure(far.open(5, timeout()))).toMatchObject({
      code: "MR2002",
      kind: "blocked",
      message: expect.stringContaining("protected mode"),
      hint: expect.stringContaining("CONFIG SET protected-mode no"),
    });
  }
  await admin.config("SET", "protected-mode", "no");
  url.password = "";
  await using far = await sinkOn({ url: url.href });
  await far.open(6, timeout());
  admin.disconnect();
});

test("the permissions that the error page names are enough, and less is a fatal error", async () => {
  await using server = await ownRedis();
  const admin = new Redis(server.url);
  const grants =
    "~shop:* +eval +evalsha +script|load +hget +hmget +hgetall +hset +hlen +hdel +get +getrange +set +del +exists +scan +wait +select +ping";
  await admin.call("ACL", "SETUSER", "millrace", "on", `>${CANARY}`, ...grants.split(" "));
  await admin.call("ACL", "SETUSER", "weak", "on", `>${CANARY}`, "~shop:*", "+hget", "+ping");
  admin.disconnect();
  const { host } = new URL(server.url);
  await using sink = await sinkOn({ url: `redis://millrace:${CANARY}@${host}`, prefix: "shop:" });
  await sink.open(1, timeout());
  await write(sink, 10n, 50);
  await sink.verify(timeout());
  await using weak = await sinkOn({ url: `redis://weak:${CANARY}@${host}`, prefix: "shop:" });
  expect((await failure(weak.open(2, timeout()))).code).toBe("MR2008");
  await using outside = await sinkOn({ url: `redis://millrace:${CANARY}@${host}`, prefix: "other:" });
  expect((await failure(outside.open(2, timeout()))).code).toBe("MR2008");
});

test("a full server is waited for, and the step then holds", async () => {
  await using server = await ownRedis({ settings: { maxmemory: "3mb", "maxmemory-policy": "noeviction" } });
  const admin = new Redis(server.url);
  await using sink = await sinkOn({ url: server.url });
  await sink.open(1, timeout());
  const error = await failure(write(sink, 10n, 5_000, 2_000));
  expect([error.code, error.kind]).toEqual(["MR2006", "blocked"]);
  expect(error.message).toMatch(/maxmemory is 3,145,728 bytes, and [\d,]+ are used/);
  await admin.config("SET", "maxmemory", "0");
  await write(sink, 10n, 5_000, 2_000);
  expect(await admin.dbsize()).toBe(5_003);
  admin.disconnect();
});

test.each(["proto-max-bulk-len", "client-query-buffer-limit"])(
  "a server with a smaller %s gets rows that fit, counted in bytes, and a row that does not is poison",
  async (name) => {
    await using server = await ownRedis({ settings: { [name]: "1mb" } });
    await using sink = await sinkOn({ url: server.url });
    await sink.open(1, timeout());
    await sink.prepare([users], timeout());
    // Two bytes a character.
    const rows = [200_000, 250_000, 270_000, 250_000, 1].map((length, i) => put([`${i}`, "é".repeat(length)]));
    const reports = new Reports();
    await sink.apply(rowsBatch(10n, [users, rows]), reports, timeout());
    expect(reports.poisons.map(({ entry, error }) => [entry, error.code])).toEqual([[2, "MR3111"]]);
    const admin = new Redis(server.url);
    expect(await admin.dbsize()).toBe(7);
    admin.disconnect();
  },
);

test("a server that ends large clients is told of by its setting, with the value that lets the sink write", async () => {
  await using server = await ownRedis({ settings: { "maxmemory-clients": "2mb" } });
  await using sink = await sinkOn({ url: server.url });
  await sink.open(1, timeout());
  const error = await failure(write(sink, 10n, 5_000, 2_000));
  expect([error.code, error.kind]).toEqual(["MR2001", "retryable"]);
  expect(error.hint).toMatch(/maxmemory-clients is 2097152\. If it repeats: CONFIG SET maxmemory-clients "0"$/);
  const admin = new Redis(server.url);
  await admin.config("SET", "maxmemory-clients", "0");
  await sink.open(2, timeout());
  await write(sink, 10n, 5_000, 2_000);
  expect(await admin.dbsize()).toBe(5_003);
  admin.disconnect();
});

test("a server that may evict rows is told of, by check and by the sink; an evicted progress key is found", async () => {
  await using server = await ownRedis({ settings: { maxmemory: "6mb", "maxmemory-policy": "allkeys-random" } });
  const admin = new Redis(server.url);
  const checked = async () => byId(await factory.check(contextOf({ url: server.url }), timeout()), "redis.eviction");
  expect(await checked()).toBe("warning");
  await using sink = await sinkOn({ url: server.url });
  await sink.open(1, timeout());
  expect(sink.hints).toMatchObject([{ what: expect.stringContaining("at 6,291,456 bytes the server evicts rows") }]);
  await write(sink, 10n, 100, 2_000);
  for (let i = 0; i < 5; i++) await admin.set(`other${i}`, "x".repeat(1_000_000));
  // A policy that may evict what expires alone, and one without a limit, keep the rows.
  for (const [setting, value] of [
    ["maxmemory-policy", "volatile-lru"],
    ["maxmemory-policy", "allkeys-lru"],
    ["maxmemory", "0"],
  ] as const) {
    await admin.config("SET", setting, value);
    await admin.hsetnx("_millrace:shop.cache", "none", "");
    const isEvicting = value === "allkeys-lru";
    expect(await checked()).toBe(isEvicting ? "warning" : undefined);
    await using again = await sinkOn({ url: server.url });
    await again.open(2, timeout());
    expect(again.hints).toHaveLength(isEvicting ? 1 : 0);
    if (isEvicting) expect(again.hints?.[0]?.what).toMatch(/it has evicted [1-9]\d* keys/);
    await again.verify(timeout());
    expect(again.hints).toHaveLength(isEvicting ? 1 : 0);
  }
  await admin.del("_millrace:shop.cache");
  admin.disconnect();
  expect((await failure(sink.verify(timeout()))).code).toBe("MR3110");
});

test("a server that became a replica is waited for, until somebody makes it a primary", async () => {
  await using server = await ownRedis();
  const admin = new Redis(server.url);
  await using sink = await sinkOn({ url: server.url });
  await sink.open(1, timeout());
  await admin.replicaof("127.0.0.1", 1);
  expect(byId(await factory.check(contextOf({ url: server.url }), timeout()), "redis.role")).toBe("error");
  const error = await failure(write(sink, 10n));
  expect([error.code, error.kind]).toEqual(["MR2006", "blocked"]);
  await admin.replicaof("NO", "ONE");
  await write(sink, 10n);
  admin.disconnect();
});

test("a step waits for the replicas that it is told to wait for", async () => {
  await using server = await ownRedis({ settings: { "repl-diskless-sync-delay": "0" } });
  const replicas = async (options: object) =>
    byId(await factory.check(contextOf({ url: server.url, ...options }), timeout()), "redis.replicas");
  expect(await replicas({})).toBeUndefined();
  expect(await replicas({ waitReplicas: 1 })).toBe("error");
  await using sink = await sinkOn({ url: server.url, waitReplicas: 1 });
  await sink.open(1, timeout());
  await sink.prepare([users], timeout());
  const primary = new Redis(server.url);
  /** Returns with the id of the client that waits for replicas, when there is another one than `known`. */
  const waiting = async (known = ""): Promise<string> => {
    const found = async (): Promise<string> =>
      /^id=(\d+) .* flags=\S*b.* cmd=wait /m.exec(String(await primary.client("LIST")))?.[1] ?? known;
    await eventually(async () => (await found()) !== known);
    return await found();
  };
  const given = new AbortController();
  const stored = failure(sink.apply(rowsBatch(10n, [users, [put(["0", "x"])]]), new Reports(), given.signal));
  const first = await waiting();
  given.abort();
  await stored;
  // Its checkpoint is there: opened again, the sink would pass it for done.
  const opening = sink.open(1, timeout());
  await waiting(first);
  primary.disconnect();
  await using replica = await ownRedis();
  const { hostname, port } = new URL(server.url);
  const admin = new Redis(replica.url);
  await admin.replicaof(hostname, Number(port));
  await eventually(async () => (await admin.info("replication")).includes("master_link_status:up"));
  expect((await opening)?.position).toMatchObject({ commit: 11n });
  expect(await replicas({ waitReplicas: 1 })).toBeUndefined();
  expect(await replicas({ waitReplicas: 2 })).toBe("error");
  expect(await admin.hget("public:users:0", "name")).toBe("x");
  admin.disconnect();
});

test("a node of a cluster and a plain server are told apart", async () => {
  await using server = await ownRedis();
  const findings = await factory.check(contextOf({ url: server.url, cluster: true }), timeout());
  expect(findings.some(({ level }) => level === "error")).toBe(true);
  await using sink = await sinkOn({ url: server.url, cluster: true });
  expect((await failure(sink.open(1, timeout()))).code).toBe("MR2005");
});

test("TLS with an authority of one's own", async () => {
  await using certificate = await selfSigned();
  const { freePort } = await import("../../scripts/services/processes/port.ts");
  const tlsPort = await freePort();
  const { certificatePath, keyPath } = certificate;
  await using stranger = await selfSigned();
  await using _ = await ownRedis({
    settings: {
      "tls-port": String(tlsPort),
      "tls-cert-file": certificatePath,
      "tls-key-file": keyPath,
      "tls-ca-cert-file": certificatePath,
    },
  });
  const url = `rediss://localhost:${tlsPort}`;
  const own = { cert: certificatePath, certKey: keyPath };
  await using trusting = await sinkOn({ url, ca: certificatePath, ...own });
  await trusting.open(1, timeout());
  await write(trusting, 10n);
  const said = async (options: object): Promise<string> => {
    await using sink = await sinkOn(options);
    const { code, kind, message } = await failure(sink.open(2, timeout()));
    return `${code} ${kind} ${message}`;
  };
  expect(await said({ url, ...own })).toMatch(/^MR2003 blocked .* not signed by an authority that is trusted/);
  expect(await said({ url, ca: certificatePath })).toMatch(/^MR2003 blocked .* wants a client certificate/);
  const other = { cert: stranger.certificatePath, certKey: stranger.keyPath };
  expect(await said({ url, ca: certificatePath, ...other })).toMatch(/^MR2003 blocked .* does not accept the client's/);
  expect(await said({ url: `redis://localhost:${tlsPort}` })).toMatch(/^MR2003 blocked .* speaks TLS alone/);
});
