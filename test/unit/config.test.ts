import { generateKeyPairSync } from "node:crypto";
import { NO_TLS_KEYS } from "../../src/tls/options.ts";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { connectors as registered } from "../../connectors/registry.ts";
import type { Config } from "../../src/config/config.ts";
import { sinkConnector, sourceConnector, type Connectors } from "../../src/config/connectors.ts";
import { ConfigError } from "../../src/config/errors.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { driftMaxOf } from "../../src/rules/merged-rule.ts";
import type { SinkContext, SourceContext } from "../../src/core/contracts/connector.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const sha256 = (token: string) => createHash("sha256").update(token).digest("hex");

/** What the connectors were given, seen through `check`, which has no effects here. */
const seen: (SinkContext<unknown> | SourceContext<unknown>)[] = [];
const factory = {
  create: () => {
    throw new Error("nothing is created while a config is loaded");
  },
  positions: () => {
    throw new Error("no position is spelled while a config is loaded");
  },
  check: async (context: SinkContext<unknown> | SourceContext<unknown>) => {
    seen.push(context);
    return [];
  },
};
const connectors: Connectors = {
  sourceKinds: ["postgres", "mysql"],
  sinkKinds: ["duckdb", "elasticsearch", "postgres", "redis"],
  source: async () =>
    sourceConnector({
      sourceDefinition: z.object({ url: z.string(), slot: z.string().optional() }),
      sourceFactory: factory,
    }),
  sink: async (kind) =>
    kind === "duckdb"
      ? sinkConnector({ definition: z.object({ path: z.string(), threads: z.int().optional() }), factory })
      : sinkConnector({
          definition: z.object({
            url: z.union([z.string(), z.array(z.string())]),
            tls: z.strictObject({ password: z.string() }).optional(),
          }),
          factory,
        }),
};

/** With the real connectors. */
async function registeredProblems(text: string): Promise<readonly string[]> {
  using folder = temporaryFolder();
  writeFileSync(folder.file("millrace.yaml"), `name: other\n${text}\n`);
  const options = { connectors: registered, environment: {}, secrets: new Secrets() };
  const error: unknown = await loadConfig(folder.file("millrace.yaml"), options).catch((e: unknown) => e);
  if (!(error instanceof ConfigError)) throw new Error("the config is right", { cause: error });
  return error.problems.map(({ path, message }) => `${path.join(".")}: ${message}`);
}

interface Loaded {
  readonly config?: Config;
  readonly error?: ConfigError;
  readonly secrets: Secrets;
  readonly folder: string;
}

async function load(text: string, environment: Record<string, string> = {}): Promise<Loaded> {
  using folder = temporaryFolder();
  const file = join(folder.path, "millrace.yaml");
  mkdirSync(folder.file("run"));
  writeFileSync(folder.file("run/password"), "from-a-file\n");
  writeFileSync(file, text);
  const secrets = new Secrets();
  try {
    return { config: await loadConfig(file, { connectors, environment, secrets }), secrets, folder: folder.path };
  } catch (error) {
    if (error instanceof ConfigError) return { error, secrets, folder: folder.path };
    throw error;
  }
}

/** One line per problem: code, line:column, path, message. */
async function problems(text: string, environment?: Record<string, string>): Promise<string[]> {
  const { error } = await load(text, environment);
  expect(error?.code).toBe(error?.problems[0]?.code);
  return (error?.problems ?? []).map((p) => `${p.code} ${p.line}:${p.column} ${p.path.join(".")}: ${p.message}`);
}

const TOKEN = "0123456789abcdef0123456789abcdef";
const BASE = `name: shop
source:
  kind: postgres
  url: postgres://u@h/shop
sinks:
  warehouse:
    kind: duckdb
    path: ./w.duckdb
`;

