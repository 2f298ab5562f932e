import type { Config } from "../config/config.ts";
import type { TableName } from "../core/contracts/connector.ts";
import type { Position } from "../core/model/position.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { TableSelection } from "../core/table-selection.ts";
import { FormerRules, noMemory, type PendingRow, type RuleMemory } from "../rules/former-rules.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import type { SourceRecord, StateStore } from "../core/contracts/state-store.ts";
import { policyOf } from "../rules/merged-rule.ts";
import type { Pin } from "../rules/pins.ts";
import { sourceShape } from "../rules/ruled-shape.ts";
import { type RuledSource, withFunctions, withRules } from "../rules/with-rules.ts";

/** The configured source under its rules. Every part that shows, stores or sends rows must use this one. */
export async function openSource(
  { source, rules }: Pick<Config, "source" | "rules">,
  memory: RuleMemory,
  logger: Logger,
): Promise<RuledSource> {
  const ruled = withFunctions(rules);
  return withRules(await source.connector.create(logger), ruled, memory, isSelectedBy(source));
}

/** Whether `source.tables` names the table without a wildcard. */
export function isSelectedBy({ tables }: Config["source"]): (table: TableName) => boolean {
  const selection = new TableSelection(tables);
  return ({ schema, table }) => selection.isLiteral(schema, table);
}

/** What was registered of tables: what they stood under, and the kept shapes of those whose changes are ignored. */
export async function memoryOf(
  { rules }: Pick<Config, "rules">,
  { schemas, snapshots, source }: Pick<StateStore, "schemas" | "snapshots" | "source">,
): Promise<RuleMemory> {
  const kept: Pick<RuleMemory, "keep" | "foresee"> = {
    keep: (renames, position) => schemas.rename(renames, position),
    foresee: (until) => source.foresee(until),
  };
  const pins = new Map<string, Pin>();
  const newest = await schemas.list();
  const elsewhere = await schemas.elsewhere();
  const isPlain = rules.tables.length === 0 && rules.selections.every(({ patterns }) => patterns.length === 0);
  if (isPlain && elsewhere.length === 0 && newest.every(({ ruled }) => ruled === undefined))
    return { ...noMemory(), ...kept };
  const all: TableVersion[] = [];
  const versions = new Map<string, readonly TableVersion[]>();
  for (const table of newest) {
    const own = await schemas.versions(table.id);
    all.push(...own);
    versions.set(table.id, own);
  }
  for (const table of newest) {
    if (policyOf(rules, table).schemaChange !== "ignore") continue;
    const last = all.findLast(({ id }) => id === table.id) ?? table;
    const shape = sourceShape(last);
    if (shape.key.length > 0) pins.set(table.id, { shape, since: last.since });
  }
  const former = new FormerRules([...all, ...elsewhere], await schemas.renames());
  const foreseen = (await source.get())?.foreseen ?? null;
  const last = new Map(elsewhere.toSorted((a, b) => a.version - b.version).map((one) => [one.id, one.fingerprint]));
  return { pins, former, versions, ...kept, foreseen, pending: () => pendingIn(snapshots), elsewhere: last };
}

/** What a command knows that closes the state, which the daemon keeps. */
export interface MemoryNow extends RuleMemory {
  /** Of the log. */
  readonly epoch: number;
  /** Up to here, at least, the daemon has read it; null: nothing says so. */
  readonly read: Position | null;
}

/** The same as it is now. */
export async function memoryNow(config: Pick<Config, "rules">, state: StateStore): Promise<MemoryNow> {
  const memory = await memoryOf(config, state);
  const pending = await pendingIn(state.snapshots);
  const record = await state.source.get();
  const read = record === null ? null : readUntil(record, memory);
  const own = { keep: async () => {}, foresee: async () => {}, pending: async () => pending };
  return { ...memory, ...own, epoch: record?.epoch ?? 1, read };
}

export const noMemoryNow = (): MemoryNow => ({ ...noMemory(), epoch: 1, read: null });

/** Until something is acknowledged it is where a log begins: the first one, nothing being missed before it. */
function readUntil({ epoch, origin, acknowledged }: SourceRecord, { versions }: RuleMemory): Position | null {
  if (acknowledged !== null) return acknowledged;
  const isFirst = Array.from(versions.values()).every((all) => all.every(({ since }) => since.epoch === epoch));
  return isFirst ? origin : null;
}

/** Where there are very many, of each of their tables any row. */
async function pendingIn(snapshots: StateStore["snapshots"]): Promise<readonly PendingRow[]> {
  const sinks = [...(await snapshots.countKeys()).keys()];
  const keys = sinks.length === 0 ? [] : await snapshots.keys(sinks, null, PENDING_MAX);
  if (keys.length < PENDING_MAX) return keys;
  return (await snapshots.tablesOfKeys()).map((tableId) => ({ tableId, key: null }));
}

const PENDING_MAX = 10_000;

/** No look says since when: what this share registers counts after it. */
const BEFORE_ALL = { epoch: 0, commit: 0n, index: 0 };

/** Only for the holder of the lease. */
export function keptElsewhere({ schemas }: Pick<StateStore, "schemas">): Pick<RuleMemory, "keepElsewhere"> {
  return {
    keepElsewhere: async (shapes) => {
      await schemas.resolve(shapes, BEFORE_ALL);
    },
  };
}
