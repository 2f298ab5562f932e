/**
 * A standby as the source keeps what every source promises (Postgres 16 and newer), with its primary and without it.
 * @module-tag heavy
 */
import { afterAll, beforeAll } from "vitest";
import type { Source } from "../../src/core/contracts/source.ts";
import { FailoverPair } from "../support/faults/failover-pair.ts";
import { openSource } from "../support/postgres/postgres-source.ts";
import { createFreshDatabase } from "../support/run/fresh-database.ts";
import { needsPostgres, postgresMajor } from "../support/run/services.ts";
import { sourceConformance } from "./source.ts";

const PUBLICATION = "millrace_test";
let pair: FailoverPair | undefined;

beforeAll(async () => {
  if (postgresMajor() < 16) return;
  pair = await FailoverPair.start({ syncSlots: false, waits: false });
  await pair.addStandby();
});

afterAll(() => pair?.[Symbol.asyncDispose]());

function both(): FailoverPair {
  if (pair === undefined) throw new Error("no servers");
  return pair;
}

/** The runtime reads behind a mark, which a source waits for; the suite reads at once. */
function readsWhatIsCommitted(source: Source): Source {
  const behind =
    <Given extends readonly unknown[], Found>(read: (...given: Given) => Promise<Found>) =>
    async (...given: Given): Promise<Found> => {
      await both().replayed();
      return await read(...given);
    };
  const { catalog, rows } = source;
  return {
    ...source,
    catalog: { ...catalog, tables: behind(catalog.tables) },
    rows: { ...rows, readRange: behind(rows.readRange), readKeys: behind(rows.readKeys) },
  };
}

const columns = (isKeyed: boolean) => `(id int ${isKeyed ? "primary key" : "not null"}, name text, amount int)`;

sourceConformance({
  name: "postgres, a standby with primaryUrl",
  waitsForLog: true,
  async stage(context) {
    needsPostgres(16, context);
    const database = await createFreshDatabase(both());
    return {
      open: async () => {
        await both().replayed();
        const url = FailoverPair.urlAt(both().standby, database);
        const primaryUrl = FailoverPair.urlAt(both().primary, database);
        return readsWhatIsCommitted(await openSource(database, { url, primaryUrl }));
      },
      run: async (statements, end = "commit") => void (await database.query(["begin", ...statements, end].join("; "))),
      create: (name, isKeyed) => `create table ${name} ${columns(isKeyed)}`,
      id: (name) => `public.${name}`,
      [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
    };
  },
});

/** What is committed is there when the standby has replayed it: that is when the application's transaction ends here. */
sourceConformance({
  name: "postgres, a standby without primaryUrl",
  waitsForLog: true,
  async stage(context) {
    needsPostgres(16, context);
    await using owned = new AsyncDisposableStack();
    const database = owned.use(await createFreshDatabase(both()));
    await database.query(`create publication ${PUBLICATION}`);
    owned.use(both().logRunning());
    const kept = owned.move();
    return {
      open: async () => {
        await both().replayed();
        return await openSource(database, {
          url: FailoverPair.urlAt(both().standby, database),
          publication: PUBLICATION,
        });
      },
      run: async (statements, end = "commit") => {
        await database.query(["begin", ...statements, end].join("; "));
        await both().replayed();
      },
      create: (name, isKeyed) =>
        `create table ${name} ${columns(isKeyed)}${isKeyed ? `; alter publication ${PUBLICATION} add table ${name}` : ""}`,
      id: (name) => `public.${name}`,
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    };
  },
});
