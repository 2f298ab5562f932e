/** What a start of the embedded warehouses refuses in an existing file or lake, and that check says the same before. */
import { DatabaseSync } from "node:sqlite";
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import * as duckdb from "../../connectors/duckdb/config.ts";
import * as ducklake from "../../connectors/duckdb/lake/config.ts";
import * as sqlite from "../../connectors/sqlite/config.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import type { SinkFactory } from "../../src/core/contracts/connector.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { duckdbExtensions } from "../../scripts/services/packages/duckdb-extensions.ts";
import { failure, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/run/temporary-folder.ts";

const columns = [
  ["id", "int8"],
  ["createdAt", "text"],
] as const;
const orders = tableVersion({ table: "orders", columns, key: ["id"] });
const others = tableVersion({ table: "others", columns, key: ["id"] });

type Options = Readonly<Record<string, unknown>>;

interface Connector<O> {
  readonly factory: SinkFactory<O>;
  readonly definition: { readonly parse: (options: Options) => O };
}

/** A connector with options that say where the target is. */
function placed<O>({ factory, definition }: Connector<O>, place: Options) {
  const contextOf = (folder: string, options: Options) => {
    return { name: "w", daemon: "shop", folder, options: definition.parse({ ...place, ...options }) };
  };
  return {
    check: async (folder: string, options: Options, tables: readonly TableVersion[]) =>
      await factory.check(contextOf(folder, options), timeout(), tables),
    opened: async (folder: string, options: Options) => {
      const sink = await factory.create(contextOf(folder, options), SILENT);
      await sink.open(1, timeout());
      return sink;
    },
  };
}

interface Given extends ReturnType<typeof placed> {
  /** Runs SQL of somebody else in the file. */
  readonly run?: (folder: TemporaryFolder, sql: (name: (table: string) => string) => string) => Promise<void>;
  /** Gives "createdAt" of the orders another type. */
  readonly retype?: string;
}

const GIVEN: Readonly<Record<string, Given>> = {
  sqlite: {
    ...placed(sqlite, { path: "replica.sqlite" }),
    run: async (folder, sql) => {
      using database = new DatabaseSync(folder.file("replica.sqlite"));
      database.exec(sql((table) => `"public.${table}"`));
    },
    retype:
      'alter table "public.orders" drop column "createdAt"; alter table "public.orders" add column "createdAt" blob',
  },
  duckdb: {
    ...placed(duckdb, { path: "warehouse.duckdb" }),
    run: async (folder, sql) => {
      const instance = await DuckDBInstance.create(folder.file("warehouse.duckdb"));
      const connection = await instance.connect();
      await connection.run(sql((table) => `public.${table}`));
      connection.closeSync();
      instance.closeSync();
    },
    retype: 'alter table public.orders alter "createdAt" type blob',
  },
  ducklake: placed(ducklake, { catalog: "sqlite:lake.db", data: "lake.files/", extensions: await duckdbExtensions() }),
};

test.for(Object.entries(GIVEN))("%s: check names what a start with other options refuses", async ([, given]) => {
  using folder = temporaryFolder();
  const check = async (options: Options) => await given.check(folder.path, options, [orders, others]);
  const opened = async (options: Options) => await given.opened(folder.path, options);
  const sink = await opened({});
  await sink.prepare([orders], timeout());
  await sink.close();
  expect((await check({})).map(({ level }) => level)).toEqual(["ok"]);
  expect((await check({ deletes: "soft" })).map(({ level }) => level)).toEqual(["ok"]);
  expect((await check({ schema: "elsewhere", mode: "history" })).map(({ level }) => level)).toEqual(["ok"]);

  const expectRefused = async (options: Options, table: TableVersion, expected: string) => {
    const refusing = await opened(options);
    const { code, message, hint } = await failure(refusing.prepare([table], timeout()));
    await refusing.close();
    expect(code).toBe(expected);
    const finding = expect.objectContaining({ level: "error", what: `${code}: ${message}`, fix: hint });
    expect(await check(options)).toEqual([expect.objectContaining({ level: "ok" }), finding]);
  };
  await expectRefused({ mode: "history" }, orders, "MR3120");
  if (given.run === undefined) return;
  await given.run(folder, (name) => `create table ${name("others")} (id integer)`);
  await expectRefused({}, others, "MR3106");
  await given.run(folder, (name) => `drop table ${name("others")}; ${given.retype}`);
  await expectRefused({}, orders, "MR3107");
});
