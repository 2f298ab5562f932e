/** How commands use the state beside a daemon, or without one: to read it, to change it, or alone under its lease. */
import type { Config } from "../config/config.ts";
import type { Place } from "../config/load.ts";
import type { AuditFacts } from "../core/audit/audit-store.ts";
import { audited } from "../core/audit/audited.ts";
import type { Positions } from "../core/contracts/positions.ts";
import type { Lease, StateStore } from "../core/contracts/state-store.ts";
import { reasonOf } from "../core/errors.ts";
import { namesOfTable, type TableVersion } from "../core/model/schema.ts";
import { TableSelection } from "../core/table-selection.ts";
import { holderName, isGone, LEASE_MS, LEASE_RENEWAL_MS, takeLease } from "../daemon/lease.ts";
import { isDocument } from "../documents/document.ts";
import { leaseHeld } from "../state/errors.ts";
import { openState } from "../state/open.ts";
import { whileOpen } from "./opened.ts";
import { CAPTURED, mustFit, withNest } from "./options.ts";
import { DaemonClient, userName } from "./daemon-client.ts";

type Named = Pick<Config, "state" | "name">;

/** Reads the state, whether a daemon runs or not. Opens it for reading only and closes it again. */
export async function readState<T>({ state, name }: Named, ask: (state: StateStore) => Promise<T>): Promise<T> {
  return await whileOpen(openState(state, { name, readOnly: true }), ask);
}

/**
 * Writes to the state what the next daemon reads. Refused while one holds the lease, also where it can't be asked: it would not
 * see it. Without `create` the state has to exist.
 */
export async function writeState<T>(config: Named, work: (state: StateStore) => Promise<T>, create = true): Promise<T> {
  return await whileWritable(config, create, async (state) => {
    const holder = await state.lease.holder(LEASE_MS, isGone);
    if (holder !== null) throw leaseHeld(holder);
    return await work(state);
  });
}

async function whileWritable<T>(
  { state, name }: Named,
  create: boolean,
  work: (state: StateStore) => Promise<T>,
): Promise<T> {
  try {
    // Opening for writing creates a state, and brings an earlier one up to date, with which its daemon could not go on.
    await readState({ state, name }, expectFree);
  } catch (error) {
    if (!create || reasonOf(error) !== "absent") throw error;
  }
  return await whileOpen(openState(state, { name }), work);
}

/** Refused while a daemon holds the lease, as far as a reader knows. */
export async function expectFree(state: Pick<StateStore, "lease">): Promise<void> {
  const live = await liveLease(state);
  if (live !== null) throw leaseHeld(live);
}

interface AloneOptions<T> {
  /** Creates the state if it does not exist. */
  readonly create?: boolean;
  /** Whether to remove the state after this result. */
  readonly removes?: (result: T) => boolean;
}

/** Works on the state under its lease. Refused while a daemon holds the lease; no daemon can start meanwhile. */
export async function alone<T>(
  config: Named,
  work: (state: StateStore) => Promise<T>,
  { create = false, removes = () => false }: AloneOptions<T> = {},
): Promise<T> {
  return await whileWritable(config, create, async (state) => {
    const { lease, isInherited } = await takeLease({ state, holder: holderName(), isGone });
    const { number } = lease;
    // A renewal that fails or comes too late makes the next write fail: each write checks the lease.
    const renewal = setInterval(() => {
      state.lease.renew(number, LEASE_MS).catch(() => false);
    }, LEASE_RENEWAL_MS);
    let isRemoved = false;
    try {
      const result = await work(state);
      isRemoved = removes(result);
      if (isRemoved) await state.remove();
      return result;
    } finally {
      clearInterval(renewal);
      // The next daemon still learns that the last one died.
      if (!isRemoved) await (isInherited ? state.lease.renew(number, 0) : state.lease.release(number));
    }
  });
}

