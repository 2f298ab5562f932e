/** No secret in any output: passwords that are known by their look are searched for in all that Millrace says and keeps. */
import { writeFileSync } from "node:fs";
import { Redis } from "ioredis";
import { Client } from "pg";
import { stringify } from "yaml";
import { describe, expect, onTestFinished, test } from "vitest";
import { Canary, filesBelow, publicFaceOf } from "../support/daemon/canary.ts";
import { type CliResult, runCli, runHere } from "../support/daemon/cli.ts";
import { Installation } from "../support/daemon/daemon-process.ts";
import { freePort } from "../../scripts/services/processes/port.ts";
import {
  elasticsearchUrl,
  freshDatabase,
  freshIndexPrefix,
  freshKeyPrefix,
  ownPostgres,
  ownRedis,
} from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const RUN_MS_MAX = 4_000;
const canary = new Canary("Url");
const pw = canary.encoded;
const NOBODY = "127.0.0.1:1";

interface Scenario {
  readonly source?: object;
  readonly sinks?: object;
  readonly environment?: Readonly<Record<string, string>>;
  /** What has to be said, so that a scenario that fails for another reason is seen. */
  readonly says: RegExp;
}

const postgres = (url: string) => ({ kind: "postgres", url });
const unused = postgres(`postgres://u@${NOBODY}/d`);

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  "a server that is not there": { source: postgres(`postgres://u:${pw}@${NOBODY}/d`), says: /MR2001|ECONNREFUSED/ },
  "a name that nobody knows": {
    source: postgres(`postgres://u:${pw}@nowhere.invalid/d`),
    says: /MR2001|can't be reached/,
  },
  "a password as a parameter": {
    source: postgres(`postgres://u@${NOBODY}/d?password=${pw}`),
    says: /can't be reached/,
  },
  "a port that is none": { source: postgres(`postgres://u:${pw}@h:port/d`), says: /MR2004|port/ },
  "a parameter that is none": { source: postgres(`postgres://u:${pw}@h/d?sslmod=x`), says: /sslmod/ },
  "a stray percent": { source: postgres(`postgres://u:${pw}%zz@h/d`), says: /hexadecimal/ },
  "a password as it is, not encoded": { source: postgres(`postgres://u:${canary.password}@h:port/d`), says: /source/ },
  "a URL that is none": { source: postgres(`postgres:/u:${pw}@h/d`), says: /MR1005/ },
  "a wrong key beside it": { source: { ...unused, password: canary.password }, says: /MR1004/ },
  "a variable": {
    source: postgres(`postgres://u:\${CANARY}@${NOBODY}/d`),
    environment: { CANARY: pw },
    says: /can't be reached/,
  },
  "a variable that is a whole URL, and wrong": {
    source: postgres("${CANARY}"),
    environment: { CANARY: `postgres//u:${canary.password}@h/d` },
    says: /MR1005/,
  },
  "a secret file": { source: postgres(`postgres://u:\${file:secret}@${NOBODY}/d`), says: /can't be reached/ },
  "a warehouse": { sinks: { w: postgres(`postgres://u:${pw}@${NOBODY}/d`) }, says: /MR2001/ },
  "a cache": {
    sinks: { c: { kind: "redis", url: `redis://u:${pw}@${NOBODY}/0` } },
    says: /c: MR2001: the connection to Redis at 127.0.0.1:\d+ failed/,
  },
  "a cache with a wrong database": {
    sinks: { c: { kind: "redis", url: `redis://u:${pw}@h/x` } },
    says: /c: the database in the sink's url is not a number/,
  },
  "a search engine's login": {
    sinks: { s: { kind: "elasticsearch", url: `http://u:${pw}@${NOBODY}` } },
    says: /s: the search engine at 127.0.0.1:\d+ can't be reached/,
  },
  "a search engine's key": {
    sinks: { s: { kind: "elasticsearch", url: `http://${NOBODY}`, apiKey: canary.password } },
    says: /s: the search engine at 127.0.0.1:\d+ can't be reached/,
  },
  "a search engine's login with a stray percent": {
    sinks: { s: { kind: "elasticsearch", url: `http://u:${pw}%zz@${NOBODY}` } },
    says: /hexadecimal/,
  },
};

