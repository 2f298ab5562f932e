/** `import debezium`: what is carried over, what is named, and that no password is shown. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { connectors } from "../../connectors/registry.ts";
import { importedFrom } from "../../src/cli/import/debezium.ts";
import { parseDebezium } from "../../src/cli/import/debezium-config.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { TableSelection } from "../../src/core/table-selection.ts";
import { columnRuling, mergedRule } from "../../src/rules/merged-rule.ts";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const POSTGRES = {
  "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
  "tasks.max": "1",
  "database.hostname": "db.example",
  "database.port": "5433",
  "database.user": "debezium",
  "database.password": "debezium-canary",
  "database.dbname": "shop",
  "database.sslmode": "require",
  "topic.prefix": "acme.shop",
  "schema.include.list": "public,billing",
  "table.include.list": "public.orders,billing\\.invoice_.*,public.(customers|carts)",
  "column.exclude.list": "public\\.customers\\.password_hash",
  "column.mask.hash.SHA-256.with.salt.salt-canary": "public\\..*\\.email",
  "message.key.columns": "public.carts:owner,slot",
  "slot.name": "dbz",
  "plugin.name": "pgoutput",
  "publication.name": "made_by_admin",
  "publication.autocreate.mode": "disabled",
  "snapshot.mode": "no_data",
  "heartbeat.interval.ms": 5000,
  "decimal.handling.mode": "string",
  "tombstones.on.delete": false,
  "time.precision.mode": "connect",
  "max.batch.size": "2048",
  transforms: "unwrap",
  "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
  "signal.kafka.bootstrap.servers": "k1:9092,k2:9092",
  "made.up": "value-canary",
};

const MYSQL = {
  name: "inventory-connector",
  config: {
    "connector.class": "io.debezium.connector.mysql.MySqlConnector",
    "database.hostname": "mysql",
    "database.user": "${file:/secrets/db.properties:user}",
    "database.password": "${file:/secrets/db.properties:password}",
    "database.server.id": "184054",
    "topic.prefix": "Dbserver 1",
    "database.include.list": "inventory",
    "table.exclude.list": "inventory.audit_.*,inventory.t[0-9]",
    "database.ssl.mode": "verify_identity",
    "database.ssl.truststore": "/etc/trust.jks",
    "schema.history.internal.kafka.bootstrap.servers": "kafka:9092",
    "schema.history.internal.kafka.topic": "schema-changes",
  },
};

const imported = (document: object) => {
  const { kind, config } = parseDebezium("connector.json", JSON.stringify(document));
  return importedFrom(kind, config);
};
const whyOf = ({ left }: ReturnType<typeof imported>) => Object.fromEntries(left.map(({ key, why }) => [key, why]));

test("a Postgres connector: source, tables, rules, and its topics as a sink", () => {
  const made = imported(POSTGRES);
  expect(made.config).toEqual({
    name: "shop",
    source: {
      kind: "postgres",
      url: "postgres://debezium:${SHOP_PASSWORD}@db.example:5433/shop?sslmode=require",
      tables: ["public.orders", "billing.invoice_*", "public.customers", "public.carts"],
      publication: "made_by_admin",
      snapshot: "none",
      heartbeat: "5000ms",
    },
    sinks: {
      stream: {
        kind: "kafka",
        brokers: ["k1:9092", "k2:9092"],
        prefix: "acme.",
        format: "debezium-flat",
        decimals: "string",
        tombstones: false,
      },
    },
    tables: {
      "public.customers": { columns: { password_hash: { drop: true } } },
      "public.*": { columns: { email: { mask: "hash" } } },
    },
    maskKey: "${MASK_KEY}",
  });
  expect(whyOf(made)).toEqual({
    "slot.name": expect.stringContaining("pg_drop_replication_slot('dbz')"),
    "column.mask.hash.SHA-256.with.salt.…": expect.stringContaining("maskKey"),
    "tasks.max": expect.any(String),
    "time.precision.mode": expect.any(String),
    "message.key.columns": expect.stringContaining("partition"),
    "transforms.unwrap": expect.stringContaining("add.fields"),
    "max.batch.size": expect.any(String),
    "made.up": "Millrace does not know this key",
  });
  expect(JSON.stringify(made)).not.toContain("canary");
});

test("a MySQL connector as Kafka Connect's API has it, with a secret store and lists that no glob says", () => {
  const made = imported(MYSQL);
  expect(made.config).toEqual({
    name: "dbserver_1",
    source: {
      kind: "mysql",
      url: "mysql://${DBSERVER_1_USER}:${DBSERVER_1_PASSWORD}@mysql/?ssl-mode=VERIFY_IDENTITY",
      tables: [
        "inventory.*",
        ...["audit_*", ..."0123456789".split("").map((digit) => `t${digit}`)].map((table) => `!inventory.${table}`),
      ],
    },
    sinks: { stream: { kind: "kafka", brokers: ["kafka:9092"], format: "debezium" } },
  });
  expect(made.variables.map(({ name }) => name)).toEqual(["DBSERVER_1_USER", "DBSERVER_1_PASSWORD"]);
  expect(whyOf(made)).toMatchObject({
    "topic.prefix": expect.stringContaining("dbserver_1.<schema>.<table>"),
    "database.ssl.truststore": expect.stringContaining("ssl-ca"),
    "database.server.id": expect.stringContaining("serverId"),
  });
});

test("Avro with a registry; its password is a variable", () => {
  const avro = "io.confluent.connect.avro.AvroConverter";
  const made = imported({
    ...POSTGRES,
    "key.converter": avro,
    "key.converter.schema.registry.url": "http://registry:8081",
    "value.converter": avro,
    "value.converter.schema.registry.url": "http://registry:8081",
    "value.converter.basic.auth.credentials.source": "USER_INFO",
    "value.converter.basic.auth.user.info": "writer:canary-of-registry",
    "value.converter.auto.register.schemas": "false",
  });
  expect(made.config).toMatchObject({
    sinks: {
      stream: {
        encoding: "avro",
        registry: {
          url: "http://registry:8081",
          username: "writer",
          password: "${SHOP_REGISTRY_PASSWORD}",
          register: false,
        },
      },
    },
  });
  const inUrl = imported({
    ...POSTGRES,
    "value.converter": avro,
    "value.converter.schema.registry.url": "http://writer:canary@registry:8081",
  });
  expect(inUrl.config).toMatchObject({ sinks: { stream: { registry: { url: "${SHOP_REGISTRY_URL}" } } } });
  expect(JSON.stringify([made, inUrl])).not.toContain("canary");
  expect(made.left.filter(({ key }) => key.includes("converter"))).toEqual([]);
});

const CONNECTOR = { "connector.class": POSTGRES["connector.class"], "topic.prefix": "shop" };
const TABLES = ["public", "Public", "public2", "inv", "inventory", "tenant_7"].flatMap((schema) =>
  ["orders", "Orders", "order_items", "orders_1", "orders_12", "audit_log", "tmp_x", "a", "b", "users"].map(
    (table) => [schema, table] as const,
  ),
);
const matches = (expressions: readonly string[], name: string) =>
  expressions.some((expression) =>
    new RegExp(`^(?:${expression.replace("(?i)", "").replaceAll("\\,", ",")})$`, "is").test(name),
  );
const sourceOf = (keys: object) => {
  const { config, left } = imported({ ...CONNECTOR, ...keys });
  return { tables: config.source.tables, isBlocked: left.some(({ isBlocking }) => isBlocking) };
};

/** What the expression selects, and whether a glob says so. */
const EXPRESSIONS: readonly (readonly [string, boolean])[] = [
  [String.raw`public\.orders`, true],
  ["public.orders", true],
  ["public.*", true],
  [".*", true],
  [".*orders", true],
  [".*.orders", true],
  [String.raw`public[.]orders`, true],
  [String.raw`^public\.a$|^inv\.b$`, true],
  [String.raw`(?:^public\.(a|b)$)`, true],
  [String.raw`public\.orders(_\d)?`, true],
  [String.raw`public\.orders_[12]{1\,2}`, true],
  [String.raw`(?i)public\.order.?items`, true],
  [String.raw`public\.(?!audit_|tmp_).*`, true],
  [String.raw`public\.(?!orders$).*`, true],
  [String.raw`public\.[^.]+`, true],
  ["[^.]+_items", false],
  [String.raw`public\.orders_\d+`, false],
  [String.raw`tenant_[0-9]+\..*`, false],
  [String.raw`public\.(?!.*_log).*`, true],
  [String.raw`.*(?!audit_).*`, false],
  [String.raw`public\.(?=orders).*`, false],
  [String.raw`public\.\w+`, false],
  [String.raw`(public`, false],
  ["${env:TABLES}", false],
];