describe("a config", () => {
  test("that says only what it must has good defaults", async () => {
    const { config, folder } = await load(BASE);
    expect(config).toMatchObject({
      name: "shop",
      folder,
      state: { url: `sqlite:${join(folder, ".millrace/shop.db")}` },
      source: { kind: "postgres", tables: [], snapshot: "initial", heartbeatMs: 10_000 },
      sinks: [
        {
          name: "warehouse",
          kind: "duckdb",
          tables: [],
          onPoison: "deadLetter",
          deadLettersMax: 1_000,
          batch: { rowCountMax: null, byteCountMax: null, delayMs: null, answerMsMax: null },
        },
      ],
      admin: { listen: { host: "127.0.0.1", port: 8642 }, tokens: [], hosts: ["127.0.0.1"] },
    });
  });

  test("may have a state whose password comes from elsewhere", async () => {
    const { config, folder } = await load(`${BASE}state: { url: postgres://m@h/s, passwordFile: ./p }\n`);
    expect(config?.state.url).toBe(`postgres://m@h/s#${join(folder, ".millrace/shop.db")}`);
    await expect(config?.state.freshPassword?.(new AbortController().signal)).rejects.toMatchObject({ code: "MR2901" });
  });

  test("reaches the connectors with its own keys only, filled in", async () => {
    const { config, folder } = await load(
      `name: shop
source: { kind: postgres, url: "\${URL}", slot: "a\${NO:-b}c", tables: ["public.*", "!public.x"], heartbeat: 1.5s }
state: sqlite:/var/lib/m.db
sinks:
  one: { kind: duckdb, path: "lit$\${x}", threads: "\${THREADS}", batch: { rows: 10, bytes: 2MB, delay: 2s }, onPoison: pause }
  two: { kind: redis, url: "redis://:\${file:run/password}@h", tables: ["public.a"] }
admin: { listen: false }
`,
      { URL: "postgres://a:secret-1@h/d", THREADS: "3" },
    );
    seen.length = 0;
    await config?.source.connector.check(AbortSignal.timeout(1000));
    for (const sink of config?.sinks ?? []) await sink.connector.check(AbortSignal.timeout(1000));
    const dropsColumns: unknown = expect.any(Function);
    const chosenKey: unknown = expect.any(Function);
    const zeroDates: unknown = expect.any(Function);
    expect(seen).toEqual([
      {
        chosenKey,
        zeroDates,
        daemon: "shop",
        owner: "shop",
        snapshot: "initial",
        folder,
        tables: ["public.*", "!public.x"],
        options: { url: "postgres://a:secret-1@h/d", slot: "abc" },
      },
      {
        daemon: "shop",
        owner: "shop",
        name: "one",
        folder,
        tables: [],
        dropsColumns,
        options: { path: "lit${x}", threads: 3 },
      },
      {
        daemon: "shop",
        owner: "shop",
        name: "two",
        folder,
        tables: ["public.a"],
        dropsColumns,
        options: { url: "redis://:from-a-file@h" },
      },
    ]);
    expect(config?.sinks[0]?.batch).toEqual({
      rowCountMax: 10,
      byteCountMax: 2 * 1024 * 1024,
      delayMs: 2_000,
      answerMsMax: null,
    });
    expect(config?.source.heartbeatMs).toBe(1500);
    expect(config?.state).toEqual({ url: "sqlite:/var/lib/m.db" });
    expect(config?.admin.listen).toBeNull();
  });
});

