/** Takes rows of a Postgres source undecoded, by several sessions at once: see core's raw copy. */
import type {
  RawColumn,
  RawWork,
  RawWriter,
  TargetRawRows,
  RawTaker,
} from "../../../../src/core/contracts/raw-copy.ts";
import { failpoint } from "../../../../src/core/failpoint.ts";
import type { TableVersion, Column } from "../../../../src/core/model/schema.ts";
import { Turn } from "../../../../src/core/waiting.ts";
import { RAW_FORM } from "../../raw-form.ts";
import { sinkError, withoutRow } from "../errors.ts";
import { expectClaim, markWriter } from "../wire/checkpoint.ts";
import type { Session } from "../wire/session.ts";
import { type PostgresTargets, attempt, commentSql } from "../tables/warehouse.ts";
import { binaryStamp } from "../values/stamp.ts";
import type { FencedSession } from "../wire/fenced-session.ts";
import { hasBinaryForm } from "../../../../src/core/model/types.ts";
import { isSameInBinary } from "../tables/types.ts";
import { BINARY_AS_IS, type CellForms, TEXT_AS_IS } from "../values/cells.ts";
import { encodeNote, type TargetNote } from "../../../warehouse/following.ts";
import { quoteIdentifier } from "../../../../src/postgres/quote.ts";
import { findTable } from "../tables/found-table.ts";
import type { TargetTable } from "../tables/target-table.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import type { CopyIn } from "../../../../src/postgres/copy-in.ts";
import { COPY_HEADER } from "../wire/frames.ts";

/** A part's commit does not wait for the disk: while it did, its sessions did nothing. `finish` waits for all. */
const NOT_WAITING = "SET LOCAL synchronous_commit = off";

export class RawTarget implements TargetRawRows {
  readonly form = RAW_FORM;
  readonly #targets: PostgresTargets;
  readonly #sink: FencedSession;
  /** The fence counts one batch after the other. */
  readonly #turn = new Turn();
  readonly #owed = new WeakMap<TableVersion, OwedKey>();

  constructor(targets: PostgresTargets, sink: FencedSession) {
    this.#targets = targets;
    this.#sink = sink;
  }

  columns(table: TableVersion): readonly RawColumn[] | null {
    const target = this.#targets.get(table);
    return target.history === null && target.triggers.length === 0 ? rawColumns(table, target.forms) : null;
  }

  async begin(table: TableVersion, signal: AbortSignal): Promise<boolean> {
    const target = this.#targets.get(table);
    let isEmpty = false;
    const take = async (session: Session): Promise<void> => {
      const { rows } = await session.query(`SELECT FROM ${target.rows} LIMIT 1`, signal);
      isEmpty = rows.length === 0;
      const owed = isEmpty ? await takeKey(session, target, signal) : null;
      await session.query("COMMIT", signal);
      if (owed !== null) this.#owed.set(table, owed);
    };
    await this.#sink.fenced(`beginning the copy of ${table.id}`, take, signal, () => [target.quoted]);
    return isEmpty;
  }

