/**
 * What a sink has stored of its checkpoint: a head, and beside it the complete tables and the indices in parts. A part is a
 * document that never changes: a new one gets the next number, and counts once the head names it. So a batch writes the head,
 * and of thousands of tables only the parts whose tables it has changed; and what arrives late changes nothing.
 */
import { notHeld, takenOver } from "../kit/held-checkpoint.ts";
import * as z from "zod";
import {
  type Checkpoint,
  type CompleteTables,
  isCompleteTables,
  parseBond,
  serializeBond,
  storedCompleteness,
} from "../../src/core/checkpoint.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { parsePosition, serializePosition } from "../../src/core/model/position.ts";
import { takenName } from "./indices/ddl.ts";
import { storedIndices, SURE, unfitSetting, WITHOUT_FIELDS } from "./indices/found-index.ts";
import { classifyEngine, searchError, unknownAnswer } from "./errors.ts";
import {
  engineError,
  errorOf,
  expectEveryNode,
  expectOk,
  fieldOf,
  formOf,
  parsed,
  pathOf,
  type SearchClient,
} from "./http.ts";
import type { TableIndex } from "./indices/tables.ts";

const PART_COUNT = 64;
const READING = "reading the sink's progress";
const CREATING = "creating the progress index";
const WRITING = "writing the sink's progress";

const HEAD = z.object({
  lease: z.number(),
  /** "" before the first checkpoint. */
  position: z.string().regex(/^(\d+\/\d+\/\d+)?$/),
  /** "" if there is none. */
  bond: z.string(),
  place: z.string(),
  /** The number of each part; 0: it has no table, and no document. */
  parts: z.array(z.int().min(0)).length(PART_COUNT),
});
type Head = Readonly<z.output<typeof HEAD>>;

const INDEX = z.object({ alias: z.string(), index: z.string(), uuid: z.string() });
/** As JSON in a text, so that names of tables do not become fields. */
const PART = z.object({
  tables: z.record(z.string(), z.string()).refine(isCompleteTables),
  indices: z.record(z.string(), INDEX.extend({ next: INDEX.optional(), shared: z.string().optional() })),
  dropped: z.record(z.string(), z.int()).default({}),
});
const REVISION = z.object({ _seq_no: z.number(), _primary_term: z.number() });
const FOUND = REVISION.extend({ found: z.literal(true), _source: z.unknown().optional() });
const FOUND_PARTS = z.object({
  docs: z.array(
    z.object({ found: z.boolean().default(false), _source: z.unknown().optional(), error: z.unknown().optional() }),
  ),
});
const CONTENT = z.object({ content: z.string() });

/** The engine's change counters of a document: a write that names them succeeds only if nobody wrote in between. */
interface Revision {
  readonly seqNo: number;
  readonly primaryTerm: number;
}

/** Of some tables. */
interface Part {
  readonly tables: ReadonlyMap<string, CompleteTables[string]>;
  readonly indices: ReadonlyMap<string, TableIndex>;
  /** The highest number of a table's indices that the sink has dropped. */
  readonly dropped: ReadonlyMap<string, number>;
}

interface Stored {
  readonly head: Head;
  readonly parts: readonly Part[];
  /** The same as in `parts`. */
  readonly tables: CompleteTables;
}

const EMPTY_PART: Part = { tables: new Map(), indices: new Map(), dropped: new Map() };
const EMPTY: Stored = {
  head: { lease: 0, position: "", bond: "", place: "", parts: Array.from({ length: PART_COUNT }, () => 0) },
  parts: Array.from({ length: PART_COUNT }, () => EMPTY_PART),
  tables: {},
};

/** What a write changes. */
export interface CheckpointChange {
  readonly checkpoint?: Checkpoint;
  readonly tables?: CompleteTables;
  /** Null: the table has no index any more. */
  readonly indices?: ReadonlyMap<string, TableIndex | null>;
  readonly dropped?: Part["dropped"];
}

/** What is stored: the tables and indices of all parts. */
export interface CheckpointContent {
  readonly tables: CompleteTables;
  readonly indices: Part["indices"];
  readonly dropped: Part["dropped"];
}

/** One sink's checkpoint, and what this process knows about it. */
export class StoredCheckpoint {
  readonly #client: SearchClient;
  readonly #index: string;
  readonly #id: string;
  readonly #replicas: number | undefined;
  #revision: Revision | null = null;
  #stored: Stored | null = null;
  /** Its head was written without an answer: it may or may not be stored. */
  #inDoubt: Stored | null = null;

  constructor(client: SearchClient, prefix: string, id: string, replicas: number | undefined) {
    this.#client = client;
    this.#index = checkpointIndex(prefix);
    this.#id = id;
    this.#replicas = replicas;
  }

