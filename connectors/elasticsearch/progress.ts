import * as z from "zod";
import type { SinkProgress } from "../../src/core/model/batch.ts";
import { parseCheckpoint } from "../../src/core/checkpoint/checkpoint-text.ts";
import { comparePositions, parsePosition } from "../../src/core/model/position.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { expectOk, storedIndices, SURE, takenName, unfitSetting } from "./indices/ddl.ts";
import { classifyEngine, searchError } from "./errors.ts";
import { errorOf, parsed, pathOf, type SearchClient } from "./http.ts";
import type { TableIndex } from "./indices/tables.ts";

/** The content of the progress document. Its texts are JSON, so that names of tables do not become fields. */
export interface ProgressRecord {
  readonly lease: number;
  /** "" before the first progress. */
  readonly position: string;
  readonly tables: string;
  readonly bond?: string | undefined;
  /** For each table id the index that holds the table, and the one that is being filled. */
  readonly indices: string;
}

/** The engine's change counters of a document: a write that names them succeeds only if nobody wrote in between. */
interface Revision {
  readonly seqNo: number;
  readonly primaryTerm: number;
}

const REVISION = z.object({ _seq_no: z.number(), _primary_term: z.number() });
const FOUND = REVISION.extend({
  _source: z.object({
    lease: z.number(),
    position: z.string().regex(/^(\d+\/\d+\/\d+)?$/),
    tables: z.string(),
    bond: z.string().optional(),
    indices: z.string(),
  }),
});
const INDEX = z.object({ alias: z.string(), index: z.string(), uuid: z.string() });
const INDICES = z.record(z.string(), INDEX.extend({ next: INDEX.optional() }));

/** One sink's progress document, and what this process knows about it. */
export class ProgressDocument {
  readonly #client: SearchClient;
  readonly #index: string;
  readonly #id: string;
  readonly #replicas: number | undefined;
  #revision: Revision | null = null;
  #record: ProgressRecord | null = null;
  /** A record whose write got no answer: it may or may not be stored. */
  #inDoubt: ProgressRecord | null = null;

  constructor(client: SearchClient, prefix: string, id: string, replicas: number | undefined) {
    this.#client = client;
    this.#index = `${prefix}millrace-progress`;
    this.#id = id;
    this.#replicas = replicas;
  }

  /** Stores our lease unless a higher one is stored; `revise` may correct the record. */
  async takeOver(
    lease: number,
    revise: (held: ProgressRecord) => Promise<ProgressRecord>,
    signal: AbortSignal,
  ): Promise<ProgressRecord> {
    await this.#ensureIndex(signal);
    for (;;) {
      const stored = await this.#read(signal);
      if (stored !== null && stored.record.lease > lease) throw takenOver(stored.record.lease, lease);
      const held = stored?.record ?? { lease, position: "", tables: "{}", indices: "{}" };
      const record = { ...(await revise(held)), lease };
      const revision = await this.#put(record, stored?.revision ?? null, signal);
      // Another process wrote at the same time: look again which one won.
      if (revision === null) continue;
      this.#adopt(record, revision);
      return record;
    }
  }

