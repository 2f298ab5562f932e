import { createHash } from "node:crypto";
import type { Described, Fields } from "../described.ts";
import { normalOf } from "../targets/expected-json.ts";

/** A comparison of sinks with their source: the request and the result. */
export interface ReconcileRequest {
  /** Table ids; empty: all. */
  readonly tables: readonly string[];
  /** Those of them that nobody named: a wildcard fits them, and they may be gone. */
  readonly mayLack: readonly string[];
  /** Sink names; empty: all. */
  readonly sinks: readonly string[];
  /** A sink that makes no progress for this long is not comparable. */
  readonly patienceMs: number;
  /** Whether documents are also made of the source's rows, and compared with those of the nest. */
  readonly deep: boolean;
  /** Whether differing rows are read again from the source. */
  readonly repairs: boolean;
  /** How many differing rows are listed per table and sink. */
  readonly sampleMax: number;
  /** `fast`: every key, and the values of one part of the rows; see reconcile/rows/rotation. */
  readonly mode: "full" | "fast";
  /** Whether the result contains the differing values. */
  readonly showsValues: boolean;
  /** The comparison to resume; null: a new one. */
  readonly resume: string | null;
}

/** Of all tables in all sinks, unless it says otherwise. */
export function requestOf(own: Partial<ReconcileRequest>): ReconcileRequest {
  return {
    tables: [],
    mayLack: [],
    sinks: [],
    patienceMs: 60_000,
    deep: false,
    repairs: false,
    sampleMax: 20,
    mode: "full",
    showsValues: false,
    resume: null,
    ...own,
  };
}

/** The result: the document that `reconcile --json` prints. */
export interface ReconcileDocument {
  /**
   * Of what comparisons have proven until `finishedAt`, range by range; `startedAt` is when the oldest of these began. Absent:
   * of one comparison.
   */
  readonly kind?: "proof";
  readonly id: string;
  readonly name: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  /** For `fast`: the part whose values were compared, and the number of parts; null: all rows. */
  readonly part: { readonly number: number; readonly of: number } | null;
  /** Whether any row of any sink differs from the source. */
  readonly drift: boolean;
  /** Whether a table has more differing rows in a sink than its threshold allows. */
  readonly alarm: boolean;
  readonly tables: readonly TableReconciliation[];
  /** What could not be compared, or only partly. */
  readonly notComparable: readonly NotComparable[];
  /** Tables that are suspended: the sinks do not follow them. */
  readonly suspended: readonly { readonly table: string; readonly code: string; readonly message: string }[];
  /** Tables of which a SELECT shows more than their own rows, which alone are compared. */
  readonly besides: readonly { readonly table: string; readonly what: string }[];
  /** Whether all tables in all sinks were requested. */
  readonly whole: boolean;
  /** The Millrace that compared. */
  readonly version: string;
  /** SHA-256 of the text of millrace.yaml, in hexadecimal digits. */
  readonly config: string;
  /** With `reconcile.sign`. */
  readonly signature?: ReportSignature;
  /** Of a stored report that was signed, and from which keys of rows were removed since: its digest before that. */
  readonly digest?: string;
}

/** A report by its digest: SHA-256 of its canonical JSON (RFC 8785), in hexadecimal digits. */
export interface ReportLink {
  readonly id: string;
  readonly sha256: string;
}

export interface ReportSignature {
  /** The public key of Ed25519: SPKI in DER, in base64. */
  readonly key: string;
  /** The report before it; null: none was kept. */
  readonly previous: ReportLink | null;
  /** Over the canonical JSON of the report without this field, in base64. */
  readonly value: string;
}

export interface TableReconciliation {
  readonly table: string;
  readonly sink: string;
  /** Rows at the source and in the sink, each counted when it was read. */
  readonly sourceRows: number;
  readonly sinkRows: number;
  /** The first and the last position of the log at which rows were compared, in the source's form; null: there was none. */
  readonly positions: { readonly from: string; readonly to: string } | null;
  /**
   * Ranges of the source's keys, in its order, each with those after the range before. If the last one has an end, the rows
   * after it were not reached. Reports of the first versions have none.
   */
  readonly coverage?: readonly CoveredRange[];
  /** Of a proof: when the listing of the sink's keys began that showed none that the source lacks, and where the log was. */
  readonly listing?: Pick<CoveredRange, "at" | "position">;
  /** Rows compared column by column. */
  readonly compared: number;
  /** Size of the compared rows on each side as read. */
  readonly sourceBytes: number;
  readonly sinkBytes: number;
  /** Rows of the source that the sink lacks. */
  readonly missing: number;
  /** Rows of the sink that the source lacks. */
  readonly extra: number;
  readonly different: number;
  readonly repaired: number;
  /** Differing rows that no repair changes: `beyondLog`, and ids that no row can have. */
  readonly unrepairable: number;
  /**
   * Differing rows that no change of the present epoch replaces: those with a version beyond the log, and those that a
   * repair did not change.
   */
  readonly beyondLog: number;
  /** Rows that differ because the sink refused them: its waiting dead letters. They do not count as drift. */
  readonly deadLetters: number;
  /**
   * Rows that changed at every read of the source. At each look the sink held what the source's log says about them.
   * They do not count as compared.
   */
  readonly moving?: number;
  readonly movingSample?: readonly MovingRow[];
  readonly sample: readonly DriftSample[];
}

export interface CoveredRange {
  /**
   * The last key: texts of its columns, in the source's spelling; null: to the end of the table. `{}`: the key is not shown, or
   * was removed since.
   */
  readonly upTo: Readonly<Record<string, string>> | null;
  /** Rows of the source; null: they were not counted. */
  readonly rows: number | null;
  /** Its rows were compared then or later; null: never. */
  readonly at: string | null;
  /** Of the log, at which the range was compared, or the first of them; null: it had no row. */
  readonly position: string | null;
}

