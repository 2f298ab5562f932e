/**
 * The daemon with one defect planted between the runtime and its parts, as its own process: the harness must catch each.
 * Argument: the name of the mutation. In the folder: millrace.yaml.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { connectors } from "../../../connectors/registry.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { Secrets } from "../../../src/config/secrets/secrets.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { type TableWrites, DELETE, PATCH } from "../../../src/core/model/batch.ts";
import type { Position } from "../../../src/core/model/position.ts";
import type { ChangeStream } from "../../../src/core/contracts/change-log.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import type { StateStore } from "../../../src/core/contracts/state-store.ts";
import { runDaemon, type Wrappers } from "../../../src/daemon/daemon.ts";
import { createLogger } from "../../../src/ops/logger.ts";

/** The issue speaks of one row in 10^5; a short run writes some thousands. */
const DROP_EVERY = 100;
/** How many batches later an older row is written once more; meanwhile it takes of the budget of what is under way. */
const OLDER_BATCHES = 2;
/** Longer than it takes to acknowledge, see it and kill. */
const SLOW_BATCH_MS = 2_500;

const mutations: Readonly<Record<string, () => Wrappers>> = {
  /** No defect: the harness must find nothing. */
  none: () => ({}),

  /** What was delivered is taken for done in every sink, and acknowledged, before it is durable there. */
  "acknowledge-early": () => {
    let delivered: Position | null = null;
    return {
      source: (source) =>
        streaming(source, (stream) =>
          changed(stream, {
            next: async (signal) => {
              const block = await stream.next(signal);
              delivered = block.until;
              return block;
            },
            acknowledge: (commit) => stream.acknowledge(delivered?.commit ?? commit),
          }),
        ),
      state: (state) =>
        changed(state, {
          source: changed(state.source, {
            acknowledge: (position, covered, written) => {
              const early = delivered ?? position;
              return state.source.acknowledge(
                early,
                new Map([...covered.keys()].map((name) => [name, early])),
                written,
              );
            },
          }),
        }),
      // Sinks that are always up to date would hide it; the first copy, before the stream, need not be slow.
      sink: (sink) =>
        changed(sink, {
          apply: async (batch, outcome, signal) => {
            if (delivered !== null) await sleep(SLOW_BATCH_MS);
            await sink.apply(batch, outcome, signal);
          },
        }),
    };
  },

  "drop-rows": () => {
    let count = 0;
    const isKept = () => ++count % DROP_EVERY !== 0;
    return {
      sink: (sink) =>
        changed(sink, {
          apply: (batch, outcome, signal) =>
            batch.kind === "rows"
              ? sink.apply({ ...batch, tables: batch.tables.map((writes) => kept(writes, isKept)) }, outcome, signal)
              : sink.apply(batch, outcome, signal),
        }),
    };
  },

  /** Rows as they were some batches ago are written once more, over newer ones, as if they were the newest. */
  "apply-older": () => ({
    sink: (sink) => {
      const earlier: (readonly TableWrites[])[] = [];
      return changed(sink, {
        apply: async (batch, outcome, signal) => {
          await sink.apply(batch, outcome, signal);
          if (batch.kind !== "rows") return;
          const lasting = batch.tables.map(lastingWrites);
          retain(lasting);
          earlier.push(lasting);
          const older = earlier.length > OLDER_BATCHES ? earlier.shift() : undefined;
          if (older === undefined) return;
          const newest = newestVersion(batch.tables) + 1n;
          try {
            await sink.apply({ ...batch, tables: older.map((writes) => under(newest, writes)) }, outcome, signal);
          } finally {
            release(older);
          }
        },
      });
    },
  }),

  "apply-twice": () => ({
    sink: (sink) =>
      changed(sink, {
        apply: async (batch, outcome, signal) => {
          await sink.apply(batch, outcome, signal);
          await sink.apply({ ...batch }, outcome, signal);
        },
      }),
  }),

  /** At a start a sink's own checkpoint is passed over: it gets again what the log still has, which here is all of it. */
  "ignore-progress": () => {
    let store: StateStore | null = null;
    return {
      state: (state) => {
        store = state;
        return changed(state, { source: changed(state.source, { acknowledge: async () => {} }) });
      },
      source: (source) => streaming(source, (stream) => changed(stream, { acknowledge: () => {} })),
      sink: (sink) =>
        changed(sink, {
          open: async (lease, signal) => {
            const own = await sink.open(lease, signal);
            const origin = (await store?.source.get())?.origin ?? null;
            return own === null || origin === null ? own : { ...own, position: origin };
          },
        }),
    };
  },

  /** Keys that a sink could not complete are forgotten instead of being read from the source. */
  "skip-listing": () => ({
    state: (state) => changed(state, { snapshots: changed(state.snapshots, { addKeys: async () => {} }) }),
  }),
};