test.each(EXPRESSIONS)("the expression %s selects nothing else in an include list", (expression, isKnown) => {
  const { tables = [], isBlocked } = sourceOf({ "table.include.list": expression });
  expect({ isBlocked, isUndecided: tables.includes("undecided") }).toEqual({
    isBlocked: !isKnown,
    isUndecided: !isKnown,
  });
  if (!isKnown) return;
  const selection = new TableSelection(tables);
  for (const [schema, table] of TABLES) {
    const name = `${schema}.${table}`;
    const isMeant = matches([expression], name);
    if (selection.matches(schema, table)) expect([name, isMeant]).toEqual([name, true]);
    // Globs tell capitals from small letters, in what they take.
    else if (name === name.toLowerCase()) expect([name, isMeant]).toEqual([name, false]);
  }
});

test.each(EXPRESSIONS)("the expression %s leaves out all that it says in an exclude list", (expression, isKnown) => {
  const { tables = [], isBlocked } = sourceOf({ "table.exclude.list": expression });
  // `!` within `!` can't be said.
  const isSayable = isKnown && !expression.includes("(?!");
  expect([isBlocked, tables.includes("undecided")]).toEqual([!isSayable, !isSayable]);
  if (!isSayable) return;
  const selection = new TableSelection(tables);
  for (const [schema, table] of TABLES)
    expect([schema, table, selection.matches(schema, table)]).toEqual([
      schema,
      table,
      !matches([expression], `${schema}.${table}`),
    ]);
});

test("both lists: what is in both", () => {
  const both = (schemas: string, tables: string) =>
    sourceOf({ "schema.include.list": schemas, "table.include.list": tables });
  expect(both("public,inv", String.raw`public\.a,other\.b,inv\.c.*`).tables).toEqual(["public.a", "inv.c*"]);
  expect(both("public", String.raw`.*\.a`).tables).toEqual(["public.a"]);
  expect(both("pub.*", String.raw`.*\.a`)).toMatchObject({ isBlocked: true, tables: ["undecided"] });
  expect(both("public", String.raw`other\.a`)).toMatchObject({ isBlocked: true, tables: ["undecided"] });
  // What one expression leaves out, and another one selects.
  expect(sourceOf({ "table.include.list": String.raw`public\.(?!a).*,public\.audit` }).isBlocked).toBe(true);
});

const COLUMNS = ["email", "work_email", "phone", "id", "note"];

test.each([
  String.raw`.*\.phone`,
  "(.*).email",
  "public.*.email",
  "public.users.email",
  String.raw`public\.users\.(email|phone)`,
  String.raw`^public\.u.*\.[ep].*$`,
  String.raw`.*\.\w+_email`,
  String.raw`public\..*\.(?!id$).*`,
  ".*email.*",
  ".*",
  String.raw`.*\.(?<=x)email`,
  "email",
])("columns that %s masks or drops are hidden", (expression) => {
  for (const [key, hiding] of [
    ["column.mask.with.5.chars", "redact"],
    ["column.exclude.list", "drop"],
  ] as const) {
    const { config, left } = imported({ ...CONNECTOR, [key]: expression });
    if (left.some(({ isBlocking }) => isBlocking)) {
      expect(config.tables).toEqual({ "*.*": { columns: { "*": { mask: "undecided" } } } });
      continue;
    }
    const hidingOf = hidings(config.tables ?? {});
    for (const [schema, table] of TABLES)
      for (const column of COLUMNS)
        if (matches([expression], `${schema}.${table}.${column}`) && schema === schema.toLowerCase())
          expect([schema, table, column, hidingOf(schema, table, column)]).toEqual([schema, table, column, hiding]);
  }
});

