import { Counter, Gauge, type Registry } from "prom-client";

interface OfTable {
  readonly table: string;
  readonly sink: string;
}

/** What wakes somebody: each table and sink by its name. */
export interface TableLevels {
  readonly stateUp: boolean;
  readonly safeBytes: number | null;
  readonly retentionSeconds: number | null;
  /** Tables, chunks and keys. */
  readonly unfinishedReads: number;
  readonly suspended: readonly OfTable[];
  readonly unreadable: readonly OfTable[];
  readonly freshness: readonly (OfTable & { readonly seconds: number })[];
  readonly proofAges: readonly (OfTable & { readonly seconds: number })[];
  /** Of reads that run now, where it can be estimated. */
  readonly progress: readonly (OfTable & { readonly share: number; readonly secondsLeft: number | null })[];
  readonly readRows: readonly (OfTable & { readonly rows: number })[];
}

/** In place of a sink's name: all sinks. No sink can have this name. */
export const EVERY_SINK = "*";
/** Likewise: the first copy reads all tables. */
export const EVERY_TABLE = "*";

/** A table that comes or goes must do so in the scrape: each is set anew. */
export class TableGauges {
  readonly #stateUp: Gauge;
  readonly #safeBytes: Gauge;
  readonly #retention: Gauge;
  readonly #unfinished: Gauge;
  readonly #suspended: Gauge<"table" | "sink">;
  readonly #unreadable: Gauge<"table" | "sink">;
  readonly #freshness: Gauge<"table" | "sink">;
  readonly #proofAge: Gauge<"table" | "sink">;
  readonly #share: Gauge<"table" | "sink">;
  readonly #secondsLeft: Gauge<"table" | "sink">;
  readonly #readRows: Counter<"table" | "sink">;

  constructor(registers: Registry[]) {
    const plain = (name: string, help: string) => new Gauge({ name, help, registers });
    const labelNames = ["sink", "table"] as const;
    const perTable = (name: string, help: string) => new Gauge({ name, help, labelNames, registers });
    this.#stateUp = plain("millrace_state_up", "1 while the state can be written.");
    this.#safeBytes = plain(
      "millrace_slot_safe_bytes",
      "How much more log may be written before the source drops what it keeps.",
    );
    this.#retention = plain(
      "millrace_retention_seconds",
      "Forecast: time until the source drops log that a sink still needs.",
    );
    this.#unfinished = plain(
      "millrace_reads_unfinished",
      "Tables, chunks and keys that are to be read beside the stream.",
    );
    this.#suspended = perTable(
      "millrace_table_suspended",
      "1 for a table whose changes are skipped until somebody acts, in this sink or in all (*).",
    );
    this.#unreadable = perTable(
      "millrace_table_unreadable",
      "1 for a table whose rows this sink waits for while the source refuses to have them read.",
    );
    this.#freshness = perTable(
      "millrace_freshness_seconds",
      "How old the table's rows in the sink are: the sink's lag, or the time since the table is suspended or unreadable.",
    );
    this.#proofAge = perTable(
      "millrace_proof_age_seconds",
      "Time since a comparison last found the table in the sink equal to the source.",
    );
    this.#share = perTable(
      "millrace_snapshot_share",
      "Estimate: part of the table that is read, from 0 to 1; table and sink * for the first copy.",
    );
    this.#secondsLeft = perTable(
      "millrace_snapshot_remaining_seconds",
      "Estimate: time until the read of the table ends; table and sink * for the first copy.",
    );
    this.#readRows = new Counter({
      name: "millrace_snapshot_rows_total",
      help: "Rows of the table that were read beside the stream for the sink.",
      labelNames,
      registers,
    });
  }

  set(levels: TableLevels): void {
    this.#stateUp.set(levels.stateUp ? 1 : 0);
    this.#safeBytes.set(levels.safeBytes ?? Number.NaN);
    this.#retention.set(levels.retentionSeconds ?? Number.NaN);
    this.#unfinished.set(levels.unfinishedReads);
    const ofTables = [this.#suspended, this.#unreadable, this.#freshness, this.#proofAge, this.#readRows];
    for (const gauge of [...ofTables, this.#share, this.#secondsLeft]) gauge.reset();
    for (const { sink, table } of levels.suspended) this.#suspended.set({ sink, table }, 1);
    for (const { sink, table } of levels.unreadable) this.#unreadable.set({ sink, table }, 1);
    for (const { sink, table, seconds } of levels.freshness) this.#freshness.set({ sink, table }, seconds);
    for (const { sink, table, seconds } of levels.proofAges) this.#proofAge.set({ sink, table }, seconds);
    for (const { sink, table, share, secondsLeft } of levels.progress) {
      this.#share.set({ sink, table }, share);
      if (secondsLeft !== null) this.#secondsLeft.set({ sink, table }, secondsLeft);
    }
    for (const { sink, table, rows } of levels.readRows) this.#readRows.inc({ sink, table }, rows);
  }
}