function streaming({ log, ...source }: Source, wrapped: (stream: ChangeStream) => ChangeStream): Source {
  return { ...source, log: { ...log, stream: async (...args) => wrapped(await log.stream(...args)) } };
}

/** The same object with some of its methods replaced; the others go on with the original as their `this`. */
function changed<T extends object>(original: T, replaced: Partial<T>): T {
  return new Proxy(original, {
    get(target, name) {
      if (Object.hasOwn(replaced, name)) return Reflect.get(replaced, name);
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function kept(writes: TableWrites, isKept: (entry: number) => boolean): TableWrites {
  const entries = Array.from({ length: writes.count }, (_, i) => i).filter(isKept);
  const actions = entries.map((i) => writes.action[i]);
  return {
    ...writes,
    count: entries.length,
    action: Uint8Array.from(entries, (i) => writes.action[i]!),
    block: Uint16Array.from(entries, (i) => writes.block[i]!),
    row: Uint32Array.from(entries, (i) => writes.row[i]!),
    fresh: Uint8Array.from(entries, (i) => writes.fresh[i]!),
    moved: Uint8Array.from(entries, (i) => writes.moved[i]!),
    deleteCount: actions.filter((action) => action === DELETE).length,
    patchCount: actions.filter((action) => action === PATCH).length,
  };
}

/** A copy that outlives the batch: without what lies in the last block, into which merged rows of the next batch will come. */
function lastingWrites(writes: TableWrites): TableWrites {
  const blocks = writes.blocks.slice(0, -1);
  return { ...kept(writes, (entry) => writes.block[entry]! < blocks.length), blocks };
}

function newestVersion(tables: readonly TableWrites[]): bigint {
  const versions = tables.flatMap(({ blocks }) => blocks.flatMap(({ transactions }) => [...transactions.version]));
  return versions.reduce((newest, version) => (version > newest ? version : newest), 0n);
}

/** The same rows under another version; the blocks themselves are other sinks' too. */
function under(version: bigint, writes: TableWrites): TableWrites {
  const raised = ({ transactions }: Block): Block["transactions"] =>
    changed(transactions, { version: transactions.version.map(() => version) });
  return { ...writes, blocks: writes.blocks.map((block) => changed(block, { transactions: raised(block) })) };
}

function retain(tables: readonly TableWrites[]): void {
  for (const { blocks } of tables) for (const block of blocks) block.retain();
}

function release(tables: readonly TableWrites[]): void {
  for (const { blocks } of tables) for (const block of blocks) block.release();
}

const wrap = mutations[process.argv[2] ?? ""];
if (wrap === undefined) throw new Error(`one of ${Object.keys(mutations).join(", ")} is needed`);
const config = await loadConfig("millrace.yaml", { connectors, environment: process.env, secrets: new Secrets() });
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort(new DOMException("stopped", "AbortError")));
const redact = (text: string) => text;
const logger = createLogger({ level: "info", redact });
await runDaemon(config, { once: false, logger, redact, wrap: wrap() }, stopping.signal);
process.exit(0);
