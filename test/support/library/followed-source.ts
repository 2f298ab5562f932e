/**
 * A source as a program sees it: through `follow`, with positions that the program stores. It has what the conformance suite
 * asks of a source, as far as the library shows it; FOLLOW_HAS_NONE names the rest.
 */
import { comparePositions, type Position } from "../../../src/core/model/position.ts";
import type { ChangeStream } from "../../../src/core/contracts/change-log.ts";
import type { CreatedLog, CreateRequest } from "../../../src/core/contracts/log-admin.ts";
import type { TableShape } from "../../../src/core/contracts/catalog.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { abortedError } from "../../../src/core/errors.ts";
import {
  follow,
  type Following,
  type FollowOptions,
  type LogEntry,
  type Row,
  type RowChange,
  type SchemaChange,
  type Transaction,
} from "../../../src/library/millrace.ts";
import { blockOf, type Cell, type Change, tableVersion, UNCHANGED } from "../model/blocks.ts";
import { eventually } from "../run/waiting.ts";

/** What the conformance suite asks of a source and a program can't ask of `follow`, with what holds it for a program instead. */
export const FOLLOW_HAS_NONE = {
  "ends where everything precedes it that was committed":
    "`follow` has no end of the log: it waits for what comes next",
  "carries a mark behind all that was committed before it":
    "a program writes no marks: `follow` does, for the reads that it makes by itself",
  "keeps what was not acknowledged":
    "a program says done() before it gets more than one batch: test/e2e/library/follow has what comes again",
  "has the generation of each table that it copies":
    "generations are the runtime's: a program gets `r` of all rows, and `s`, when a name has another table",
  "takes away what it has made, and no more":
    "a program takes nothing away: docs/library.md says which slot it leaves behind",
  "rows beside the stream":
    "a program asks for no rows: `follow` reads them by itself, as test/e2e/library/follow has it, by the reads that this part tests of the source",
  "the catalogue":
    "a program has no catalogue: `schema` tells the shapes, as test/e2e/library/follow has it, and the log's part has what they mean for changes",
} as const;

/** Where the server forgets what the program has done. */
export const FORGETS_WHAT_IS_DONE = {
  "is the same to each stream, and begins in the transaction that contains the position":
    "a slot forgets what a program has done: test/e2e/library/follow begins in a transaction",
} as const;

type Followed = Pick<FollowOptions, "source" | "tables"> & { readonly name: string };

/** What a program has stored in its own database. */
export class StoredPositions {
  readonly #texts = new Map<string, string>();
  #last: { readonly position: Position; readonly text: string } | null = null;

  /** `position`: what `text` begins with, or one from which the program goes on there. */
  store(position: Position, text: string): void {
    this.#texts.set(spelled(position), text);
    this.#last = { position, text };
  }

  /** Where a program that has this position goes on. Where it stored nothing: as it would have, had the piece ended there. */
  at(position: Position, spell: (commit: bigint) => string): string {
    const stored = this.#texts.get(spelled(position));
    if (stored !== undefined) return stored;
    const [, rest] = /^.+;\d+\.\d+(;.+)$/.exec(this.#last?.text ?? "") ?? [];
    return `${spell(position.commit)};${position.epoch}.${position.index}${rest}`;
  }

  /** The same for one that starts again, and may have stored more since. */
  atLeast(position: Position, spell: (commit: bigint) => string): string {
    const last = this.#last;
    return last !== null && comparePositions(last.position, position) >= 0 ? last.text : this.at(position, spell);
  }
}

/**
 * `direct`: the same source without the library, of which only is asked what a program does not need: where the log ends, so that
 * a test knows what it waits for, what is published, and how positions are written.
 */
export function followedSource(followed: Followed, direct: Source, stored: StoredPositions): Source {
  const base = { ...followed, heartbeat: "200ms", batch: { rows: 100 } };
  const reader = new Reader(followed.name, direct, stored);
  const format = (commit: bigint): string => direct.positions.format(commit);
  const open = (options: Omit<FollowOptions, "source">): Following => follow({ ...base, ...options });
  const begin = async ({ wantCopy }: CreateRequest): Promise<CreatedLog> => {
    const following = open({ from: null, snapshot: wantCopy ? "initial" : "none" });
    const first = await reader.take(following);
    const position = reader.positionOf(first);
    if (wantCopy) return { identity: {}, position, copy: copyOf({ reader, following, stored }, first, position) };
    await following.return();
    return { identity: {}, position, copy: null };
  };
  return {
    ...direct,
    log: {
      stream: async (from) => new FollowedStream(reader, open({ from: stored.at(from, format), snapshot: "none" })),
      tip: direct.log.tip,
      earliest: () => none("earliest"),
    },
    admin: {
      losses: direct.admin.losses,
      create: (request) => begin(request),
      resume: async (identity, { reached }) => {
        const streams = Promise.withResolvers<void>();
        // At the end of an idle log there is nothing to tell the program.
        const log = ({ message }: LogEntry): void => void (message === "the sink streams" && streams.resolve());
        await using following = open({ from: stored.atLeast(reached, format), snapshot: "none", log });
        const taken = reader.take(following);
        taken.catch(() => undefined);
        await Promise.race([taken, streams.promise]);
        return identity;
      },
      health: () => none("health"),
    },
    catalog: {
      // As `schema` told them.
      tables: async () => ({ tables: reader.tables, refused: [], generations: new Map() }),
      // By itself, at each heartbeat.
      publish: async (_onChange, signal) => {
        await eventually(async () => {
          const { tables, generations } = await direct.catalog.tables(signal);
          return tables.every(({ id }) => generations.has(id));
        });
      },
    },
    rows: { readRange: () => none("readRange"), readKeys: () => none("readKeys") },
    watermarks: {
      markPrefix: "",
      mark: () => none("mark"),
      // An idle source moves on: what is at the end now, the program gets a position behind.
      renew: async (signal) => (await direct.log.tip(signal)) - 1n,
    },
  };
}

function none(what: string): never {
  throw new Error(`follow has no ${what}: it belongs into FOLLOW_HAS_NONE`);
}

/** Transactions as blocks. */
class Reader {
  readonly #name: string;
  readonly #direct: Source;
  readonly #stored: StoredPositions;
  readonly #tables = new Map<string, ReturnType<typeof tableVersion>>();

