/** What capture created at the server, and its removal. */
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import type { MadeObject } from "../../../../src/core/contracts/log-admin.ts";
import { quoteIdentifier } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../context.ts";
import { readPublication } from "./publication.ts";
import { dropSlot, readSlot } from "./slot.ts";

export async function madeBy(
  context: SourceContext,
  identity: LogIdentity | null,
  signal: AbortSignal,
): Promise<readonly MadeObject[]> {
  const made: MadeObject[] = [];
  const slot = await readSlot(context, signal);
  if (slot !== undefined)
    made.push({ what: `the replication slot ${context.slot}`, isOurs: isOurSlot(context, identity) });
  const publication = await readPublication(context, signal);
  if (publication !== undefined)
    made.push({ what: `the publication ${context.publication}`, isOurs: publication.ours && publication.owned });
  return made;
}

/** The slot first: it makes the server keep its log. */
export async function removeOurs(
  context: SourceContext,
  identity: LogIdentity | null,
  signal: AbortSignal,
): Promise<void> {
  const slot = await readSlot(context, signal);
  if (slot !== undefined && isOurSlot(context, identity)) await dropSlot(context, signal);
  const publication = await readPublication(context, signal);
  if (publication?.ours !== true || !publication.owned) return;
  const sql = `drop publication if exists ${quoteIdentifier(context.publication)}`;
  await context.database.simple("dropping the publication", sql, signal);
}

/** Objects that an unfinished first start left are ours: it announced them before it created them. */
function isOurSlot({ slot }: SourceContext, identity: LogIdentity | null): boolean {
  return identity === null || (identity["slotMade"] === "yes" && identity["slot"] === slot);
}