describe("comparing the sinks", () => {
  test("happens on demand, without reports, unless the file says otherwise", async () => {
    const { config } = await load(BASE);
    expect(config?.reconcile).toEqual({ schedule: null, continuous: null, reports: null, sign: null });
    expect(driftMaxOf(config!.rules, "public.a")).toBe(0);
  });

  test("goes on all day within a share of time", async () => {
    const { config } = await load(`${BASE}reconcile: { repair: true, continuous: {} }\n`);
    expect(config?.reconcile.continuous).toEqual({ maxAgeMs: 86_400_000, share: 0.05, repairs: true });
    const other = await load(`${BASE}reconcile: { continuous: { maxAge: 2h, share: 12.5% } }\n`);
    expect(other.config?.reconcile.continuous).toEqual({ maxAgeMs: 7_200_000, share: 0.125, repairs: false });
    for (const share of ["0%", "101%", "5", "-1%"])
      expect(await problems(`${BASE}reconcile: { continuous: { share: "${share}" } }\n`)).toHaveLength(1);
  });

  test("signs reports with a key of Ed25519 alone", async () => {
    const pem = (type: "ed25519" | "ec") => {
      const { privateKey } =
        type === "ed25519" ? generateKeyPairSync(type) : generateKeyPairSync(type, { namedCurve: "P-256" });
      return JSON.stringify(privateKey.export({ format: "pem", type: "pkcs8" }));
    };
    const { config } = await load(`${BASE}reconcile: { sign: ${pem("ed25519")} }\n`);
    expect(config?.reconcile.sign?.asymmetricKeyType).toBe("ed25519");
    for (const wrong of [pem("ec"), "x", '""']) {
      expect(await problems(`${BASE}reconcile: { sign: ${wrong} }\n`)).toEqual([
        expect.stringContaining("expected a private key of Ed25519 in PEM"),
      ]);
    }
  });

  test("has its time, its place for reports, and a threshold per table", async () => {
    const { config, folder, secrets } = await load(
      `${BASE}tables: { "public.*": { reconcile: { maxDrift: 5 } }, public.b: { reconcile: { maxDrift: 0 } }, "public.?": {} }
reconcile:
  schedule: "30 2 * * MON-FRI"
  timeZone: Europe/Berlin
  mode: fast
  repair: true
  reports: ./reports
notify:
  webhook: https://user:pw@hooks.example/services/T0/very-secret?key=a1b2
`,
    );
    expect(config?.reconcile).toEqual({
      sign: null,
      continuous: null,
      schedule: {
        cron: "30 2 * * MON-FRI",
        timeZone: "Europe/Berlin",
        mode: "fast",
        repairs: true,
        patienceMs: 60_000,
      },
      reports: { path: join(folder, "reports"), line: 15, column: 12 },
    });
    expect(["public.a", "public.b", "other.a"].map((table) => driftMaxOf(config!.rules, table))).toEqual([5, 0, 0]);
    const said = secrets.redact(
      "POST /services/T0/very-secret?key=a1b2 and https://hooks.example/services/T0/very-secret",
    );
    expect(said).not.toMatch(/very-secret|a1b2/);
    expect(secrets.redact("sent to hooks.example")).toBe("sent to hooks.example");
  });
});

describe("an OpenTelemetry receiver", () => {
  test("has its headers as secrets, and an interval", async () => {
    const { config, secrets, folder } = await load(
      `${BASE}telemetry: { otlp: { endpoint: "https://otel.example:4318", ca: ./ca.pem, headers: { x-tenant: "very-hidden-7f3a" } } }\n`,
    );
    const headers = { "x-tenant": "very-hidden-7f3a" };
    expect(config?.otlp).toEqual({
      endpoint: "https://otel.example:4318",
      headers,
      tls: { ...NO_TLS_KEYS, ca: join(folder, "ca.pem") },
      intervalMs: 30_000,
      traces: null,
    });
    expect(secrets.redact("x-tenant: very-hidden-7f3a to otel.example")).not.toContain("7f3a");
  });

  test.each([
    ["{}", { share: 0.01, slowMs: 1_000 }],
    ["{ share: 1, slowerThan: 250ms }", { share: 1, slowMs: 250 }],
  ])("is sent traces where it shall be: %s", async (traces, expected) => {
    const { config } = await load(`${BASE}telemetry: { otlp: { endpoint: "http://otel:4318", traces: ${traces} } }\n`);
    expect(config?.otlp?.traces).toEqual(expected);
  });
});