function hidings(tables: object) {
  const parsed = Object.fromEntries(Object.entries(tables).map(([glob, rule]) => [glob, tableDefinition.parse(rule)]));
  const rules = rulesOf(parsed, {
    maskKey: "0123456789abcdef",
    folder: ".",
    place: String,
    problem: expect.unreachable,
  });
  return (schema: string, table: string, column: string) => {
    const rule = mergedRule(rules, { schema, table });
    const { mask, drop } = rule === null ? { mask: null, drop: false } : columnRuling(rule, column);
    return drop ? "drop" : mask;
  };
}

test("of several keys that hide a column the strictest counts, whichever glob is more exact", () => {
  const { config, left } = imported({
    ...CONNECTOR,
    "column.exclude.list": String.raw`public\..*\.secret`,
    "column.mask.hash.v2.SHA-256.with.salt.x": String.raw`public\.users\.secret,public\.users\.email`,
    "column.mask.with.0.chars": String.raw`public\.u.*\.email`,
    "column.truncate.to.5.chars": String.raw`public\.orders\.note`,
  });
  const hidingOf = hidings(config.tables ?? {});
  expect(hidingOf("public", "users", "secret")).toBe("drop");
  expect(hidingOf("public", "users", "email")).toBe("redact");
  expect(hidingOf("public", "orders", "note")).toBe("redact");
  expect(left.some(({ isBlocking }) => isBlocking)).toBe(false);
});

test("an allow-list of columns: what it does not name goes out from no table", () => {
  const only = (keys: object) => {
    const { config, left } = imported({ ...CONNECTOR, ...keys });
    return { tables: config.tables, isBlocked: left.some(({ isBlocking }) => isBlocking) };
  };
  const include = { "table.include.list": String.raw`public\.users,public\.orders` };
  const known = only({
    ...include,
    "column.include.list": String.raw`public\..*\.id,public\.users\.(email|note)`,
    "column.mask.with.3.chars": String.raw`public\.users\.email`,
  });
  expect(known).toEqual({
    isBlocked: false,
    tables: {
      "public.*": { columns: { only: ["id"] } },
      "public.users": { columns: { only: ["id", "email", "note"], email: { mask: "redact" } } },
    },
  });
  const hidingOf = hidings(known.tables ?? {});
  expect(["id", "email", "note", "phone"].map((column) => hidingOf("public", "users", column))).toEqual([
    null,
    "redact",
    null,
    "drop",
  ]);
  // A mask in another case is repeated; the table that the list names still has to be there.
  const inOtherCase = only({
    "table.include.list": String.raw`A\.a`,
    "column.include.list": String.raw`A\.a\.(id|note)`,
    "column.mask.with.3.chars": String.raw`a\..*\.note`,
  });
  expect(inOtherCase.tables?.["A.a"]).toEqual({
    columns: { only: ["id", "note"], note: { mask: "redact", optional: true } },
  });
  // A table that the list does not name would go out whole.
  expect(only({ ...include, "column.include.list": String.raw`public\.users\.id` }).isBlocked).toBe(true);
  expect(only({ "column.include.list": String.raw`public\.users\.id` }).isBlocked).toBe(true);
  expect(only({ ...include, "column.include.list": String.raw`public\..*\.c\d+` }).isBlocked).toBe(true);
});

test("transforms: those in the list alone, and what one hides stays hidden or stops the config", () => {
  const transformed = (list: string, keys: object) => {
    const named = Object.entries(keys).map(([key, value]) => [`transforms.${key}`, value]);
    return imported({ ...CONNECTOR, transforms: list, ...Object.fromEntries(named) });
  };
  const unwrap = { "unwrap.type": "io.debezium.transforms.ExtractNewRecordState" };
  const exact = {
    "unwrap.add.fields": "op,table,source.ts_ms,lsn",
    "unwrap.delete.tombstone.handling.mode": "rewrite",
  };
  expect(transformed("", unwrap).config).toMatchObject({ sinks: { stream: { format: "debezium" } } });
  const flat = transformed("unwrap", { ...unwrap, ...exact });
  expect(flat.config).toMatchObject({ sinks: { stream: { format: "debezium-flat", tombstones: false } } });
  expect(flat.left.filter(({ isNeedless }) => !isNeedless)).toEqual([]);
  const dropped = whyOf(transformed("unwrap", { ...unwrap, "unwrap.drop.tombstones": "true" }));
  expect(dropped["transforms.unwrap"]).toMatch(/ExtractNewRecordState/);
  const routed = transformed("a,b", {
    "a.type": "org.apache.kafka.connect.transforms.RegexRouter",
    "b.type": "org.apache.kafka.connect.transforms.Flatten$Value",
  });
  const routes = routed.left.filter(({ key }) => key.startsWith("transforms"));
  expect(routes.map(({ key, isBlocking }) => [key, isBlocking])).toEqual([
    ["transforms.a", false],
    ["transforms.b", false],
  ]);
  const masked = transformed("unwrap,m,r", {
    ...unwrap,
    "m.type": "org.apache.kafka.connect.transforms.MaskField$Value",
    "m.fields": "phone",
    "r.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
    "r.exclude": "secret,ssn",
  });
  expect(masked.config.tables).toEqual({
    "*.*": { columns: { phone: { mask: "redact" }, secret: { drop: true }, ssn: { drop: true } } },
  });
  for (const type of ["com.acme.HidePii$Value", "io.debezium.transforms.Filter", ""]) {
    const made = transformed("x", { "x.type": type });
    expect(made.left.filter(({ isBlocking }) => isBlocking).map(({ key }) => key)).toEqual(["transforms.x"]);
  }
  const before = transformed("m", {
    "m.type": "org.apache.kafka.connect.transforms.MaskField$Value",
    "m.fields": "before",
  });
  expect(before.left.some(({ isBlocking }) => isBlocking)).toBe(true);
  const forSome = transformed("unwrap,r", {
    ...unwrap,
    "unwrap.predicate": "isOrder",
    "r.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
    "r.exclude": "before",
  });
  expect(forSome.left.some(({ isBlocking }) => isBlocking)).toBe(true);
});

const OUTBOX = {
  "table.include.list": String.raw`public\.outbox`,
  transforms: "outbox",
  "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
  "transforms.outbox.table.field.event.key": "aggregate_id",
  "transforms.outbox.table.fields.additional.placement": "type:header:eventType, at:envelope",
};