export interface MovingRow {
  readonly key: Readonly<Record<string, string>>;
  /** The last log position at which the sink held what the log says about the row. */
  readonly equalAt: string;
}

export interface DriftSample {
  readonly kind: DriftKind;
  /** Texts of the key's columns, in the source's spelling. */
  readonly key: Readonly<Record<string, string>>;
  /** The columns that differ; of a document's relation the first place inside it: `items[2].product.sku`. */
  readonly columns: readonly string[];
  readonly why: DriftCause;
  /** Values of the differing columns, shortened if long; only if requested. */
  readonly values?: Readonly<Record<string, ValuePair>>;
}

export interface ValuePair {
  readonly expected: string | null;
  readonly found: string | null;
}

/**
 * Why a row differs, as far as the row itself shows it. `written-outside`: it has something that Millrace never writes,
 * or lacks something that Millrace always writes. `beyond-log`: its version belongs to a change that the log has not
 * reached; it keeps out every change until another epoch begins. `beyond-epochs`: no epoch is higher than its version.
 * `unknown`: a change was lost on its way, the sink lost a row, or another program wrote a value.
 */
export type DriftCause = "written-outside" | "beyond-log" | "beyond-epochs" | "unknown";

export type DriftKind = "missing" | "extra" | "different";

export interface NotComparable {
  readonly sink: string;
  /** Null: no table of the sink is comparable. */
  readonly table: string | null;
  /** How many of its rows, if the others were compared. */
  readonly rows?: number;
  readonly reason: string;
  /** True for a sink that only passes changes on, unless somebody asked for it: that is no failure. */
  readonly isExpected?: true;
}

/** The summary of a comparison for lists and trends; without keys. */
export type ReportSummary = Described<typeof REPORT_SUMMARY>;

export const REPORT_SUMMARY = {
  kind: [
    { optional: { oneOf: ["proof"] } },
    "of what comparisons have proven until then, out of many; left out: of one comparison",
  ],
  id: ["text", "for `report show`"],
  name: ["text", "the daemon's"],
  startedAt: ["time", "when it began"],
  finishedAt: ["time", "when it ended"],
  drift: ["boolean", "whether any row of any sink differs from the source"],
  alarm: ["boolean", "whether more rows differ than `maxDrift` allows"],
  tables: ["count", "tables, each counted once for every sink"],
  notComparable: [
    "count",
    "tables and sinks that could not be compared completely; without sinks that only pass changes on",
  ],
  compared: ["rows", "rows compared, all tables and sinks together"],
  whole: ["boolean", "whether all tables in all sinks were requested"],
  complete: [
    "boolean",
    "whether all rows of all tables were compared in all sinks: not so if one only passes changes on, or if rows changed at each look",
  ],
  part: [
    { orNull: { object: { number: ["number", "which part"], of: ["count", "parts"] } } },
    "for `fast`: the part of the rows whose values were compared; null: all rows",
  ],
  suspended: ["tables", "tables that were suspended meanwhile"],
  deadLetters: ["rows", "rows that differ because the sink refused them; not counted as drift"],
  missing: ["rows", "rows of the source that the sink lacks"],
  extra: ["rows", "rows of the sink that the source lacks"],
  different: ["rows", "rows with different values"],
  repaired: ["rows", "rows that were read again because they differed"],
} as const satisfies Fields;

/** Whether differing rows were left unrepaired. */
export function hasLeft({ missing, extra, different, repaired }: ReportSummary): boolean {
  return missing + extra + different > repaired;
}

/** A report without keys and values of rows. */
export interface ReportView extends Omit<ReconcileDocument, "tables"> {
  readonly tables: readonly Omit<TableReconciliation, "sample" | "movingSample">[];
}

/** The report without the keys of this table's rows, and no longer signed. */
export function withoutKeysOf(tableId: string, found: ReconcileDocument): ReconcileDocument {
  const { signature, ...report } = found;
  const tables = found.tables.map(({ movingSample, ...row }): TableReconciliation => {
    if (row.table !== tableId) return movingSample === undefined ? row : { ...row, movingSample };
    return { ...withoutEnds(row), sample: [] };
  });
  return { ...report, tables, ...(signature === undefined ? {} : { digest: digestOf(found) }) };
}

/** SHA-256 of the report's canonical JSON (RFC 8785), in hexadecimal digits. */
export function digestOf(found: ReconcileDocument): string {
  return createHash("sha256").update(normalOf(found)).digest("hex");
}

export function withoutKeys({ tables, ...report }: ReconcileDocument): ReportView {
  return { ...report, tables: tables.map(({ sample: _sample, movingSample: _moving, ...row }) => withoutEnds(row)) };
}

function withoutEnds<T extends Pick<TableReconciliation, "coverage">>(row: T): T {
  if (row.coverage === undefined) return row;
  return { ...row, coverage: row.coverage.map((range) => ({ ...range, upTo: range.upTo === null ? null : {} })) };
}

/** The progress of the running comparison. */
export interface ReconcileProgress {
  readonly id: string;
  readonly startedAt: string;
  readonly tableCount: number;
  readonly tablesDone: number;
  readonly table: string | null;
  readonly rowsCompared: number;
}

/** `last`: the result of the newest comparison that has ended in this process. */
export interface ReconcileStatus {
  readonly running: ReconcileProgress | null;
  readonly last: ReconcileDocument | null;
  /** Why the newest comparison was stopped, if it was. */
  readonly failure: {
    readonly id: string;
    readonly code: string;
    readonly message: string;
    readonly hint: string | null;
  } | null;
}