describe("bad input", () => {
  test.each<[what: string, text: string, expected: string | string[]]>([
    [
      "an unknown key",
      BASE.replace("url:", "ulr:"),
      ["MR1006 2:1 source.url: missing", 'MR1004 4:3 source.ulr: unknown key; did you mean "url"?'],
    ],
    [
      "another's key",
      `${BASE}    prefix: x_\n`,
      "MR1004 9:5 sinks.warehouse.prefix: unknown key; known here: path, thr",
    ],
    [
      "a common key misspelt",
      `${BASE}    on_poison: pause\n`,
      'MR1004 9:5 sinks.warehouse.on_poison: unknown key; did you mean "onPoison"?',
    ],
    [
      "a target that can't be taken over",
      `${BASE}    onForeign: adopt\n`,
      "MR1005 9:16 sinks.warehouse.onForeign: duckdb can't adopt what another program has filled",
    ],
    [
      "an unknown key at the top",
      `${BASE}schedule: {}\n`,
      "MR1004 9:1 schedule: unknown key; known here: name, source",
    ],
    [
      "an unknown key further down",
      `${BASE}    batch: { row: 1 }\n`,
      'MR1004 9:14 sinks.warehouse.batch.row: unknown key; did you mean "rows"?',
    ],
    [
      "a key of a connector further down",
      BASE.replace("duckdb\n    path: ./w.duckdb", "redis\n    url: r\n    tls: { passwort: x }"),
      [
        "MR1006 9:5 sinks.warehouse.tls.password: missing; expected text",
        'MR1004 9:12 sinks.warehouse.tls.passwort: unknown key; did you mean "password"?',
      ],
    ],
    [
      "a wrong type",
      BASE.replace("./w.duckdb", "[1]"),
      "MR1005 8:11 sinks.warehouse.path: expected text, found a list",
    ],
    [
      "a number that is none",
      `${BASE}    batch: { rows: many }\n`,
      "MR1005 9:20 sinks.warehouse.batch.rows: expected a number, found text",
    ],
    [
      "a number out of range",
      `${BASE}    batch: { rows: 0 }\n`,
      "MR1005 9:20 sinks.warehouse.batch.rows: expected number to be >=1",
    ],
    [
      "a bad duration",
      BASE.replace("  url", "  heartbeat: 10 sec\n  url"),
      "MR1005 4:14 source.heartbeat: expected a duration such as 500ms",
    ],
    [
      "a duration without unit",
      BASE.replace("  url", "  heartbeat: 10\n  url"),
      "MR1005 4:14 source.heartbeat: expected a duration such as 500ms",
    ],
    [
      "a duration out of range",
      BASE.replace("  url", "  heartbeat: 1ms\n  url"),
      "MR1005 4:14 source.heartbeat: expected a duration from 100ms to 1h",
    ],
    [
      "a bad size",
      `${BASE}    batch: { bytes: 64 }\n`,
      "MR1005 9:21 sinks.warehouse.batch.bytes: expected a size such as 512KB",
    ],
    [
      "a wrong word",
      BASE.replace("  url", "  snapshot: initail\n  url"),
      'MR1005 4:13 source.snapshot: expected "initial" or "none"; did you mean "initial"?',
    ],
    [
      "a table without schema",
      BASE.replace("  url", "  tables: [orders]\n  url"),
      "MR1005 4:12 source.tables.0: expected schema.table",
    ],
    [
      "no tables at all",
      BASE.replace("  url", "  tables: []\n  url"),
      "MR1005 4:11 source.tables: expected at least one table",
    ],
    ["a bad name", BASE.replace("name: shop", "name: Shop-1"), "MR1005 1:7 name: expected a lower-case letter"],
    ["a missing name", BASE.replace("name: shop\n", ""), "MR1006 1:1 name: missing; expected"],
    ["an empty value", BASE.replace("postgres://u@h/shop", ""), "MR1006 4:8 source.url: missing; expected text"],
    ["a missing source", "name: shop\nsinks: {}\n", "MR1006 1:1 source: missing; expected a map of keys"],
    [
      "a sink that is no map",
      "name: shop\nsource: { kind: postgres, url: x }\nsinks: { a: 1 }\n",
      "MR1005 3:13 sinks.a: expected a map of keys",
    ],
    [
      "a sink without kind",
      BASE.replace("    kind: duckdb\n", ""),
      "MR1006 6:3 sinks.warehouse.kind: missing; expected text",
    ],
    [
      "none of several types",
      BASE.replace("duckdb\n    path: ./w.duckdb", "redis\n    url: 1"),
      "MR1005 8:10 sinks.warehouse.url: expected text, or expected a list",
    ],
    [
      "an unknown kind",
      BASE.replace("duckdb", "duckdbb"),
      'MR1005 7:11 sinks.warehouse.kind: unknown kind "duckdbb"; did you mean "duckdb"?',
    ],
    [
      "a kind that is far off",
      BASE.replace("kind: postgres", "kind: oracle"),
      'MR1005 3:9 source.kind: unknown kind "oracle"; known here: postgres, mysql',
    ],
    [
      "a bad sink name",
      BASE.replace("warehouse:", '"ware house":'),
      "MR1005 6:3 sinks.ware house: a sink's name is a letter",
    ],
    ["a sink named __proto__", BASE.replace("warehouse:", "__proto__:"), "MR1002 6:3 : no key can be named __proto__"],
    [
      "a mask that an object would lose",
      `${BASE}tables: { public.users: { columns: { __proto__: { mask: redact } } } }\n`,
      "MR1002 9:38 : no key can be named __proto__; where keys are globs, __proto_? fits",
    ],
    [
      "a column given twice, as a number and as a text",
      `${BASE}tables: { public.users: { columns: { 1: { mask: redact }, "1": { rename: x } } } }\n`,
      "MR1002 9:59 : this key is given twice in one map",
    ],
    [
      "a sink given twice",
      `${BASE}  warehouse: { kind: redis, url: x }\n`,
      "MR1002 9:3 : this key is given twice in one map",
    ],
    ["a key given twice", `${BASE}name: shop\n`, "MR1002 9:1 : this key is given twice in one map"],
    ["no YAML", "name: shop\nsource: [\n", "MR1002 3:1 : not valid YAML: "],
    ["an empty file", "", ["MR1006 1:1 name: missing", "MR1006 1:1 source: missing", "MR1006 1:1 sinks: missing"]],
    ["another kind of document", "- a\n- b\n", "MR1005 1:1 : expected a map of keys, found a list"],
    [
      "a state with a key that it does not have",
      `${BASE}state: { url: postgres://m@h/s, pasword: x }\n`,
      "MR1004 9:33 state.pasword: unknown key",
    ],
    ["another state", `${BASE}state: mysql://x\n`, "MR1005 9:8 state: expected sqlite:PATH"],
    [
      "an open address",
      `${BASE}admin: { listen: "0.0.0.0:8642" }\n`,
      "MR1005 9:18 admin.listen: listening beyond loopback needs admin.tokens",
    ],
    [
      "a route without schema",
      `${BASE}tables: { "public.*": { into: orders } }\n`,
      "MR1005 9:31 tables.public.*.into: expected schema.table, such as shared.orders",
    ],
    [
      "a route that names a wildcard which its key does not have",
      `${BASE}tables: { "public.*": { into: shared.orders, add: { tenant: $2 } } }\n`,
      "MR1005 9:61 tables.public.*.add.tenant: $2: the table's key has 1 of * and ?",
    ],
    [
      "a route with a $ that means nothing",
      `${BASE}tables: { "public.*": { into: shared.$x } }\n`,
      "MR1005 9:31 tables.public.*.into: behind $ expected the number of a wildcard, or $$ for a $ itself",
    ],
    [
      "a schedule that is none",
      `${BASE}reconcile: { schedule: "nonsense" }\n`,
      'MR1005 9:24 reconcile.schedule: expected five fields of cron, such as "0 2 * * *"',
    ],
    [
      "a date in place of a schedule",
      `${BASE}reconcile: { schedule: "2026-11-22T02:00:00" }\n`,
      "MR1005 9:24 reconcile.schedule: expected five fields",
    ],
    [
      "a minute that no hour has",
      `${BASE}reconcile: { schedule: "61 2 * * *" }\n`,
      "MR1005 9:24 reconcile.schedule: this is no time of cron: Invalid value for minute: 61",
    ],
    [
      "a time that never comes",
      `${BASE}reconcile: { schedule: "0 0 30 2 *" }\n`,
      "MR1005 9:24 reconcile.schedule: this time never comes",
    ],
    [
      "a time zone that is nowhere",
      `${BASE}reconcile:\n  schedule: "0 2 * * *"\n  timeZone: Europe/Atlantis\n`,
      "MR1005 11:13 reconcile.timeZone: expected a time zone such as Europe/Berlin or UTC",
    ],
    [
      "a webhook that is no address",
      `${BASE}notify: { webhook: "hooks.example" }\n`,
      "MR1005 9:20 notify.webhook: expected https://… or http://…",
    ],
    [
      "a threshold below nothing",
      `${BASE}tables: { public.a: { reconcile: { maxDrift: -1 } } }\n`,
      "MR1005 9:46 tables.public.a.reconcile.maxDrift",
    ],
    [
      "a threshold of no number",
      `${BASE}tables: { public.a: { reconcile: { maxDrift: few } } }\n`,
      "MR1005 9:46 tables.public.a.reconcile.maxDrift: expected a number of rows",
    ],
    ["an open IPv6 address", `${BASE}admin: { listen: "[::]:8642" }\n`, "MR1005 9:18 admin.listen"],
    ["an address that is none", `${BASE}admin: { listen: 8642 }\n`, "MR1005 9:18 admin.listen: expected HOST:PORT"],
    ["a port that is none", `${BASE}admin: { listen: "127.0.0.1:99999" }\n`, "MR1005 9:18 admin.listen"],
    [
      "an unknown role",
      `${BASE}admin: { tokens: [{ role: admin, token: ${TOKEN} }] }\n`,
      'MR1005 9:27 admin.tokens.0.role: expected "viewer" or "operator"',
    ],
    [
      "a token that can be guessed",
      `${BASE}admin: { tokens: [{ role: viewer, token: ${TOKEN.slice(1)} }] }\n`,
      "MR1005 9:42 admin.tokens.0.token: expected 32 characters or more",
    ],
    [
      "a role without a token",
      `${BASE}admin: { tokens: [{ role: viewer }] }\n`,
      "MR1005 9:19 admin.tokens.0: expected either token or sha256",
    ],
    [
      "a token of two roles",
      `${BASE}admin: { tokens: [{ role: viewer, token: ${TOKEN} }, { role: operator, token: ${TOKEN} }] }\n`,
      "MR1005 9:103 admin.tokens.1.token: this token is listed twice",
    ],
    [
      "a host with its port",
      `${BASE}admin: { hosts: ["m.example:80"] }\n`,
      "MR1005 9:18 admin.hosts.0: expected a host name without its port",
    ],
    [
      "a table that is left out, without quotes",
      BASE.replace("postgres://u@h/shop", "postgres://u@h/shop\n  tables: [public.*, ! public.audit]"),
      "MR1002 5:24 : a tag, which has no meaning here; a value that begins with `!` needs quotes",
    ],
    [
      "a tag of another tool",
      `${BASE}maskKey: !env MASK_KEY_OF_THE_SHOP\n`,
      "MR1002 9:15 : a tag, which has no meaning here; a value that begins with `!` needs quotes",
    ],
    [
      "the name of a variable in place of a key",
      `${BASE}maskKey: $MASK_KEY_OF_THE_SHOP\n`,
      "MR1007 9:10 maskKey: this is the name of a variable and not its value; write ${NAME}",
    ],
    [
      "a missing variable",
      BASE.replace("postgres://u@h/shop", "${SHOP_URL}"),
      "MR1007 4:8 source.url: the environment variable SHOP_URL is not set",
    ],
    [
      "a variable in quotes",
      BASE.replace("postgres://u@h/shop", '"x${SHOP_URL}"'),
      "MR1007 4:8 source.url: the environment variable SHOP_URL is not set",
    ],
    [
      "an empty variable",
      BASE.replace("./w.duckdb", "${EMPTY}"),
      "MR1007 8:11 sinks.warehouse.path: the environment variable EMPTY is empty",
    ],
    [
      "a secret file that is no file",
      BASE.replace("./w.duckdb", "${file:/dev/zero}"),
      "MR1007 8:11 sinks.warehouse.path: the secret file /dev/zero can't be read (not a file)",
    ],
    [
      "a secret file that is another file",
      BASE.replace("./w.duckdb", `\${file:${process.execPath}}`),
      `MR1007 8:11 sinks.warehouse.path: the secret file ${process.execPath} can't be read (larger than 64 KB)`,
    ],
    [
      "a file that unfolds to terabytes",
      `${BASE}a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n`,
      "MR1002 1:1 : not valid YAML: its aliases unfold to too much",
    ],
    ["a list that holds itself", `${BASE}tables: &t [*t]\n`, "MR1005 9:12 tables"],
    [
      "a missing secret file",
      BASE.replace("./w.duckdb", "${file:/none/such}"),
      "MR1007 8:11 sinks.warehouse.path: the secret file /none/such can't be read (ENOENT)",
    ],
    [
      "a reference left open",
      BASE.replace("./w.duckdb", '"${HOME"'),
      'MR1007 8:11 sinks.warehouse.path: "${" without its "}"',
    ],
    [
      "a reference that is none",
      BASE.replace("./w.duckdb", '"${A B}"'),
      'MR1007 8:11 sinks.warehouse.path: "${A B}" is not ${VAR}',
    ],
  ])("%s is told with its place", async (_what, text, expected) => {
    const found = await problems(text, { EMPTY: "" });
    const wanted = typeof expected === "string" ? [expected] : expected;
    expect(found.map((line, i) => line.slice(0, wanted[i]?.length))).toEqual(wanted);
  });

  test.each([
    ["reconcile: { repair: true }", "reconcile.repair: has no use without `schedule` or `continuous`"],
    ["reconcile: { timeZone: UTC }", "reconcile.timeZone: has no use without `schedule`"],
    ["reconcile: { mode: fast, continuous: {} }", "reconcile.mode: has no use without `schedule`"],
    ["reconcile: { patience: 5s }", "reconcile.patience: has no use without `schedule`"],
    ["admin: { listen: false, hosts: [m.example] }", "admin.hosts: has no use with `listen: false`"],
    [
      `admin: { listen: false, tokens: [{ role: viewer, token: ${TOKEN} }] }`,
      "admin.tokens: has no use with `listen: false`",
    ],
    ["notify: { webhook: http://h/x, ca: ca.pem }", "notify.ca: has no use with http://"],
    ["telemetry: { otlp: { endpoint: http://h, ca: ca.pem } }", "telemetry.otlp.ca: has no use with http://"],
    ["nest: ./n.db", "nest: has no use without `documents`"],
    [
      "state: { url: postgres://u:p@h/d, passwordFile: ./p }",
      "state.passwordFile: stands beside a password that would then do nothing",
    ],
    [
      "tables: { public.a: { zeroDates: epoch } }",
      "tables.public.a.zeroDates: has no use with a source of kind postgres",
    ],
    [
      "tables: { public.a: { schemaChange: pause, compatibility: full } }",
      "tables.public.a.compatibility: has no use with `schemaChange: pause`",
    ],
  ])("a key that would do nothing is told: %s", async (line, expected) => {
    expect(await problems(`${BASE}${line}\n`)).toEqual([
      expect.stringMatching(new RegExp(`^MR1005 \\d+:\\d+ ${RegExp.escape(expected)}`)),
    ]);
  });

  test.each([
    ["sinks: { c: { kind: redis, url: 'redis://u:p%zz@h' } }", "sinks.c.url: its password has a %"],
    ["sinks: { c: { kind: redis, url: 'redis://u%:p@h' } }", "sinks.c.url: its user has a %"],
    ["sinks: { c: { kind: redis, url: 'redis://h:port' } }", "sinks.c.url: expected redis://"],
    ["sinks: { c: { kind: clickhouse, url: 'http://u:p%zz@h' } }", "sinks.c.url: its password has a %"],
    ["sinks: { c: { kind: elasticsearch, url: 'http://u:p%zz@h' } }", "sinks.c.url: its password has a %"],
    [
      "sinks: { c: { kind: redis, url: redis://h } }\nnotify: { webhook: 'http://u:p%zz@h' }",
      "notify.webhook: its password has a %",
    ],
  ])("a login that can't be decoded is told with its key: %s", async (text, expected) => {
    const [told, ...others] = await registeredProblems(`source: { kind: postgres, url: postgres://h/d }\n${text}`);
    expect([told?.slice(0, expected.length), others]).toEqual([expected, []]);
    expect(told).not.toContain("p%zz");
  });

  test.each([
    [
      "source: { kind: kafka, brokers: [k:1], from: shop }\nretention: { bytes: 1GB }\nsinks: { c: { kind: redis, url: redis://h } }",
      /^retention: has no use with a source of kind kafka/,
    ],
    [
      "source: { kind: mysql, url: mysql://h/d }\nretention: { bytes: 1GB, policy: dropSink }\nsinks: { f: { kind: files, path: f } }",
      /^retention\.policy: dropSink gives up no history, stream or log/,
    ],
    [
      "source: { kind: mysql, url: mysql://h/d }\ntables: { d.a: { droppedColumns: drop } }\nsinks: { c: { kind: redis, url: redis://h } }",
      /^tables\.d\.a\.droppedColumns: has no use: no sink is a warehouse/,
    ],
    [
      "source: { kind: postgres, url: 'postgres://u:p@/d?host=/run', passwordFile: p }\nsinks: { c: { kind: redis, url: redis://h } }",
      /^source\.passwordFile: stands beside a password/,
    ],
    [
      "source: { kind: postgres, url: 'postgres://u@h/d?password=p', passwordFile: p }\nsinks: { c: { kind: redis, url: redis://h } }",
      /^source\.passwordFile: stands beside a password/,
    ],
  ])("a key that would do nothing with these connectors is told: %s", async (text, expected) => {
    expect(await registeredProblems(text)).toEqual([expect.stringMatching(expected)]);
  });

  test("is told all at once, in the order of the file", async () => {
    const { error } = await load(BASE.replace("shop\n", "SHOP\n").replace("duckdb", "duckd").concat("admn: {}\n"));
    expect(error?.problems.map((p) => [p.code, p.line])).toEqual([
      ["MR1005", 1],
      ["MR1005", 7],
      ["MR1004", 9],
    ]);
    expect(error?.message.split("\n")).toHaveLength(3);
    expect(error?.message).toMatch(/millrace\.yaml:9:1: admn: unknown key; did you mean "admin"\?$/);
  });

  test("a missing file is named with the way to get one", async () => {
    const options = { connectors, environment: {}, secrets: new Secrets() };
    const error: unknown = await loadConfig("/none/such.yaml", options).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "MR1001", message: "/none/such.yaml: there is no such config file" });
    expect(error).toHaveProperty("hint", expect.stringContaining("millrace init"));
  });

  test("open addresses are fine with tokens, and loopback without", async () => {
    const open = `${BASE}admin: { listen: "0.0.0.0:1", tokens: [{ role: viewer, token: ${TOKEN} }], hosts: [M.example] }\n`;
    expect((await load(open)).config?.admin).toEqual({
      listen: { host: "0.0.0.0", port: 1 },
      tokens: [{ role: "viewer", name: null, sha256: sha256(TOKEN) }],
      hosts: ["0.0.0.0", "m.example"],
    });
    const hashed = `${BASE}admin: { tokens: [{ role: operator, name: carol, sha256: ${sha256(TOKEN)} }] }\n`;
    expect((await load(hashed)).config?.admin.tokens).toEqual([
      { role: "operator", name: "carol", sha256: sha256(TOKEN) },
    ]);
    for (const address of ["localhost:1", "127.1.2.3:1", "[::1]:1"])
      expect((await load(`${BASE}admin: { listen: "${address}" }\n`)).error).toBeUndefined();
  });
});

