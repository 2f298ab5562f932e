import type { DeadLetterStore, SinkStore } from "../contracts/state-store.ts";
import { findMillraceError } from "../errors.ts";
import { serializePosition } from "../model/position.ts";
import type { AuditFacts, AuditStore } from "./audit-store.ts";

/** Who asks for what. */
export interface Order {
  readonly who: string;
  readonly via: string;
  readonly action: string;
  readonly subject: AuditFacts;
}

/** Of longer lists an entry has how many there are, and the first. */
const LISTED_MAX = 50;

export function letterSubject(ids: readonly number[] | null, sink: string | null): AuditFacts {
  const letters = ids === null ? "all" : { count: ids.length, ids: ids.slice(0, LISTED_MAX) };
  return { letters, sinks: sink === null ? [] : [sink] };
}

interface AuditedState {
  readonly audit: AuditStore;
  readonly sinks: Pick<SinkStore, "all">;
  readonly deadLetters: Pick<DeadLetterStore, "waiting">;
}

/**
 * Keeps an action in the audit log, with the sinks before and after, and what it answered. The action is stored before it
 * begins, so an action whose process ended on the way is there too, without an end.
 */
export async function audited<T extends object>(
  state: AuditedState,
  order: Order,
  work: () => Promise<T>,
  resultOf: (result: T) => object = (result) => result,
): Promise<T> {
  const { audit } = state;
  const id = await audit.begin({ ...order, before: await sinkFacts(state) });
  try {
    const result = await work();
    await audit.end(id, { after: { ...(await sinkFacts(state)), ...shortened(resultOf(result)) }, error: null });
    return result;
  } catch (error) {
    await audit.end(id, { after: null, error: findMillraceError(error)?.code ?? "unknown" });
    throw error;
  }
}

function shortened(facts: object): AuditFacts {
  const short = (value: unknown): unknown =>
    Array.isArray(value) && value.length > LISTED_MAX
      ? { count: value.length, first: value.slice(0, LISTED_MAX) }
      : value;
  return Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, short(value)]));
}

/** The sinks as actions of operators change them: each with its pause, position and waiting dead letters. */
async function sinkFacts({ sinks, deadLetters }: AuditedState): Promise<AuditFacts> {
  const letters = await deadLetters.waiting();
  const facts = (await sinks.all()).map(({ name, paused, error, covered, reset }) => {
    const position = reset?.to ?? covered;
    const fact = {
      paused,
      error: error?.code ?? null,
      position: position === null ? null : serializePosition(position),
      deadLetters: letters.get(name)?.count ?? 0,
    };
    return [name, fact] as const;
  });
  return { sinks: Object.fromEntries(facts) };
}
