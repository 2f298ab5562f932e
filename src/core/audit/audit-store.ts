import { findMillraceError } from "../errors.ts";

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

/** Who asks for what. */
export interface Order {
  readonly who: string;
  readonly via: string;
  readonly action: string;
  readonly subject: AuditFacts;
}

export interface Looks<T> {
  /** What the action changes, as it is now: called before and after. */
  readonly look?: () => Promise<AuditFacts>;
  /** What the action answered. */
  readonly resultOf?: (result: T) => object;
}

/** The numbers of letters in an order: all that wait, or how many and the first of them. */
const LISTED_MAX = 50;

export function letterSubject(ids: readonly number[] | null, sink: string | null): AuditFacts {
  const letters = ids === null ? "all" : { count: ids.length, ids: ids.slice(0, LISTED_MAX) };
  return { letters, sinks: sink === null ? [] : [sink] };
}

/**
 * Keeps an action in the audit log. The action is stored before it begins, so an action whose process ended on the way is
 * there too, without an end.
 */
export async function audited<T>(
  store: AuditStore,
  order: Order,
  work: () => Promise<T>,
  { look, resultOf = () => ({}) }: Looks<T> = {},
): Promise<T> {
  const id = await store.begin({ ...order, before: (await look?.()) ?? null });
  try {
    const result = await work();
    await store.end(id, { after: { ...(await look?.()), ...resultOf(result) }, error: null });
    return result;
  } catch (error) {
    await store.end(id, { after: null, error: findMillraceError(error)?.code ?? "unknown" });
    throw error;
  }
}