describe("a file that others may read or change", () => {
  const exposed = async (mode: number, text: string) => {
    using folder = temporaryFolder();
    const file = join(folder.path, "millrace.yaml");
    writeFileSync(file, text);
    chmodSync(file, mode);
    const options = { connectors, environment: { PW: "hunter22" }, secrets: new Secrets() };
    return (await loadConfig(file, options)).exposure?.what.replace(file, "it") ?? null;
  };
  const WITH = BASE.replace("u@h", "u:hunter22@h");

  test.each([
    [0o600, WITH, null],
    [0o644, WITH, "it holds a password, and others than its owner may read it (mode 0644)"],
    [0o640, WITH, "it holds a password, and others than its owner may read it (mode 0640)"],
    [0o660, WITH, "it holds a password, and others than its owner may change it (mode 0660)"],
    [0o606, WITH, "it holds a password, and others than its owner may change it (mode 0606)"],
    [0o644, BASE, null],
    [0o644, BASE.replace("u@h", "u:${PW}@h"), null],
    [0o644, BASE.replace("h/shop", "h/shop?password=hunter22"), /others than its owner may read it/],
    [0o666, BASE, "every user of this machine may change it (mode 0666)"],
  ])("mode %o", async (mode, text, expected) => {
    const found = await exposed(mode, text);
    if (expected instanceof RegExp) expect(found).toMatch(expected);
    else expect(found).toBe(expected);
  });
});

