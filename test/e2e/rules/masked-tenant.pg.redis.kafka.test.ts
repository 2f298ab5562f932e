/**
 * Of two tenants with one target, one is masked, and then the other one too: in warehouses, documents, caches, topics of two
 * formats and files, and in all that the daemon says, serves, sends and keeps.
 * @module-tag heavy
 */
import { createServer } from "node:http";
import { expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { CANARY, filesBelow, SHOWN } from "../../support/daemon/canary.ts";
import type { Installation } from "../../support/daemon/daemon-process.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { listener } from "../../support/network/listener.ts";
import { listening as listeningAt } from "../../support/network/listening.ts";
import { eventually } from "../../support/run/waiting.ts";

const LATER = "Zaunkoenig";

const tenant = (name: string, word: string): string => `create schema tenant_${name}; set search_path = tenant_${name};
  create table users (id int primary key, mail text, bio text, n int);
  alter table users alter bio set storage external; alter table users replica identity full;
  create table orders (id int primary key, user_id int, note text);
  insert into users select g, '${word}' || g, repeat('b${word}', 400), g from generate_series(1, 12) g;
  insert into orders select g, 1 + g % 12, '${word}' || g from generate_series(1, 30) g;`;

const MASKS = { columns: { mail: { mask: "redact" }, bio: { mask: "partial" } } };
const NOTES = { columns: { note: { mask: "null" } } };
const ROUTES = { "tenant_*.*": { into: "shared.$2", add: { tenant: "$1" } } };
const RULES = { ...ROUTES, "tenant_a.users": MASKS, "tenant_a.orders": NOTES };
const LATER_RULES = { ...RULES, "tenant_b.users": MASKS, "tenant_b.orders": NOTES };

const documentOf = (name: string): object => ({
  from: `tenant_${name}.orders`,
  with: { user: { from: `tenant_${name}.users`, on: { id: "user_id" } } },
});

/** Whatever it is sent, as its bytes. */
async function receiver() {
  const received: string[] = [];
  const server = createServer((request, response) => {
    request.setEncoding("latin1").on("data", (part: string) => received.push(`${request.url} ${part}`));
    request.on("end", () => response.writeHead(200).end());
  });
  const opened = await listeningAt(server);
  return Object.assign(opened, { endpoint: `http://${opened.host}`, received });
}

const PATHS = ["status", "reports", "dashboard", "audit", "snapshots", "errors", "openapi.json"];

type Place = readonly [name: string, text: string];

async function letterIds(installation: Installation): Promise<readonly string[]> {
  const { stdout } = await installation.command("dlq", "list", "--all", "--json");
  const { letters }: { letters: readonly { id: number }[] } = JSON.parse(stdout);
  return letters.map(({ id }) => String(id));
}

async function places(pipeline: RunningPipeline, heard: readonly { text: string }[], listen: string): Promise<Place[]> {
  const { installation, daemon, sinks } = pipeline;
  const found: Place[] = [
    ["log", daemon.said],
    ["webhook", heard.map(({ text }) => text).join()],
  ];
  for (const table of ["users", "orders"]) {
    for (const space of ["shared", "soft"]) {
      const { rows } = await sinks.target!.query(`select t::text from "${space}".${table} t`);
      found.push([`postgres ${space}.${table}`, JSON.stringify(rows)]);
    }
    const asked = ["query", `select * from shared.${table}`, "--sink", "duckdb", "--json"];
    found.push([`duckdb ${table}`, (await installation.command(...asked)).stdout]);
  }
  for (const name of ["a", "b"]) {
    const asked = ["query", `select * from "documents.orders_${name}"`, "--sink", "sqlite", "--json"];
    found.push([`documents ${name}`, (await installation.command(...asked)).stdout]);
  }
  using cache = pipeline.cache();
  for (const key of await cache.keys(`${sinks.keyPrefix}*`))
    if ((await cache.type(key)) === "hash") found.push([`redis ${key}`, JSON.stringify(await cache.hgetall(key))]);
  for (const topic of await sinks.topics!.names()) {
    const records = await sinks.topics!.read(topic);
    found.push([`topic ${topic}`, records.map(({ key, value }) => `${key} ${value}`).join("\n")]);
  }
  for (const args of [
    ["status", "--tables"],
    ["dlq", "list", "--all", "--json"],
    ["reconcile", "--report", "./reports", "--json"],
    ["audit", "list", "--json"],
    ["rules", "try", "tenant_a.users"],
    ["documents", "show", "orders_a", "3"],
    ["documents", "show", "orders_a", "3", "--json"],
    ["documents", "plan", "--json"],
    ["rules", "try", "tenant_a.orders", "--json"],
    ["report", "show", "--json"],
    ["reconcile", "--deep", "--json"],
    ["snapshot", "list", "--json"],
    ["schema", "show", "tenant_a.users", "--json"],
    ["query", "select cast(mail as int) from shared.users", "--sink", "duckdb"],
    ["check"],
    ["schema", "list"],
    ["explain", "MR3111"],
    ["reconcile", "--show-values", "--json"],
    ["report", "show"],
    ...(await letterIds(installation)).map((id) => ["dlq", "show", id, "--show-values"]),
  ]) {
    const { stdout, stderr } = await installation.command(...args);
    found.push([args.join(" "), stdout + stderr]);
  }
  for (const path of ["/", "/metrics", "/readyz", ...PATHS.map((name) => `/api/v1/${name}`)]) {
    const answer = await fetch(`http://${listen}${path}`);
    found.push([`GET ${path}`, await answer.text()]);
    expect([200, 503], path).toContain(answer.status);
  }
  for (const [name, text] of filesBelow(installation.folder, ["millrace.yaml"])) found.push([`file ${name}`, text]);
  return found;
}

const having = (text: string, among: readonly Place[]): string[] =>
  among.filter(([, content]) => content.includes(text)).map(([name]) => name);

test("what one tenant's rules hide, and later the other's, is nowhere", async () => {
  await using listening = await listener();
  await using telemetry = await receiver();
  const listen = `127.0.0.1:${await freePort()}`;
  let config: PipelineConfig | null = null;
  await using pipeline = await RunningPipeline.start(`${tenant("a", CANARY)} ${tenant("b", SHOWN)}`, {
    kinds: ["postgres", "postgres-soft", "duckdb", "redis", "kafka", "files", "sqlite"],
    configure: (made) => {
      const { kafka, sqlite, files } = made.sinks;
      const prefix = Object.entries(kafka!).find(([key]) => key === "prefix")?.[1];
      config = {
        ...made,
        source: { ...made.source, tables: ["tenant_*.*"] },
        tables: RULES,
        documents: { orders_a: documentOf("a"), orders_b: documentOf("b") },
        notify: { webhook: listening.url, after: "0s" },
        admin: { listen },
        telemetry: { otlp: { endpoint: telemetry.endpoint, interval: "5s", traces: { share: 1 } } },
        sinks: {
          ...made.sinks,
          files: { ...files, format: "ndjson" },
          sqlite: { ...sqlite, documents: ["orders_a", "orders_b"] },
          debezium: { ...kafka, prefix: `${prefix}d-`, format: "debezium" },
        },
      };
      return config;
    },
  });
  const { installation, sinks } = pipeline;
  await pipeline.settled();
  await sinks.target!.query("alter table shared.users add constraint small check (n < 1000)");
  await pipeline.run(`update tenant_a.users set n = 2000 where id = 3; update tenant_a.users set mail = mail || 'x', n = n + 1 where id < 8;
    update tenant_b.users set n = n + 1; delete from tenant_a.users where id = 9; delete from tenant_b.users where id in (9, 10);
    delete from tenant_b.orders where id = 30; update tenant_a.users set id = 112 where id = 12; update tenant_a.orders set note = note || 'y'`);
  const letters = async () =>
    await eventually(async () => {
      const { sinks: all } = await installation.status();
      expect(all.find(({ name }) => name === "postgres")?.deadLetters).toBe(1);
    });
  await letters();
  await pipeline.settled();
  await sinks.target!.query(
    "update shared.users set mail = 'planted' where id = 5; delete from shared.orders where id = 7",
  );
  const first = await places(pipeline, listening.heard, listen);
  expect(having(CANARY, first)).toEqual([]);
  expect(having("[redacted]", first)).toContainEqual(expect.stringMatching(/^dlq show \d+ --show-values$/));
  expect(having("planted", first)).toContain("reconcile --show-values --json");
  for (const what of [/^postgres soft/, /^duckdb/, /^documents b/, /^topic .*d-/, /^file .*ndjson/])
    expect(having(SHOWN, first)).toContainEqual(expect.stringMatching(what));
  // From here on the other one's values are hidden too; files and topics keep what they got.
  await pipeline.daemon.stop();
  await pipeline.run(`update tenant_b.users set mail = '${LATER}' where id < 6; delete from tenant_b.users where id = 3;
    delete from tenant_a.users where id = 3`);
  installation.configure({ ...config!, tables: LATER_RULES });
  await pipeline.start();
  await pipeline.settled();
  await pipeline.run("delete from tenant_b.users where id = 4; update tenant_b.orders set note = 'z'");
  await pipeline.settled();
  const second = await places(pipeline, listening.heard, listen);
  expect(having(CANARY, second)).toEqual([]);
  await eventually(() =>
    ["/v1/traces", "/v1/metrics"].every((path) => telemetry.received.some((text) => text.startsWith(path))),
  );
  expect(telemetry.received.filter((text) => text.includes(CANARY) || text.includes(SHOWN))).toEqual([]);
  expect(having(LATER, second)).toEqual([]);
  expect(having(SHOWN, second).filter((name) => !/^(topic|file)/.test(name))).toEqual([]);
  const marked = async (name: string) =>
    (
      await sinks.target!.query(
        `select id, mail from soft.users where _millrace_deleted and tenant = '${name}' order by id`,
      )
    ).rows;
  // Rows of the tenant whose rules are as before keep what these let through.
  expect(await marked("a")).toEqual(["3", "9", "12"].map((id) => ({ id, mail: "[redacted]" })));
  expect(await marked("b")).toEqual([
    { id: "3", mail: null },
    { id: "4", mail: "[redacted]" },
    { id: "9", mail: null },
    { id: "10", mail: null },
  ]);
});
