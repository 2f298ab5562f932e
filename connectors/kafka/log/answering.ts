/** The capturing side of `source: kafka`: answers what readers of the log ask. */
import { ByteWriter } from "../../../src/core/bytes.ts";
import { type Clock, scopeOf } from "../../../src/core/clock.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { RelayedSource } from "../../../src/core/contracts/source.ts";
import type { Chunk } from "../../../src/core/contracts/row-reads.ts";
import { FrameWriter } from "../../../src/core/model/frame.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { Turn, withTimeout } from "../../../src/core/waiting.ts";
import { TransactionalWriter } from "../client/transactions.ts";
import { extentOf, readAny } from "../client/partition.ts";
import { classify, logError } from "../errors.ts";
import { answersId, callTopics } from "../names.ts";
import type { WriterSettings } from "../writer/checkpointed-writer.ts";
import { BatchRecords, RecordBuffers } from "../writer/records.ts";
import { Topics } from "../writer/topics.ts";
import {
  BEGUN,
  type Call,
  isRowCall,
  joinsOf,
  relayedShape,
  type Request,
  Requests,
  type RowCall,
  type Said,
  saidError,
  type TableQuestion,
  writeAnswer,
  writeTables,
} from "./calls.ts";

/** Questions and answers are of no use later. */
const CALL_SETTINGS = {
  "cleanup.policy": "delete",
  "retention.ms": "3600000",
  "segment.ms": "3600000",
} as const;
/** How many calls are answered at once; more wait in their topic. */
const CALLS_AT_ONCE = 16;
/** How long a call waits for transactions to end; then it is asked again. */
const SETTLE_MS = 10_000;
/** The content of marks that only move the log on. */
const MOVE_ON = "log";
const NOWHERE = { epoch: 1, commit: 0n, index: 0 };

export interface LogSinkSettings extends WriterSettings {
  readonly kind: "log";
  /** Whether the processes that follow the log may read with conditions in SQL. */
  readonly takesConditions: boolean;
}

export async function serve(
  settings: LogSinkSettings,
  clock: Clock,
  relayed: RelayedSource,
  signal: AbortSignal,
): Promise<void> {
  const { naming, rules, compression } = settings;
  using scope = scopeOf(signal);
  const until = scope.signal;
  let failure: unknown;
  try {
    await using cluster = await settings.cluster.connect(until);
    // A broker answers the requests of a connection one after the other, and the one for questions waits for them.
    await using listening = await settings.cluster.connect(until);
    const names = callTopics(naming);
    const topics = new Topics(cluster, rules, clock);
    await topics.prepare([names.requests, names.answers], until, { partitions: 1, settings: CALL_SETTINGS });
    topics.expectUncompacted([names.requests, names.answers]);
    const id = answersId(settings);
    const writer = await TransactionalWriter.open(
      cluster,
      { clock, id, compression, requestBytesMax: topics.requestBytesMax },
      until,
    );
    const requested = { ...topics.get(names.requests), partition: 0 };
    const { end } = await extentOf(cluster, requested, until);
    const answering = new Answering(relayed, clock, settings.takesConditions);
    const turn = new Turn();
    const open = new Set<Promise<void>>();
    const write = async (key: string, message: Buffer): Promise<void> => {
      using _ = await turn.take(until);
      const records = new BatchRecords(new RecordBuffers(), clock.now());
      records.message(topics.get(names.answers), Buffer.from(key), message);
      await writer.write(records.part().batches, until);
    };
    const one = async ({ id: key, call }: Request): Promise<void> => {
      await write(key, await answering.answer(call, until));
    };
    await write(BEGUN, Buffer.alloc(0));
    const requests = new Requests();
    for await (const record of readAny(listening, requested, end, until)) {
      const request = requests.add(record);
      if (request === null) continue;
      const work: Promise<void> = one(request).then(
        () => void open.delete(work),
        (error: unknown) => {
          failure ??= error;
          scope.end();
        },
      );
      open.add(work);
      if (open.size >= CALLS_AT_ONCE) await Promise.race(open);
    }
  } catch (error) {
    throw classify(failure ?? error, signal);
  } finally {
    scope.end();
  }
}

class Answering {
  readonly #relayed: RelayedSource;
  readonly #clock: Clock;
  readonly #takesConditions: boolean;
  /** By token: resolves when the transactions have ended. */
  readonly #settling = new Map<string, Promise<void>>();

  constructor(relayed: RelayedSource, clock: Clock, takesConditions: boolean) {
    this.#relayed = relayed;
    this.#clock = clock;
    this.#takesConditions = takesConditions;
  }

