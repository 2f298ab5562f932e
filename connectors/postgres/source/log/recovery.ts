/** Failover: a standby that is not promoted yet, and connections that end at different servers while names move. */
import type { MillraceError } from "../../../../src/core/errors.ts";
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { sourceError } from "../errors.ts";
import type { SourceContext } from "../context.ts";
import { identifySystem, replicationCommand } from "./server.ts";
import type { ReplicationConnection } from "../stream/transport.ts";

/**
 * The log that this daemon followed may be about to continue here. The daemon waits for that, and says what will be
 * missing. A first start does not wait: `checkServer` refuses it.
 */
export async function waitingForPromotion(context: SourceContext, signal: AbortSignal): Promise<MillraceError> {
  return sourceError(
    "MR2031",
    "retryable",
    `the source is a standby that is not promoted: it replays another server's log; ${await slotState(context, signal)}`,
    "Promote it, or point source.url at the primary. It is tried again.",
  );
}

async function slotState(context: SourceContext, signal: AbortSignal): Promise<string> {
  const [slot] = await context.database.rows<{ temporary: boolean; synced: string | null }>(
    "reading the slot",
    "select temporary, to_jsonb(s) ->> 'synced' as synced from pg_replication_slots s where slot_name = $1",
    [context.slot],
    signal,
  );
  const name = `the slot ${context.slot}`;
  if (slot === undefined)
    return `${name} does not exist there, and without it Millrace can't continue after a promotion`;
  if (slot.synced !== "true") return `${name} there is not one that is kept in step with the primary's`;
  // At a promotion Postgres drops slots that it could not make ready before.
  if (slot.temporary) return `${name} is not ready there yet, and would not survive a promotion now`;
  return `${name} is there and ready`;
}

/**
 * During a failover, one address may lead to different servers from one moment to the next. Throws if this connection does
 * not end at the server that was compared with the stored identity; the comparison is then repeated.
 */
export async function checkStillThere(
  connection: ReplicationConnection,
  compared: LogIdentity | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (compared === undefined) return;
  const system = await identifySystem(connection, signal);
  const same =
    compared["systemIdentifier"] === system.systemIdentifier && compared["timeline"] === String(system.timeline);
  const { standby } = await whichServer(connection, signal);
  if (!same || standby) throw moved();
}

/** Throws if the ordinary connection ends at another server than this one. */
export async function checkOneServer(
  context: SourceContext,
  connection: ReplicationConnection,
  signal: AbortSignal,
): Promise<void> {
  const { started } = await whichServer(connection, signal);
  const doing = "comparing connections";
  const [other] = await context.database.rows<{ started: string }>(doing, WHICH_SQL, [], signal);
  if (other?.started !== started) throw moved();
}

const WHICH_SQL = "select pg_postmaster_start_time()::text as started, pg_is_in_recovery() as standby";

async function whichServer(
  connection: ReplicationConnection,
  signal: AbortSignal,
): Promise<{ readonly started: string | undefined; readonly standby: boolean }> {
  const doing = "comparing connections";
  const [row] = await replicationCommand<{ started: string; standby: boolean }>(connection, doing, WHICH_SQL, signal);
  return { started: row?.started, standby: row?.standby === true };
}

function moved(): MillraceError {
  return sourceError(
    "MR2032",
    "retryable",
    "connections that were opened one after the other ended at different servers, or at one that was promoted in between",
    "It is tried again. If it repeats, source.url leads to several servers: name the primary alone.",
  );
}