test("of an outbox table go out the columns that its messages have", () => {
  const { config, left } = imported({ ...CONNECTOR, ...OUTBOX });
  expect(config.tables).toEqual({
    "public.outbox": { columns: { only: ["id", "aggregate_id", "payload", "aggregatetype", "type", "at"] } },
  });
  expect(left.some(({ isBlocking }) => isBlocking)).toBe(false);
  for (const keys of [{ "table.include.list": "" }, { "transforms.outbox.predicate": "isOutbox" }]) {
    const unsure = imported({ ...CONNECTOR, ...OUTBOX, ...keys });
    expect(unsure.left.filter(({ isBlocking }) => isBlocking).map(({ key }) => key)).toEqual(["transforms.outbox"]);
  }
});

test.each([
  { transforms: "x", "transforms.x.type": "com.acme.Cast$Value" },
  { transforms: "x", "transforms.x.type": "com.acme.transforms.ExtractNewRecordState" },
  { "value.converter": "com.acme.JsonConverter" },
  { "value.converter": "com.acme.AvroMaskingConverter" },
  { "plugin.name": "wal2json", "slot.stream.params": "filter-tables=public.secrets" },
])("a class that has the name of a known one, or a plugin's parameter, may hide something: %o", (keys) => {
  const { left, config } = imported({ ...CONNECTOR, ...keys });
  expect(left.some(({ isBlocking }) => isBlocking)).toBe(true);
  expect(JSON.stringify(config)).toContain("undecided");
});

test("a key beside the one that counts in its place is named, and what both hide is hidden", () => {
  const made = imported({
    ...CONNECTOR,
    "database.server.name": "other",
    "table.whitelist": "public.users",
    "table.include.list": "public.orders",
    "column.blacklist": "",
    "database.history.kafka.bootstrap.servers": "k:9092",
    "schema.history.internal.kafka.bootstrap.servers": "k:9092",
    "after.state.only": "true",
    transforms: "r,m",
    "transforms.r.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
    "transforms.r.exclude": "ssn",
    "transforms.r.blacklist": "iban",
    "transforms.m.type": "org.apache.kafka.connect.transforms.MaskField$Value",
    "transforms.m.fields": "email",
  });
  expect(made.config.source).toMatchObject({ tables: ["public.orders"] });
  expect(made.config.tables).toEqual({
    "*.*": { columns: { ssn: { drop: true }, iban: { drop: true }, email: { mask: "redact" } } },
  });
  const beside = made.left.filter(({ why }) => why.endsWith("counts in its place"));
  expect(beside.map(({ key }) => key)).toEqual(["database.server.name", "table.whitelist"]);
  expect(made.left.some(({ isBlocking }) => isBlocking)).toBe(false);
});

test("a column that a transform renames is hidden by its own name", () => {
  const { config } = imported({
    ...CONNECTOR,
    transforms: "unwrap,r,m",
    "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    "transforms.r.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
    "transforms.r.renames": "email:mail",
    "transforms.m.type": "org.apache.kafka.connect.transforms.MaskField$Value",
    "transforms.m.fields": "mail",
  });
  const hidingOf = hidings(config.tables ?? {});
  expect(["email", "mail"].map((column) => hidingOf("public", "users", column))).toEqual(["redact", "redact"]);
});

test.each([
  ["columns that swap their names", ["ReplaceField", { renames: "a:b,b:a" }], ["MaskField", { fields: "a" }], "b"],
  [
    "a field that goes to a header",
    ["HeaderFrom", { fields: "b", headers: "h", operation: "move" }],
    ["DropHeaders", { headers: "h" }],
    "b",
  ],
  [
    "a field that another one replaces",
    ["InsertField", { "static.field": "b", "static.value": "x" }],
    ["InsertField", { "topic.field": "c!" }],
    "b",
  ],
  [
    "a value of which a part is left",
    ["Cast", { spec: "price:float64, b:boolean" }],
    ["TimestampConverter", { field: "born", "target.type": "string", format: "yyyy" }],
    "b born",
  ],
  [
    "a moment whose day is gone",
    ["TimestampConverter", { field: "b", "target.type": "Time" }],
    ["Cast", { spec: "price:float64" }],
    "b",
  ],
] as const)("what several transforms hide together is hidden: %s", (_what, one, other, column) => {
  const keys = [["ExtractNewRecordState", {}] as const, one, other].flatMap(([last, options], i) => {
    const type = i === 0 ? `io.debezium.transforms.${last}` : `org.apache.kafka.connect.transforms.${last}$Value`;
    return Object.entries({ type, ...options }).map(([key, value]) => [`transforms.t${i}.${key}`, value]);
  });
  const { config, left } = imported({ ...CONNECTOR, transforms: "t0,t1,t2", ...Object.fromEntries(keys) });
  expect(left.some(({ isBlocking }) => isBlocking)).toBe(false);
  for (const each of column.split(" ")) expect(hidings(config.tables ?? {})("public", "users", each)).not.toBeNull();
});

test("a column is hidden that records have under a name of Avro's", () => {
  const avro = { "value.converter": "io.confluent.connect.avro.AvroConverter", "database.server.name": "shop" };
  const hiddenWith = (keys: object, fields: string) =>
    hidings(
      imported({
        ...CONNECTOR,
        ...keys,
        transforms: "unwrap,m",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.m.type": "org.apache.kafka.connect.transforms.MaskField$Value",
        "transforms.m.fields": fields,
      }).config.tables ?? {},
    );
  const modes = [{ "field.name.adjustment.mode": "AVRO" }, { "sanitize.field.names": "true" }, avro];
  for (const keys of modes) {
    const hidingOf = hiddenWith(keys, "e_mail,_2nd");
    const columns = ["e-mail", "e_mail", "2nd", "_2nd", "email"];
    expect(columns.filter((column) => hidingOf("public", "users", column) !== null)).toEqual(columns.slice(0, 4));
  }
  const ofUnicode = hiddenWith({ "field.name.adjustment.mode": "avro_unicode" }, "e_u002dmail,a_u005fb");
  const columns = ["e-mail", "a_b", "e_mail"];
  expect(columns.filter((column) => ofUnicode("public", "users", column) !== null)).toEqual(["e-mail", "a_b"]);
  const plain = hiddenWith({ ...avro, "sanitize.field.names": "false" }, "e_mail");
  expect(plain("public", "users", "e-mail")).toBeNull();
});