describe("secrets of a config", () => {
  test("are known, whichever way they came, and also when the config is wrong", async () => {
    const text = BASE.replace("u@h", "u:canary-1@h")
      .replace("./w.duckdb", "${DATA}/w.duckdb")
      .concat(
        '  s: { kind: elasticsearch, url: "${ES}", tls: { password: canary-2 }, tables: ["${SCHEMA}.*"] }\n',
        "  r: { kind: redis, url: 'redis://:${PW}@h/?x_token=canary-5', nonsense: '${OTHER}' }\n",
      );
    const environment = {
      DATA: "/data-folder",
      ES: "http://e:canary%2D3@h",
      PW: "canary-4/@",
      OTHER: "canary-6",
      SCHEMA: "public",
    };
    const { secrets, error } = await load(text, environment);
    expect(error?.code).toBe("MR1004");
    const said = `canary-1 canary-2 canary-3 canary%2D3 canary-4/@ ${encodeURIComponent("canary-4/@")} canary-5 canary-6`;
    expect(secrets.redact(said)).toBe(said.replace(/\S+/g, "***"));
    expect(secrets.redact("/data-folder/w.duckdb public.users shop")).toBe("/data-folder/w.duckdb public.users shop");
    expect(secrets.redact(error?.message ?? "")).toBe(error?.message);
  });
});
