/** What a sink counts that has lost its checkpoint, or is new: rows that may be its own, and none of another daemon's. */
import { expect, test } from "vitest";
import { duckdbExtensions } from "../../scripts/services/packages/duckdb-extensions.ts";
import { connectors } from "../../connectors/registry.ts";
import { invariant } from "../../src/core/invariant.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { AllTargets, Sink } from "../../src/core/contracts/sink.ts";
import { checkpointAt, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import {
  clickhouseUrl,
  elasticsearchUrl,
  freshColumns,
  freshDatabase,
  freshIndexPrefix,
} from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

type Options = Readonly<Record<string, unknown>>;
type Place = { readonly options: Options } & AsyncDisposable;

const inFolder = async (options: Options): Promise<Place> => ({ options, async [Symbol.asyncDispose]() {} });

const PLACES: Readonly<Record<string, () => Promise<Place>>> = {
  sqlite: () => inFolder({ path: "replica.sqlite" }),
  duckdb: () => inFolder({ path: "warehouse.duckdb" }),
  ducklake: async () => inFolder({ catalog: "sqlite:lake.db", data: "lake", extensions: await duckdbExtensions() }),
  postgres: async () => {
    const database = await freshDatabase();
    return Object.assign(database, { options: { url: database.url } });
  },
  clickhouse: async () => {
    const columns = freshColumns();
    return Object.assign(columns, { options: { url: clickhouseUrl(), fsync: false, schema: columns.prefix } });
  },
  elasticsearch: async () => {
    const indices = freshIndexPrefix();
    return Object.assign(indices, { options: { url: elasticsearchUrl(), prefix: indices.prefix, replicas: 0 } });
  },
};

test.each(Object.keys(PLACES))("%s", async (kind) => {
  await using place = await PLACES[kind]!();
  using folder = temporaryFolder();
  const connector = await connectors.sink(kind);
  const opened = async (daemon: string, lease = 1, more: Options = {}): Promise<Sink> => {
    const parsed = connector.parse({ ...place.options, ...more });
    invariant(parsed.kind === "valid", "the options are right");
    const sink = await parsed.bind({ name: "sink", daemon, folder: folder.path }).create(quietLog);
    await sink.open(lease, timeout());
    return sink;
  };
  const tableOf = (table: string) => tableVersion({ table, columns: { id: "int8", name: "text" } });
  const [users, staff] = [tableOf("users"), tableOf("staff")];
  const write = async (sink: Sink, at: bigint, table: typeof users): Promise<void> => {
    await sink.prepare([table], timeout());
    await sink.apply(rowsBatch(at, [table, [put(["1", "a"])]]), new Reports(), timeout());
  };
  const other = await opened("office");
  await write(other, 90n, staff);
  await other.close();
  const sink = await opened("shop");
  const highest = async (tables: readonly (typeof users)[] | AllTargets) =>
    await sink.rows!.highestVersion(tables, timeout());
  expect([await highest("own"), await highest([users]), await highest([staff])]).toEqual([0n, 0n, rowVersion(1, 90n)]);
  // A new epoch is above them, for the tables may be taken over. A search sink is refused where another's stand.
  if (kind !== "elasticsearch") expect(await highest("all")).toBe(rowVersion(1, 90n));
  await write(sink, 10n, users);
  await sink.apply({ kind: "checkpoint", checkpoint: checkpointAt(20n) }, new Reports(), timeout());
  expect([await highest("own"), await highest([users])]).toEqual([rowVersion(1, 10n), rowVersion(1, 10n)]);
  await sink.close();
  if (kind === "elasticsearch") return;
  const elsewhere = await opened("shop", 2, { schema: "elsewhere" });
  expect(await elsewhere.rows!.highestVersion("own", timeout())).toBe(0n);
  await elsewhere.close();
});
