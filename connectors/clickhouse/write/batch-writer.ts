/** Applies batches: the rows become durable first, then the checkpoint. */
import { ClickHouseError } from "@clickhouse/client";
import { byHalves, eachOf } from "../../../src/core/each-of.ts";
import { type Batch, becomesDeadLetter, someOf } from "../../../src/core/model/batch.ts";
import type { Outcome } from "../../../src/core/contracts/sink.ts";
import type { Client } from "../client.ts";
import type { WriteFence } from "../fence.ts";
import { Reads } from "../current.ts";
import { breaksConstraint, clickhouseError, lacksColumn, RowsRefused } from "../errors.ts";
import type { TableLayout } from "../tables/layout.ts";
import type { Presence } from "../tables/presence.ts";
import { historySweepSql, historyTruncateSql } from "./history.ts";
import { historyRows } from "./history-rows.ts";
import { mirrorRows, type RowsWork, UnwrittenEntries } from "./mirror.ts";
import { removeSql } from "./removal.ts";
import { RowWriter } from "./row-writer.ts";
import { quoteIdentifier } from "../names.ts";
import { ownColumns } from "../tables/statements.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { writeLength } from "./cells.ts";
import {
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  EXACT_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";

/** More rows of one batch that do not fit point to a wrong mapping of the table, not to single rows. */
const UNFIT_COUNT_MAX = 1_000;
/** More that break a constraint are the fault of the table: each takes as many inserts as its batch can be halved. */
const REFUSED_COUNT_MAX = 20;

interface Writing {
  readonly client: Client;
  readonly fence: Pick<WriteFence, "column" | "left">;
}

interface RowsWriting extends Writing {
  readonly reads: Reads;
}

type TableRows = Pick<RowsWork, "layout" | "writes" | "left">;

export class BatchWriter {
  readonly #presence: Pick<Presence, "filled" | "replicated">;
  /** That render no rows now. */
  readonly #writers: RowWriter[] = [];
  /** Of tables whose last statements were refused: the server's codes. */
  readonly #refused = new Map<string, Set<string>>();

  constructor(presence: Pick<Presence, "filled" | "replicated">) {
    this.#presence = presence;
  }

  /** `layouts`: of `tablesOf(batch)`. */
  async write(
    { client, fence }: Writing,
    batch: Batch,
    layouts: readonly TableLayout[],
    outcome: Outcome,
    signal: AbortSignal,
  ): Promise<void> {
    const reads = new Reads(client, this.#presence.replicated, signal);
    const { column } = fence;
    switch (batch.kind) {
      case "checkpoint":
        return;
      case "rows":
        return await this.#batch({ client, fence, reads }, batch, layouts, outcome, signal);
      case "truncate": {
        const { version, record } = batch;
        const layout = layouts[0]!;
        const isHistory = layout.form.mode === "history";
        const sql = isHistory
          ? historyTruncateSql(layout, column, version, record)
          : removeSql(layout, column, { versionIs: `<= ${version}`, version, commitTimeUs: record?.commitTimeUs });
        await this.#ofTable(layout, fence, () => reads.run(layout.sqlName, sql));
        return;
      }
      case "sweep":
        await eachOf([...batch.sweeps.entries()], client.tablesAtOnce, async ([i, { below }]) => {
          const layout = layouts[i]!;
          const isHistory = layout.form.mode === "history";
          const sql = isHistory
            ? historySweepSql(layout, column, below)
            : removeSql(layout, column, { versionIs: `< ${below}`, version: below, commitTimeUs: undefined });
          await this.#ofTable(layout, fence, () => reads.run(layout.sqlName, sql));
        });
        return;
      default:
        return batch satisfies never;
    }
  }

  /** Each table has an insert of its own. Those of one target come one after the other. */
  async #batch(
    writing: RowsWriting,
    batch: Extract<Batch, { kind: "rows" }>,
    layouts: readonly TableLayout[],
    outcome: Outcome,
    signal: AbortSignal,
  ): Promise<void> {
    const left = batch.tables.map((writes, i) => ({ layout: layouts[i]!, writes, entries: new UnwrittenEntries() }));
    const byTarget = [...Map.groupBy(left, ({ layout }) => layout.sqlName).values()];
    await eachOf(byTarget, writing.client.tablesAtOnce, async (some) => {
      for (const { layout, writes, entries } of some)
        await this.#ofTable(layout, writing.fence, () =>
          this.#insert(writing, { layout, writes, left: entries }, signal),
        );
    });
    for (const { layout, writes, entries } of left) {
      if (entries.incomplete.length > 0)
        await outcome.incomplete(
          writes,
          entries.incomplete.toSorted((a, b) => a - b),
        );
      const letters = entries.unfit.filter((entry) => becomesDeadLetter(writes, entry));
      if (letters.length > UNFIT_COUNT_MAX) throw tooMany(layout);
      await outcome.poison([
        ...entries.unfit.map((entry) => ({ writes, entry, error: doesNotFit(layout) })),
        ...entries.refused.map((entry) => ({ writes, entry, error: breaks(layout) })),
      ]);
    }
  }

  async #ofTable(layout: TableLayout, fence: Writing["fence"], work: () => Promise<void>): Promise<void> {
    const { id } = layout.table;
    try {
      await work();
      this.#refused.delete(id);
    } catch (error) {
      if (!(error instanceof ClickHouseError)) throw error;
      if (breaksConstraint(error)) throw refuses(layout, "deletes");
      if (lacksColumn(error)) {
        fence.left(layout);
        if (error.message.includes(fence.column)) throw new RowsRefused(id, error, "entered");
      }
      const codes = this.#refused.get(id) ?? new Set();
      const isAgain = codes.has(error.code);
      this.#refused.set(id, codes.add(error.code));
      throw new RowsRefused(id, error, isAgain ? "again" : "first");
    }
  }

  /**
   * Of rows that a constraint of the table refuses, each is found; the others are written meanwhile. Invariant: no delete is left
   * out. Its row would stay, and the source has none that somebody could correct.
   */
  async #insert(writing: RowsWriting, { layout, writes, left }: TableRows, signal: AbortSignal): Promise<void> {
    // The batch's lists are longer.
    const all = Array.from({ length: writes.count }, (_, entry) => entry);
    await byHalves(all, breaksConstraint, async (entries) => {
      const found = new UnwrittenEntries();
      const some = entries.length === writes.count ? writes : someOf(writes, entries);
      try {
        await this.#insertAll(writing, { layout, writes: some, left: found }, signal);
      } catch (error) {
        if (entries.length > 1 || !breaksConstraint(error)) throw error;
        if (some.deleteCount > 0) throw refuses(layout, "deletes");
        found.refused.push(0);
      }
      for (const [list, own] of [
        [left.incomplete, found.incomplete],
        [left.unfit, found.unfit],
        [left.refused, found.refused],
      ] as const)
        for (const i of own) list.push(entries[i]!);
      if (left.refused.length > REFUSED_COUNT_MAX)
        throw refuses(layout, `more than ${REFUSED_COUNT_MAX} rows of one batch`);
    });
  }

  async #insertAll(
    { client, fence, reads }: RowsWriting,
    { layout, writes, left }: TableRows,
    signal: AbortSignal,
  ): Promise<void> {
    // One of a failed insert is not used again: it may still render rows, until what they wait for comes.
    const writer = this.#writers.pop() ?? new RowWriter();
    const work = { reads, writer, layout, writes, left };
    const rows = layout.form.mode === "history" ? historyRows(work) : mirrorRows(work);
    if (await client.insert(insertHead(layout, fence.column), rows, signal)) this.#presence.filled(layout);
    writer.giveBack();
    this.#writers.push(writer);
  }
}