  /** Stores our lease unless a higher one is stored; `revise` may correct tables and indices. */
  async takeOver(
    lease: number,
    revise: (held: CheckpointContent) => Promise<CheckpointChange>,
    signal: AbortSignal,
  ): Promise<Checkpoint | null> {
    await this.#ensureIndex(signal);
    for (;;) {
      const found = await this.#find(signal);
      if (found !== null && found.head.lease > lease) throw takenOver(searchError, found.head.lease, lease);
      const held = found === null ? EMPTY : await this.#whole(found.head, signal);
      const next = await this.#next(held, await revise(contentOf(held)), signal);
      const stored = { ...next, head: { ...next.head, lease } };
      const revision = await this.#put(stored.head, found?.revision ?? null, signal);
      // Another process wrote at the same time: look again which one won.
      if (revision === null) continue;
      this.#adopt(stored, revision);
      return checkpointOf(stored);
    }
  }

  /** Null if nothing is stored; takes nothing over. */
  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    const found = await this.#find(signal);
    return found === null ? null : checkpointOf(await this.#whole(found.head, signal));
  }

  /** "" before the first checkpoint. */
  get position(): string {
    return this.#own.head.position;
  }

  /** The fence: checks that the stored head is the one that this process wrote last. */
  async compare(signal: AbortSignal): Promise<void> {
    const found = await this.#find(signal);
    if (found?.revision.seqNo === this.#revision?.seqNo) return;
    this.#reconcile(found);
  }

  /** Stores the change, if nobody else wrote in between. */
  async write(change: CheckpointChange, signal: AbortSignal): Promise<void> {
    const next = await this.#next(this.#own, change, signal);
    this.#inDoubt = next;
    let revision = await this.#put(next.head, this.#revision, signal);
    if (revision === null) {
      // An earlier write of ours whose answer was lost is fine; any other writer stops here.
      this.#reconcile(await this.#find(signal));
      revision = await this.#put(next.head, this.#revision, signal);
    }
    if (revision === null) throw takenOver(searchError, null, next.head.lease);
    this.#adopt(next, revision);
  }

  /** Removes what this process wrote last; the index stays, because other sinks may begin to use it. */
  async remove(signal: AbortSignal): Promise<void> {
    await this.compare(signal);
    const { seqNo, primaryTerm } = this.#revision!;
    const query = { if_seq_no: String(seqNo), if_primary_term: String(primaryTerm) };
    const path = `${pathOf(this.#index)}/_doc${pathOf(this.#id)}`;
    const gone = await this.#client.request({ method: "DELETE", path, query }, signal);
    if (gone.status === 409) throw takenOver(searchError, null, this.#own.head.lease);
    if (gone.status !== 404) expectOk(gone, "removing the sink's progress");
    const parts = this.#own.head.parts.flatMap((number, n) => (number === 0 ? [] : [this.#partId(n, number)]));
    await this.#bulk(
      parts.map((_id) => ({ delete: { _id } })),
      signal,
    );
  }

  get #own(): Stored {
    if (this.#stored === null) throw searchError("MR2027", "fatal", "the sink is not open");
    return this.#stored;
  }

  #adopt(stored: Stored, revision: Revision): void {
    this.#stored = stored;
    this.#revision = revision;
    this.#inDoubt = null;
  }

