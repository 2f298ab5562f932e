/** What a client of the source writes, from its first statement to the moment at which others see it. */
import type { Database } from "./database.ts";
import type { Happening } from "./happenings.ts";
import type { Scheduler } from "./scheduler.ts";

export type TransactionAct = Extract<Happening, { what: "transaction" }>;

interface Place {
  readonly scheduler: Scheduler;
  readonly server: { readonly database: Database };
  readonly say: (text: () => string) => void;
}

export function transact(
  { scheduler, server: { database }, say }: Place,
  { operations, commitsAfterMs, shownAfterMs, isRolledBack }: Omit<TransactionAct, "atMs" | "what">,
): void {
  const xid = database.begin(operations);
  if (xid === null) return;
  scheduler.after(commitsAfterMs, () => {
    if (isRolledBack) return database.rollback(xid);
    const commit = database.commit(xid);
    say(() => `source: transaction ${xid} commits at ${commit}: ${database.describe(xid)}`);
    scheduler.after(shownAfterMs, () => {
      if (shownAfterMs > 0) say(() => `source: transaction ${xid} is visible`);
      database.show(xid);
    });
  });
}