test.each([
  [{ "post.processors": "m", "m.type": "com.acme.Masker", "m.columns": "x" }, ["post.processors: m"]],
  [
    { "post.processors": "r", "r.type": "io.debezium.processors.reselect.ReselectColumnsPostProcessor", "r.x": "y" },
    [],
  ],
  [
    {
      "snapshot.select.statement.overrides": "public.users",
      "snapshot.select.statement.overrides.public.users": "SELECT id FROM users WHERE NOT hidden",
    },
    ["snapshot.select.statement.overrides", "snapshot.select.statement.overrides.public.users"],
  ],
  [{ "snapshot.include.collection.list": "public.users" }, ["snapshot.include.collection.list"]],
  [{ "snapshot.query.mode": "custom" }, ["snapshot.query.mode"]],
  [{ "snapshot.query.mode": "SELECT_ALL", "snapshot.select.statement.overrides": "" }, []],
  [{ ...MYSQL.config, "gtid.source.includes": "36ee75a1-.*" }, ["gtid.source.includes"]],
  [{ ...MYSQL.config, "gtid.source.excludes": "b", "gtid.source.filter.dml.events": "false" }, []],
  // Nothing is read at the start.
  [{ "snapshot.mode": "no_data", "snapshot.include.collection.list": "public.users" }, []],
])("what leaves out values or rows in a way that no rule says stops the config: %o", (keys, blocking) => {
  const { left } = imported({ ...CONNECTOR, ...keys });
  expect(left.filter(({ isBlocking }) => isBlocking).map(({ key }) => key)).toEqual(blocking);
});

const FILTER = {
  transforms: "unwrap,drop",
  "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
  "transforms.drop.type": "org.apache.kafka.connect.transforms.Filter",
  "transforms.drop.predicate": "isTombstone",
  predicates: "isTombstone",
  "predicates.isTombstone.type": "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone",
};

test("a filter of tombstones alone is carried over", () => {
  const { config, left } = imported({ ...CONNECTOR, ...FILTER });
  expect(config.sinks.stream).toMatchObject({ tombstones: false });
  expect(left.some(({ isBlocking, key }) => isBlocking || key.includes("redicate"))).toBe(false);
  for (const keys of [
    { "transforms.drop.negate": "true" },
    { "predicates.isTombstone.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches" },
    { "transforms.drop.predicate": "isOther" },
    { "transforms.drop.type": "com.acme.Filter" },
  ])
    expect(imported({ ...CONNECTOR, ...FILTER, ...keys }).left.some(({ isBlocking }) => isBlocking)).toBe(true);
});

test.each([
  [{ "csfle.enabled": "true" }, ["csfle.enabled"]],
  [{ "csfle.enabled": "false" }, []],
  [
    { "value.converter.rule.executors._default_.param.key": "k" },
    ["value.converter.rule.executors._default_.param.key"],
  ],
])("fields that a registry's rules encrypt are not known: %o", (keys, blocking) => {
  const { left, config } = imported({ ...CONNECTOR, ...keys });
  expect(left.filter(({ isBlocking }) => isBlocking).map(({ key }) => key)).toEqual(blocking);
  expect(JSON.stringify(config).includes("undecided")).toBe(blocking.length > 0);
});

test.each([
  [{ "row.filter.list": "x" }, ["row.filter.list"]],
  [{ "pii.mask.columns": "x" }, ["pii.mask.columns"]],
  [{ "include.query": "true", "debezium.sink.x.filter": "y", "made.up": "z", "row.filter.list": "" }, []],
])("a key that is not known, and may hide something by its name, stops the config: %o", (keys, blocking) => {
  const { left, config } = imported({ ...CONNECTOR, ...keys });
  expect(left.filter(({ isBlocking }) => isBlocking).map(({ key }) => key)).toEqual(blocking);
  expect(JSON.stringify(config).includes("undecided")).toBe(blocking.length > 0);
});

test("lists that the connector of this kind does not read select nothing, and are named", () => {
  const { config, left } = imported({ ...CONNECTOR, "database.include.list": "other" });
  expect(config.source).not.toHaveProperty("tables");
  expect(left.find(({ key }) => key === "database.include.list")).toMatchObject({ isNeedless: false });
  const ofMysql = imported({ ...MYSQL.config, "schema.exclude.list": "inventory" });
  expect(whyOf(ofMysql)).toHaveProperty(["schema.exclude.list"], "this connector does not read it");
});

test("fields of other objects hide no column of that name, and the column that held them is hidden", () => {
  const chain = (between: string, option: object) => ({
    ...CONNECTOR,
    transforms: "u,b,m",
    "transforms.u.type": "io.debezium.transforms.ExtractNewRecordState",
    "transforms.b.type": `org.apache.kafka.connect.transforms.${between}$Value`,
    ...option,
    "transforms.m.type": "org.apache.kafka.connect.transforms.MaskField$Value",
    "transforms.m.fields": "place_wkb",
  });
  const flat = imported(chain("Flatten", { "transforms.b.delimiter": "_" }));
  const hidingOf = hidings(flat.config.tables ?? {});
  expect(["place", "place_wkb"].map((column) => hidingOf("public", "t", column))).toEqual(["redact", "redact"]);
  const hoisted = imported(chain("HoistField", { "transforms.b.field": "place_wkb" }));
  expect(hoisted.left.some(({ isBlocking }) => isBlocking)).toBe(true);
  const referred = imported({
    ...chain("Cast", { "transforms.b.spec": "a:string" }),
    "transforms.m.fields": "${env:F}",
  });
  expect(referred.left.some(({ isBlocking }) => isBlocking)).toBe(true);
});

test("values that another store has are named, or are variables", () => {
  const made = imported({
    ...CONNECTOR,
    "tombstones.on.delete": "${env:T}",
    "database.sslmode": "verify-full",
    "database.sslrootcert": "${directory:/certs:ca.pem}",
    "publication.autocreate.mode": "disabled",
    "publication.name": "${env:P}",
  });
  expect(made.config.source).toMatchObject({
    url: "postgres://localhost/?sslmode=verify-full&sslrootcert=${SHOP_SSLROOTCERT}",
    publication: "${SHOP_PUBLICATION}",
  });
  expect(whyOf(made)).toHaveProperty(["tombstones.on.delete"], expect.stringContaining("not in the file"));
  expect(made.variables.map(({ from }) => from)).toEqual(
    expect.arrayContaining(["database.sslrootcert", "publication.name"]),
  );
  expect(imported({ ...CONNECTOR, "tombstones.on.delete": "no" }).config.sinks.stream).toMatchObject({
    tombstones: false,
  });
  const wrong = ["tombstones.on.delete", "after.state.only", "topic.creation.default.partitions"];
  const named = whyOf(imported({ ...CONNECTOR, ...Object.fromEntries(wrong.map((key) => [key, "maybe"])) }));
  expect(wrong.filter((key) => !Object.hasOwn(named, key))).toEqual([]);
  expect(imported({ name: "a", config: CONNECTOR, initial_state: "STOPPED" }).left.map(({ key }) => key)).toContain(
    "initial_state",
  );
  expect(imported({ ...CONNECTOR, "topic.prefix": "ACME Corp.shop" }).config).toMatchObject({ name: "acme_corp_shop" });
});