  /** Accepts the stored head if it is ours; else throws with the owner. */
  #reconcile(found: { readonly head: Head; readonly revision: Revision } | null): void {
    const { head: ours } = this.#own;
    const stored = [this.#own, this.#inDoubt].find(
      (one) => one !== null && found !== null && isSame(one.head, found.head),
    );
    if (stored == null || found === null) throw notHeld(searchError, "the search engine", found?.head ?? null, ours);
    this.#stored = stored;
    this.#revision = found.revision;
  }

  async #find(signal: AbortSignal): Promise<{ readonly head: Head; readonly revision: Revision } | null> {
    const path = `${pathOf(this.#index)}/_doc${pathOf(this.#id)}`;
    const answer = await this.#client.request({ method: "GET", path }, signal);
    if (answer.status === 404) return null;
    expectOk(answer, READING);
    const { _source: source, _seq_no: seqNo, _primary_term: primaryTerm } = formOf(FOUND, answer, READING);
    const head = HEAD.safeParse(source);
    if (!head.success) throw overwritten(path, head.error);
    return { head: head.data, revision: { seqNo, primaryTerm } };
  }

  /** With its parts. If one is gone, nothing is known of the tables, and all are read again. */
  async #whole(head: Head, signal: AbortSignal): Promise<Stored> {
    const named = head.parts.flatMap((number, n) => (number === 0 ? [] : [[n, this.#partId(n, number)] as const]));
    if (named.length === 0) return { ...EMPTY, head };
    const path = `${pathOf(this.#index)}/_mget`;
    const request = { method: "POST", path, body: { ids: named.map(([, id]) => id) } } as const;
    const answer = await this.#client.ask(request, READING, signal);
    const { docs } = formOf(FOUND_PARTS, answer, READING);
    if (docs.length !== named.length) throw unknownAnswer(READING);
    const failed = docs.find(({ error }) => error !== undefined);
    if (failed !== undefined) throw classifyEngine(engineError(404, failed.error), READING);
    if (docs.some((doc) => !doc.found)) return { ...EMPTY, head: { ...head, position: "" } };
    const parts: Part[] = [...EMPTY.parts];
    const tables: Record<string, CompleteTables[string]> = Object.create(null);
    docs.forEach(({ _source: source }, i) => {
      const [n, id] = named[i]!;
      const part = parsedPart(id, source);
      parts[n] = part;
      for (const [table, text] of part.tables) tables[table] = text;
    });
    return { head, parts, tables };
  }

  /** What is stored once a head is: its new parts are written. */
  async #next(
    held: Stored,
    { checkpoint, tables = checkpoint?.tables, indices, dropped }: CheckpointChange,
    signal: AbortSignal,
  ): Promise<Stored> {
    // Of a checkpoint that lacks one, what is left of the others must not be read with parts of a later one.
    const lost = [...held.parts.entries()].filter(([n, one]) => one === EMPTY_PART && held.head.parts[n] !== 0);
    const changed = new Map(lost.map(([n, one]) => [n, copyOf(one)]));
    const part = (id: string) => {
      const n = partOf(id);
      const found = changed.get(n) ?? copyOf(held.parts[n]!);
      changed.set(n, found);
      return found;
    };
    if (tables !== undefined && tables !== held.tables) {
      for (const [id, text] of Object.entries(tables)) if (held.tables[id] !== text) part(id).tables.set(id, text);
      for (const id of Object.keys(held.tables)) if (tables[id] === undefined) part(id).tables.delete(id);
    }
    for (const [id, index] of indices ?? []) {
      if (index === null) part(id).indices.delete(id);
      else part(id).indices.set(id, index);
    }
    for (const [id, number] of dropped ?? []) part(id).dropped.set(id, number);
    const numbers = changed.size === 0 ? held.head.parts : await this.#putParts(held.head, changed, signal);
    const parts = changed.size === 0 ? held.parts : held.parts.map((one, n) => changed.get(n) ?? one);
    const head = { ...held.head, ...(checkpoint === undefined ? {} : headOf(checkpoint)), parts: numbers };
    return { head, parts, tables: tables ?? held.tables };
  }

  /**
   * Numbers that are taken are those of requests that had no answer. What a number replaces is deleted with the next one: until
   * then the stored head may name it.
   */
  async #putParts(head: Head, changed: ReadonlyMap<number, Part>, signal: AbortSignal): Promise<number[]> {
    const numbers = [...head.parts];
    const former = [...changed.keys()].flatMap((n) => [1, 2].map((back) => [n, numbers[n]! - back] as const));
    let rest: object[] = former.flatMap(([n, number]) =>
      number > 0 ? [{ delete: { _id: this.#partId(n, number) } }] : [],
    );
    for (let left = [...changed]; left.length > 0; rest = []) {
      for (const [n] of left) numbers[n]!++;
      const lines = left.flatMap(([n, part]) => [
        { create: { _id: this.#partId(n, numbers[n]!) } },
        { content: textOf(part) },
      ]);
      const taken = await this.#bulk([...lines, ...rest], signal);
      left = left.filter((_, i) => taken[i] === true);
    }
    return numbers;
  }

  /** Which items met a document; whatever else went wrong is thrown. */
  async #bulk(lines: readonly object[], signal: AbortSignal): Promise<readonly boolean[]> {
    if (lines.length === 0) return [];
    const body = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const path = `${pathOf(this.#index)}/_bulk`;
    const request = { method: "POST", path, body, isBulk: true } as const;
    const answer = await this.#client.ask(request, WRITING, signal);
    const items = fieldOf(parsed(answer.body), "items");
    if (!Array.isArray(items) || items.length !== lines.filter(isAction).length) throw unknownAnswer(WRITING);
    return items.map((item: unknown) => {
      const result = fieldOf(item, "create") ?? fieldOf(item, "delete");
      const status = Number(fieldOf(result, "status"));
      const error = fieldOf(result, "error");
      if (error === undefined && !Number.isNaN(status)) return false;
      if (status !== 409) throw classifyEngine(engineError(status, error), WRITING);
      return true;
    });
  }

  #partId(n: number, number: number): string {
    return `${this.#id}/${n}/${number}`;
  }

  /** Null if the document has another revision by now. */
  async #put(head: Head, after: Revision | null, signal: AbortSignal): Promise<Revision | null> {
    const query: Record<string, string> =
      after === null
        ? { op_type: "create" }
        : { if_seq_no: String(after.seqNo), if_primary_term: String(after.primaryTerm) };
    const path = `${pathOf(this.#index)}/_doc${pathOf(this.#id)}`;
    const answer = await this.#client.request({ method: "PUT", path, query, body: head }, signal);
    if (answer.status === 409) return null;
    expectOk(answer, WRITING);
    const { _seq_no: seqNo, _primary_term: primaryTerm } = formOf(REVISION, answer, WRITING);
    return { seqNo, primaryTerm };
  }

  async #ensureIndex(signal: AbortSignal): Promise<void> {
    const body = {
      settings: {
        ...SURE,
        "index.number_of_shards": 1,
        "index.hidden": true,
        ...(this.#replicas === undefined ? {} : { "index.number_of_replicas": this.#replicas }),
      },
      mappings: { dynamic: false, _source: { enabled: true }, _meta: { millrace: { checkpoint: true } } },
    };
    const answer = await this.#client.request({ method: "PUT", path: pathOf(this.#index), body }, signal);
    if (answer.status < 300) {
      expectEveryNode(answer, CREATING);
      return;
    }
    const error = errorOf(answer);
    const taken = takenName(answer);
    if (taken !== null) throw searchError("MR3106", "fatal", `the index ${this.#index} can't be made: ${taken}`);
    if (error.type !== "resource_already_exists_exception") throw classifyEngine(error, CREATING);
    await expectCheckpointIndex(this.#client, this.#index, signal);
  }
}

export function checkpointIndex(prefix: string): string {
  return `${prefix}millrace-progress`;
}

/** Throws if the index of this name is not Millrace's, or does not keep what is written. */
export async function expectCheckpointIndex(client: SearchClient, name: string, signal: AbortSignal): Promise<void> {
  const text = "looking at the progress index";
  const found = await storedIndices(client, [name], { text, parts: WITHOUT_FIELDS }, signal);
  for (const [index, entry] of found) {
    if (index !== name || entry.mappings._meta?.millrace?.checkpoint !== true)
      throw searchError("MR3106", "fatal", `the index ${index} exists and was not made by Millrace`);
    const unfit = unfitSetting(entry, []);
    if (unfit !== null) throw searchError("MR3107", "fatal", `the index ${index} of the sink's progress has ${unfit}`);
  }
}

/** The lines of a bulk body that are answered; a document has none of its own. */
function isAction(line: object): boolean {
  return "create" in line || "delete" in line;
}

function overwritten(path: string, cause: unknown): MillraceError {
  const message = `document ${path} does not hold the sink's progress: another program has overwritten it`;
  // The cause quotes what is there.
  return searchError("MR3315", "fatal", message, {
    cause: new Error(cause instanceof Error ? cause.name : "unknown"),
  });
}

/** The same for a table in every version: its part is looked for by it. */
function partOf(tableId: string): number {
  let hash = 0;
  for (let i = 0; i < tableId.length; i++) hash = (hash * 31 + tableId.charCodeAt(i)) % 0x7fff_ffff;
  return hash % PART_COUNT;
}

function copyOf({ tables, indices, dropped }: Part) {
  return { tables: new Map(tables), indices: new Map(indices), dropped: new Map(dropped) };
}

function textOf(part: Part): string {
  return JSON.stringify(part, (_, value: unknown) => (value instanceof Map ? Object.fromEntries(value) : value));
}

function parsedPart(id: string, source: unknown): Part {
  try {
    const { tables, indices, dropped } = PART.parse(JSON.parse(CONTENT.parse(source).content));
    return {
      tables: new Map(Object.entries(tables).map(([table, of]) => [table, storedCompleteness(of)])),
      indices: new Map(Object.entries(indices)),
      dropped: new Map(Object.entries(dropped)),
    };
  } catch (error) {
    throw overwritten(id, error);
  }
}

function contentOf({ tables, parts }: Stored): CheckpointContent {
  return {
    tables,
    indices: new Map(parts.flatMap(({ indices }) => [...indices])),
    dropped: new Map(parts.flatMap(({ dropped }) => [...dropped])),
  };
}

function headOf({ position, place, bond }: Checkpoint): Pick<Head, "position" | "bond" | "place"> {
  return {
    position: serializePosition(position),
    bond: serializeBond(bond),
    place,
  };
}

function checkpointOf({ head: { position, bond, place }, tables }: Stored): Checkpoint | null {
  if (position === "") return null;
  return {
    position: parsePosition(position),
    tables: { ...tables },
    place,
    bond: parseBond(bond),
  };
}

function isSame(a: Head, b: Head): boolean {
  return (
    a.lease === b.lease &&
    a.position === b.position &&
    a.bond === b.bond &&
    a.place === b.place &&
    a.parts.join() === b.parts.join()
  );
}
