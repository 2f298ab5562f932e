/** `import sequin`, `peerdb`, `flink-cdc`: what is carried over loads; what selects or hides and can't be said does not; no secret is shown. */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { connectors } from "../../connectors/registry.ts";
import type { Imported } from "../../src/cli/import/findings.ts";
import { importedFromFlinkCdc } from "../../src/cli/import/flink-cdc.ts";
import { importedFromPeerdb } from "../../src/cli/import/peerdb.ts";
import { importedFromSequin } from "../../src/cli/import/sequin.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

/** The variables have values that fit: names of hosts and urls too. */
async function load({ config, variables }: Imported<object>) {
  using folder = temporaryFolder();
  const file = folder.file("millrace.yaml");
  writeFileSync(file, stringify(config));
  const environment = Object.fromEntries(
    variables.map(({ name }) => [name, name.endsWith("_URL") ? "http://u:p@h:9200" : "1234"]),
  );
  return await loadConfig(file, { connectors, environment, secrets: new Secrets() });
}

const blockingIn = ({ left }: Imported<object>) => left.filter(({ isBlocking }) => isBlocking).map(({ key }) => key);
const openIn = ({ left }: Imported<object>) => left.filter(({ isNeedless }) => !isNeedless).map(({ key }) => key);

describe("sequin", () => {
  const DATABASE = {
    name: "Production DB",
    hostname: "db.example",
    port: 5433,
    username: "se quin",
    password: "canary",
    database: "app",
    ssl: true,
    slot: { name: "sequin_slot", create_if_not_exists: true },
    publication: { name: "sequin_pub" },
    pool_size: 10,
  };
  const KAFKA = {
    type: "kafka",
    hosts: "k1:9092,k2:9092",
    topic: "users",
    username: "w",
    password: "canary",
    sasl_mechanism: "scram_sha_256",
  };
  const sink = (keys: object) => ({ name: "stream", database: "Production DB", destination: KAFKA, ...keys });
  const imported = (sinks: readonly object[], rest: object = {}, from: string | null = null) =>
    importedFromSequin("sequin.yaml", stringify({ databases: [DATABASE], sinks, ...rest }), from);

  test("databases, tables and destinations are carried over, and load", async () => {
    const made = imported(
      [
        sink({ source: { include_tables: ["public.users", "orders"] } }),
        sink({
          name: "search",
          source: { include_schemas: ["public"], exclude_tables: ["public.jobs"] },
          destination: {
            type: "elasticsearch",
            endpoint_url: "https://es:9200",
            index_name: "i",
            auth_value: "canary",
          },
        }),
        sink({ name: "hook", destination: { type: "webhook", http_endpoint: "e" } }),
      ],
      {
        account: { name: "a" },
        users: [{ email: "a@b", password: "canary" }],
        http_endpoints: [{ name: "e", url: "https://canary@h", encrypted_headers: [{ key: "A", value: "canary" }] }],
      },
    );
    expect(made.config).toEqual({
      name: "production_db",
      source: {
        kind: "postgres",
        url: "postgres://se%20quin:${PRODUCTION_DB_PASSWORD}@db.example:5433/app?sslmode=require",
        publication: "sequin_pub",
        tables: ["public.users", "public.orders", "public.*"],
      },
      sinks: {
        stream: {
          kind: "kafka",
          brokers: ["k1:9092", "k2:9092"],
          topic: "users",
          sasl: { mechanism: "SCRAM-SHA-256", username: "w", password: "${PRODUCTION_DB_STREAM_PASSWORD}" },
          tables: ["public.users", "public.orders"],
        },
        search: {
          kind: "elasticsearch",
          url: "https://es:9200",
          apiKey: "${PRODUCTION_DB_SEARCH_API_KEY}",
          tables: ["public.*", "!public.jobs"],
        },
      },
    });
    expect(blockingIn(made)).toEqual([]);
    expect(openIn(made)).toEqual([
      "backfills",
      "sinks.stream.destination.type",
      "sinks.search.destination.index_name",
      "sinks.hook.destination.type",
    ]);
    expect(JSON.stringify(made)).not.toContain("canary");
    expect(await load(made)).toMatchObject({ name: "production_db", sinks: [{ name: "stream" }, { name: "search" }] });
  });

  test("variables of Sequin's stay; defaults are not shown", () => {
    const database = {
      ...DATABASE,
      hostname: "${DB_HOST:-canary}",
      password: "${DB_PASSWORD:-canary}",
      username: "${DB_USER}",
    };
    const made = importedFromSequin("s", stringify({ databases: [database], sinks: [sink({})] }), null);
    expect(made.config.source.url).toBe(
      "postgres://${DB_USER}:${PRODUCTION_DB_PASSWORD}@${PRODUCTION_DB_HOST}:5433/app?sslmode=require",
    );
    expect(JSON.stringify(made)).not.toContain("canary");
  });

  test("two values never share a variable", () => {
    const made = imported([
      sink({ destination: { ...KAFKA, password: "${PRODUCTION_DB_PASSWORD}" } }),
      sink({ name: "b", destination: { ...KAFKA, password: "${PRODUCTION_DB_PASSWORD}" } }),
    ]);
    expect(made.config.source.url).toContain(":${PRODUCTION_DB_PASSWORD}@");
    expect(made.config.sinks).toMatchObject({
      stream: { sasl: { password: "${PRODUCTION_DB_PASSWORD_2}" } },
      b: { sasl: { password: "${PRODUCTION_DB_PASSWORD_2}" } },
    });
  });

  const FUNCTIONS = {
    functions: [
      { name: "row", type: "path", path: "record" },
      { name: "id", type: "path", path: "record.id" },
      { name: "more", type: "path", path: "record", newly_invented: 1 },
      { name: "code", type: "transform", code: 'def transform(a, r, c, m) do %{id: r["id"]} end' },
    ],
    transforms: [{ name: "old", transform: { type: "path", path: "record" } }],
  };

  test.each([
    [{ filter: "vip" }, ["filter"]],
    [{ filters: [{ column_name: "status", operator: "=", comparison_value: "canary" }] }, ["filters"]],
    [{ filter: "none", transform: "none", routing: "none" }, []],
    [{ transform: "code" }, ["transform"]],
    [{ transform: "id" }, ["transform"]],
    [{ transform: "missing" }, ["transform"]],
    [{ transform: "more" }, ["transform"]],
    [{ transform: { path: "record" } }, ["transform"]],
    [{ transform: "row" }, []],
    [{ transform: "old" }, []],
    [{ routing: "tenants" }, ["routing"]],
    [{ enrichment: "names" }, []],
    [{ actions: ["insert"] }, []],
    [{ newly_invented: 1 }, ["newly_invented"]],
    [{ tables: [{ name: "public.users", group_column_names: ["a"] }] }, []],
    [{ tables: [{ name: "public.users", newly_invented: 1 }] }, ["tables.public.users.newly_invented"]],
    [{ source: { include_tables: ["public.*"] } }, ["source.include_tables"]],
    [{ source: { include_tables: "${TABLES}" } }, ["source.include_tables"]],
    [{ source: { include_tables: [["a"]] } }, ["source.include_tables"]],
    [{ source: { exclude_tables: ["public.a?"] } }, ["source.exclude_tables"]],
    [{ source: { include_schemas: ["a.b"] } }, ["source.include_schemas"]],
    [{ source: { include_schemas: ["a"], include_tables: ["b.c"] } }, ["source.include_tables"]],
    [{ source: { newly_invented: ["a"] } }, ["source.newly_invented"]],
    [{ source: "canary" }, ["source"]],
    [{ table: "users" }, []],
    [{ schema: "public" }, []],
    [{ destination: { ...KAFKA, newly_invented: 1 } }, ["destination.newly_invented"]],
  ])("what selects or hides and can't be said does not load: %o", async (keys, blocking) => {
    const made = imported([sink(keys)], FUNCTIONS);
    expect([...new Set(blockingIn(made))]).toEqual(blocking.map((key) => `sinks.stream.${key}`));
    expect(JSON.stringify(made)).not.toContain("canary");
    if (blocking.length === 0) await load(made);
    else await expect(load(made)).rejects.toThrow(/millrace\.yaml:\d+/);
  });

  test.each([
    ["slot.row_filter", { slot: { name: "s", row_filter: "x" } }],
    ["row_filter", { row_filter: "x" }],
    ["primary.hostname", { primary: { username: "x" } }],
  ])("%s of a database does not load", async (key, keys) => {
    const made = importedFromSequin("s", stringify({ databases: [{ ...DATABASE, ...keys }], sinks: [sink({})] }), null);
    expect(blockingIn(made)).toEqual([`databases.Production DB.${key}`]);
    await expect(load(made)).rejects.toThrow(/millrace\.yaml:\d+/);
  });

  test("a sink of another database, or one that is disabled, is left out; without any the file does not load", async () => {
    const made = imported([sink({ database: "other" }), sink({ name: "off", status: "disabled" })]);
    expect(made.config.sinks).toEqual({ undecided: { kind: "undecided" } });
    await expect(load(made)).rejects.toThrow();
    const same = imported([sink({ name: "a b" }), sink({ name: "a-b" })]);
    expect(blockingIn(same)).toEqual(["sinks"]);
    await expect(load(same)).rejects.toThrow();
    const two = { databases: [DATABASE, { ...DATABASE, name: "other" }] };
    expect(() => imported([], two)).toThrow(/choose one with --from: "Production DB", "other"/);
    expect(imported([sink({ database: "other" })], two, "other").config.name).toBe("other");
  });
});

