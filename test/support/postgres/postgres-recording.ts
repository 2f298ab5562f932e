/** A stretch of a replication stream as bytes, to be decoded again without a server. */
import { firstVersion } from "../model/blocks.ts";
import { readFile, writeFile } from "node:fs/promises";
import { Assembler } from "../../../connectors/postgres/source/stream/assembler.ts";
import { queryFrame } from "../../../src/postgres/frames.ts";
import type { RelationMessage } from "../../../connectors/postgres/source/stream/relations.ts";
import { connectReplication } from "../../../connectors/postgres/source/wire/replication-connection.ts";
import { parsePostgresUrl } from "../../../src/postgres/url.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { FreshDatabase } from "../run/fresh-database.ts";
import { never, plain, rowsOf, UNCHANGED } from "./postgres-source.ts";
import { relationShape } from "../../../connectors/postgres/source/stream/table-lookups.ts";

const FILE = new URL("../../golden/postgres-stream.json", import.meta.url);

export interface Recording {
  /** Position at which the stream was begun. */
  readonly from: string;
  readonly bytes: string;
  /** One line of JSON for each row and message, and for the position at the end. */
  readonly lines: readonly string[];
}

/** Every kind of change, over several tables, with savepoints, messages and large values left alone, a key among them. */
export const RECORDED_SETUP = `create table t (id int primary key, a text, body text); alter table t alter body set storage external;
  create table f (x int primary key, y numeric); alter table f replica identity full;
  create table p (id int, k int, primary key (id, k)) partition by list (k);
  create table p1 partition of p for values in (1); create table p2 partition of p for values in (2);
  create table l (n int, k text, part int, primary key (part, k)); alter table l alter k set storage external`;
export const RECORDED_WORK = `
  begin; insert into t values (1, 'one', repeat('b', 3000)), (2, null, ''); insert into f values (1, 1.50); commit;
  begin; update t set a = 'ein''s "😀"' where id = 1; savepoint s; delete from t; rollback to s;
    select pg_logical_emit_message(true, 'mine', 'between'); update t set id = 3 where id = 2; update f set y = 'NaN'; commit;
  insert into p values (1, 1), (2, 2); update p set k = 2 where id = 1;
  begin; truncate t, f; insert into t values (9, 'after', null); commit;
  begin; insert into l values (1, repeat('k', 2200), 1); update l set n = 2; update l set part = 2; delete from l; commit;
  select pg_logical_emit_message(false, 'loose', ''); delete from p`;

/** Reads the raw stream of a publication from `from` up to `to`. */
export async function record(
  database: FreshDatabase,
  slot: string,
  from: bigint,
  fromText: string,
  to: bigint,
): Promise<Buffer> {
  const connection = await connectReplication(parsePostgresUrl(database.url), never);
  const pieces: Buffer[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const buffer = Buffer.alloc(64 * 1024);
  const ended = new Assembler({ epoch: 1, commit: from, index: 0 }, undefined, "renew", {
    onTable: (relation) => ended.resolved(relation, null),
    onEnd: () => resolve(),
    onRoom: () => {},
  });
  const socket = connection.handOver({
    space: () => buffer,
    received: (bytes, count) => {
      pieces.push(Buffer.from(bytes.subarray(0, count)));
      queueMicrotask(() => {
        ended.received(pieces.at(-1)!, count);
        if (!ended.decoder.inTransaction && ended.decoder.boundary >= to) resolve();
      });
      return true;
    },
  });
  const command = `START_REPLICATION SLOT "${slot}" LOGICAL ${fromText} (proto_version '1', publication_names 'millrace_test', messages 'true')`;
  socket.stream.write(queryFrame(command));
  await promise;
  socket.stream.destroy();
  connection.close();
  return Buffer.concat(pieces);
}

/** Decodes bytes that arrive in pieces of these lengths (the last one again and again). */
export function decode(bytes: Buffer, from: bigint, pieceLengths: readonly number[]): string[] {
  const lines: string[] = [];
  const tables = new Map<string, TableVersion>();
  const waiting: (() => void)[] = [];
  const assembler = new Assembler({ epoch: 1, commit: from, index: 0 }, undefined, "renew", {
    onTable: (relation) => waiting.push(() => assembler.resolved(relation, tableOf(relation.message, tables))),
    onEnd: () => {},
    onRoom: () => {},
  });
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const count = Math.min(pieceLengths[Math.min(i, pieceLengths.length - 1)]!, bytes.length - at);
    const space = assembler.space();
    const taken = Math.min(count, space.length);
    space.set(bytes.subarray(at, at + taken));
    assembler.received(space, taken);
    at += taken;
    while (waiting.length > 0) waiting.shift()!();
    take(assembler, lines);
  }
  const end = assembler.decoder.position;
  lines.push(JSON.stringify({ end: `${end.commit - from}/${end.index}` }));
  return lines;
}

function take(assembler: Assembler, lines: string[]): void {
  for (let block = assembler.take(); block !== undefined; block = assembler.take()) {
    const rows = rowsOf(block);
    for (let i = 0; i <= rows.length; i++) {
      for (const message of block.messages.filter((m) => m.at === i)) {
        lines.push(JSON.stringify({ message: message.prefix, text: Buffer.from(message.content).toString() }));
      }
      const row = rows[i];
      if (row !== undefined) lines.push(JSON.stringify({ index: row.position.index, ...plain(row) }, showUnchanged));
    }
    block.release();
  }
}

function showUnchanged(_key: string, value: unknown): unknown {
  return value === UNCHANGED ? { unchanged: true } : value;
}

function tableOf(message: RelationMessage, tables: Map<string, TableVersion>): TableVersion {
  const shape = relationShape(message, [], undefined, { types: () => undefined, relation: (oid) => oid });
  // Under FULL the catalogue would tell the key; here it is the first column.
  const version = firstVersion({ ...shape, key: shape.key.length === 0 ? [0] : shape.key });
  const known = tables.get(version.fingerprint) ?? version;
  tables.set(version.fingerprint, known);
  return known;
}

export async function readRecording(): Promise<Recording> {
  const parsed: unknown = JSON.parse(await readFile(FILE, "utf8"));
  invariant(isRecording(parsed), "the recording has the form that writeRecording gives it");
  return parsed;
}

export async function writeRecording(recording: Recording): Promise<void> {
  await writeFile(FILE, `${JSON.stringify(recording, null, 1)}\n`);
}

function isRecording(value: unknown): value is Recording {
  return typeof value === "object" && value !== null && "from" in value && "bytes" in value && "lines" in value;
}
