/** Whether a sink has what an application has just committed. */

/** What an application asks for. */
export interface FreshRequest {
  /** The token; null: everything that is committed at the source now. */
  readonly at: string | null;
  /** Null: every sink. */
  readonly sink: string | null;
  /** Ids; empty: every table that the sink takes. */
  readonly tables: readonly string[];
}

export interface FreshAnswer {
  readonly reached: boolean;
  /** Up to where the sink has everything, in the source's form: of several sinks the lowest. Null: not known yet. */
  readonly position: string | null;
  /** What was still missing at the end, for people. */
  readonly missing: readonly string[];
}
