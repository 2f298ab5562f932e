/** First and later starts: what is created, adopted and compared. */
import { setTimeout as delay } from "node:timers/promises";
import type { Position } from "../../../src/core/model/position.ts";
import type { CreatedLog, CreateRequest, Crossing, HeldPositions } from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import { BEGIN_ANEW, sourceError } from "./errors.ts";
import { quoteLiteral } from "../../../src/postgres/quote.ts";
import type { CatalogTable } from "./catalog/catalog.ts";
import type { SourceContext } from "./context.ts";
import { Database } from "./database.ts";
import { checkPublicationHistory, identityOf } from "./log/identity.ts";
import {
  checkPublication,
  checkViaRoot,
  publishable,
  readPublication,
  waitForTransactions,
  type Publication,
} from "./log/publication.ts";
import { leaving, syncPublication, takeOut } from "./log/publish.ts";
import { checkOneServer, waitingForPromotion } from "./log/recovery.ts";
import { selectTables, type Selected } from "./catalog/selection.ts";
import { checkServer, identifySystem, readServer, type ServerFacts } from "./log/server.ts";
import {
  checkSlotKind,
  checkSlotValid,
  createSlot,
  dropSlot,
  readSlot,
  unfinishedSlot,
  whenFree,
  type Slot,
} from "./log/slot.ts";
import { SnapshotCopy } from "./snapshot/snapshot.ts";
import { checkNoGap, slotMissing } from "./stream/stream.ts";
import { checkSameCluster, checkSystem, commonUntil, readHistory } from "./log/timeline.ts";
import { connectReplication } from "./stream/transport.ts";

/** How long an adopted slot may stay unfinished: another start may be about to finish it. */
const UNFINISHED_WAIT_MS = 2_000;

/**
 * Publication before slot: the slot's first change may come at any moment after it. A slot with our name is recreated if an
 * earlier start of ours announced it; otherwise it is adopted at its position, without a copy.
 */
export async function createLog(
  context: SourceContext,
  request: CreateRequest,
  signal: AbortSignal,
): Promise<CreatedLog> {
  const facts = await readServer(context, signal);
  checkServer(facts);
  const existing = await readSlot(context, signal);
  if (existing !== undefined) checkSlotKind(context, existing, facts.database);
  const selected = await selectTables(context, true, signal);
  const wanted = selected.captured.map(({ table }) => table);
  const published = toPublish(context, selected);
  const { added, locked } = await syncPublication(context, selected.publication, published, signal);
  for (const { schema, table } of locked)
    context.logger.warn({ table: `${schema}.${table}` }, "a table is locked: it is published as soon as it can be");
  await takeOut(context, leaving(selected.publication, published), signal);
  const publication = await publicationThere(context, signal);
  checkPublication(context, publication, wanted);
  checkViaRoot(context, publication, wanted);
  if (existing !== undefined && !request.resumeIntent) {
    if (added.length > 0)
      await waitForTransactions(
        context,
        ({ what, fix }) => context.logger.warn({}, `waiting for an older transaction: ${what}. ${fix}`),
        signal,
      );
    return adopt(context, request, facts, publication, signal);
  }
  if (existing !== undefined) await dropSlot(context, signal);
  return create(context, request, facts, publication, signal);
}

/**
 * A table that another role has to publish does not stop the others, unless it is named literally or there are only such
 * tables. Then the attempt fails, and says which statement to run.
 */
function toPublish(context: SourceContext, { publication, captured }: Selected): readonly CatalogTable[] {
  const wanted = captured.map(({ table }) => table);
  if (publication === undefined) return wanted;
  const possible = publishable(publication, wanted);
  const isLeftOut = ({ schema, table }: CatalogTable): boolean =>
    context.selection.isLiteral(schema, table) && !possible.some((t) => t.schema === schema && t.table === table);
  return possible.length === 0 || wanted.some(isLeftOut) ? wanted : possible;
}