describe("peerdb", () => {
  const PEERS = `
    -- the peers
    CREATE PEER Shop FROM POSTGRES WITH (
      host = 'db.example', port = '5432', user = 'peer', password = 'cana''ry', database = 'shop');
    CREATE PEER IF NOT EXISTS ch FROM CLICKHOUSE WITH (
      host = 'ch.example', port = 9000, user = 'w', password = 'canary', database = 'dwh', s3_path = 's3://x', secret_access_key = 'canary');
    CREATE PEER pg FROM POSTGRES WITH (host = 'target', port = '5432', user = 'w', password = 'canary', database = 'copy');`;
  const imported = (mirrors: string, from: string | null = null) => importedFromPeerdb("m.sql", PEERS + mirrors, from);

  const MIRROR = "CREATE MIRROR m FROM shop TO pg WITH TABLE MAPPING (public.a:public.a);";

  test.each([
    ["CREATE PEER shop FROM POSTGRES WITH (host = 'other');", /the peer shop twice/],
    [MIRROR, /the mirror m twice/],
    ["CREATE PEER x FROM POSTGRES WITH (host = 'a', Host = 'b');", /the option host in one list twice/],
  ])("what is given twice is refused: %s", (statement, message) => {
    expect(() => imported(MIRROR + statement)).toThrow(message);
    expect(openIn(imported(`${MIRROR} DROP MIRROR m;`))).toContain("drop");
  });

  test("peers, mirrors, names and excluded columns are carried over, and load", async () => {
    const made = imported(`
      CREATE MIRROR IF NOT EXISTS dwh FROM shop TO ch WITH TABLE MAPPING (
        public.orders:orders, "public"."Users":users,
        { from: public.people, to: persons, exclude: [ssn, "Home Address"], key: region }
      ) WITH (do_initial_copy = true, soft_delete = TRUE, sync_interval = 30, synced_at_col_name = '_at');`);
    expect(made.config).toEqual({
      name: "shop",
      source: {
        kind: "postgres",
        url: "postgres://peer:${SHOP_PASSWORD}@db.example:5432/shop",
        tables: ["public.orders", "public.Users", "public.people"],
      },
      sinks: {
        dwh: {
          kind: "clickhouse",
          url: "https://w:${CH_PASSWORD}@ch.example:8443/",
          schema: "dwh",
          deletes: "soft",
        },
      },
      tables: {
        "public.Users": { into: "public.users" },
        "public.people": { into: "public.persons", columns: { ssn: { drop: true }, "Home Address": { drop: true } } },
      },
    });
    expect(openIn(made)).toEqual(["mirror dwh: synced_at_col_name", "peer ch: port", "mirror dwh: public.people"]);
    expect(JSON.stringify(made)).not.toMatch(/canary|cana'ry/);
    await load(made);
  });

  test("what one mirror excludes no sink shows; targets that tables share are left to decide", () => {
    const made = imported(`
      CREATE MIRROR a FROM shop TO ch WITH TABLE MAPPING ({from: t.x, to: all_rows, exclude: [ssn]}, t.y:all_rows) WITH (do_initial_copy = FALSE);
      CREATE MIRROR b FROM shop TO pg WITH TABLE MAPPING (t.x:t.x) WITH (do_initial_copy = 'false');`);
    expect(made.config).toMatchObject({
      source: { tables: ["t.x", "t.y"], snapshot: "none" },
      sinks: { a: { tables: ["t.x", "t.y"] }, b: { kind: "postgres", tables: ["t.x"] } },
      tables: { "t.x": { columns: { ssn: { drop: true } } } },
    });
    expect(JSON.stringify(made.config)).not.toContain("into");
    expect(openIn(made)).toEqual(["peer ch: port", "mirror a: t.x", "mirror a: t.x", "mirror a: t.y"]);
  });

  const WITH = "WITH TABLE MAPPING (t.x:t.x) WITH (do_initial_copy = true";
  test.each([
    ["a script", `CREATE MIRROR m FROM shop TO pg ${WITH}, script = 'function onRow() end')`, ["mirror m: script"]],
    ["an unknown option", `CREATE MIRROR m FROM shop TO pg ${WITH}, row_filter = 'x')`, ["mirror m: row_filter"]],
    [
      "a truth value that is none",
      `CREATE MIRROR m FROM shop TO pg ${WITH}, soft_delete = maybe)`,
      ["mirror m: soft_delete"],
    ],
    [
      "a query",
      "CREATE MIRROR m FROM shop TO pg FOR $$ SELECT * FROM t.x WHERE id BETWEEN {{.start}} AND {{.end}} $$ WITH (mode = 'append')",
      ["mirror m: FOR", "mirror m: mode"],
    ],
    ["an unknown target", `CREATE MIRROR m FROM shop TO nowhere ${WITH})`, ["peer nowhere: type"]],
    [
      "a name with a wildcard",
      'CREATE MIRROR m FROM shop TO pg WITH TABLE MAPPING (t."x*":t.x)',
      ["mirror m: TABLE MAPPING"],
    ],
    [
      "a table without a schema",
      "CREATE MIRROR m FROM shop TO pg WITH TABLE MAPPING (x:x)",
      ["mirror m: TABLE MAPPING"],
    ],
    [
      "two mirrors of one name",
      `CREATE MIRROR "a b" FROM shop TO pg ${WITH}); CREATE MIRROR "a-b" FROM shop TO pg ${WITH})`,
      ["mirrors"],
    ],
    [
      "several publications",
      `CREATE MIRROR m FROM shop TO pg ${WITH}, publication_name = 'p'); CREATE MIRROR n FROM shop TO pg ${WITH})`,
      ["publication_name"],
    ],
    [
      "a copy of some",
      `CREATE MIRROR m FROM shop TO pg ${WITH}); CREATE MIRROR n FROM shop TO pg WITH TABLE MAPPING (t.x:t.x) WITH (do_initial_copy = false)`,
      ["do_initial_copy"],
    ],
  ])("%s does not load", async (_what, sql, blocking) => {
    const made = imported(sql);
    expect(blockingIn(made)).toEqual(blocking);
    await expect(load(made)).rejects.toThrow(/millrace\.yaml:\d+/);
  });

  test.each([
    [
      "CREATE MIRROR m FROM shop TO pg WITH TABLE MAPPING ({from: t.x, to: t.x, rows: 'canary'})",
      /from, to, key or exclude/,
    ],
    ["CREATE PEER x FROM POSTGRES WITH (password = 'canary)", /from its character/],
    ["CREATE MIRROR m FROM shop pg", /`TO` was expected/],
  ])("what can't be read is refused, and not quoted: %s", (sql, message) => {
    expect(() => imported(sql)).toThrow(message);
    expect(() => imported(sql)).not.toThrow(/canary/);
  });

  test("one source at a time; other statements are named", () => {
    const sql = `CREATE MIRROR m FROM shop TO ch ${WITH}); CREATE MIRROR n FROM pg TO ch ${WITH}); DROP MIRROR 'canary';`;
    expect(() => imported(sql)).toThrow(/choose one with --from: "shop", "pg"/);
    const made = imported(sql, "PG");
    expect([made.config.name, Object.keys(made.config.sinks)]).toEqual(["pg", ["n"]]);
    expect(made.left.map(({ key }) => key)).toEqual(expect.arrayContaining(["drop", "mirror m"]));
  });
});

describe("flink-cdc", () => {
  const SOURCE = {
    type: "mysql",
    hostname: "db.example",
    port: 3306,
    username: "root",
    password: "canary",
    tables: String.raw`app_db.\.*, crm.users_[12]`,
    "server-id": "5400-5404",
  };
  const SINK = { type: "kafka", "properties.bootstrap.servers": "k1:9092", topic: "all" };
  const imported = (keys: { source?: object; sink?: object; [key: string]: unknown }) =>
    importedFromFlinkCdc(
      "p.yaml",
      stringify({
        pipeline: { name: "Sync it", parallelism: 2 },
        ...keys,
        source: { ...SOURCE, ...keys.source },
        sink: { ...SINK, ...keys.sink },
      }),
    );

  test("source, sink, routes and transforms are carried over, and load", async () => {
    const made = imported({
      route: [
        { "source-table": "app_db.orders", "sink-table": "ods.orders" },
        { "source-table": String.raw`crm.\.*`, "sink-table": "ods.<>", "replace-symbol": "<>" },
      ],
      transform: [
        {
          "source-table": "app_db.orders",
          projection: "id, total",
          filter: "id > 10 AND state <> 'test'",
          "primary-keys": "id",
        },
        { "source-table": "crm.users_1", projection: String.raw`\*` },
      ],
    });
    expect(made.config).toEqual({
      name: "sync_it",
      source: {
        kind: "mysql",
        url: "mysql://root:${SYNC_IT_PASSWORD}@db.example:3306/",
        tables: ["app_db.*", "crm.users_1", "crm.users_2"],
      },
      sinks: { sink: { kind: "kafka", brokers: ["k1:9092"], topic: "all", format: "debezium", schemas: false } },
      tables: {
        "app_db.orders": {
          into: "ods.orders",
          columns: { only: ["id", "total"] },
          where: "id > 10 AND state <> 'test'",
          key: ["id"],
        },
        "crm.*": { into: "ods.$1" },
        "crm.users_1": {},
      },
    });
    expect(openIn(made)).toEqual([]);
    expect(JSON.stringify(made)).not.toContain("canary");
    await load(made);
  });

  test("Postgres: database, schema and table", async () => {
    const made = imported({
      source: {
        type: "postgres",
        tables: String.raw`shop.public.\.*,shop.crm.(a|b)`,
        "tables.exclude": "shop.public.jobs",
        "slot.name": "s",
        "scan.startup.mode": "latest-offset",
      },
      sink: { type: "elasticsearch", hosts: "http://es:9200,http://es2:9200", username: "u", password: "canary" },
    });
    expect(made.config).toMatchObject({
      source: {
        url: "postgres://root:${SYNC_IT_PASSWORD}@db.example:3306/shop",
        tables: ["public.*", "crm.a", "crm.b", "!public.jobs"],
        snapshot: "none",
      },
      sinks: {
        sink: { url: ["http://u:${SYNC_IT_SINK_PASSWORD}@es:9200", "http://u:${SYNC_IT_SINK_PASSWORD}@es2:9200"] },
      },
    });
    expect(JSON.stringify(made)).not.toContain("canary");
    await load(made);
  });

  test.each([
    ["an expression that no glob says", { source: { tables: String.raw`app.t_[0-9]+` } }, ["source.tables"]],
    ["a table without a database", { source: { tables: "orders" } }, ["source.tables"]],
    ["a reference", { source: { tables: "${T}" } }, ["source.tables"]],
    ["tables that are a list", { source: { tables: ["a.b"] } }, ["source.tables"]],
    ["two databases of Postgres", { source: { type: "postgres", tables: "a.b.c,d.e.f" } }, ["source.tables"]],
    ["exclusions that no glob says", { source: { "tables.exclude": String.raw`app.\w+` } }, ["source.tables.exclude"]],
    [
      "columns that Debezium leaves out",
      { source: { "debezium.column.exclude.list": "a.b.c" } },
      ["source.debezium.column.exclude.list"],
    ],
    ["another key of Debezium's", { source: { "debezium.snapshot.select": "x" } }, ["source.debezium.snapshot.select"]],
    [
      "a position",
      { source: { "scan.startup.mode": "timestamp", "scan.startup.timestamp-millis": 1 } },
      ["source.scan.startup.mode", "source.scan.startup.timestamp-millis"],
    ],
    ["an unknown source", { source: { type: "oracle" } }, ["source.type"]],
    ["an unknown key of the source", { source: { "row.filter": "x" } }, ["source.row.filter"]],
    ["an unknown sink", { sink: { type: "doris" } }, ["sink.type"]],
    [
      "a login at the brokers",
      { sink: { "properties.sasl.jaas.config": "canary" } },
      ["sink.properties.sasl.jaas.config"],
    ],
    [
      "a column that is computed",
      { transform: [{ "source-table": "app_db.a", projection: String.raw`\*, MD5(email) AS email` }] },
      ["transform.0.projection"],
    ],
    [
      "a filter with a function",
      { transform: [{ "source-table": "app_db.a", filter: "UPPER(name) = 'canary'" }] },
      ["transform.0.filter"],
    ],
    [
      "a filter over metadata",
      { transform: [{ "source-table": "app_db.a", filter: "__table_name__ = 'canary'" }] },
      ["transform.0.filter"],
    ],
    ["a key of a transform", { transform: [{ "source-table": "app_db.a", mask: "x" }] }, ["transform.0.mask"]],
    [
      "transforms that overlap",
      {
        transform: [
          { "source-table": "app_db.a", filter: "x = 1" },
          { "source-table": String.raw`app_db.\.*`, filter: "y = 1" },
        ],
      },
      ["transform.1.source-table"],
    ],
    [
      "a transform for tables that no glob says",
      { transform: [{ "source-table": String.raw`app_db.t\d+`, filter: "x = 1" }] },
      ["transform.0.source-table"],
    ],
  ])("%s does not load", async (_what, keys, blocking) => {
    const made = imported(keys);
    expect([...new Set(blockingIn(made))]).toEqual(blocking);
    expect(JSON.stringify(made)).not.toContain("canary");
    await expect(load(made)).rejects.toThrow(/millrace\.yaml:\d+/);
  });

  test("addresses with a protocol, and a login for addresses that are variables", async () => {
    const at = (brokers: string) => imported({ sink: { "properties.bootstrap.servers": brokers } });
    expect((await load(at("PLAINTEXT://k1:9092, k2:9092"))).sinks).toHaveLength(1);
    expect(blockingIn(at("SASL_SSL://k1:9092"))).toEqual(["sink.properties.bootstrap.servers"]);
    const sink = { type: "elasticsearch", topic: null, hosts: "${ES}", username: "w", password: "canary" };
    expect(openIn(imported({ sink }))).toContain("sink.username");
  });

  test("tables that would share a target are left to decide", async () => {
    const made = imported({ route: [{ "source-table": String.raw`app_db.\.*`, "sink-table": "ods.all" }] });
    expect(openIn(made)).toEqual(["route.0.sink-table"]);
    await load(made);
  });
});

test.each([
  [
    "sequin",
    "databases:\n  - name: d\n    hostname: h\n    password: canary\nsinks:\n  - name: s\n    database: d\n    filter: f\n    destination: { type: kafka, hosts: 'k:9092' }\n",
  ],
  [
    "peerdb",
    "CREATE PEER p FROM POSTGRES WITH (host='h', password='canary'); CREATE MIRROR m FROM p TO p WITH TABLE MAPPING (a.b:a.b) WITH (script = 'x')",
  ],
  [
    "flink-cdc",
    "source: { type: mysql, tables: a.b, password: canary }\nsink: { type: doris, password: canary }\npipeline: { name: p }\n",
  ],
])("import %s writes a file, and exits with 3 where something is to be decided", async (tool, text) => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("theirs"), text);
  const made = await runCli(["import", tool, "theirs", "--out", "millrace.yaml"], { folder: folder.path });
  expect([made.exitCode, made.stderr]).toEqual([3, ""]);
  expect(made.stdout).toMatch(/the file does not load before 1 of them are decided: look for `undecided`/);
  const yaml = readFileSync(folder.file("millrace.yaml"), "utf8");
  expect(yaml).toContain(`# Written by \`millrace import ${tool}\``);
  expect(yaml + made.stdout).not.toContain("canary");
  const other = tool === "peerdb" ? "sequin" : "peerdb";
  const refused = await runCli(["import", other, "theirs"], { folder: folder.path });
  expect([refused.exitCode, refused.stderr]).toEqual([
    expect.any(Number),
    expect.stringContaining(`millrace import ${tool} FILE`),
  ]);
});
