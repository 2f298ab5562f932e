/** What is asked over the topics, and the form of the answers. */
import { logError } from "../errors.ts";
import * as z from "zod";
import type {
  CapturedTables,
  Catalog,
  ColumnFacts,
  Equality,
  ForeignKey,
  RefusedTable,
  TableShape,
} from "../../../src/core/contracts/catalog.ts";
import { AmbiguousKey, type KeyText } from "../../../src/core/contracts/row-reads.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import type { CommittedRecord } from "../client/partition.ts";
import { Assembly } from "../writer/messages.ts";
import { createHash } from "node:crypto";
import type { TableVersion } from "../../../src/core/model/schema.ts";

const KEY = z.array(z.string());
/** As the asking process knows it. */
const TABLE = z.object({ id: z.string(), fingerprint: z.string() });
const CALL = z.discriminatedUnion("kind", [
  z.object({ kind: z.enum(["tables", "tip", "health", "renew", "visibility"]) }),
  z.object({ kind: z.literal("mark"), content: z.string() }),
  z.object({ kind: z.literal("joins"), tables: z.array(z.string()) }),
  /** `token`: the same in each call that waits for the same transactions. */
  z.object({ kind: z.literal("settle"), token: z.string() }),
  z.object({
    kind: z.literal("range"),
    table: TABLE,
    after: KEY.nullable(),
    where: z.string().nullable(),
    scanRowCountMax: z.int().nonnegative().nullable(),
  }),
  z.object({ kind: z.literal("keys"), table: TABLE, keys: z.array(KEY) }),
  z.object({
    kind: z.literal("joined"),
    table: TABLE,
    by: z.array(z.int()),
    above: z.object({ table: TABLE, of: z.array(z.int()), keys: z.array(KEY) }),
  }),
]);
const REQUEST = z.object({ id: z.string(), call: CALL });

export type TableQuestion = Readonly<z.output<typeof TABLE>>;
export type Call = z.output<typeof CALL>;
/** A call whose answer has rows. */
export type RowCall = Extract<Call, { readonly kind: "range" | "keys" | "joined" }>;
export type Request = Readonly<z.output<typeof REQUEST>>;

/** The key of what the capturing daemon writes when it begins to answer: what was asked before is lost. */
export const BEGUN = "begun";

export function isRowCall(call: Call): call is RowCall {
  return call.kind === "range" || call.kind === "keys" || call.kind === "joined";
}

/** Of so many askers parts may be under way at once; what an asker that was killed has begun goes first. */
const BEGUN_MAX = 64;

/** Requests come in parts: one may name the keys of thousands of rows. */
export class Requests {
  /** By id. */
  readonly #begun = new Map<string, Assembly>();

  /** Null: more parts are to come, something else wrote it, or a later version did. */
  add({ key, ...part }: Pick<CommittedRecord, "key" | "value" | "offset">): Request | null {
    const id = key?.toString("utf8") ?? "";
    const parts = this.#begun.get(id) ?? new Assembly();
    this.#begun.set(id, parts);
    const whole = parts.add(part);
    if (whole !== null) this.#begun.delete(id);
    const [oldest] = this.#begun.size > BEGUN_MAX ? this.#begun.keys() : [];
    if (oldest !== undefined) this.#begun.delete(oldest);
    return whole === null ? null : requestIn(whole.message);
  }
}

function requestIn(message: Buffer): Request | null {
  try {
    return REQUEST.parse(JSON.parse(message.toString("utf8")));
  } catch {
    return null;
  }
}

/** What an answer says beside rows. */
export type Said =
  | { readonly error: CallError }
  | {
      readonly error?: undefined;
      readonly position?: string;
      /** The epoch of `position`. */
      readonly epoch?: number;
      readonly isSettled?: boolean;
      readonly tables?: WrittenTables;
      readonly joins?: WrittenJoins;
      readonly snapshot?: string | null;
      readonly committing?: readonly number[];
      readonly last?: KeyText | null;
    };

interface CallError {
  readonly code?: string;
  readonly kind?: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly ambiguous?: AmbiguousKey["what"];
}

interface WrittenTables {
  readonly tables: readonly TableShape[];
  readonly refused: readonly RefusedTable[];
  readonly generations: readonly (readonly [string, string])[];
  readonly columns: readonly (readonly [string, readonly number[], readonly number[]])[];
}

/** How rows of tables join at the source, by the names that readers of the log know. Null: the source can't tell. */
export interface WrittenJoins {
  readonly foreignKeys: readonly ForeignKey[] | null;
  readonly equalities: readonly (readonly [table: string, column: string, equality: Equality])[] | null;
}