async function create(
  context: SourceContext,
  request: CreateRequest,
  facts: ServerFacts,
  publication: Publication,
  signal: AbortSignal,
): Promise<CreatedLog> {
  const connection = await connectReplication(context.address, signal);
  try {
    const system = await identifySystem(connection, signal);
    const history = await readHistory(connection, system.timeline, signal);
    const made = await createSlot(context, connection, facts.version, signal);
    const identity = identityOf(context, { facts, system, history, publication, slotMade: true });
    const position: Position = { epoch: request.epoch, commit: made.consistentPoint, index: 0 };
    if (!request.wantCopy) {
      connection.close();
      return { identity, position, copy: null };
    }
    // The snapshot lives as long as this connection runs no other command.
    const selected = await selectAsOf(context, made.snapshot, signal);
    return { identity, position, copy: new SnapshotCopy(context, connection, made.snapshot, request.epoch, selected) };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/**
 * The published tables as the snapshot has them. Creating the slot may take long, and changes of shape in that time are not
 * in the stream: the earlier shapes would stay wrong until a row changes.
 */
async function selectAsOf(context: SourceContext, snapshot: string, signal: AbortSignal): Promise<Selected> {
  const database = new Database(context.address);
  try {
    const enter = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ${quoteLiteral(snapshot)}`;
    await database.simple("entering the snapshot", enter, signal);
    const selected = await selectTables({ ...context, database }, false, signal);
    const published = selected.publication?.published;
    return { ...selected, captured: selected.captured.filter(({ table }) => published?.has(table.oid) === true) };
  } finally {
    await database.close();
  }
}

async function adopt(
  context: SourceContext,
  request: CreateRequest,
  facts: ServerFacts,
  publication: Publication,
  signal: AbortSignal,
): Promise<CreatedLog> {
  const slot = await finishedSlot(context, signal);
  checkSlotValid(context, slot);
  await whenFree(context, "start", signal);
  const connection = await connectReplication(context.address, signal);
  try {
    const system = await identifySystem(connection, signal);
    const history = await readHistory(connection, system.timeline, signal);
    const identity = identityOf(context, { facts, system, history, publication, slotMade: false });
    return { identity, position: { epoch: request.epoch, commit: slot.confirmed, index: 0 }, copy: null };
  } finally {
    connection.close();
  }
}

async function finishedSlot(
  context: SourceContext,
  signal: AbortSignal,
): Promise<Slot & { readonly confirmed: bigint }> {
  const deadlineMs = performance.now() + UNFINISHED_WAIT_MS;
  for (;;) {
    const slot = await readSlot(context, signal);
    if (slot === undefined) throw slotMissing(context.slot);
    const { confirmed } = slot;
    if (confirmed !== null) return { ...slot, confirmed };
    if (performance.now() >= deadlineMs) throw await unfinishedSlot(context, slot, signal);
    await delay(100, undefined, { signal });
  }
}

/** Makes every comparison that can show a gap, before the first change is read. */
export async function resumeLog(
  context: SourceContext,
  identity: LogIdentity,
  held: HeldPositions,
  signal: AbortSignal,
): Promise<LogIdentity> {
  // A connection that is still open may lead to the former server.
  await context.database.renew();
  const facts = await readServer(context, signal);
  const connection = await connectReplication(context.address, signal);
  try {
    await checkOneServer(context, connection, signal);
    const system = await identifySystem(connection, signal);
    checkSameCluster(identity, system);
    if (facts.inRecovery) throw await waitingForPromotion(context, signal);
    const history = await readHistory(connection, system.timeline, signal);
    checkSystem(identity, held, system, history);
    checkServer(facts);
    checkStoredNames(context, identity, facts);
    const slot = await readSlot(context, signal);
    if (slot === undefined) throw slotMissing(context.slot);
    checkSlotKind(context, slot, facts.database);
    checkSlotValid(context, slot);
    checkNoGap(context.slot, slot.confirmed, held.from.commit);
    const selected = await selectTables(context, true, signal);
    const publication = checkPublicationHistory(context, identity, selected);
    const captured = selected.captured.map(({ table }) => table);
    checkPublication(context, publication, captured);
    checkViaRoot(context, publication, captured);
    return identityOf(context, { facts, system, history, publication, slotMade: identity["slotMade"] === "yes" });
  } finally {
    connection.close();
  }
}

/**
 * A standby was promoted that has everything before these places: positions go on there, and mean the same up to where the
 * former log was left. Null: the log is the same, or `resumeLog` tells what is wrong with it.
 */
export async function crossLog(
  context: SourceContext,
  identity: LogIdentity,
  places: readonly bigint[],
  signal: AbortSignal,
): Promise<Crossing | null> {
  await context.database.renew();
  const connection = await connectReplication(context.address, signal);
  try {
    await checkOneServer(context, connection, signal);
    const system = await identifySystem(connection, signal);
    const isSame = identity["timeline"] === String(system.timeline);
    if (isSame || identity["systemIdentifier"] !== system.systemIdentifier) return null;
    if ((await readServer(context, signal)).inRecovery) throw await waitingForPromotion(context, signal);
    const history = await readHistory(connection, system.timeline, signal);
    const leftAt = commonUntil(identity, system.timeline, history);
    const [first, ...others] = places;
    if (first === undefined || leftAt === null || places.some((place) => place > leftAt)) return null;
    const from = others.reduce((least, place) => (place < least ? place : least), first);
    return {
      identity: { ...identity, timeline: String(system.timeline), history },
      places: new Map(places.map((place) => [place, place])),
      from,
      end: system.flushed,
      generations: new Map(),
      leftAt,
    };
  } finally {
    connection.close();
  }
}

function checkStoredNames(context: SourceContext, identity: LogIdentity, facts: ServerFacts): void {
  if (identity["databaseOid"] !== facts.databaseOid) {
    throw sourceError(
      "MR2013",
      "fatal",
      `this is another database: ${facts.database} with another oid than ${identity["database"]} had`,
      `Correct source.url. If the change was meant: ${BEGIN_ANEW}`,
    );
  }
  for (const [what, now] of [
    ["slot", context.slot],
    ["publication", context.publication],
  ] as const) {
    if (identity[what] === now) continue;
    throw sourceError(
      "MR2010",
      "fatal",
      `the configuration names the ${what} ${now}, the stored position was reached with ${identity[what]}`,
      `Set \`${what}: ${identity[what]}\` again. If the change was meant: ${BEGIN_ANEW}`,
    );
  }
}

async function publicationThere(context: SourceContext, signal: AbortSignal): Promise<Publication> {
  const publication = await readPublication(context, signal);
  if (publication === undefined)
    throw sourceError(
      "MR2017",
      "fatal",
      `the publication ${context.publication} vanished while it was set up`,
      "Start again.",
    );
  return publication;
}
