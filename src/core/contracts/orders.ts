/** What operators and applications ask of a daemon, and what it answers. */

/** Tables to read again beside the stream. */
export interface SnapshotOrder {
  /** Sinks to fill; empty: all. */
  readonly sinks: readonly string[];
  /** Table ids; empty: all. */
  readonly tables: readonly string[];
  readonly where: string | null;
}

/** Which letters are meant: these, or (null) all that wait; `sink`: of this sink only. */
export interface LetterChoice {
  readonly ids: readonly number[] | null;
  readonly sink: string | null;
}

/** How many letters ended how. */
export interface Replayed {
  /** The target has the row now, as the source has it. */
  readonly replayed: number;
  /** The letter did not wait any more when somebody asked: most often the row had come. */
  readonly superseded: number;
  /** The target refused the row again, or it could not be read in time. */
  readonly failed: number;
  /** Ids of the letters that wait for these rows now. */
  readonly waiting: readonly number[];
}

export interface WaitAnswer {
  readonly reached: boolean;
  /** What was still missing at the end, for people. */
  readonly missing: readonly string[];
}

/** Whether a sink has what an application has just committed. */
export interface FreshRequest {
  /** The token; null: everything that is committed at the source now. */
  readonly at: string | null;
  /** Null: every sink. */
  readonly sink: string | null;
  /** Ids; empty: every table that the sink takes. */
  readonly tables: readonly string[];
}

export interface FreshAnswer extends WaitAnswer {
  /** Up to where the sink has everything, in the source's form: of several sinks the lowest. Null: not known yet. */
  readonly position: string | null;
}
