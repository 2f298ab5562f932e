/**
 * What every sink promises, as one suite. A sink plugs in with one file:
 *
 *   // test/conformance/redis.redis.test.ts
 *   sinkConformance({
 *     name: "redis",
 *     async target() {
 *       const keys = await freshKeyspace();
 *       return {
 *         makeSink: () => new RedisSink({ … }),        // a new object each time: what a restarted process would make
 *         readRows: (table) => …,                       // rows as the target holds them, see TargetRow
 *         wipe: () => …,                                // empties the target behind the sink's back
 *         [Symbol.asyncDispose]: () => keys.release(),
 *       };
 *     },
 *     landed: (column, text) => …,                      // where the target's form differs from Postgres' text form
 *     transactional: false,
 *   });
 *
 * The suite knows rows as Postgres' text forms (the forms of src/core/model/tuple.ts). `readRows` gives cells back in the
 * target's own spelling, and `landed` says, independently of the sink's code, how a text form is spelt there.
 */
import { describe, type TestContext } from "vitest";
import type { Column, TableVersion } from "../../src/core/model/schema.ts";
import type { Finding } from "../../src/core/contracts/connector.ts";
import type { Sink, SinkForm } from "../../src/core/contracts/sink.ts";
import type { HeldBytes } from "../support/network/proxy.ts";
import { HEAVY, LONG } from "../support/run/service-suffixes.ts";
import { fenceTests } from "./sink-fence.ts";
import { lateTests } from "./sink-late.ts";
import { historyTests } from "./sink-history.ts";
import { nameTests } from "./sink-names.ts";
import { compactTests } from "./sink-net.ts";
import { checkpointTests } from "./sink-progress.ts";
import { rowTests } from "./sink-rows.ts";
import { schemaTests } from "./sink-schema.ts";
import { shapeTests } from "./sink-shapes.ts";
import { streamTests } from "./sink-stream.ts";
import { tenantTests } from "./sink-tenants.ts";
import { softTests } from "./sink-soft.ts";
import { unchangedTests } from "./sink-unchanged.ts";
import { valueTests } from "./sink-values.ts";

export interface SinkHarness {
  readonly name: string;
  /** An empty target for one test, released with `await using`. */
  target(): Promise<SinkTarget>;
  /**
   * How a cell that the suite wrote as `text` is spelt by `readRows`; null where the target shows it as missing. Default:
   * unchanged.
   */
  readonly landed?: (column: Column, text: string) => string | null;
  /** True where rows and checkpoint become durable in one transaction: a batch that fails leaves no trace. */
  readonly transactional: boolean;
  /**
   * "strict": the batch of a process whose lease was taken changes nothing. "open": only `open` with a lower lease is
   * refused (a target without transactions); such a batch may write rows that versions then guard.
   */
  readonly fence?: "strict" | "open";
  /** True where names that differ in a dot's place only share a target: the daemon refuses the second table. */
  readonly namesMeet?: boolean;
  /** Native types (as spelt in values.ts) that the target can't hold; each with its reason in the connector's README. */
  readonly without?: readonly string[];
  /** Default: a mirror with hard deletes. */
  readonly form?: KeptForm;
  /** The parts of the suite to run, where the target is slow and other runs cover the rest. Default: all. */
  readonly only?: readonly Part[];
  /** Parts that the default suite leaves out, as the target is slow, and another form or `e2e` shows them. Default: none. */
  readonly heavy?: readonly (Part | "binary cells")[];
  /** True where changes are handed on: see sink-stream.ts. */
  readonly isStream?: boolean;
  /** True where a vector must have as many numbers as its type allows, and a length that float32 holds. */
  readonly needsPlainVectors?: boolean;
  /** True where the target can keep what was sent (`hold`). */
  readonly isHeld?: boolean;
  /** Where the target's room is, if it tells; absent: it does not. */
  readonly room?: RegExp;
  /** Arranges that the target refuses one row for its content. Absent: this target can refuse none. */
  readonly refusal?: () => PoisonCase;
  /** True where a text may be of any bytes, which come back as they were: of others, a row with one that is no UTF-8 is refused. */
  readonly keepsAnyBytes?: boolean;
}

export type Part =
  | "values"
  | "progress"
  | "fence"
  | "stream"
  | "rows"
  | "unchanged cells"
  | "names"
  | "tables"
  | "tenants"
  | "shapes"
  | "late"
  | "compacted changes"
  | "soft deletes"
  | "history";

/** Of a warehouse's forms only what is written differs: the ordinary one, and all forms of SQLite, which is fast, show the rest. */
export const SAME_IN_EACH_FORM: readonly Part[] = [
  "values",
  "progress",
  "fence",
  "tenants",
  "names",
  "tables",
  "shapes",
  "compacted changes",
];

/** The keys `deletes` and `mode` of a warehouse. */
export interface KeptForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
}

export function formOf({ form, isStream }: SinkHarness): SinkForm {
  return isStream === true ? "stream" : (form?.mode ?? "mirror");
}

/** True, and the test is skipped, where the sink is no mirror: `why` the promise is one's. */
export function isNoMirror(harness: SinkHarness, context: TestContext, why: string): boolean {
  if (formOf(harness) === "mirror") return false;
  context.skip(why);
  return true;
}

export type HeldWork = "write" | "expel" | "forget";

export interface PoisonCase {
  readonly table: TableVersion;
  /** A row that is taken, another one for each number. */
  readonly good: (i: number) => readonly (string | null)[];
  /** A row that is refused, another key for each number. */
  readonly bad: (i: number) => readonly (string | Uint8Array | null)[];
}