  constructor(name: string, direct: Source, stored: StoredPositions) {
    this.#name = name;
    this.#direct = direct;
    this.#stored = stored;
  }

  /** The next one, whose position is stored. */
  async take(following: Following): Promise<Transaction> {
    const { value, done } = await following.next();
    if (done === true) throw new Error("follow has ended");
    this.#stored.store(this.positionOf(value), value.position);
    for (const change of value.changes)
      if (change.op === "schema") this.#tables.set(change.schema.subject, shapeOf(change));
    return value;
  }

  positionOf({ position }: Transaction): Position {
    const [, place = "", epoch, index] = /^(.+);(\d+)\.(\d+);/.exec(position) ?? [];
    return { epoch: Number(epoch), commit: this.#direct.positions.parse(place), index: Number(index) };
  }

  blockOf(transaction: Transaction): Block {
    const changes = transaction.changes.flatMap((change) =>
      change.op === "schema" || change.op === "s" ? [] : [change],
    );
    if (changes.some(({ op }) => op === "t")) throw new Error("the suite truncates nothing");
    return blockOf(
      changes.flatMap((change) => (change.op === "t" ? [] : [this.#changeOf(change)])),
      { until: this.positionOf(transaction) },
    );
  }

  get tables(): readonly TableShape[] {
    return [...this.#tables.values()];
  }

  #changeOf({ id, op, before, after, unchanged, version, schema, source }: RowChange): Change {
    const table = this.#tables.get(schema.subject);
    if (table === undefined) throw new Error(`a change of ${schema.subject} came before its shape`);
    const names = table.columns.map(({ name }) => name);
    const cells = (row: Row): readonly Cell[] =>
      names.map((name) => (unchanged.includes(name) ? UNCHANGED : textOf(row[name])));
    return {
      table,
      op,
      ...(after === null ? {} : { after: cells(after) }),
      ...(before === null
        ? {}
        : { before: cells(before), beforeKind: names.every((name) => Object.hasOwn(before, name)) ? "full" : "key" }),
      commit: this.#commitOf(id),
      version: BigInt(version),
      xid: Number(source.txid ?? 0),
      index: source.index,
    };
  }

  /** The id is name/epoch/position/index, in which the position has no slash. */
  #commitOf(id: string): bigint {
    const place = id.slice(this.#name.length + 1).split("/")[1] ?? "";
    return this.#direct.positions.parse(place.replace(/^([0-9A-F]+)-([0-9A-F]+)$/, "$1/$2"));
  }
}

/** The first transaction is asked for at once, each further one when the one before is done. */
class FollowedStream implements ChangeStream {
  readonly #reader: Reader;
  readonly #following: Following;
  #asked: Promise<Transaction>;
  #last: Transaction | null = null;

  constructor(reader: Reader, following: Following) {
    this.#reader = reader;
    this.#following = following;
    this.#asked = this.#ask();
  }

  async next(signal: AbortSignal): Promise<Block> {
    if (this.#last !== null) {
      await this.#last.done();
      this.#last = null;
      this.#asked = this.#ask();
    }
    const late = Promise.withResolvers<never>();
    const onAbort = (): void => late.reject(abortedError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      this.#last = await Promise.race([this.#asked, late.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
    return this.#reader.blockOf(this.#last);
  }

  #ask(): Promise<Transaction> {
    const asked = this.#reader.take(this.#following);
    // Who is gone does not wait for it.
    asked.catch(() => undefined);
    return asked;
  }

  acknowledge(): void {
    none("acknowledge");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#following.return();
  }
}

interface Copying {
  readonly reader: Reader;
  readonly following: Following;
  readonly stored: StoredPositions;
}

/** The rows come as transactions of their own, until the tables were read to their end. */
function copyOf(
  { reader, following, stored }: Copying,
  first: Transaction,
  position: Position,
): NonNullable<CreatedLog["copy"]> {
  let last = first;
  async function* read(): AsyncGenerator<Block> {
    for (;;) {
      const block = reader.blockOf(last);
      if (block.count > 0) yield block;
      const isRead = last.changes.some(({ op }) => op === "s");
      if (isRead) stored.store(position, last.position);
      await last.done();
      if (isRead) return;
      last = await reader.take(following);
      if (!last.isSnapshot && last.changes.some(({ op }) => op !== "s" && op !== "schema"))
        throw new Error("a change came before the rows were read");
      if (comparePositions(reader.positionOf(last), position) < 0) throw new Error("the position went back");
    }
  }
  return {
    tables: reader.tables,
    generations: new Map(),
    read: () => read(),
    close: async () => void (await following.return()),
  };
}

function shapeOf({ columns, keyColumns, source }: SchemaChange): ReturnType<typeof tableVersion> {
  return tableVersion({
    schema: source.schema,
    table: source.table,
    columns: columns.map(({ name, native }) => [name, native, { kind: "text" }]),
    key: keyColumns,
  });
}

function textOf(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === "string" || typeof value === "number" || typeof value === "bigint") return String(value);
  throw new TypeError("the suite has texts and integers alone");
}

const spelled = ({ epoch, commit, index }: Position): string => `${epoch}.${commit}.${index}`;