/** What the scenario has, in a folder of its own. */
async function prepared({ source, sinks = {} }: Scenario) {
  const folder = temporaryFolder();
  writeFileSync(folder.file("secret"), `${pw}\n`);
  // Sinks come into play where the source works.
  const database = await freshDatabase();
  const followed = source ?? postgres(database.url);
  const config = { name: database.name, source: followed, sinks, admin: { listen: false } };
  writeFileSync(folder.file("millrace.yaml"), stringify(config));
  return {
    path: folder.path,
    /** Fails where a secret is in what the command said or left. */
    expectNone({ stdout, stderr }: CliResult): void {
      expect(canary.foundIn("output", stdout + stderr)).toEqual([]);
      for (const [file, text] of filesBelow(folder.path, ["millrace.yaml", "secret"]))
        expect(canary.foundIn(file, text)).toEqual([]);
    },
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

describe.concurrent("what a failing daemon prints", () => {
  test.each(Object.entries(SCENARIOS))("%s", async (_name, scenario) => {
    await using at = await prepared(scenario);
    const options = { folder: at.path, environment: scenario.environment ?? {}, timeoutMs: RUN_MS_MAX };
    at.expectNone(await runCli(["run", "--once", "--log-level", "debug"], options));
  });
});

describe("what a failing command prints", () => {
  test.each(Object.entries(SCENARIOS))("%s", async (_name, scenario) => {
    await using at = await prepared(scenario);
    const options = { folder: at.path, environment: scenario.environment ?? {} };
    const results = [await runHere(["check"], options), await runHere(["check", "--json"], options)];
    expect(results.map(({ stdout, stderr }) => stdout + stderr).join("")).toMatch(scenario.says);
    expect(results[0]!.exitCode).toBeGreaterThan(0);
    for (const result of results) at.expectNone(result);
  });

  test.each([
    ["an open quote", `source: { kind: postgres, url: "postgres://u:${pw}@h/d }\n`],
    ["an alias", `source: { kind: postgres, url: *CanaryUrlx7Q }\n`],
    ["a tag", `source: { kind: postgres, url: !CanaryUrlx7Q x }\n`],
    ["a second key", `source: { kind: postgres, url: "postgres://u:${pw}@h/d", url: "postgres://u:${pw}@h/e" }\n`],
    ["a list", `source: ["postgres://u:${pw}@h/d"]\n`],
  ])("a config that is not valid: %s", async (_what, text) => {
    using folder = temporaryFolder();
    writeFileSync(folder.file("millrace.yaml"), `name: shop\n${text}sinks: {}\n`);
    for (const args of [["check"], ["check", "--json"], ["run", "--log-level", "debug"]]) {
      const { exitCode, stdout, stderr } = await runHere(args, { folder: folder.path });
      expect(exitCode).toBe(2);
      expect(canary.foundIn(args.join(" "), stdout + stderr)).toEqual([]);
    }
  });

  test.each([
    [["init", "--source", `postgres://u:${pw}@${NOBODY}/d`]],
    [["init", "--source", `postgres://u:${canary.password}@${NOBODY}/d`]],
    [["init", "--source", `mysql://u:${canary.password}@${NOBODY}/d`]],
    [["init", "--source", `postgres://u:${pw}@h:port/%zz`]],
    [["init", "--source", `postgres://u@${NOBODY}/d`, "--sink", `amqp://u:${canary.password}@h`]],
    [["init", "--sorce", `postgres://u:${canary.password}@h/d`]],
    [["init", `--sorce=postgres://u:${canary.password}@h/d`]],
    [[`postgres://u:${canary.password}@h/d`]],
    [["check", `postgres://u:${canary.password}@h/d`]],
    [["status", "-c", `postgres://u:${canary.password}@h/d`]],
  ])("arguments: %j", async (args) => {
    using folder = temporaryFolder();
    for (const more of [[], ["--json"]]) {
      const { exitCode, stdout, stderr } = await runHere([...args, ...more], { folder: folder.path });
      expect(exitCode).toBeGreaterThan(0);
      expect(canary.foundIn("output", stdout + stderr)).toEqual([]);
    }
  });
});

test("a running daemon, its commands, its interface, its state and its sinks", { tags: "heavy" }, async () => {
  const secrets = {
    source: new Canary("Source"),
    target: new Canary("Target"),
    cache: new Canary("Cache"),
    search: new Canary("Search"),
    token: new Canary("Token", "-_.~"),
  };
  await using server = await ownPostgres({ auth: ["host all all 127.0.0.1/32 scram-sha-256"] });
  const socket = {
    url: `postgres://postgres@/postgres?host=${encodeURIComponent(server.socketDir!)}&port=${server.port}`,
  };
  await using admin = await adminOf(socket.url);
  await admin.query(`alter role postgres password ${literal(secrets.source.password)};
    create role writer login superuser password ${literal(secrets.target.password)}`);
  await admin.query("create database shop");
  await admin.query("create database warehouse");
  const over = (user: string, canaryOf: Canary, database: string): string =>
    `postgres://${user}:${canaryOf.encoded}@127.0.0.1:${server.port}/${database}`;
  await using shop = await adminOf(socket.url.replace("/postgres?", "/shop?"));
  await shop.query("create table t (id int primary key, note text); insert into t values (1, 'a')");
  await using cache = await ownRedis();
  const cacheUrl = new URL(cache.url);
  const redis = new Redis({ host: cacheUrl.hostname, port: Number(cacheUrl.port) });
  onTestFinished(() => redis.disconnect());
  await redis.config("SET", "requirepass", secrets.cache.password);
  await using keys = freshKeyPrefix();
  await using indices = freshIndexPrefix();
  const search = new URL(elasticsearchUrl());
  const port = await freePort();
  await using installation = new Installation({
    name: "shop",
    source: { kind: "postgres", url: over("postgres", secrets.source, "shop"), heartbeat: "300ms" },
    sinks: {
      warehouse: { kind: "postgres", url: over("writer", secrets.target, "warehouse") },
      cache: { kind: "redis", url: `redis://:${secrets.cache.encoded}@${cacheUrl.host}/0`, prefix: keys.prefix },
      search: {
        kind: "elasticsearch",
        url: `http://u:${secrets.search.encoded}@${search.host}`,
        prefix: indices.prefix,
        replicas: 0,
      },
    },
    admin: { listen: `127.0.0.1:${port}`, tokens: [{ role: "operator", token: secrets.token.password }] },
  });
  const seen: [string, string][] = [];
  const daemon = installation.run({}, "--log-level", "debug");
  await daemon.streaming();
  const ask = async (path: string, token: string): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { authorization: `Bearer ${token}` } });
    seen.push([path, `${answer.status} ${await answer.text()} ${JSON.stringify([...answer.headers])}`]);
  };
  for (const path of ["/metrics", "/api/v1/status", "/api/v1/snapshots", "/healthz", "/readyz", "/nowhere"]) {
    await ask(path, secrets.token.password);
    await ask(path, "wrong");
  }
  seen.push(["what other users see", publicFaceOf(daemon.pid)]);

  // Now everything fails: a trigger that quotes the password, then passwords that are no longer right.
  await using warehouse = await adminOf(socket.url.replace("/postgres?", "/warehouse?"));
  await warehouse.query(`create function public.quote() returns trigger language plpgsql as $$ begin
      raise exception 'could not connect: %', ${literal(over("writer", secrets.target, "warehouse"))} || ${literal(secrets.target.password)};
    end $$; create trigger quote before insert on public.t for each row execute function public.quote()`);
  await shop.query("insert into t values (2, 'b')");
  await eventually(() => /MR31\d\d/.test(daemon.said));
  await admin.query("alter role postgres password 'another'; alter role writer password 'another'");
  await redis.config("SET", "requirepass", "another");
  await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  await admin.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'millrace'");
  await eventually(() => daemon.exited || /MR2002/.test(daemon.said));
  const commands = [
    ["check"],
    ["check", "--json"],
    ["status"],
    ["status", "--json"],
    ["wait", "--timeout", "1s"],
    ["pause", "--sink", "cache"],
    ["resume"],
    ["snapshot", "start"],
    ["snapshot", "list"],
    ["dlq", "list"],
    ["tail", "--limit", "1"],
    ["run", "--once"],
  ];
  for (const args of commands) {
    const { stdout, stderr } = await installation.command(...args, "--log-level", "debug");
    seen.push([args.join(" "), stdout + stderr]);
  }
  await daemon.stop();
  seen.push(["the daemon's log", daemon.said + (await daemon.ended).stdout]);
  seen.push(...filesBelow(installation.folder, ["millrace.yaml"]));
  const checkpoint = await warehouse.query("select * from _millrace.progress");
  seen.push(["the warehouse's metadata", JSON.stringify(checkpoint.rows)]);
  const dumps = await Promise.all((await redis.keys("*")).map(async (key) => `${key} ${await redis.dump(key)}`));
  seen.push(["the cache", dumps.join("\n")]);
  const found = await fetch(`${search.origin}/${indices.prefix}*,*millrace*/_search?size=1000&expand_wildcards=all`);
  seen.push(["the search engine", await found.text()]);

  expect(seen.every(([, text]) => text !== "")).toBe(true);
  expect(seen.map(([place]) => place)).toContain("shop.db");
  for (const secret of Object.values(secrets))
    expect(seen.flatMap(([place, text]) => secret.foundIn(place, text))).toEqual([]);
});

test("the search for canaries finds each form", () => {
  const text = canary.password;
  for (const form of [text, pw, JSON.stringify(text), JSON.stringify(JSON.stringify(text)), `${text.slice(0, 20)}…`])
    expect(canary.foundIn("x", form)).not.toEqual([]);
  for (const user of ["", "u:", "me:", "you:"])
    expect(canary.foundIn("x", Buffer.from(user + text).toString("base64"))).not.toEqual([]);
  expect(canary.foundIn("x", "nothing to see")).toEqual([]);
});

async function adminOf(url: string): Promise<Client & AsyncDisposable> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
