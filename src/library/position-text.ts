/**
 * A sink's checkpoint as the text that a program stores: `0/1A2B3D0;1.4;BOND;REST`. First the position as `millrace offsets show`
 * prints it, then epoch and index, the bond with the state, and packed what rarely changes: which tables the program has read
 * and, where there is no state, which log this is a position of.
 */
import { deflateRawSync, inflateRawSync } from "node:zlib";
import * as z from "zod";
import { checkpointFromTexts, checkpointTexts, type Checkpoint } from "../core/checkpoint.ts";
import type { LogIdentity, Positions } from "../core/contracts/positions.ts";
import { libraryError } from "./errors.ts";

export interface StoredPosition {
  readonly checkpoint: Checkpoint;
  /** Null: a state has it. */
  readonly identity: LogIdentity | null;
}

const REST = z.object({ tables: z.string(), identity: z.record(z.string(), z.string()).nullable() });
const REST_BYTES_MAX = 64 * 1024 * 1024;

type Formats = Pick<Positions, "format">;
type Parses = Pick<Positions, "parse" | "recall">;

export class PositionWriter {
  readonly #positions: Formats;
  #tables = "";
  #identity: LogIdentity | null = null;
  #rest = "";

  constructor(positions: Formats) {
    this.#positions = positions;
  }

  write({ checkpoint, identity }: StoredPosition): string {
    const { epoch, commit, index } = checkpoint.position;
    const { tables, bond } = checkpointTexts(checkpoint);
    if (this.#rest === "" || tables !== this.#tables || identity !== this.#identity) {
      this.#tables = tables;
      this.#identity = identity;
      this.#rest = deflateRawSync(JSON.stringify({ tables, identity })).toString("base64url");
    }
    return `${this.#positions.format(commit)};${epoch}.${index};${encodeURIComponent(bond)};${this.#rest}`;
  }
}

const TEXT = /^(.+);(\d+)\.(\d+);([^;]+);([\w-]+)$/;

/** Null: it is the position alone, as `millrace offsets show` prints it. */
export function readPosition(text: string, positions: Parses): StoredPosition | null {
  const match = TEXT.exec(text);
  if (match === null) return null;
  const [, place = "", epoch, index, bond = "", packed = ""] = match;
  try {
    const packedBytes = Buffer.from(packed, "base64url");
    const { tables, identity } = REST.parse(
      JSON.parse(inflateRawSync(packedBytes, { maxOutputLength: REST_BYTES_MAX }).toString("utf8")),
    );
    if (identity !== null) positions.recall?.(identity);
    const position = { epoch: Number(epoch), commit: positions.parse(place), index: Number(index) };
    return { checkpoint: { position, ...checkpointFromTexts(tables, decodeURIComponent(bond)) }, identity };
  } catch (error) {
    throw unreadable(error);
  }
}

export function unreadable(cause: unknown): Error {
  return libraryError("MR1171", "`from` is not a position that a transaction of this source had", { cause });
}