test("what hides columns of tables that are not captured is named, and is no rule", () => {
  const { config, left } = imported({
    ...CONNECTOR,
    "table.include.list": String.raw`public\.users,orders`,
    "column.exclude.list": String.raw`public\.user\.ssn,public\.users\.e.?mail`,
    "column.mask.with.3.chars": String.raw`.*\.phone`,
  });
  expect(config.tables).toEqual({
    "public.users": {
      columns: { email: { drop: true, optional: true }, "e?mail": { drop: true, optional: true } },
      optional: true,
    },
    "*.*": { columns: { phone: { mask: "redact" } } },
  });
  expect(left.filter(({ isNeedless }) => !isNeedless).map(({ key, why }) => [key, why.split(" ")[0]])).toEqual([
    ["table.include.list", "orders"],
    ["column.exclude.list", String.raw`public\.user\.ssn`],
  ]);
});

test("a publication that somebody may have made with filters is left to decide", () => {
  const isOpen = (keys: object) => {
    const { left } = imported({ ...CONNECTOR, "publication.name": "p", ...keys });
    return left.some(({ key, isNeedless }) => key === "publication.name" && !isNeedless);
  };
  expect([isOpen({}), isOpen({ "publication.autocreate.mode": "all_tables" })]).toEqual([true, true]);
  expect(isOpen({ "publication.autocreate.mode": "filtered" })).toBe(false);
});

test("values of a fixed set in any case, hosts, heartbeats, and the brokers' login", () => {
  const made = imported({
    "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
    "topic.prefix": "shop",
    "database.hostname": "a.example:3307,b.example",
    "database.user": "${file:/x:user}-${env:STAGE}",
    "database.ssl.mode": "Verify-Full",
    "snapshot.mode": "NO_DATA",
    "heartbeat.interval.ms": "50",
    "skipped.operations": "none",
    "table.include.list": ["shop.orders", "shop.users"],
    "table.exclude.list": null,
    "decimal.handling.mode": "STRING",
    "schema.history.internal.kafka.bootstrap.servers": "k1:9092",
    "schema.history.internal.producer.security.protocol": "sasl_ssl",
    "schema.history.internal.producer.sasl.mechanism": "SCRAM-SHA-512",
    "schema.history.internal.producer.sasl.jaas.config":
      'org.apache.kafka.common.security.scram.ScramLoginModule required username="writer" password="canary";',
    "schema.history.internal.consumer.sasl.jaas.config": "x password='canary'",
  });
  expect(made.config).toMatchObject({
    source: {
      url: "mysql://${SHOP_USER}@a.example:3307/?ssl-mode=VERIFY_IDENTITY",
      snapshot: "none",
      heartbeat: "100ms",
      tables: ["shop.orders", "shop.users"],
    },
    sinks: {
      stream: {
        decimals: "string",
        tls: true,
        sasl: { mechanism: "SCRAM-SHA-512", username: "writer", password: "${SHOP_KAFKA_PASSWORD}" },
      },
    },
  });
  const open = made.left.filter(({ isNeedless }) => !isNeedless);
  expect(open.map(({ key }) => key)).toEqual(["database.hostname", "heartbeat.interval.ms"]);
  expect(JSON.stringify(made)).not.toContain("canary");
  const publication = imported({ ...CONNECTOR, "publication.autocreate.mode": "DISABLED" }).config.source;
  expect(publication).toMatchObject({ publication: "dbz_publication" });
  // Somebody fills it: which tables, columns and rows it has is not in the file.
  const filled = imported({ ...CONNECTOR, "publication.autocreate.mode": "no_tables", "publication.name": "p" });
  expect(filled.config.source).toMatchObject({ publication: "p" });
  expect(imported({ ...CONNECTOR, "snapshot.mode": "sometimes" }).config.source).toMatchObject({
    snapshot: "undecided",
  });
});

test("every form of file", () => {
  const urlOf = (text: string, name?: string) => {
    const { kind, config } = parseDebezium("c", text, name);
    return importedFrom(kind, config).config.source.url;
  };
  const keys = { "connector.class": POSTGRES["connector.class"], "database.hostname": "h", "database.dbname": "d" };
  const lines = Object.entries(keys).map(([key, value]) => `${key}=${value}`);
  const one = "postgres://h/d";
  expect(urlOf(`\uFEFF${JSON.stringify(keys)}`)).toBe(one);
  expect(urlOf(JSON.stringify([{ name: "a", config: keys }]))).toBe(one);
  expect(urlOf(JSON.stringify({ a: { info: { name: "a", config: keys }, status: {} } }))).toBe(one);
  expect(urlOf(["# a comment", "name=a", ...lines].join("\r\n"))).toBe(one);
  const server = lines.map((line) => `debezium.source.${line}`);
  expect(urlOf(["debezium.sink.type=kafka", ...server, "quarkus.log.level=INFO"].join("\n"))).toBe(one);
  const resource = `apiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaConnector\nmetadata:\n  name: a\nspec:\n  class: ${keys["connector.class"]}\n  tasksMax: 1\n  config:\n    database.hostname: h\n    database.dbname: d\n`;
  expect(urlOf(`---\nkind: KafkaConnect\n---\n${resource}`)).toBe(one);
  expect(urlOf(`kind: List\nitems:\n- ${resource.trim().replaceAll("\n", "\n  ")}`)).toBe(one);
  const two = JSON.stringify([
    { name: "a", config: keys },
    { name: "b", config: { ...keys, "database.hostname": "i" } },
  ]);
  expect(urlOf(two, "b")).toBe("postgres://i/d");
  expect(() => urlOf(two)).toThrow(/choose one with --connector: "a", "b"/);
  expect(() => urlOf(two, "c")).toThrow(/no connector "c"/);
});