/** What an operator asks for. The running daemon takes the request; without one, `work` writes what the next one reads. */
interface OperatorOrder<T> {
  readonly method?: "POST" | "DELETE";
  readonly path: string;
  readonly body?: object;
  readonly withinMs?: number;
  /** Looks at more than the state, before `work`. */
  readonly prepare?: (() => Promise<void>) | undefined;
  readonly work: (state: StateStore) => Promise<T>;
  /** For the audit log. */
  readonly action: string;
  readonly subject: AuditFacts;
  /** The daemon is told after `work` too: one that has started meanwhile may have read the state before. */
  readonly mayRepeat?: boolean;
}

export async function carryOut<T extends object>(place: Named, order: OperatorOrder<T>): Promise<T> {
  const { method = "POST", path, body, withinMs, prepare, work, action, subject, mayRepeat } = order;
  const client = new DaemonClient(place.state);
  const answer = await client.ask<T>(method, path, body, withinMs);
  if (answer !== undefined) return answer;
  await prepare?.();
  const result = await writeState(place, async (state) => {
    return await auditedHere(state, action, subject, async () => await work(state));
  });
  if (mayRepeat === true) await client.ask<T>(method, path, body, withinMs);
  return result;
}

/** Keeps what a command does without a daemon in the audit log. */
export async function auditedHere<T extends object>(
  state: StateStore,
  action: string,
  subject: AuditFacts,
  work: () => Promise<T>,
  resultOf?: (result: T) => object,
): Promise<T> {
  const order = { who: userName(), via: "command line", action, subject };
  return await audited(state, order, work, resultOf);
}

/** The same of what has ended. A daemon that has started meanwhile has the audit log: that lacks it then. */
export async function auditedLater(config: Named, action: string, subject: AuditFacts, result: object): Promise<void> {
  try {
    await writeState(config, (state) => auditedHere(state, action, subject, async () => result));
  } catch (error) {
    if (reasonOf(error) !== "held") throw error;
  }
}

/** The tables that the globs of `--tables` fit: each one at least, which may be gone. */
export async function chosenTables(place: Named, globs: readonly string[]): Promise<readonly TableVersion[]> {
  const selection = new TableSelection(globs);
  const known = await readState(place, ({ schemas }) => schemas.list());
  mustFit(globs, known, CAPTURED);
  return known.filter(({ schema, table }) => selection.matches(schema, table));
}

/** Tables of the database with the sinks that may take them, and documents with theirs. */
export function byKind(
  place: Pick<Place, "sinks" | "nestSink">,
  names: readonly string[],
  tableIds: readonly string[],
): readonly {
  readonly sinks: readonly string[];
  readonly tableIds: readonly string[];
  readonly takers: readonly string[];
}[] {
  const known = withNest(place).sinks;
  // Without documents the schema of that name is one of the database.
  const areMade = known.some(({ isOfDocuments }) => isOfDocuments);
  return [false, true].flatMap((ofDocuments) => {
    const all = known.filter(({ isOfDocuments }) => isOfDocuments === ofDocuments);
    const takers = all.map(({ name }) => name);
    const sinks = takers.filter((name) => names.includes(name));
    const ids = tableIds.filter((id) => (areMade && isDocument(namesOfTable(id))) === ofDocuments);
    return ids.length === 0 ? [] : [{ sinks, tableIds: ids, takers }];
  });
}

/** As the source spelled them last. */
export async function storedPositions({ source }: Pick<Place, "source">, state: StateStore): Promise<Positions> {
  const { connectors } = await import("../../connectors/registry.ts");
  const positions = await (await connectors.source(source.kind)).positions();
  const record = await state.source.get();
  if (record?.identity != null) positions.recall?.(record.identity);
  return positions;
}

/** Who holds the lease, on any host. Null if nobody does or the state can't be read. */
export async function holderOf(config: Named): Promise<string | null> {
  try {
    return await readState(config, liveHolder);
  } catch {
    // Commands that need the state report this error themselves.
    return null;
  }
}

export async function liveHolder(state: Pick<StateStore, "lease">): Promise<string | null> {
  return (await liveLease(state))?.holder ?? null;
}

/** None lasts longer than `LEASE_MS`: then the clock was set back, and a holder that lives renews it within seconds. */
async function liveLease({ lease }: Pick<StateStore, "lease">): Promise<Lease | null> {
  const held = await lease.current();
  return held === null || held.leftMs > LEASE_MS || isGone(held.holder) ? null : held;
}
