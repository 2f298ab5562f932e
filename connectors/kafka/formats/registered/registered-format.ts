/**
 * `encoding: avro` and `json-schema`: the records of a described format, with their schemas in a registry. Each key and value begins
 * with the id of its schema, as Confluent's serializers write it: a zero byte, then four bytes.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { TableWrites } from "../../../../src/core/model/batch.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { Header } from "../../client/record-batch.ts";
import type { RegistryClient } from "../../registry/client.ts";
import type {
  Barrier,
  BarrierRecord,
  Begun,
  EndedTransaction,
  EndRecord,
  Format,
  NamedTransaction,
  RecordContext,
} from "../format.ts";
import { avroSchemaOf, type ConnectSchema, type RecordSchemas, jsonSchemaOf } from "./schemas.ts";
import { avroWriterOf, type AvroWriter, JsonCursor } from "./avro-writer.ts";

type Encoding = "avro" | "json-schema";
/** What a subject's name is made of: Confluent's TopicNameStrategy, RecordNameStrategy and TopicRecordNameStrategy. */
type Subjects = "topic" | "record" | "topic-record";

type OfTransactions = "transactionId" | "begin" | "end";

/** A format whose records have Connect schemas, and that writes them as JSON without these. */
export interface DescribedFormat extends Omit<Format, OfTransactions>, Required<Pick<Format, OfTransactions>> {
  schemasOf(table: TableVersion): RecordSchemas;
  readonly transactionSchemas: RecordSchemas;
}

interface RegistryUse {
  readonly connect: (signal: AbortSignal) => Promise<RegistryClient>;
  readonly encoding: Encoding;
  readonly subjects: Subjects;
}

/** The id of a schema, and what brings JSON into its encoding. */
interface Part {
  readonly id: number;
  readonly write: AvroWriter | null;
}

interface Parts {
  readonly key: Part;
  readonly value: Part;
}

const PREFIX_BYTES = 5;

export class RegisteredFormat implements Format {
  readonly #of: DescribedFormat;
  readonly #use: RegistryUse;
  readonly #tables = new WeakMap<TableVersion, Parts>();
  readonly #json = new ByteWriter(4 * 1024);
  readonly #cursor = new JsonCursor();
  #transactions: Parts | null = null;

  constructor(format: DescribedFormat, use: RegistryUse) {
    this.#of = format;
    this.#use = use;
  }

  async register(table: TableVersion, topic: string, signal: AbortSignal): Promise<void> {
    if (this.#tables.has(table)) return;
    this.#tables.set(table, await this.#parts(this.#of.schemasOf(table), topic, signal));
  }

  async registerTransactions(topic: string, signal: AbortSignal): Promise<void> {
    this.#transactions ??= await this.#parts(this.#of.transactionSchemas, topic, signal);
  }

  key(out: ByteWriter, writes: TableWrites, entry: number): void {
    this.#encoded(out, this.#partsOf(writes.table).key, (json) => this.#of.key(json, writes, entry));
  }

  value(out: ByteWriter, writes: TableWrites, entry: number, context: RecordContext): void {
    this.#encoded(out, this.#partsOf(writes.table).value, (json) => this.#of.value(json, writes, entry, context));
  }

  headers(writes: TableWrites, entry: number): readonly Header[] {
    return this.#of.headers(writes, entry);
  }

  barrier(barrier: Barrier, context: RecordContext): BarrierRecord | null {
    const record = this.#of.barrier(barrier, context);
    if (record === null || barrier.kind === "sweep") return record;
    const { value } = this.#partsOf(barrier.batch.table);
    return { ...record, value: this.#copied(value, record.value) };
  }

  transactionId(transaction: NamedTransaction): string {
    return this.#of.transactionId(transaction);
  }

  begin(transaction: Begun): EndRecord {
    return this.#ofTransaction(this.#of.begin(transaction));
  }

  end(transaction: EndedTransaction): EndRecord | null {
    const record = this.#of.end(transaction);
    return record === null ? null : this.#ofTransaction(record);
  }

  #ofTransaction({ key, value }: EndRecord): EndRecord {
    if (this.#transactions === null) throw new Error("the schemas of transactions are registered first");
    return { key: this.#copied(this.#transactions.key, key), value: this.#copied(this.#transactions.value, value) };
  }

  #partsOf(table: TableVersion): Parts {
    const parts = this.#tables.get(table);
    if (parts === undefined) throw new Error("a table's schemas are registered before its first row");
    return parts;
  }

  #encoded(out: ByteWriter, part: Part, write: (json: ByteWriter) => void): void {
    if (part.write === null) {
      writePrefix(out, part.id);
      return write(out);
    }
    this.#json.reset();
    write(this.#json);
    this.#put(out, part, this.#json.view());
  }

  #copied(part: Part, json: Buffer): Buffer {
    const out = new ByteWriter(json.length + PREFIX_BYTES);
    this.#put(out, part, json);
    return out.view();
  }

  #put(out: ByteWriter, { id, write }: Part, json: Buffer): void {
    writePrefix(out, id);
    if (write === null) return out.copy(json, 0, json.length);
    this.#cursor.begin(json);
    write(out, this.#cursor);
  }

  async #parts({ key, value }: RecordSchemas, topic: string, signal: AbortSignal): Promise<Parts> {
    await using client = await this.#use.connect(signal);
    const part = async (schema: ConnectSchema, purpose: "key" | "value"): Promise<Part> => {
      const subject = this.#subject(schema, topic, purpose);
      if (this.#use.encoding === "json-schema")
        return {
          id: await client.idOf({ subject, schemaType: "JSON", schema: jsonSchemaOf(schema) }, signal),
          write: null,
        };
      const id = await client.idOf({ subject, schemaType: "AVRO", schema: avroSchemaOf(schema) }, signal);
      return { id, write: avroWriterOf(schema) };
    };
    return { key: await part(key, "key"), value: await part(value, "value") };
  }

  #subject({ name = "" }: ConnectSchema, topic: string, purpose: "key" | "value"): string {
    switch (this.#use.subjects) {
      case "topic":
        return `${topic}-${purpose}`;
      case "record":
        return name;
      case "topic-record":
        return `${topic}-${name}`;
      default:
        return this.#use.subjects satisfies never;
    }
  }
}

function writePrefix(out: ByteWriter, id: number): void {
  out.reserve(PREFIX_BYTES);
  out.bytes[out.length++] = 0;
  out.length = out.bytes.writeInt32BE(id, out.length);
}