  /** Rejects only when it is stopped. */
  async answer(call: Call, signal: AbortSignal): Promise<Buffer> {
    try {
      if (isRowCall(call)) return await this.#rows(call, signal);
      return writeAnswer(await this.#said(call, signal), null);
    } catch (error) {
      signal.throwIfAborted();
      return writeAnswer(saidError(error), null);
    }
  }

  async #said(call: Exclude<Call, RowCall>, signal: AbortSignal): Promise<Said> {
    const { source } = this.#relayed;
    const { watermarks } = source;
    switch (call.kind) {
      case "tables":
        return await this.#tables(signal);
      case "joins": {
        const { tables } = await source.catalog.tables(signal);
        const asked = tables.filter(({ id }) => call.tables.includes(id));
        return { joins: await joinsOf(source.catalog, asked, signal) };
      }
      case "tip":
        return await this.#moved(source.log.tip(signal), signal);
      case "health":
        return { position: String((await source.admin.health(signal)).tip) };
      case "renew":
        return await this.#moved(watermarks.renew(signal), signal);
      case "mark":
        await watermarks.mark(call.content, signal);
        return {};
      case "settle":
        return { isSettled: await this.#settled(call.token, signal) };
      case "visibility": {
        const visible = await watermarks.visibility?.(signal);
        return { snapshot: visible?.snapshot ?? null, committing: visible?.committing ?? [] };
      }
      default:
        return call satisfies never;
    }
  }

  /** Readers wait until the log has passed the position: in an idle log nothing else would bring them there. */
  async #moved(position: Promise<bigint>, signal: AbortSignal): Promise<Said> {
    const { source, epoch } = this.#relayed;
    const reached = String(await position);
    await source.watermarks.mark(MOVE_ON, signal);
    return { position: reached, epoch: epoch() };
  }

  async #tables(signal: AbortSignal): Promise<Said> {
    const { source, look, isSuspended, withFix } = this.#relayed;
    await look(signal);
    const captured = await source.catalog.tables(signal);
    // What is suspended here can't be read.
    const generations = [...captured.generations].filter(([id]) => !isSuspended(id));
    const tables = captured.tables.map((shape) => relayedShape(shape));
    const refused = await Promise.all(captured.refused.map(withFix));
    return { tables: writeTables({ ...captured, tables, refused, generations: new Map(generations) }) };
  }

  async #settled(token: string, signal: AbortSignal): Promise<boolean> {
    const { settle } = this.#relayed.source.watermarks;
    let settling = this.#settling.get(token);
    if (settling === undefined) {
      settling = settle?.(() => undefined, signal) ?? Promise.resolve();
      settling.catch(() => this.#settling.delete(token));
      this.#settling.set(token, settling);
    }
    const work = settling.then(() => true);
    const isSettled = await withTimeout(work, { clock: this.#clock, signal, timeoutMs: SETTLE_MS, late: () => false });
    if (isSettled) this.#settling.delete(token);
    return isSettled;
  }

  async #rows(call: RowCall, signal: AbortSignal): Promise<Buffer> {
    const table = this.#expectTable(call.table);
    const { rows } = this.#relayed.source;
    if (call.kind === "joined") {
      const { by, above } = call;
      const joined = { ...above, table: this.#expectTable(above.table) };
      invariant(rows.readJoined !== undefined, "a source whose log is relayed looks rows up");
      return written(await rows.readJoined(table, by, joined, signal));
    }
    if (call.kind === "keys") return written(await rows.readKeys(table, call.keys, signal));
    const { after, scanRowCountMax } = call;
    const where = this.#allowed(call.where);
    return written(await rows.readRange(table, { after, where, ...scanLimit(scanRowCountMax) }, signal));
  }

  /** A condition is SQL: the source runs it with the rights of this daemon's user. */
  #allowed(where: string | null): string | null {
    if (where === null || this.#takesConditions) return where;
    const message = "its sink with `format: log` takes no conditions (`conditions: true`)";
    const hint =
      "A condition is SQL. Set `conditions: true` for that sink if only its own daemons may write to its topic of requests; or read the whole table.";
    throw logError("MR1323", "blocked", message, { hint });
  }

  #expectTable({ id, fingerprint }: TableQuestion): TableVersion {
    const table = this.#relayed.table(id);
    if (table?.fingerprint === fingerprint) return table;
    const why = table === undefined ? "is not captured now" : "has another shape by now";
    throw logError("MR3522", "retryable", `table ${id} ${why}`);
  }
}

function scanLimit(scanRowCountMax: number | null): { readonly scanRowCountMax?: number } {
  return scanRowCountMax === null ? {} : { scanRowCountMax };
}

function written({ block, last, snapshot }: Chunk): Buffer {
  const said: Said = { last, snapshot: snapshot ?? null };
  if (block === null) return writeAnswer(said, null);
  const out = new ByteWriter(block.byteCount + 1024);
  new FrameWriter(out, { from: NOWHERE, until: NOWHERE }, relayedShape).rows(block, 0, block.count);
  block.release();
  return writeAnswer(said, out.view());
}