const SELECTED = { "table.include.list": "public.users", "column.exclude.list": "public.users.ssn" };

test.each([
  [
    "nested YAML of Debezium Server",
    stringify({
      debezium: {
        source: {
          "connector.class": CONNECTOR["connector.class"],
          table: { include: { list: ["public.users"] } },
          column: { exclude: { list: "public.users.ssn" } },
        },
      },
    }),
  ],
  [
    "YAML of a request",
    stringify({ name: "a", config: { ...CONNECTOR, ...SELECTED, "table.include.list": ["public.users"] } }),
  ],
  [
    "a file of environment variables",
    `# a\nexport DEBEZIUM_SOURCE_CONNECTOR_CLASS=${CONNECTOR["connector.class"]}\nDEBEZIUM_SOURCE_TABLE_INCLUDE_LIST="public.users"\nDEBEZIUM_SOURCE_COLUMN_EXCLUDE_LIST=public.users.ssn\n`,
  ],
  [
    "Docker Compose, with what services have in common",
    `x-common: &common\n  DEBEZIUM_SOURCE_TABLE_INCLUDE_LIST: public.users\nservices:\n  db: {image: postgres}\n  server:\n    environment:\n      <<: *common\n      DEBEZIUM_SOURCE_CONNECTOR_CLASS: PostgresConnector\n      DEBEZIUM_SOURCE_COLUMN_EXCLUDE_LIST: public.users.ssn\n`,
  ],
  [
    "Docker Compose, by a list",
    stringify({
      services: {
        server: {
          environment: [
            "DEBEZIUM_SOURCE_CONNECTOR_CLASS=PostgresConnector",
            "DEBEZIUM_SOURCE_TABLE_INCLUDE_LIST=public.users",
            "DEBEZIUM_SOURCE_COLUMN_EXCLUDE_LIST=public.users.ssn",
          ],
        },
      },
    }),
  ],
])("tables and columns are found in %s", (_what, text) => {
  const { kind, config } = parseDebezium("c", text);
  expect(importedFrom(kind, config).config).toMatchObject({
    source: { tables: ["public.users"] },
    tables: { "public.users": { columns: { ssn: { drop: true } } } },
  });
});

const OPERATOR = {
  kind: "DebeziumServer",
  metadata: { name: "a" },
  spec: {
    source: { class: CONNECTOR["connector.class"], config: { ...SELECTED, "topic.prefix": "shop" } },
    sink: { type: "kafka", config: { "producer.bootstrap.servers": "k:9092" } },
    format: { value: { type: "json", config: { "schemas.enable": false } } },
    transforms: [{ type: "io.debezium.transforms.ExtractNewRecordState" }],
  },
};

test("resources of Debezium's operator, and files within a ConfigMap", () => {
  const made = (document: object) => {
    const { kind, config } = parseDebezium("c", stringify(document));
    return importedFrom(kind, config).config;
  };
  const expected = {
    source: { tables: ["public.users"] },
    tables: { "public.users": { columns: { ssn: { drop: true } } } },
  };
  expect(made(OPERATOR)).toMatchObject({
    ...expected,
    sinks: { stream: { brokers: ["k:9092"], format: "debezium-flat", schemas: false } },
  });
  const filtered = {
    ...OPERATOR.spec,
    transforms: [{ type: "io.debezium.transforms.Filter", config: { condition: "x" } }],
  };
  expect(JSON.stringify(made({ ...OPERATOR, spec: filtered }))).toContain("undecided");
  const file = Object.entries({ ...CONNECTOR, ...SELECTED }).map(([key, value]) => `debezium.source.${key}=${value}`);
  const data = { "application.properties": file.join("\n"), "logback.xml": "<x/>" };
  expect(made({ kind: "ConfigMap", data })).toMatchObject(expected);
  const other = { ...data, "b.properties": "debezium.source.table.include.list=public.secrets" };
  expect(() => made({ kind: "ConfigMap", data: other })).toThrow("for it has b.properties");
});

test.each([
  ["DEBEZIUM_SOURCE_TABLE_EXCLUDE_LIST=public\\.t_\\d", "!public.t_0"],
  ['DEBEZIUM_SOURCE_TABLE_EXCLUDE_LIST="public\\.t_\\d" # no copies', "!public.t_0"],
  ["export DEBEZIUM_SOURCE_TABLE_EXCLUDE_LIST='public\\.t_\\d'", "!public.t_0"],
  // As a shell reads it.
  ["export DEBEZIUM_SOURCE_TABLE_EXCLUDE_LIST=public\\.t_\\d", "!public.t_d"],
  ["DEBEZIUM_SOURCE_TABLE_EXCLUDE_LIST=$TABLES", "undecided"],
])("a file of environment variables is no file of properties: %s", (line, glob) => {
  const { kind, config } = parseDebezium("c", `DEBEZIUM_SOURCE_CONNECTOR_CLASS=PostgresConnector\n${line}\n`);
  expect(importedFrom(kind, config).config.source.tables).toContain(glob);
});

