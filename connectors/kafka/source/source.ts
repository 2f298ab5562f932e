import { NUMBERED } from "../../../src/core/contracts/positions.ts";
import type { Chunk, KeyText, RowRange, RowReads } from "../../../src/core/contracts/row-reads.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import { EVERYTHING_VISIBLE, snapshotSees, type Watermarks } from "../../../src/core/contracts/watermarks.ts";
import { Frame } from "../../../src/core/model/frame.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { earliest, logAdmin, type LogReader, renames } from "./admin.ts";
import { Calls, joinsFrom, tablesFrom } from "./asking.ts";
import type { Call, TableQuestion } from "../log/calls.ts";
import type { SourceContext } from "./context.ts";
import { Followed, MARK_PREFIX } from "./followed.ts";
import { FrameStream } from "./frame-stream.ts";
import { unreadable } from "./log-topic.ts";

/** The capturing daemon's source at one remove: the log brings the changes, everything else is asked for. */
export function kafkaSource(context: SourceContext): Source {
  const calls = new Calls(context);
  const followed = new Followed(context.clock.unique(9), context.share, context.clock);
  const reader = { context, calls, followed };
  return {
    kind: "kafka",
    database: context.naming.daemon,
    // As the capturing source counts them; its own spelling is not known here.
    positions: { ...NUMBERED, recall: (identity) => followed.recall(identity) },
    log: {
      stream: (from, options, signal) => FrameStream.open(reader, from, options, signal),
      tip: async (signal) => followed.positionIn(await calls.ask({ kind: "tip" }, signal)),
      earliest: (signal) => earliest(reader, signal),
      renames: (from, to, onRenamed, signal) => renames(reader, { from, to }, onRenamed, signal),
    },
    admin: logAdmin(reader),
    catalog: {
      tables: (signal) => tablesFrom(context, calls, signal),
      // The capturing daemon publishes what it captures.
      publish: async () => {},
      ...joinsFrom(calls),
    },
    rows: rowReads(calls),
    watermarks: watermarks(reader),
    close: () => calls.close(),
  };
}

function rowReads(calls: Calls): RowReads {
  return {
    readRange: async (table, { after, where, scanRowCountMax: limit }: RowRange, signal) => {
      const from = after === null ? null : [...after];
      const call: Call = { kind: "range", table: asked(table), after: from, where, scanRowCountMax: limit ?? null };
      return await read(calls, table, call, signal);
    },
    readKeys: (table, keys: readonly KeyText[], signal) =>
      read(calls, table, { kind: "keys", table: asked(table), keys: keys.map((key) => [...key]) }, signal),
    readJoined: (table, by, { table: above, of, keys }, signal) => {
      const joined = { table: asked(above), of: [...of], keys: keys.map((key) => [...key]) };
      return read(calls, table, { kind: "joined", table: asked(table), by: [...by], above: joined }, signal);
    },
  };
}

async function read(calls: Calls, table: TableVersion, call: Call, signal: AbortSignal): Promise<Chunk> {
  const { said, frame } = await calls.ask(call, signal);
  const { last = null, snapshot = null } = said;
  const seen = snapshot === null ? { sees: EVERYTHING_VISIBLE.sees } : { sees: snapshotSees(snapshot), snapshot };
  if (frame === null) return { block: null, last, ...seen };
  const reading = { epoch: 1, since: null, markOf: () => null, tableOf: async () => table };
  try {
    return { block: (await new Frame(frame).read(reading)).block, last, ...seen };
  } catch (error) {
    throw unreadable("an answer of the capturing daemon", error);
  }
}

/** Under rules of this daemon the table has another fingerprint than in the log. */
function asked({ id, fingerprint, ruled }: TableVersion): TableQuestion {
  return { id, fingerprint: ruled?.source.fingerprint ?? fingerprint };
}

function watermarks({ context: { clock }, calls, followed }: LogReader): Watermarks {
  return {
    markPrefix: MARK_PREFIX,
    mark: async (content, signal) => {
      await calls.ask({ kind: "mark", content: followed.marked(content) }, signal);
    },
    renew: async (signal) => followed.positionIn(await calls.ask({ kind: "renew" }, signal)),
    settle: async (_onWait, signal) => {
      const token = clock.unique(12);
      for (;;) if ((await calls.ask({ kind: "settle", token }, signal)).said.isSettled === true) return;
    },
    visibility: async (signal) => {
      const { said } = await calls.ask({ kind: "visibility" }, signal);
      const { snapshot = null, committing = [] } = said;
      return snapshot === null ? EVERYTHING_VISIBLE : { sees: snapshotSees(snapshot), snapshot, committing };
    },
  };
}
