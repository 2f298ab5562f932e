import type { AuditFacts, AuditStore } from "./audit-store.ts";
import { findMillraceError } from "../errors.ts";

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