test("variables of Docker Compose and Kubernetes stay references", () => {
  const keys = { ...ENVIRONMENT, DEBEZIUM_SOURCE_TABLE_INCLUDE_LIST: "^public.a$$" };
  const of = (host: string) => {
    const environment = { ...keys, DEBEZIUM_SOURCE_DATABASE_HOSTNAME: host };
    const { kind, config } = parseDebezium("c", stringify({ services: { s: { environment } } }));
    return importedFrom(kind, config).config.source;
  };
  for (const host of ["$DB_HOST", "${DB_HOST}", "$(DB_HOST)"])
    expect(of(host)).toMatchObject({
      url: expect.stringMatching(/^postgres:\/\/\$\{\w+_HOST\}\//),
      tables: ["public.a"],
    });
});

test.each([
  [
    "a tag",
    "kind: KafkaConnector\nspec:\n  class: PostgresConnector\n  config:\n    table.include.list: !join [a.b, c.d]\n",
    /line 5: a tag/,
  ],
  ["a key given twice", "1: a\n'1': b\n", /line 2: this key is given twice/],
  ["an alias of nothing", "connector.class: PostgresConnector\ntable.include.list: *canary\n", /line 2: (?!.*canary)/],
  ["what unfolds to too much", bomb(), /unfold to too much/],
  [
    "a variable over two lines",
    'DEBEZIUM_SOURCE_CONNECTOR_CLASS=MySql\nDEBEZIUM_SOURCE_TABLE_EXCLUDE_LIST="a.b,\na.c"',
    /line 2 is no KEY=value(?!.*a\.b)/,
  ],
  [
    "a list that is an object",
    '{"connector.class":"MySql","table.exclude.list":{"a":1}}',
    /table\.exclude\.list is neither/,
  ],
  [
    "another file of settings",
    "debezium.source.connector.class=MySql\nsmallrye.config.locations=b",
    /for it has smallrye/,
  ],
  ["malformed escapes", "connector.class=PostgresConnector\na=\\u12\n", /neither JSON, YAML nor properties/],
])("a file with %s is refused", (_what, text, message) => {
  expect(() => parseDebezium("f", text)).toThrow(message);
});

function bomb(): string {
  const lines = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(9)}]`);
  return ["a0: &a0 [x]", ...lines].join("\n");
}

const ENVIRONMENT = { DEBEZIUM_SOURCE_CONNECTOR_CLASS: "PostgresConnector" };

test.each([
  ["env_file", { services: { s: { environment: ENVIRONMENT, env_file: ".env" } } }],
  ["volumes", { services: { s: { environment: ENVIRONMENT, volumes: ["./conf:/debezium/config"] } } }],
  [
    "environment",
    { services: { s: { environment: { ...ENVIRONMENT, JAVA_OPTS: "-Ddebezium.source.column.exclude.list=a.b.c" } } } },
  ],
  [
    "envFrom",
    {
      kind: "Pod",
      spec: {
        containers: [
          {
            env: [{ name: "DEBEZIUM_SOURCE_CONNECTOR_CLASS", value: "MySql" }],
            envFrom: [{ configMapRef: { name: "m" } }],
          },
        ],
      },
    },
  ],
  [
    "%prod.debezium.source.column.exclude.list",
    { "debezium.source.connector.class": "MySql", "%prod.debezium.source.column.exclude.list": "a.b.c" },
  ],
  [
    "debezium.source.transforms",
    {
      "debezium.source.connector.class": "MySql",
      "debezium.source.transforms": "mask",
      "debezium.transforms": "unwrap",
    },
  ],
])("a file that may not have all keys is refused: %s", (what, document) => {
  for (const text of [stringify(document), JSON.stringify(document)])
    expect(() => parseDebezium("c", text)).toThrow(`for it has ${what}`);
});

test("a list that an environment has from elsewhere is not known", () => {
  const env = [
    { name: "DEBEZIUM_SOURCE_CONNECTOR_CLASS", value: "PostgresConnector" },
    { name: "DEBEZIUM_SOURCE_TABLE_INCLUDE_LIST", valueFrom: { configMapKeyRef: { name: "m", key: "tables" } } },
  ];
  const deployment = { kind: "Deployment", spec: { template: { spec: { containers: [{ name: "server", env }] } } } };
  const compose = {
    services: { s: { environment: { [env[0]!.name]: "PostgresConnector", [env[1]!.name]: null } } },
  };
  for (const document of [deployment, compose]) {
    const { kind, config } = parseDebezium("c", stringify(document));
    expect(importedFrom(kind, config).config.source.tables).toEqual(["undecided"]);
  }
});

test.each([
  ['[{"database": "d", "index": "i", "nodes": {"table": "t"}}]', "pgsync"],
  ["databases:\n  - name: d\n    slot:\n      name: s\nsinks:\n  - name: x\n    database: d\n", "Sequin"],
  ["CREATE MIRROR m FROM a TO b WITH TABLE MAPPING (x:y);", "PeerDB"],
  ["source:\n  type: mysql\nsink:\n  type: doris\npipeline:\n  name: p\n", "Flink CDC"],
])("another tool's file is named", (text, tool) => {
  expect(() => parseDebezium("f", text)).toThrow(`f is a file of ${tool}: millrace import `);
});

test.each(["PostgresConnector", "MySql", "io.debezium.connector.mariadb.MariaDbConnector", "PostgresCdcSourceV2"])(
  "%s is a source of Debezium",
  (type) => {
    expect(() => parseDebezium("c", JSON.stringify({ "connector.class": type }))).not.toThrow();
  },
);

test.each([
  "PostgresSink",
  "io.debezium.connector.jdbc.JdbcSinkConnector",
  "io.aiven.connect.jdbc.JdbcSourceConnector",
])("%s is no source of Debezium", (type) => {
  expect(() => parseDebezium("c", JSON.stringify({ "connector.class": type }))).toThrow(/not Debezium's source/);
});

test("the command writes a config that loads, replaces no file, and shows no password", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("connector.json"), JSON.stringify(POSTGRES));
  const printed = await runCli(["import", "debezium", "connector.json"], { folder: folder.path });
  expect(printed.stderr + String(printed.exitCode)).toBe("3");
  const made = await runCli(["import", "debezium", "connector.json", "--out", "millrace.yaml"], {
    folder: folder.path,
  });
  expect(made.exitCode).toBe(3);
  const text = readFileSync(folder.file("millrace.yaml"), "utf8");
  expect(printed.stdout.trim()).toBe(text.trim());
  expect(text).toMatch(/# {3}made\.up: Millrace does not know this key/);
  expect(printed.stdout + made.stdout).not.toContain("canary");
  const environment = { SHOP_PASSWORD: "x", MASK_KEY: "0123456789abcdef" };
  const config = await loadConfig(folder.file("millrace.yaml"), { connectors, environment, secrets: new Secrets() });
  expect(config).toMatchObject({
    name: "shop",
    source: { kind: "postgres" },
    sinks: [{ name: "stream", kind: "kafka" }],
  });
  const again = await runCli(["import", "debezium", "connector.json", "--out", "millrace.yaml"], {
    folder: folder.path,
  });
  expect(again.exitCode).toBe(4);
});

test.each([
  ["not JSON", '{"database.password": "canary'],
  ["no connector", "{}"],
  ["one of another database", '{"connector.class": "io.debezium.connector.oracle.OracleConnector"}'],
])("%s is wrong usage", (_what, text) => {
  expect(() => parseDebezium("c.json", text)).toThrow(/^c\.json (?!.*canary)/);
});
