/**
 * Finds the rows of a transaction that was prepared before a stream began and is committed after that position: after a
 * restart, or after an initial snapshot, which could not see them. It searches the log itself, file by file backwards, so
 * that no position ever has to wait for the outcome of a prepared transaction.
 */
import type { ChangeStream } from "../../../../src/core/contracts/change-log.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { readFiles } from "../log/log-state.ts";
import { unpackPlace } from "../log/position.ts";
import { type PreparedTransactions, tooLarge } from "./prepared.ts";
import { otherServerId } from "../log/dump.ts";
import { startOf } from "../start.ts";
import type { StreamParts } from "../stream-parts.ts";

type Open = (parts: StreamParts, signal: AbortSignal) => Promise<PreparingStream>;

interface PreparingStream extends ChangeStream {
  readonly prepared: PreparedTransactions;
}

export interface LookBackParts {
  readonly open: Open;
  readonly parts: StreamParts;
  readonly known: PreparedTransactions;
}

/** Adds to `known` what is prepared and undecided at `position`, back to `name` or to the beginning of the log. */
export async function lookBack(
  { open, parts, known }: LookBackParts,
  position: Position,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const { context } = parts;
  const { file } = unpackPlace(position.commit);
  const oldest = (await readFiles(context, signal)).at(0)?.file ?? file;
  for (let fileCount = 1; ; fileCount *= 2) {
    const first = Math.max(oldest, file - fileCount + 1);
    const from = { epoch: position.epoch, commit: startOf(first), index: 0 };
    // Tables that it finds are not captured by this, and it does not move the stream's position.
    const seeking: StreamParts = {
      ...parts,
      context: { ...context, captures: () => false },
      from,
      options: { ...parts.options, temporary: true },
      serverId: otherServerId(context),
      // No session can alter a table while changes of it are prepared.
      resolve: (map) => parts.resolve(map, position),
      named: async () => null,
      changed: async () => [],
      preparedBefore: position.commit,
    };
    await using stream = await open(seeking, signal);
    await readUntil(stream, position.commit, signal);
    if (!known.takeAll(stream.prepared)) throw tooLarge(context.names.format(position.commit));
    if (known.has(name) || first === oldest) return;
  }
}

async function readUntil(stream: ChangeStream, commit: bigint, signal: AbortSignal): Promise<void> {
  for (;;) {
    const block = await stream.next(signal);
    block.release();
    if (block.until.commit > commit) return;
  }
}
