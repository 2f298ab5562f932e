/** An action of an operator. Names alone: no keys, no conditions, no values of rows. */
export interface AuditEntry {
  readonly id: number;
  /** When it began. */
  readonly at: string;
  /** When it ended; null: it has not ended, or the process ended first. */
  readonly endedAt: string | null;
  /** The system's name of a user, the name of a token, or its place in millrace.yaml. */
  readonly who: string;
  /** `command line`, `socket`, or `HTTP from` an address. */
  readonly via: string;
  /** The command's name, such as `pause` or `offsets reset`. */
  readonly action: string;
  /** What it was done to: sinks, tables, numbers. */
  readonly subject: AuditFacts;
  readonly before: AuditFacts | null;
  /** The same afterwards, and what the action answered; null while it has not ended, or if it failed. */
  readonly after: AuditFacts | null;
  /** The number of the error that it failed with. */
  readonly error: string | null;
}

export type AuditFacts = Readonly<Record<string, unknown>>;
export type AuditBeginning = Pick<AuditEntry, "who" | "via" | "action" | "subject" | "before">;
export type AuditEnd = Pick<AuditEntry, "after" | "error">;

/** The newest actions: bounded by number and age. */
export interface AuditStore {
  /** Stores an action before it is done; returns its number. */
  begin(entry: AuditBeginning): Promise<number>;
  end(id: number, end: AuditEnd): Promise<void>;
  /** Newest first. */
  list(limit: number): Promise<readonly AuditEntry[]>;
}
