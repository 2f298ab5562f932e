/** A stream from a slot of a server that keeps its log as Postgres does. */
import type { Block } from "../../src/core/model/block.ts";
import { MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { ChangeStream, StreamOptions } from "../../src/core/contracts/change-log.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import type { Change } from "../support/model/blocks.ts";
import { firstFrom, forget, type Server, type Slot } from "./server.ts";
import { aborted, type SimulatedProcess } from "./scheduler.ts";

const CHANGES_PER_BLOCK_MAX = 6;
export const MARK_PREFIX = "m";

interface StreamParts {
  readonly server: Server;
  readonly process: SimulatedProcess;
  readonly from: Position;
  readonly options: StreamOptions;
}

export class Stream implements ChangeStream {
  readonly #parts: StreamParts;
  #position: Position;
  /** By the shape that the log has it under. */
  readonly #versions = new Map<TableShape, TableVersion>();
  #isBroken = false;
  readonly #slot: Slot | null;
  readonly #host: number;

  constructor(parts: StreamParts) {
    this.#parts = parts;
    const { from, server, options } = parts;
    this.#slot = server.slot;
    this.#host = server.host;
    // Postgres begins at the slot's place where it is asked for an earlier one, without a word.
    const confirmed = options.temporary ? 0n : (server.slot?.confirmed ?? 0n);
    this.#position = from.commit < confirmed ? { ...from, commit: confirmed, index: 0 } : from;
  }

  async next(signal: AbortSignal): Promise<Block> {
    for (;;) {
      const { process, server } = this.#parts;
      const { random } = process.scheduler;
      await process.sleep(random.next() * server.weather.slowestMs, signal);
      const { failures, isDown } = server.weather;
      const isPurged = this.#position.commit < server.purgedTo;
      const isOver = this.#isBroken || isPurged || server.slot !== this.#slot || server.host !== this.#host;
      if (isDown || isOver || (failures > 0 && random.next() < failures)) {
        this.#isBroken = true;
        throw new MillraceError({ code: "MR2999", kind: "retryable", message: "the stream broke" });
      }
      const block = await this.#block();
      if (block !== null) return block;
      await this.#appended(signal);
    }
  }

  async #block(): Promise<Block | null> {
    const { server, process, options } = this.#parts;
    const { log } = server.database;
    const from = this.#position;
    let at = firstFrom(log, from.commit);
    if (at === log.length) return null;
    const left = 1 + process.scheduler.random.below(CHANGES_PER_BLOCK_MAX);
    const changes: Change[] = [];
    const messages: { at: number; prefix: string; content: Buffer; position: bigint; transactional: boolean }[] = [];
    let until = from;
    for (; at < log.length; at++) {
      const entry = log[at]!;
      if (changes.length + messages.length >= left) break;
      const begin = entry.commit === from.commit ? from.index : 0;
      let index = begin;
      for (; index < entry.changes.length && changes.length < left; index++) {
        const { shape, ...change } = entry.changes[index]!;
        let table = this.#versions.get(shape);
        if (table === undefined) {
          table = await options.resolve(shape, { epoch: from.epoch, commit: entry.commit, index });
          this.#versions.set(shape, table);
        }
        changes.push({ ...change, table, commit: entry.commit, xid: entry.xid, index });
      }
      if (index < entry.changes.length) {
        until = { epoch: from.epoch, commit: entry.commit, index };
        break;
      }
      for (const shape of entry.shapes) {
        if (this.#versions.has(shape)) continue;
        const place = { epoch: from.epoch, commit: entry.commit, index: 0 };
        this.#versions.set(shape, await options.resolve(shape, place));
      }
      if (entry.message !== null) {
        messages.push({
          at: changes.length,
          prefix: MARK_PREFIX,
          content: Buffer.from(entry.message),
          position: entry.commit,
          transactional: true,
        });
      }
      until = { epoch: from.epoch, commit: entry.commit + 1n, index: 0 };
    }
    this.#position = until;
    return process.blocks.of(changes, { epoch: from.epoch, until, messages });
  }

  async #appended(signal: AbortSignal): Promise<void> {
    const { process, server } = this.#parts;
    await new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(aborted(signal));
      const end = (settle: () => void): void => {
        signal.removeEventListener("abort", onAbort);
        forgetListener();
        settle();
      };
      const onAbort = (): void => end(() => reject(aborted(signal)));
      const forgetListener = server.database.onAppend(() => end(() => void process.after(0, resolve)));
      signal.addEventListener("abort", onAbort, { once: true });
      process.onDeath(() => forgetListener());
    });
  }

  acknowledge(commit: bigint): void {
    const { process, server, options } = this.#parts;
    if (options.temporary || !process.isAlive || this.#isBroken) return;
    process.after(1, () => {
      const { slot } = server;
      if (this.#isBroken || server.host !== this.#host || (slot !== null && commit <= slot.confirmed)) return;
      server.onAcknowledged(commit, this.#parts.from.epoch);
      // A server that keeps its log for a time takes no note of it.
      if (slot === null) return;
      slot.confirmed = commit;
      forget(server);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { process, server, options } = this.#parts;
    this.#isBroken = true;
    if (!options.temporary && process.isAlive && server.reader === process) server.reader = null;
  }
}