  /** The target's log has one order: what was committed before is durable with it. If that is lost, the count is another. */
  async finish(table: TableVersion, signal: AbortSignal): Promise<void> {
    const [target, owed] = [this.#targets.get(table), this.#owed.get(table)];
    const end = async (session: Session): Promise<void> => {
      if (owed !== undefined) await session.query(makeKey(target, owed), signal);
      failpoint("postgres-sink.key-made");
      await this.#sink.commitCounted(session, signal);
    };
    await this.#sink.fenced(`ending the copy of ${table.id}`, end, signal, () => [target.quoted]);
    this.#owed.delete(table);
  }

  async writer(signal: AbortSignal): Promise<RawWriter> {
    const session = await this.#sink.beside(signal);
    try {
      await session.query(markWriter(this.#sink.fence.name), signal);
      return new PostgresRawWriter(session, this.#targets, this.#sink, this.#turn);
    } catch (error) {
      session.close();
      throw sinkError(error, "opening a session for a copy", session.address);
    }
  }
}

class PostgresRawWriter implements RawWriter {
  readonly #session: Session;
  readonly #targets: PostgresTargets;
  readonly #sink: FencedSession;
  readonly #turn: Turn;

  constructor(session: Session, targets: PostgresTargets, sink: FencedSession, turn: Turn) {
    this.#session = session;
    this.#targets = targets;
    this.#sink = sink;
    this.#turn = turn;
  }

  async write({ table, read, version, commitTimeUs }: RawWork, signal: AbortSignal): Promise<number> {
    const target = this.#targets.get(table);
    const sourceStop = new AbortController();
    let failure: unknown;
    let rows: StampedRows | undefined;
    try {
      const sql = `BEGIN; ${NOT_WAITING}; ${expectClaim(this.#sink.fence)}; ${target.copyDirect(true)}`;
      const copy = await this.#session.copyIn(sql, signal);
      // The source would read on, for nothing.
      copy.ended.catch((error: unknown) => {
        failure = error;
        sourceStop.abort();
      });
      rows = new StampedRows(copy, binaryStamp(version, commitTimeUs), target.columnCount);
      await read(rows, AbortSignal.any([signal, sourceStop.signal]));
      await rows.finish();
      failpoint("postgres-sink.part-written");
      return rows.rowCount;
    } catch (error) {
      this.close();
      signal.throwIfAborted();
      throw sinkError(failure ?? rows?.failure ?? error, `copying ${table.id}`, this.#session.address);
    }
  }

  /** Invariant 6: the part becomes visible only if this process still is the one writer. */
  async commit(signal: AbortSignal): Promise<void> {
    using _ = await this.#turn.take(signal);
    try {
      await this.#sink.commitCounted(this.#session, signal);
    } catch (error) {
      this.close();
      throw withoutRow(sinkError(error, "committing a part of a copy", this.#session.address));
    }
    failpoint("postgres-sink.part-committed");
  }

  close(): void {
    this.#session.close();
  }
}

/**
 * How the columns come, so that their bytes are what the target's types read. Null: a column's bytes must be adapted (oids inside, JSON's version byte), or only
 * the server can parse its text.
 */
function rawColumns(table: TableVersion, forms: CellForms): readonly RawColumn[] | null {
  if (table.dialect !== "postgres") return null;
  const columns = table.columns.map((column, i) => rawColumn(column, forms.binary[i]!, forms.text[i]!));
  return columns.every((column) => column !== null) ? columns : null;
}

function rawColumn({ native, type }: Column, binary: number, text: number): RawColumn | null {
  if (isSameInBinary(native)) return "binary";
  // Domains and enums: the target has the type underneath, or text.
  if (hasBinaryForm(type)) return binary === BINARY_AS_IS ? "binary" : null;
  return text === TEXT_AS_IS ? "text" : null;
}

/** Something depends on the key, or it belongs to another role. */
const KEPT = /^(2BP01|42501)$/;

interface OwedKey {
  readonly name: string;
  readonly note: TargetNote;
}

/**
 * Takes the key of a new, empty table away before its first row, inside a transaction; it is built of all rows at the end.
 * Row by row an index costs the target a third of its processor time, built at once a sixth. The note beside the table says
 * that the key is owed: the next preparation of the table makes it (tables/warehouse). Null: the table keeps its key.
 */
async function takeKey(session: Session, target: TargetTable, signal: AbortSignal): Promise<OwedKey | null> {
  const { quoted, isNew, name } = target;
  if (!isNew) return null;
  const found = await findTable(session, name, signal);
  if (found?.kind !== "r" || found.primaryKey === null || found.note === null) return null;
  const drop = `ALTER TABLE ${quoted} DROP CONSTRAINT ${quoteIdentifier(found.primaryKey.name)}`;
  if (!(await attempt(session, drop, signal, KEPT))) return null;
  await session.query(commentSql(quoted, encodeNote({ ...found.note, keyless: true })), signal);
  return { name: found.primaryKey.name, note: found.note };
}

/** The statements that make it. Readers wait only for the last ones, which do not look at the rows. */
function makeKey({ quoted }: TargetTable, { name, note }: OwedKey): string {
  const key = quoteIdentifier(name);
  const columns = note.key.map(quoteIdentifier).join(", ");
  return `CREATE UNIQUE INDEX ${key} ON ${quoted} (${columns}); ALTER TABLE ${quoted} ADD CONSTRAINT ${key} PRIMARY KEY USING INDEX ${key}; ${commentSql(quoted, encodeNote(note))}`;
}

// Puts version and commit time in front of rows that come undecoded, and sends them as pieces of a binary COPY. A row is
// copied once, from the memory that the source's socket was read into. Rate to hold: 3M rows/s of 150 bytes in Node alone.

/** Smaller pieces cost calls on both sides; while one is sent the next is filled. */
const PIECE_BYTES = 256 * 1024;
/** Memory that one huge row has enlarged is released. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024;
const COUNT_BYTES = 2;

class StampedRows implements RawTaker {
  readonly #copy: CopyIn;
  /** The count of fields, then the stamp. */
  readonly #head: Buffer;
  readonly #fieldCount: number;
  #filling = new ByteWriter(PIECE_BYTES * 2);
  #spare = new ByteWriter(PIECE_BYTES * 2);
  #sending: Promise<void> | null = null;
  failure: unknown;
  rowCount = 0;

  /** `stamp`: two fields. */
  constructor(copy: CopyIn, stamp: Buffer, fieldCount: number) {
    this.#copy = copy;
    this.#fieldCount = fieldCount;
    this.#head = Buffer.concat([Buffer.alloc(COUNT_BYTES), stamp]);
    this.#head.writeUInt16BE(fieldCount + 2, 0);
    this.#filling.copy(COPY_HEADER, 0, COPY_HEADER.length);
  }

  take(bytes: Buffer, start: number, end: number): boolean {
    invariant(((bytes[start]! << 8) | bytes[start + 1]!) === this.#fieldCount, "a row has the fields of its table");
    const out = this.#filling;
    const head = this.#head;
    out.reserve(head.length + end - start);
    const to = out.bytes;
    let at = out.length;
    for (let i = 0; i < head.length; i++) to[at++] = head[i]!;
    out.length = at + bytes.copy(to, at, start + COUNT_BYTES, end);
    this.rowCount++;
    if (out.length < PIECE_BYTES) return true;
    if (this.#sending !== null) return false;
    this.#send();
    return true;
  }

  async room(): Promise<void> {
    await this.#sending;
    if (this.failure !== undefined) throw this.failure;
    if (this.#filling.length >= PIECE_BYTES) this.#send();
  }

  /** Sends the rest and waits for the server's answer. */
  async finish(): Promise<void> {
    await this.room();
    await this.#sending;
    this.#filling.byte(0xff);
    this.#filling.byte(0xff);
    this.#send();
    await this.room();
    await this.#copy.finish();
  }

  #send(): void {
    const piece = this.#filling;
    this.#filling = this.#spare;
    this.#spare = piece;
    this.#sending = this.#copy
      .write(piece.view())
      .catch((error: unknown) => {
        this.failure = error;
      })
      .finally(() => {
        this.#sending = null;
        piece.reset();
        if (piece.bytes.length > KEPT_BYTES_MAX) piece.bytes = Buffer.allocUnsafeSlow(PIECE_BYTES * 2);
      });
  }
}
