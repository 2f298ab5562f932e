/**
 * First and later starts: what is created at the server, adopted and compared; and its removal.
 *
 *   create   publication ─► slot ─► snapshot     what commits after the slot's beginning is in the stream, the rest in the snapshot
 *   resume   same address? ─► same cluster? ─► promoted? ─► same history up to our position? ─► same database, slot, publication?
 *            ─► does the slot still have what follows our position? ─► has it gone back? ─► did the publication carry all tables?
 *            ─► does the log still have the last transaction that was read?
 *   cross    after a promotion: up to where both histories agree, positions mean the same
 *
 * The publication comes first, because the slot's first change may come at any moment after it. A start that finds no slot
 * says so in the state before it makes one, so after a crash the next start knows which slot is its own and makes it again;
 * any other slot of that name is adopted where it is, without a snapshot. At a later start the server says nothing of its own
 * accord: it starts a stream silently behind a gap, after a restore, from another cluster, with tables left out. So
 * everything that can differ is stored as the log's identity and compared before the first change is read (invariant 8).
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Position } from "../../../src/core/model/position.ts";
import type {
  CreatedLog,
  CreateRequest,
  Crossing,
  HeldPositions,
  LogRecord,
  MadeObject,
} from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import { BEGIN_ANEW, sourceError } from "./errors.ts";
import { quoteLiteral, quoteIdentifier } from "../../../src/postgres/quote.ts";
import type { CatalogTable } from "./catalog/catalog.ts";
import type { SourceContext } from "./wire/context.ts";
import { Database } from "./wire/database.ts";
import { checkPublicationHistory, publicationIdentity } from "./catalog/publication-history.ts";
import { checkPublication, publishable, readPublication, type Publication } from "./catalog/publication.ts";
import { leaving, syncPublication, takeOut } from "./catalog/publish.ts";
import { type Candidate, selectTables, type Selected } from "./catalog/selection.ts";
import { carriersOf } from "./catalog/trees.ts";
import { LANDMARK, soughtLandmark } from "./log/landmark.ts";
import { checkServer, readServer, type ServerFacts } from "./log/server.ts";
import {
  checkSlotKind,
  checkSlotValid,
  createSlot,
  dropSlot,
  readSlot,
  unfinishedSlot,
  whenFree,
  type Slot,
  slotMissing,
  expectLogFile,
  expectNoGap,
} from "./log/slot.ts";
import { SnapshotCopy } from "./snapshot/initial-snapshot.ts";
import {
  checkKept,
  checkSameCluster,
  checkSystem,
  commonUntil,
  withHistory,
  isSameTimeline,
  KEPT,
  type ServerLog,
  waitingForPromotion,
  checkOneServer,
  checkReplayed,
  isOfStandby,
  STANDBY,
} from "./log/timeline.ts";
import { expectLandmark } from "./stream/change-stream.ts";
import { connectReplication, identifySystem } from "./wire/replication-connection.ts";
import { waitForTransactions } from "./log/watermarks.ts";

/** How long an adopted slot may stay unfinished: another start may be about to finish it. */
const UNFINISHED_WAIT_MS = 2_000;

/** A slot with our name is recreated if an earlier start of ours was about to make it; otherwise it is adopted at its position. */
export async function createLog(
  context: SourceContext,
  request: CreateRequest,
  signal: AbortSignal,
): Promise<CreatedLog> {
  const facts = await readServer(context, signal);
  checkServer(facts);
  const found = await readSlot(context, signal);
  if (found !== undefined) checkSlotKind(context, found);
  const selected = await selectTables(context, true, signal);
  const wanted = selected.carriers;
  const published = toPublish(context, selected);
  const { added, locked } = await syncPublication(context, selected.publication, published, signal);
  for (const { schema, table } of locked)
    context.logger.warn({ table: `${schema}.${table}` }, "a table is locked: it is published as soon as it can be");
  await takeOut(context, leaving(selected.publication, published), signal);
  const publication = await publicationThere(context, signal);
  checkPublication(context, publication, wanted);
  // Again: what came before may have taken long.
  const existing = await readSlot(context, signal);
  if (existing !== undefined) checkSlotKind(context, existing);
  if (existing !== undefined && !request.resumeIntent) {
    if (added.length > 0)
      await waitForTransactions(
        context,
        ({ what, fix }) => context.logger.warn({}, `waiting for an older transaction: ${what}. ${fix}`),
        signal,
      );
    return adopt(context, request, facts, publication, signal);
  }
  if (existing === undefined) await request.making?.();
  else await dropSlot(context, signal);
  return create(context, request, facts, publication, signal);
}

