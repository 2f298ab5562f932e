/** Comparing sinks with their source: what is asked for, and what was found. */
export interface ReconcileRequest {
  /** Table ids; empty: all. */
  readonly tables: readonly string[];
  /** Sink names; empty: all. */
  readonly sinks: readonly string[];
  /** A sink that gets no further for this long is not comparable. */
  readonly patienceMs: number;
  /** Whether rows that differ are read again from the source. */
  readonly repairs: boolean;
  /** How many rows that differ are listed, of each table in each sink. */
  readonly sampleMax: number;
  /** `fast`: every key, and the values of one part of the rows; see reconcile/rows/rotation. */
  readonly mode: "full" | "fast";
  /** Whether the values that differ are in the result. */
  readonly showsValues: boolean;
  /** The comparison that is gone on with; null: a new one. */
  readonly resume: string | null;
}

/** What was found: the document that `reconcile --json` prints. */
export interface ReconcileDocument {
  readonly id: string;
  readonly name: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  /** Of how many parts of the rows values were compared in a `fast` one, and which; null: of all rows. */
  readonly part: { readonly number: number; readonly of: number } | null;
  /** Whether some row of some sink differs from the source. */
  readonly drift: boolean;
  /** Whether more rows of some table differ in some sink than its threshold allows. */
  readonly alarm: boolean;
  readonly tables: readonly TableReconciliation[];
  /** What could not be compared, or not wholly. */
  readonly notComparable: readonly NotComparable[];
  /** Tables that are set aside: the sinks are known not to follow them. */
  readonly aside: readonly { readonly table: string; readonly code: string; readonly message: string }[];
  /** Whether all tables in all sinks were asked for. A report may be older than this field. */
  readonly whole?: boolean;
}

export interface TableReconciliation {
  readonly table: string;
  readonly sink: string;
  /** Rows met at the source, and in the sink, each as of the moment when it was read. */
  readonly sourceRows: number;
  readonly sinkRows: number;
  /** Rows compared column by column. */
  readonly compared: number;
  /** Of these rows, as each side was read. A report may be older than these fields. */
  readonly sourceBytes?: number;
  readonly sinkBytes?: number;
  /** Rows of the source that the sink does not have. */
  readonly missing: number;
  /** Rows of the sink that the source does not have. */
  readonly extra: number;
  readonly different: number;
  readonly repaired: number;
  /** Rows that differ and that no repair changes: `beyondLog`, and ids of no row. */
  readonly unrepairable: number;
  /**
   * Rows that differ and that nothing of the present epoch changes: those whose version lies beyond the log, and those that a
   * repair did not change. A report may be older than this field.
   */
  readonly beyondLog?: number;
  /** Rows that differ because the sink refused them: its waiting dead letters. Not counted as drift. */
  readonly deadLetters: number;
  /**
   * Rows that changed again whenever they were read at the source. Each time the sink held what the source's log says of
   * them. Not counted as compared.
   */
  readonly moving?: number;
  readonly movingSample?: readonly MovingRow[];
  readonly sample: readonly DriftSample[];
}

export interface MovingRow {
  readonly key: Readonly<Record<string, string>>;
  /** The last place of the log at which the sink held what the log says of the row. */
  readonly equalAt: string;
}

export interface DriftSample {
  readonly kind: DriftKind;
  /** Texts of the key's columns, as the source prints them. */
  readonly key: Readonly<Record<string, string>>;
  /** Columns that differ. */
  readonly columns: readonly string[];
  readonly why: DriftCause;
  /** Of the columns that differ, cut where they are long; only where they were asked for. */
  readonly values?: Readonly<Record<string, ValuePair>>;
}

/** As the sink has to show it, and as it does. */
export interface ValuePair {
  readonly expected: string | null;
  readonly found: string | null;
}

/**
 * Why a row differs, as far as the row itself shows it. `written-outside`: it has what Millrace writes nowhere, or lacks what
 * it writes everywhere. `beyond-log`: its version is of a change that the log has not come to; every later one is kept out
 * by it until another epoch begins. `beyond-epochs`: its version is such that no epoch is above it. `unknown`: a change that was lost on its way, a row that the sink lost, or a value that somebody else wrote.
 */
export type DriftCause = "written-outside" | "beyond-log" | "beyond-epochs" | "unknown";

export type DriftKind = "missing" | "extra" | "different";

export interface NotComparable {
  readonly sink: string;
  /** Null: none of the sink's tables. */
  readonly table: string | null;
  /** How many rows of it, where the others were compared. */
  readonly rows?: number;
  readonly reason: string;
}

/** A comparison in short, as lists and trends show it: without keys. */
export interface ReportSummary {
  readonly id: string;
  readonly name: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly drift: boolean;
  readonly alarm: boolean;
  /** Tables, each counted once for every sink that it was compared in. */
  readonly tables: number;
  /** What could not be compared, or not wholly. */
  readonly notComparable: number;
  /** Rows, of all tables and sinks together. */
  readonly compared: number;
  /** A report may be older than these: see `ReconcileDocument` and `TableReconciliation`. */
  readonly whole?: boolean;
  readonly part?: ReconcileDocument["part"];
  readonly aside?: number;
  readonly deadLetters?: number;
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  readonly repaired: number;
}

export function summaryOf({ tables, notComparable, aside, ...found }: ReconcileDocument): ReportSummary {
  const { id, name, startedAt, finishedAt, drift, alarm, whole = false, part } = found;
  const sum = (of: "compared" | "repaired" | "deadLetters" | DriftKind): number =>
    tables.reduce((total, row) => total + row[of], 0);
  return {
    id,
    name,
    startedAt,
    finishedAt,
    drift,
    alarm,
    tables: tables.length,
    notComparable: notComparable.length,
    compared: sum("compared"),
    whole,
    part,
    aside: aside.length,
    deadLetters: sum("deadLetters"),
    missing: sum("missing"),
    extra: sum("extra"),
    different: sum("different"),
    repaired: sum("repaired"),
  };
}

/** Where a comparison is that runs now. */
export interface ReconcileProgress {
  readonly id: string;
  readonly startedAt: string;
  readonly tableCount: number;
  readonly tablesDone: number;
  /** What is compared now. */
  readonly table: string | null;
  readonly rowsCompared: number;
}

/** `last`: what the newest one that has ended in this process found. */
export interface ReconcileStatus {
  readonly running: ReconcileProgress | null;
  readonly last: ReconcileDocument | null;
  /** Why the newest one broke off, where it did. */
  readonly failure: {
    readonly id: string;
    readonly code: string;
    readonly message: string;
    readonly hint: string | null;
  } | null;
}
