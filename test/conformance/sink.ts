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
import type { Sink } from "../../src/core/contracts/sink.ts";
import { fenceTests } from "./sink-fence.ts";
import { historyTests } from "./sink-history.ts";
import { nameTests } from "./sink-names.ts";
import { netTests } from "./sink-net.ts";
import { progressTests } from "./sink-progress.ts";
import { rowTests } from "./sink-rows.ts";
import { schemaTests } from "./sink-schema.ts";
import { shapeTests } from "./sink-shapes.ts";
import { softTests } from "./sink-soft.ts";
import { unchangedTests } from "./sink-unchanged.ts";
import { valueTests } from "./sink-values.ts";
import { isLongForm } from "../support/service-suffixes.ts";

export interface SinkHarness {
  readonly name: string;
  /** An empty target for one test, released with `await using`. */
  target(): Promise<SinkTarget>;
  /**
   * How a cell that the suite wrote as `text` is spelt by `readRows`; null where the target shows it as missing. Default:
   * unchanged.
   */
  readonly landed?: (column: Column, text: string) => string | null;
  /** True where rows and progress become durable in one transaction: a step that fails leaves no trace. */
  readonly transactional: boolean;
  /**
   * "strict": the step of a process whose lease was taken changes nothing. "open": only `open` with a lower lease is
   * refused (a target without transactions); such a step may write rows that versions then guard.
   */
  readonly fence?: "strict" | "open";
  /** True where names that differ in a dot's place only share a target: the daemon refuses the second table. */
  readonly namesMeet?: boolean;
  /** Native types (as spelt in values.ts) that the target can't hold; each with its reason in the connector's README. */
  readonly without?: readonly string[];
  /** Default: a mirror with hard deletes. */
  readonly form?: SinkForm;
  /** Arranges that the target refuses one row for its content. Absent: this target can refuse none. */
  readonly refusal?: () => PoisonCase;
}

/** The keys `deletes` and `mode` of a warehouse. */
export interface SinkForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
}

/** True, and the test is skipped, where the sink keeps a history: `why` the promise is a mirror's. */
export function isHistory(harness: SinkHarness, context: TestContext, why: string): boolean {
  if (harness.form?.mode !== "history") return false;
  context.skip(why);
  return true;
}

export interface PoisonCase {
  readonly table: TableVersion;
  /** A row that is taken, another one for each number. */
  readonly good: (i: number) => readonly (string | null)[];
  /** A row that is refused, another key for each number. */
  readonly bad: (i: number) => readonly (string | null)[];
}

export interface SinkTarget extends AsyncDisposable {
  /** `form`: another one than the harness', as after a change of the configuration. */
  makeSink(form?: SinkForm): Sink | Promise<Sink>;
  /** All live rows of the table (of a history the last state of each), in any order. Reads what is durable, also while a sink is open. */
  readRows(table: TableVersion): Promise<readonly TargetRow[]>;
  /** All rows with their marks, in the order of their keys. Only where deletes are soft. */
  readMarked?(table: TableVersion): Promise<readonly MarkedRow[]>;
  /** All rows of a history in the order of version, offset and key, `d` behind `u`. */
  readHistory?(table: TableVersion): Promise<readonly HistoryRow[]>;
  /** Empties the target, progress included, as somebody would who drops, flushes or deletes it. */
  wipe(): Promise<void>;
  /** Puts something in the table's place that Millrace did not make. Absent: nothing can stand there. */
  occupy?(table: TableVersion): Promise<void>;
  /** Cuts the sink's connections from outside. Absent: the target is a file. */
  cut?(): Promise<void>;
  /** Makes the target refuse writes to this table (a missing table, a read-only index) until disposed. */
  obstruct?(table: TableVersion): Promise<AsyncDisposable>;
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

/** A cell is written, and a name made, in the same way whatever becomes of deleted rows; so are shapes where these are marked. */
function isOtherForm({ form }: SinkHarness): boolean {
  return form !== undefined && (form.deletes === "soft" || form.mode === "history");
}

export function sinkConformance(harness: SinkHarness): void {
  describe(`sink ${harness.name}`, () => {
    describe("rows", () => rowTests(harness));
    describe("unchanged cells", () => unchangedTests(harness));
    if (isLongForm() || !isOtherForm(harness)) {
      describe("values", () => valueTests(harness));
      describe("names", () => nameTests(harness));
    }
    describe("tables", () => schemaTests(harness));
    if (isLongForm() || harness.form?.deletes !== "soft") describe("shapes", () => shapeTests(harness));
    describe("progress", () => progressTests(harness));
    describe("fence", () => fenceTests(harness));
    describe("netted changes", () => netTests(harness));
    if (harness.form?.deletes === "soft") describe("soft deletes", () => softTests(harness, harness.form));
    if (harness.form?.mode === "history") describe("history", () => historyTests(harness));
  });
}