/**
 * A table that another role has to publish does not stop the others, unless it is named literally or there are only such
 * tables. Then the attempt fails, and says which statement to run.
 */
function toPublish(context: SourceContext, { publication, carriers: wanted }: Selected): readonly CatalogTable[] {
  if (publication === undefined) return wanted;
  const possible = publishable(context, publication, wanted);
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
    const log = await withHistory(connection, await identifySystem(connection, signal), signal);
    const made = await createSlot(context, connection, facts, signal);
    const identity = identityOf(context, { facts, log, publication, slotMade: true });
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
    const isPublished = ({ table }: Candidate): boolean =>
      carriersOf(table, selected.catalog).every(({ oid }) => published?.has(oid) === true);
    return { ...selected, captured: selected.captured.filter(isPublished) };
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
  using connection = await connectReplication(context.address, signal);
  const log = await withHistory(connection, await identifySystem(connection, signal), signal);
  const identity = identityOf(context, { facts, log, publication, slotMade: false });
  return { identity, position: { epoch: request.epoch, commit: slot.confirmed, index: 0 }, copy: null };
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
    if (performance.now() >= deadlineMs) throw await unfinishedSlot(context, slot, "fatal", signal);
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
  await context.writer.renew();
  const facts = await readServer(context, signal);
  using connection = await connectReplication(context.address, signal);
  await checkOneServer(context, connection, signal);
  const system = await identifySystem(connection, signal);
  checkSameCluster(identity, system);
  if (facts.inRecovery && !isOfStandby(identity)) throw await waitingForPromotion(context, signal);
  const log = await withHistory(connection, system, signal);
  if (facts.inRecovery) checkReplayed(held.reached, log);
  checkSystem(identity, held, log);
  checkServer(facts);
  checkStoredNames(context, identity, facts);
  const slot = await expectNoGap(context, held.from.commit, signal);
  await expectLogFile(context, slot, signal);
  // Of several standbys each has a slot of its own.
  if (!isOfStandby(identity)) checkKept(identity, slot, log);
  const selected = await selectTables(context, true, signal);
  const publication = checkPublicationHistory(context, identity, selected);
  checkPublication(context, publication, selected.carriers);
  const { [KEPT]: kept, [LANDMARK]: landmark } = identity;
  const isSame = isSameTimeline(identity, log);
  const sought = isSame && !facts.inRecovery ? soughtLandmark(identity, facts.started, slot) : null;
  if (sought !== null) await expectLandmark(context, sought, signal);
  return {
    ...identityOf(context, { facts, log, publication, slotMade: identity["slotMade"] === "yes" }),
    ...(kept !== undefined && isSame ? { [KEPT]: kept } : {}),
    ...(landmark !== undefined && isSame ? { [LANDMARK]: landmark } : {}),
  };
}

interface IdentityParts {
  readonly facts: ServerFacts;
  readonly log: ServerLog;
  readonly publication: Publication;
  readonly slotMade: boolean;
}

function identityOf(context: SourceContext, { facts, log, publication, slotMade }: IdentityParts): LogIdentity {
  return {
    systemIdentifier: log.systemIdentifier,
    timeline: String(log.timeline),
    history: log.history,
    ...(facts.inRecovery ? STANDBY : {}),
    started: facts.started,
    database: facts.database,
    databaseOid: facts.databaseOid,
    slot: context.slot,
    // A slot does not show who created it.
    slotMade: slotMade ? "yes" : "no",
    publication: context.publication,
    ...publicationIdentity(publication),
  };
}

