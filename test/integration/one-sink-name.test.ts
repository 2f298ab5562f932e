/** Daemons whose sinks have one name, in one place: side by side, or the second is refused before it changes anything. */
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { duckdbExtensions } from "../../scripts/services/packages/duckdb-extensions.ts";
import { definition as lakes, factory as lakeSinks } from "../../connectors/duckdb/lake/config.ts";
import { definition as duckdb, factory as duckdbSinks } from "../../connectors/duckdb/config.ts";
import { definition as files, factory as filesSinks } from "../../connectors/files/config.ts";
import { definition as sqlite, factory as sqliteSinks } from "../../connectors/sqlite/config.ts";
import type { SinkContext } from "../../src/core/contracts/connector.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const mine = tableVersion({ table: "mine", columns: { id: "int8", name: "text" } });
const theirs = tableVersion({ table: "theirs", columns: { id: "int8", name: "text" } });

type Make = (daemon: string) => Promise<Sink>;

const contextOf = <Options>(daemon: string, folder: string, options: Options): SinkContext<Options> => {
  return { name: "s", daemon, folder, options };
};

const PLACES: Readonly<Record<string, (folder: string) => Make>> = {
  "a SQLite file": (folder) => async (daemon) => {
    return await sqliteSinks.create(contextOf(daemon, folder, sqlite.parse({ path: "s.sqlite" })), quietLog);
  },
  "a DuckDB file": (folder) => async (daemon) => {
    return await duckdbSinks.create(contextOf(daemon, folder, duckdb.parse({ path: "s.duckdb" })), quietLog);
  },
  "a lake": (folder) => async (daemon) => {
    const options = { catalog: "sqlite:./lake.db", data: "./lake", extensions: await duckdbExtensions() };
    return await lakeSinks.create(contextOf(daemon, folder, lakes.parse(options)), quietLog);
  },
};

test.for(Object.keys(PLACES))("in %s each daemon has a checkpoint of its own", async (place) => {
  using folder = temporaryFolder();
  const make = PLACES[place]!(folder.path);
  const write = async (sink: Sink, table: typeof mine, at: bigint): Promise<void> => {
    await sink.prepare([table], timeout());
    await sink.apply(rowsBatch(at, [table, [put(["1", "a"])]]), new Reports(), timeout());
  };
  const one = await make("one");
  expect(await one.open(5, timeout())).toBeNull();
  await write(one, mine, 10n);
  await one.close();
  // The leases of two daemons have nothing to do with each other.
  const two = await make("two");
  expect(await two.open(1, timeout())).toBeNull();
  await write(two, theirs, 20n);
  await two.verify(timeout());
  await two.close();
  const again = await make("one");
  expect((await again.look(timeout()))?.position.commit).toBe(11n);
  expect((await again.open(6, timeout()))?.position.commit).toBe(11n);
  expect(await again.presence?.missing([mine], timeout())).toEqual([]);
  await again.forget(timeout());
  await again.close();
  const last = await make("two");
  expect((await last.look(timeout()))?.position.commit).toBe(21n);
  await last.close();
});

test("in a SQLite file a table that another daemon has prepared takes no more rows of the first", async () => {
  using folder = temporaryFolder();
  const make = PLACES["a SQLite file"]!(folder.path);
  const [one, two] = [await make("one"), await make("two")];
  const batch = (at: bigint, name: string) => rowsBatch(at, [mine, [put([String(at), name])]]);
  await one.open(1, timeout());
  await one.prepare([mine, theirs], timeout());
  await one.apply(batch(10n, "one"), new Reports(), timeout());
  await two.open(1, timeout());
  expect(await two.presence!.foreign!([mine], timeout())).toEqual([{ table: mine, owner: "one/s" }]);
  await two.prepare([mine], timeout());
  // Of a batch for another table, and of a checkpoint alone, it is no failure.
  await one.apply(rowsBatch(15n, [theirs, [put(["0", "one"])]]), new Reports(), timeout());
  await one.apply({ kind: "checkpoint", checkpoint: rowsBatch(16n).checkpoint }, new Reports(), timeout());
  expect(await failure(one.apply(batch(20n, "one"), new Reports(), timeout()))).toMatchObject({
    code: "MR3121",
    table: mine.id,
    message: expect.stringContaining("two/s"),
  });
  await two.apply(batch(30n, "two"), new Reports(), timeout());
  await one.apply(rowsBatch(40n, [theirs, [put(["1", "one"])]]), new Reports(), timeout());
  using database = new DatabaseSync(folder.file("s.sqlite"), { readOnly: true });
  const rows = database.prepare('select name from "public.mine" union all select name from "public.theirs"').all();
  expect(rows.map(({ name }) => name)).toEqual(["one", "two", "one", "one"]);
  for (const sink of [one, two]) await sink.close();
});

test("a folder of files is its first sink's, whatever the lease of the second one", async () => {
  using folder = temporaryFolder();
  const options = files.parse({ path: folder.path, format: "ndjson" });
  const make = async (daemon: string, name = "s"): Promise<Sink> =>
    await filesSinks.create({ name, daemon, folder: "/", options }, quietLog);
  const one = await make("one");
  await one.open(1, timeout());
  await one.prepare([mine], timeout());
  await one.apply(rowsBatch(10n, [mine, [put(["1", "a"])]]), new Reports(), timeout());
  const refused = { code: "MR3121", kind: "fatal", message: expect.stringContaining("one/s") };
  for (const other of [await make("two"), await make("one", "t")]) {
    expect(await failure(other.look(timeout()))).toMatchObject(refused);
    expect(await failure(other.open(9, timeout()))).toMatchObject(refused);
    await other.close();
  }
  expect(await filesSinks.check({ name: "s", daemon: "two", folder: "/", options }, timeout())).toMatchObject([
    { level: "error", what: expect.stringContaining("one/s") },
  ]);
  await one.apply(rowsBatch(20n, [mine, [put(["2", "a"])]]), new Reports(), timeout());
  await one.close();
});
