/**
 * Maintenance moves rows of a lake between catalogue and files. Each part of a query reads a catalogue in SQLite at a moment
 * of its own: if rows were moved in between, they can be missing, or there twice.
 */
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { duckdbError } from "../errors.ts";
import { METADATA } from "./engine.ts";
import type { CatalogKind } from "./place.ts";
import { MOVED } from "./rules.ts";
import { newestSnapshot } from "./tables.ts";

const TRIES_MAX = 5;

/** Reads again if rows were moved while they were read. */
export async function whole<T>(connection: EngineConnection, kind: CatalogKind, read: () => Promise<T>): Promise<T> {
  return await untilUnmoved(() => unmoved(connection, kind, read));
}

/** Again while `read` gives null, or fails because rows were moved. */
export async function untilUnmoved<T>(read: () => Promise<Unmoved<T> | null>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      const found = await read();
      if (found !== null) return found.result;
    } catch (error) {
      if (tries >= TRIES_MAX || !isMoved(error)) throw error;
    }
    if (tries >= TRIES_MAX) throw movedAgain();
  }
}

export interface Unmoved<T> {
  readonly result: T;
}

/** Null: rows were moved meanwhile. */
export async function unmoved<T>(
  connection: EngineConnection,
  kind: CatalogKind,
  read: () => Promise<T>,
): Promise<Unmoved<T> | null> {
  if (kind !== "sqlite") return { result: await read() };
  const newest = await newestSnapshot(connection);
  const result = await read();
  return (await hasMovedSince(connection, newest)) ? null : { result };
}

function isMoved(error: unknown): boolean {
  return error instanceof Error && MOVED.test(error.message);
}

async function hasMovedSince(connection: EngineConnection, snapshot: string): Promise<boolean> {
  const [[count = ""] = []] = await readTextRows(
    connection,
    `SELECT count(*)::VARCHAR FROM ${METADATA}.ducklake_snapshot_changes WHERE snapshot_id > ${snapshot} AND regexp_matches(changes_made, 'flush|rewrite|merge|compact')`,
  );
  return Number(count) > 0;
}

function movedAgain(): Error {
  return duckdbError("MR3220", "retryable", "the lake's maintenance moved rows each time they were read", {
    hint: "ask again when it has ended",
  });
}
