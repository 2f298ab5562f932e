import { userInfo } from "node:os";
import type { AuditFacts } from "../core/audit/audit-store.ts";
import { audited, type Looks, type Order } from "../core/audit/audited.ts";
import { sinkFacts } from "../core/audit/facts.ts";
import type { StateStore } from "../core/contracts/state-store.ts";

/** The user of this process. A user id without a name is shown as its number. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // Many containers have no entry for the user.
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}

export function orderOf(action: string, subject: AuditFacts): Order {
  return { who: userName(), via: "command line", action, subject };
}

/** For work that a command does without a daemon: keeps it in the audit log, with the sinks before and after. */
export async function auditedHere<T>(
  state: StateStore,
  action: string,
  subject: AuditFacts,
  work: () => Promise<T>,
  resultOf?: Looks<T>["resultOf"],
): Promise<T> {
  const looks = { look: () => sinkFacts(state), ...(resultOf === undefined ? {} : { resultOf }) };
  return await audited(state.audit, orderOf(action, subject), work, looks);
}