/**
 * A standby was promoted that has everything before these positions: they go on there, and mean the same up to where the former
 * log was left. Null: the log is the same, or `resumeLog` tells what is wrong with it.
 */
export async function crossLog(
  context: SourceContext,
  identity: LogIdentity,
  positions: readonly bigint[],
  signal: AbortSignal,
): Promise<Crossing | null> {
  await context.database.renew();
  using connection = await connectReplication(context.address, signal);
  await checkOneServer(context, connection, signal);
  const system = await identifySystem(connection, signal);
  const isSame = identity["timeline"] === String(system.timeline);
  if (isSame || identity["systemIdentifier"] !== system.systemIdentifier) return null;
  const { inRecovery } = await readServer(context, signal);
  if (inRecovery && !isOfStandby(identity)) throw await waitingForPromotion(context, signal);
  const log = await withHistory(connection, system, signal);
  const leftAt = commonUntil(identity, log);
  const [first, ...others] = positions;
  if (first === undefined || leftAt === null || positions.some((position) => position > leftAt)) return null;
  const { standby: _, [KEPT]: __, [LANDMARK]: ___, ...stored } = identity;
  const from = others.reduce((least, position) => (position < least ? position : least), first);
  return {
    identity: { ...stored, timeline: String(log.timeline), history: log.history, ...(inRecovery ? STANDBY : {}) },
    positions: new Map(positions.map((position) => [position, position])),
    from,
    end: log.flushed,
    generations: new Map(),
    leftAt,
  };
}

function checkStoredNames(context: SourceContext, identity: LogIdentity, facts: ServerFacts): void {
  if (identity["databaseOid"] !== facts.databaseOid) {
    throw sourceError(
      "MR2013",
      "fatal",
      `this is another database: ${facts.database} with another oid than ${identity["database"]} had`,
      { hint: `Correct source.url. If the change was meant: ${BEGIN_ANEW}` },
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
      { hint: `Set \`${what}: ${identity[what]}\` again. If the change was meant: ${BEGIN_ANEW}` },
    );
  }
}

async function publicationThere(context: SourceContext, signal: AbortSignal): Promise<Publication> {
  const publication = await readPublication(context, signal);
  if (publication === undefined)
    throw sourceError("MR2017", "fatal", `the publication ${context.publication} vanished while it was set up`, {
      hint: "Start again.",
    });
  return publication;
}

export async function madeBy(
  context: SourceContext,
  record: LogRecord,
  signal: AbortSignal,
): Promise<readonly MadeObject[]> {
  const made: MadeObject[] = [];
  const slot = await readSlot(context, signal);
  if (slot !== undefined)
    made.push({ what: `the replication slot ${context.slot}`, isOurs: isOurSlot(context, record) });
  const publication = await readPublication(context, signal);
  if (publication !== undefined)
    made.push({ what: `the publication ${context.publication}`, isOurs: publication.ours && publication.owned });
  return made;
}

/** The slot first: it makes the server keep its log. */
export async function removeOurs(context: SourceContext, record: LogRecord, signal: AbortSignal): Promise<void> {
  const slot = await readSlot(context, signal);
  if (slot !== undefined && isOurSlot(context, record)) await dropSlot(context, signal);
  const publication = await readPublication(context, signal);
  if (publication?.ours !== true || !publication.owned) return;
  // One that comes late drops no publication that was made since.
  const isIt = `exists (select from pg_publication where pubname = ${quoteLiteral(context.publication)} and oid = ${publication.oid})`;
  const drop = `begin if ${isIt} then drop publication ${quoteIdentifier(context.publication)}; end if; end`;
  const database = await context.writer.database(signal);
  await database.simple("dropping the publication", `do ${quoteLiteral(drop)}`, signal);
}

/** What an unfinished first start left is ours if it found no slot before. */
function isOurSlot({ slot }: SourceContext, { identity, makes }: LogRecord): boolean {
  return identity === null ? makes : identity["slotMade"] === "yes" && identity["slot"] === slot;
}