  /** Null if nothing is stored; takes nothing over. */
  async look(signal: AbortSignal): Promise<ProgressRecord | null> {
    return (await this.#read(signal))?.record ?? null;
  }

  get record(): ProgressRecord {
    if (this.#record === null) throw searchError("MR3300", "fatal", "the sink is not open");
    return this.#record;
  }

  /** The fence: checks that the stored document is the one that this process wrote last. */
  async compare(signal: AbortSignal): Promise<void> {
    const stored = await this.#read(signal);
    if (stored?.revision.seqNo === this.#revision?.seqNo) return;
    this.#reconcile(stored);
  }

  /** Stores the record with `change` applied, if nobody else wrote in between. */
  async write(change: Partial<Omit<ProgressRecord, "lease">>, signal: AbortSignal): Promise<void> {
    const record = { ...this.record, ...change };
    this.#inDoubt = record;
    let revision = await this.#put(record, this.#revision, signal);
    if (revision === null) {
      // An earlier write of ours whose answer was lost is fine; any other writer stops here.
      this.#reconcile(await this.#read(signal));
      revision = await this.#put(record, this.#revision, signal);
    }
    if (revision === null) throw takenOver(null, record.lease);
    this.#adopt(record, revision);
  }

  /** Removes the document that this process wrote last; the index stays, because other sinks may begin to use it. */
  async remove(signal: AbortSignal): Promise<void> {
    await this.compare(signal);
    const { seqNo, primaryTerm } = this.#revision!;
    const query = { if_seq_no: String(seqNo), if_primary_term: String(primaryTerm) };
    const path = `${pathOf(this.#index)}/_doc${pathOf(this.#id)}`;
    const gone = await this.#client.request({ method: "DELETE", path, query }, signal);
    if (gone.status === 409) throw takenOver(null, this.record.lease);
    if (gone.status !== 404) expectOk(gone, "removing the sink's progress");
  }

  #adopt(record: ProgressRecord, revision: Revision): void {
    this.#record = record;
    this.#revision = revision;
    this.#inDoubt = null;
  }

  /** Accepts the stored document if it is ours; else throws with the owner. */
  #reconcile(stored: { readonly record: ProgressRecord; readonly revision: Revision } | null): void {
    const ours = this.record;
    if (stored === null) throw searchError("MR3303", "reopen", "the sink's progress document is gone");
    if (stored.record.lease > ours.lease) throw takenOver(stored.record.lease, ours.lease);
    if (!isSame(stored.record, ours) && !(this.#inDoubt !== null && isSame(stored.record, this.#inDoubt))) {
      // Progress beyond ours comes from another writer: if two processes took turns, that would never end.
      const kind = isOlder(stored.record, ours) ? "reopen" : "fatal";
      throw searchError("MR3312", kind, "the search engine does not hold the progress that was written");
    }
    this.#record = stored.record;
    this.#revision = stored.revision;
  }

  async #read(signal: AbortSignal): Promise<{ record: ProgressRecord; revision: Revision } | null> {
    const path = `${pathOf(this.#index)}/_doc${pathOf(this.#id)}`;
    const answer = await this.#client.request({ method: "GET", path }, signal);
    if (answer.status === 404) return null;
    expectOk(answer, "reading the sink's progress");
    const found = FOUND.safeParse(parsed(answer.body));
    if (!found.success) throw overwritten(path, found.error);
    const { _source: record, _seq_no: seqNo, _primary_term: primaryTerm } = found.data;
    return { record, revision: { seqNo, primaryTerm } };
  }

  /** Null if the document has another revision by now. */
  async #put(record: ProgressRecord, after: Revision | null, signal: AbortSignal): Promise<Revision | null> {
    const query: Record<string, string> =
      after === null
        ? { op_type: "create" }
        : { if_seq_no: String(after.seqNo), if_primary_term: String(after.primaryTerm) };
    const path = `${pathOf(this.#index)}/_doc${pathOf(this.#id)}`;
    const answer = await this.#client.request({ method: "PUT", path, query, body: record }, signal);
    if (answer.status === 409) return null;
    expectOk(answer, "writing the sink's progress");
    const { _seq_no: seqNo, _primary_term: primaryTerm } = REVISION.parse(parsed(answer.body));
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
      mappings: { dynamic: false, _source: { enabled: true }, _meta: { millrace: { progress: true } } },
    };
    const answer = await this.#client.request({ method: "PUT", path: pathOf(this.#index), body }, signal);
    if (answer.status < 300) return;
    const error = errorOf(answer);
    const taken = takenName(answer);
    if (taken !== null) throw searchError("MR3304", "fatal", `the index ${this.#index} can't be made: ${taken}`);
    if (error.type !== "resource_already_exists_exception") throw classifyEngine(error, "creating the progress index");
    await expectProgressIndex(this.#client, this.#index, signal);
  }
}

/** Throws if the index of this name is not Millrace's, or does not keep what is written. */
export async function expectProgressIndex(client: SearchClient, name: string, signal: AbortSignal): Promise<void> {
  const text = "looking at the progress index";
  const parts = "*.aliases,*.mappings._meta,*.mappings._source,*.mappings._routing,*.settings";
  const found = await storedIndices(client, [name], { text, parts }, signal);
  for (const [index, entry] of found) {
    if (index !== name || entry.mappings._meta?.millrace?.progress !== true)
      throw searchError("MR3304", "fatal", `the index ${index} exists and was not made by Millrace`);
    const unfit = unfitSetting(entry, []);
    if (unfit !== null) throw searchError("MR3314", "fatal", `the index ${index} of the sink's progress has ${unfit}`);
  }
}

function overwritten(path: string, cause: unknown): MillraceError {
  const message = `document ${path} does not hold the sink's progress: another program has overwritten it`;
  // The cause quotes what is there.
  return searchError("MR3315", "fatal", message, new Error(cause instanceof Error ? cause.name : "unknown"));
}

export function parseProgress({ position, tables, bond }: ProgressRecord): SinkProgress | null {
  return position === "" ? null : { position: parsePosition(position), ...parseCheckpoint(tables, bond) };
}

export function parseIndices(text: string): Record<string, TableIndex> {
  return INDICES.parse(JSON.parse(text));
}

function isSame(a: ProgressRecord, b: ProgressRecord): boolean {
  return (
    a.lease === b.lease &&
    a.position === b.position &&
    a.tables === b.tables &&
    a.bond === b.bond &&
    a.indices === b.indices
  );
}

function isOlder(stored: ProgressRecord, ours: ProgressRecord): boolean {
  if (stored.lease < ours.lease || stored.position === "" || ours.position === "") return true;
  return comparePositions(parsePosition(stored.position), parsePosition(ours.position)) <= 0;
}

function takenOver(holder: number | null, lease: number): ReturnType<typeof searchError> {
  const by = holder === null ? "another process" : `another process under lease ${holder}`;
  return searchError("MR3305", "fatal", `${by} holds the sink, ours is lease ${lease}`);
}
