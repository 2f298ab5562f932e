import { type Checkpoint, checkpointFromTexts } from "../../src/core/checkpoint.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { parsePosition } from "../../src/core/model/position.ts";
import { notHeld } from "../kit/held-checkpoint.ts";
import { type Commands, listOf, type Reply, textOf } from "./connection.ts";
import { raise, redisError, replyCode } from "./errors.ts";

/** The hash of the checkpoint key; "" and null for missing fields. */
export interface StoredCheckpoint {
  readonly lease: string | null;
  readonly position: string;
  readonly tables: string;
  readonly format: string;
  readonly bond: string;
}

/** What tells one step of a sink from the next: the position alone does not, where a sweep or the end of a read follows. */
export type Step = Pick<StoredCheckpoint, "position" | "bond">;

/** Before the first step, and where no step is stored. */
export const NONE: Step = { position: "", bond: "" };

/** As the script has it. */
export function stepText({ position, bond }: Step): string {
  return `${position} ${bond}`;
}

export const NO_STEP = stepText(NONE);

export function isSameStep(a: Step, b: Step): boolean {
  return a.position === b.position && a.bond === b.bond;
}

export async function readCheckpoint(connection: Commands, key: Buffer): Promise<StoredCheckpoint> {
  const reply = await readOwn(connection, "hmget", key, "lease", "position", "tables", "format", "bond");
  const [lease, position, tables, format, bond] = (listOf(reply) ?? []).map(textOf);
  if (!/^\d*$/.test(lease ?? "") || !/^(\d+\/\d+\/\d+)?$/.test(position ?? "")) throw overwritten(key);
  return {
    lease: lease ?? null,
    position: position ?? "",
    tables: tables ?? "",
    format: format ?? "",
    bond: bond ?? "",
  };
}

/** Asks for the value of a key of the sink's own, which no row has. */
export async function readOwn(
  connection: Commands,
  name: string,
  key: Buffer | string,
  ...fields: string[]
): Promise<Reply> {
  return await connection.command(name, key, ...fields).catch((error: unknown) => {
    throw isOfOtherKind(error) ? overwritten(key, error) : error;
  });
}

export function isOfOtherKind(error: unknown): boolean {
  return error instanceof Error && replyCode(error.message) === "WRONGTYPE";
}

export function overwritten(key: Buffer | string, cause?: unknown): MillraceError {
  const message = `key ${key.toString()} does not hold what the sink keeps there: another program has overwritten it`;
  return redisError("MR3315", "fatal", message, cause);
}

/**
 * The sink's checkpoint. Rows in another format can't be bases, and readers will not find them: then no table counts as
 * complete, and each is read again.
 */
export function parseCheckpoint(stored: StoredCheckpoint, format: string, key: Buffer): Checkpoint | null {
  if (stored.position === "") return null;
  try {
    const checkpoint = { position: parsePosition(stored.position), ...checkpointFromTexts(stored.tables, stored.bond) };
    return stored.format === format ? checkpoint : { ...checkpoint, tables: {} };
  } catch (error) {
    throw overwritten(key, error);
  }
}

/** Why the stored checkpoint is not what this process wrote last. */
export function fenceError(stored: StoredCheckpoint, lease: string, { position }: Step): MillraceError {
  const found = stored.lease === null ? null : { lease: Number(stored.lease), position: stored.position };
  return notHeld(raise, "the cache", found, { lease: Number(lease), position });
}