export interface Answer {
  readonly said: Exclude<Said, { readonly error: CallError }>;
  /** A frame with rows; null: there are none. */
  readonly frame: Buffer | null;
}

/** Int32 length and JSON of what is said, then the frame. */
export function writeAnswer(said: Said, frame: Uint8Array | null): Buffer {
  const text = Buffer.from(JSON.stringify(said), "utf8");
  const length = Buffer.alloc(4);
  length.writeInt32BE(text.length);
  return Buffer.concat([length, text, ...(frame === null ? [] : [frame])]);
}

/** Throws the error that the answer says. */
export function readAnswer(bytes: Buffer): Answer {
  const end = 4 + bytes.readInt32BE(0);
  const said: Said = JSON.parse(bytes.toString("utf8", 4, end));
  if (said.error !== undefined) throw errorOf(said.error);
  return { said, frame: end === bytes.length ? null : bytes.subarray(end) };
}

/** An error without a number says nothing: it may hold values. */
export function saidError(error: unknown): Said {
  if (error instanceof AmbiguousKey) return { error: { message: error.message, ambiguous: error.what } };
  const known = findMillraceError(error);
  if (known === undefined) return { error: { message: "it failed for an unknown reason" } };
  const { code, kind, message, hint } = known;
  return { error: { code, kind, message, hint } };
}

function errorOf({ code, kind, message, hint, ambiguous }: CallError): Error {
  if (ambiguous !== undefined) return new AmbiguousKey(ambiguous);
  const said = code === undefined ? message : `${code}: ${message}`;
  const isBlocked = kind === "blocked" || kind === "fatal";
  return logError("MR3522", isBlocked ? "blocked" : "retryable", `the capturing daemon says: ${said}`, { hint });
}

export function writeTables({ tables, refused, generations, columns }: CapturedTables): WrittenTables {
  return {
    tables,
    refused,
    generations: [...generations],
    columns: Array.from(columns ?? [], ([id, { nullBefore, dropped }]) => [id, [...nullBefore], dropped] as const),
  };
}

export function readTables({ tables, refused, generations, columns }: WrittenTables): CapturedTables {
  const facts = columns.map(([id, nullBefore, dropped]): [string, ColumnFacts] => [
    id,
    { nullBefore: new Set(nullBefore), dropped },
  ]);
  return { tables, refused, generations: new Map(generations), columns: new Map(facts) };
}

export async function joinsOf(
  catalog: Pick<Catalog, "foreignKeys" | "equalities">,
  tables: readonly TableShape[],
  signal: AbortSignal,
): Promise<WrittenJoins> {
  const foreignKeys = (await catalog.foreignKeys?.(tables, signal)) ?? null;
  const equalities = (await catalog.equalities?.(tables, signal)) ?? null;
  const shown = (key: ForeignKey): readonly ForeignKey[] => {
    const [columns, referenced] = [
      shownIn(tables, key.table, key.columns),
      shownIn(tables, key.references, key.referenced),
    ];
    return columns === null || referenced === null ? [] : [{ ...key, columns, referenced }];
  };
  return {
    foreignKeys: foreignKeys?.flatMap(shown) ?? null,
    equalities:
      equalities === null
        ? null
        : tables.flatMap(({ id, ruled }) =>
            Array.from(equalities.get(id) ?? []).flatMap(([column, equality]) => {
              const { target = column, mask = null } = ruled?.lineage.find(({ source }) => source === column) ?? {};
              // Texts that are equal may have other masks.
              return target === null
                ? []
                : [[id, target, mask === null ? equality : { ...equality, alike: null }] as const];
            }),
          ),
  };
}

/** Null: rules hide one of the columns, or the table is none of these. */
function shownIn(tables: readonly TableShape[], of: ForeignKey["table"], columns: readonly string[]): string[] | null {
  const found = tables.find(({ schema, table }) => schema === of.schema && table === of.table);
  if (found === undefined) return null;
  const lineage = found.ruled?.lineage ?? columns.map((name) => ({ source: name, target: name, mask: null }));
  const shown = columns.map((column) => lineage.find(({ source, mask }) => source === column && mask === null)?.target);
  return shown.every((name) => name != null) ? shown : null;
}

/**
 * A table as readers of the log are told of it. For them a table under rules is a table like any other. Other rules make it
 * another table, as if it were created again: what a reader has of it is void.
 */
export function relayedShape(table: TableShape | TableVersion): TableShape {
  const { ruled, released: _, version: __, since: ___, ...shape } = { version: 0, since: null, ...table };
  if (ruled === undefined) return shape;
  const relation = createHash("sha256")
    .update(JSON.stringify([shape.relation, ruled.rules]))
    .digest()
    .readUInt32BE(0);
  return { ...shape, relation };
}
