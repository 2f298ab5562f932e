import type { StateStore } from "../contracts/state-store.ts";
import { serializePosition } from "../model/position.ts";
import type { AuditFacts } from "./audit-store.ts";

/** The sinks as actions of operators change them: each with its pause, position and waiting dead letters. */
export async function sinkFacts({
  sinks,
  deadLetters,
}: Pick<StateStore, "sinks" | "deadLetters">): Promise<AuditFacts> {
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
