/**
 * Postgres as a source: its capabilities, each put together from the parts that do the work.
 *
 * The folders lie on each other, and imports point down:
 *
 *   stream     the socket's bytes become blocks; what the server is told
 *   snapshot   rows that are read by SQL: all at the slot's beginning, chunks, keys
 *   catalog    which tables there are and are published, with what shapes; what the log does not show of them
 *   log        slot, timelines, marks
 *   wire       connections
 *
 * On top: log-admin.ts begins and continues a log, published-tables.ts keeps what is captured in step with the catalogue.
 */
import type { ChangeLog } from "../../../src/core/contracts/change-log.ts";
import type { LogAdmin } from "../../../src/core/contracts/log-admin.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import { hasBinaryForm } from "../../../src/core/model/types.ts";
import { POSITIONS } from "./positions.ts";
import { PublishedTables } from "./published-tables.ts";
import { selectTables } from "./catalog/selection.ts";
import { leavesOf, treesOf } from "./catalog/unlogged-changes.ts";
import { closeAll, type SourceContext } from "./wire/context.ts";
import { LOSSES } from "./errors.ts";
import { readHealth } from "./log/health.ts";
import { markPrefix, writeMark, watermarks } from "./log/watermarks.ts";
import { isUnfinished, readSlot, unfinishedSlot, whenFree } from "./log/slot.ts";
import { joinedRows } from "../../kit/joined-rows.ts";
import { readKeys, readMatching, readRange, readWritten } from "./snapshot/chunks.ts";
import { contentSums, hashForms, inBuckets } from "./snapshot/content-sums.ts";
import { crossLog, removeOurs, madeBy } from "./log-admin.ts";
import { PostgresStream } from "./stream/change-stream.ts";
import { equalities, foreignKeys, rowEstimates, tableSizes } from "./catalog/catalog.ts";

export function postgresSource(context: SourceContext): Source {
  const published = new PublishedTables(context);
  return {
    kind: "postgres",
    database: context.address.database,
    positions: POSITIONS,
    log: changeLog(context, published),
    admin: logAdmin(context, published),
    catalog: {
      tables: (signal) => published.tables(signal),
      publish: (onChange, signal) => published.publish(onChange, signal),
      estimates: (tables, signal) => rowEstimates(context, tables, signal),
      sizes: (tables, signal) => tableSizes(context, tables, signal),
      foreignKeys: (tables, signal) => foreignKeys(context, tables, signal),
      equalities: (tables, signal) => equalities(context, tables, signal),
    },
    rows: {
      readRange: (table, range, signal) => readRange(context, table, range, signal),
      readKeys: (table, keys, signal) => readKeys(context, table, keys, signal),
      readJoined: joinedRows(
        (table, keys, signal) => readKeys(context, table, keys, signal),
        (table, by, values, signal) => readMatching(context, table, by, values, signal),
      ),
      readWritten: (table, keys, changedBy, signal) => readWritten(context, table, keys, changedBy, signal),
      sums: {
        forms: hashForms,
        of: (table, hashed, signal) => contentSums(context, table, hashed, signal),
        within: inBuckets,
      },
    },
    watermarks: watermarks(context),
    close: () => closeAll(context),
  };
}

function changeLog(context: SourceContext, published: PublishedTables): ChangeLog {
  return {
    stream: async (from, options, signal) => {
      const { captured, catalog } = await selectTables(context, false, signal);
      if (!context.leaves.areKnown) context.leaves.take(leavesOf(captured, catalog), treesOf(captured));
      // Binary cells are cheaper for the server, but must be readable for every table that may appear.
      const binary = captured.every(({ shape }) => shape.columns.every((column) => hasBinaryForm(column.type)));
      if (!options.temporary) published.onUnloggedRows = options.onUnloggedRows;
      const { identity, leaves } = published;
      const { version } = catalog;
      const stream = await PostgresStream.open({ context, identity, from, options, binary, version, leaves }, signal);
      if (!options.temporary) published.stream = stream;
      return stream;
    },
    /** The message's own position: the end of the log may lie behind a page header, where an idle stream never arrives. */
    tip: async (signal) => {
      const { writer } = context;
      if (await writer.canWrite(signal)) return await writeMark(context, `${markPrefix(context)}/tip`, "", signal);
      return await writer.replayedUntil(signal);
    },
    /** If a start is below the slot's confirmed position, the server silently moves it forward to that position. */
    earliest: async (signal) => {
      const slot = await readSlot(context, signal);
      return slot === undefined || slot.invalidation !== null ? null : slot.confirmed;
    },
  };
}

function logAdmin(context: SourceContext, published: PublishedTables): LogAdmin {
  return {
    losses: LOSSES,
    expectFree: async (identity, signal) => {
      await whenFree(context, identity === null ? "start" : "stream", signal);
      const slot = identity === null ? await readSlot(context, signal) : undefined;
      if (slot !== undefined && isUnfinished(slot)) throw await unfinishedSlot(context, slot, "fatal", signal);
    },
    create: (request, signal) => published.create(request, signal),
    cross: (identity, positions, signal) => crossLog(context, identity, positions, signal),
    resume: (identity, held, signal) => published.resume(identity, held, signal),
    remember: (positions) => published.remember(positions),
    made: (identity, signal) => madeBy(context, identity, signal),
    remove: (identity, signal) => removeOurs(context, identity, signal),
    health: async (signal) => {
      const health = await readHealth(context, signal);
      const { besides, leftOut } = published;
      const hints = Array.from(besides, ([id, what]) => `${id}: ${what}`);
      if (leftOut !== null) hints.push(`${leftOut.what}. ${leftOut.fix}`);
      return { ...health, hints: [...(health.hints ?? []), ...hints] };
    },
  };
}