export interface SinkTarget extends AsyncDisposable {
  /**
   * `form`: another one than the harness', as after a change of the configuration. `daemon`: another one's sink; not where a target
   * has one writer.
   */
  makeSink(form?: KeptForm, daemon?: string): Sink | Promise<Sink>;
  /** What `check` says of these tables before a start of that daemon. Absent: nothing of tables. */
  check?(tables: readonly TableVersion[], daemon: string, signal: AbortSignal): Promise<readonly Finding[]>;
  /** All live rows of the table (of a history the last state of each), in any order. Reads what is durable, also while a sink is open. */
  readRows(table: TableVersion): Promise<readonly TargetRow[]>;
  /** Keys of the table that somebody finds who looks at all that the target has, as one text. Absent: only those of live rows. */
  readKeys?(table: TableVersion): Promise<string>;
  /** All rows with their marks, in the order of their keys. Only where deletes are soft. */
  readMarked?(table: TableVersion): Promise<readonly MarkedRow[]>;
  /** Everything in a stream that has changes of these tables. */
  readStream?(tables: readonly TableVersion[]): Promise<readonly StreamEntry[]>;
  /** All rows of a history in the order of version, offset and key, `d` behind `u`. */
  readHistory?(table: TableVersion): Promise<readonly HistoryRow[]>;
  /** Empties the target, checkpoint included, as somebody would who drops, flushes or deletes it. */
  wipe(): Promise<void>;
  /** Puts something in the table's place that Millrace did not make. Absent: nothing can stand there. */
  occupy?(table: TableVersion): Promise<void>;
  /** Cuts the sink's connections from outside. Absent: the target is a file. */
  cut?(): Promise<void>;
  /** Keeps what the sink's present connections send from this work on: see sink-late.ts. */
  hold?(work: HeldWork): HeldBytes;
  /** Copies the table; the function puts the copy in its place, as somebody would by hand. Absent: nobody can. */
  copy?(table: TableVersion): Promise<() => Promise<void>>;
  /** Makes the target refuse writes to this table (a missing table, a read-only index) until disposed. */
  obstruct?(table: TableVersion): Promise<AsyncDisposable>;
}

/** What a reader of a stream finds, in its order. */
export type StreamEntry =
  | {
      readonly kind: "change";
      /** Id of the table. */
      readonly table: string;
      readonly op: string;
      readonly version: bigint;
      readonly index: number;
      /** In the order of the columns, undefined where unchanged; of a delete those of the key. */
      readonly cells: readonly (string | null | undefined)[];
    }
  | { readonly kind: "end"; readonly version: bigint }
  | ({ readonly kind: "truncate"; readonly version: bigint } & MarkOfTable)
  | ({ readonly kind: "sweep"; readonly below: bigint } & MarkOfTable);

interface MarkOfTable {
  readonly table: string;
  /** The added columns, as the entry shows them; absent: the table has none. */
  readonly scope?: Readonly<Record<string, string>>;
}

/** The last state of each key, as a reader makes it of a stream: the `readRows` of such a target. */
export function rowsOfStream(entries: readonly StreamEntry[], table: TableVersion): readonly TargetRow[] {
  const rows = new Map<string, { version: bigint; cells: readonly (string | null)[] }>();
  const keyOf = (cells: readonly (string | null | undefined)[]) => JSON.stringify(table.key?.map((c) => cells[c]));
  for (const entry of entries) {
    if (entry.kind === "end" || entry.table !== table.id) continue;
    if (entry.kind !== "change") {
      const below = entry.kind === "sweep" ? entry.below : entry.version + 1n;
      for (const [key, { version }] of rows) if (version < below) rows.delete(key);
      continue;
    }
    const { op, cells, version } = entry;
    if (op === "d") rows.delete(JSON.stringify(cells));
    else {
      const base = rows.get(keyOf(cells))?.cells;
      rows.set(keyOf(cells), {
        version,
        cells: cells.map((cell, c) => (cell === undefined ? (base?.[c] ?? null) : cell)),
      });
    }
  }
  return [...rows.values()];
}

export interface TargetRow {
  readonly version: bigint;
  /** In the order of `table.columns`. */
  readonly cells: readonly (string | null)[];
}

export interface MarkedRow extends TargetRow {
  readonly isDeleted: boolean;
  readonly commitTimeUs: bigint;
}

export interface HistoryRow extends TargetRow {
  readonly op: string;
  readonly offset: number;
  /** Names of the columns that are not known. */
  readonly unchanged: readonly string[];
}

export function sinkConformance(harness: SinkHarness): void {
  const part = (name: Part, tests: () => void): void => {
    const isLeftOut = harness.only?.includes(name) === false;
    describe(name, isLeftOut ? { tags: LONG } : harness.heavy?.includes(name) === true ? { tags: HEAVY } : {}, tests);
  };
  describe(`sink ${harness.name}`, () => {
    part("values", () => valueTests(harness));
    part("progress", () => checkpointTests(harness));
    part("fence", () => fenceTests(harness));
    if (formOf(harness) !== "history") part("tenants", () => tenantTests(harness));
    if (formOf(harness) === "stream") {
      part("stream", () => streamTests(harness));
      return;
    }
    part("rows", () => rowTests(harness));
    part("unchanged cells", () => unchangedTests(harness));
    part("names", () => nameTests(harness));
    part("tables", () => schemaTests(harness));
    part("shapes", () => shapeTests(harness));
    if (harness.isHeld === true) part("late", () => lateTests(harness));
    part("compacted changes", () => compactTests(harness));
    if (harness.form?.deletes === "soft") part("soft deletes", () => softTests(harness, harness.form));
    if (harness.form?.mode === "history") part("history", () => historyTests(harness));
  });
}