function doesNotFit({ table }: TableLayout) {
  return clickhouseError(
    "MR3111",
    "poison",
    `a value in the key of a row of ${table.id} does not fit ClickHouse's type`,
  );
}

function breaks({ table }: TableLayout) {
  return clickhouseError("MR3111", "poison", `a constraint of the table of ${table.id} in ClickHouse refuses a row`, {
    hint: "`SHOW CREATE TABLE` has the constraint; a null breaks it, too. Drop it, or correct the row at the source; then `millrace dlq replay`.",
  });
}

/** As long as the table has this constraint. */
function refuses({ table, form }: TableLayout, what: string) {
  const message = `a constraint of the table of ${table.id} in ClickHouse refuses ${what}`;
  const isRemoval = form.mode === "history" ? `${OP_COLUMN} IN ('d', 't')` : `${DELETED_COLUMN} = 1`;
  const hint =
    `\`SHOW CREATE TABLE\` has the constraint. Drop it, or let it begin with \`${isRemoval} OR\`: of a deleted row there is ` +
    "often only the key, and a null breaks a constraint, too. Millrace tries again by itself, and then reads the table again.";
  return clickhouseError("MR2027", "retryable", message, { table: table.id, hint });
}

function tooMany({ table }: TableLayout) {
  const message = `more than ${UNFIT_COUNT_MAX} rows of ${table.id} in one batch have keys that do not fit ClickHouse's types`;
  return clickhouseError("MR3111", "fatal", message, { table: table.id });
}

/**
 * What an insert says before its rows. The columns' names and types go with the rows, so that the server refuses rows
 * for a table that somebody altered: RowBinary alone would read an integer's bytes as those of a float.
 */
interface InsertHead {
  readonly sql: string;
  readonly bytes: Buffer;
}

/** Millrace's own columns, in the order in which rows are rendered. */
const OWN = {
  mirror: [VERSION_COLUMN, COMMIT_TIME_COLUMN, DELETED_COLUMN, EXACT_COLUMN],
  history: [OP_COLUMN, OFFSET_COLUMN, UNCHANGED_COLUMN, SEEN_COLUMN, VERSION_COLUMN, COMMIT_TIME_COLUMN, EXACT_COLUMN],
} as const;

const made = new WeakMap<TableLayout, InsertHead & { readonly column: string }>();

/** `column`: the fence's. The rows have no value for it, and need none. */
function insertHead(layout: TableLayout, column: string): InsertHead {
  const known = made.get(layout);
  if (known?.column === column) return known;
  const types = new Map(ownColumns(layout.form));
  const own = OWN[layout.form.mode].map((name) => [name, types.get(name) ?? ""] as const);
  const columns = [...layout.columns.map(({ name, type }) => [name, type.name] as const), ...own];
  const names = [...columns.map(([name]) => name), column].map(quoteIdentifier).join(", ");
  const out = new ByteWriter(1024);
  writeLength(out, columns.length);
  for (const part of [0, 1] as const) for (const column of columns) writeString(out, column[part]);
  const head = {
    column,
    sql: `INSERT INTO ${layout.sqlName} (${names}) FORMAT RowBinaryWithNamesAndTypes`,
    bytes: Buffer.from(out.view()),
  };
  made.set(layout, head);
  return head;
}

function writeString(out: ByteWriter, text: string): void {
  const bytes = Buffer.from(text);
  writeLength(out, bytes.length);
  out.copy(bytes, 0, bytes.length);
}
