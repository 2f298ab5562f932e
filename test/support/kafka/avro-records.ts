/** Records that name their schema in a registry, decoded by a library that knows nothing of Millrace, as values to compare. */
import avro, { type Type } from "avsc";

const MAGIC = 0;
const ID_AT = 1;
const BODY_AT = 5;
const FLOAT_DIGITS_MAX = 9;

const longs = avro.types.LongType.__with({
  fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
  toBuffer: () => Buffer.alloc(8),
  fromJSON: BigInt,
  toJSON: String,
  isValid: (value: unknown) => typeof value === "bigint",
  compare: (one: bigint, other: bigint) => (one < other ? -1 : one > other ? 1 : 0),
});

export class RegistryReader {
  readonly #url: string;
  readonly #schemas = new Map<number, Promise<string>>();
  readonly #types = new Map<number, Type>();

  constructor(url: string) {
    this.#url = url;
  }

  /** An Avro record; null where there is none. */
  async avro(record: Buffer | null): Promise<unknown> {
    if (record === null) return null;
    const id = idOf(record);
    let type = this.#types.get(id);
    if (type === undefined) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the library checks it
      const schema = JSON.parse(await this.#schemaOf(id)) as avro.Schema;
      type = typeOf(schema);
      this.#types.set(id, type);
    }
    return told(type, type.fromBuffer(record.subarray(BODY_AT)));
  }

  /** A record of `encoding: json-schema`; its schema must be there. */
  async json(record: Buffer | null): Promise<unknown> {
    if (record === null) return null;
    await this.#schemaOf(idOf(record));
    return toldJson(record.toString("utf8", BODY_AT));
  }

  async setCompatibility(subject: string, compatibility: string): Promise<void> {
    const answer = await fetch(`${this.#url}/config/${subject}`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ compatibility }),
    });
    if (!answer.ok) throw new Error(`the registry answered ${answer.status}`);
  }

  #schemaOf(id: number): Promise<string> {
    const known = this.#schemas.get(id) ?? this.#fetch(id);
    this.#schemas.set(id, known);
    return known;
  }

  async #fetch(id: number): Promise<string> {
    const answer = await fetch(`${this.#url}/schemas/ids/${id}`);
    if (!answer.ok) throw new Error(`the registry answered ${answer.status} for schema ${id}`);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the registry's own shape
    return ((await answer.json()) as { schema: string }).schema;
  }
}

export function toldAvro(schema: avro.Schema, record: Buffer): unknown {
  const type = typeOf(schema);
  return told(type, type.fromBuffer(record));
}

function typeOf(schema: avro.Schema): Type {
  return avro.Type.forSchema(schema, {
    wrapUnions: false,
    typeHook: (part) => (part === "long" || isOf("long", part) ? longs : undefined),
  });
}

function isOf(name: string, schema: avro.Schema): boolean {
  return typeof schema === "object" && "type" in schema && schema.type === name;
}

function idOf(record: Buffer): number {
  if (record[0] !== MAGIC) throw new Error("the record does not name a schema");
  return record.readInt32BE(ID_AT);
}

/** Numbers as texts, bytes in base64: what a JSON record of the same change is told as. */
function told(type: Type, value: unknown): unknown {
  if (value === null) return null;
  if (type instanceof avro.types.UnwrappedUnionType) {
    const of = type.types.find(({ typeName }) => typeName !== "null");
    return told(of!, value);
  }
  if (type instanceof avro.types.RecordType) {
    return Object.fromEntries(
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- decoded as this type
      type.fields.map((field) => [field.name, told(field.type, (value as Record<string, unknown>)[field.name])]),
    );
  }
  if (type instanceof avro.types.ArrayType && Array.isArray(value)) {
    return value.map((element) => told(type.itemsType, element));
  }
  if (Buffer.isBuffer(value)) return value.toString("base64");
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number") return toldNumber(type instanceof avro.types.FloatType ? ofFloat(value) : value);
  return value;
}

export function toldJson(text: string | null): unknown {
  if (text === null) return null;
  return JSON.parse(text, (_, value: unknown, context?: { source?: string }) => {
    if (typeof value !== "number") return value;
    const source = context?.source ?? "";
    return /^-?\d+$/.test(source) && source !== "-0" ? source : toldNumber(Number(source));
  });
}

function toldNumber(value: number): string {
  if (Object.is(value, -0)) return "-0";
  return Number.isSafeInteger(value) ? String(BigInt(value)) : String(value);
}

/** A number that may be of 32 bits: the shortest decimal that it is. */
export function toldFloat(value: number): string {
  return toldNumber(Math.fround(value) === value ? ofFloat(value) : value);
}

/** The shortest decimal that is this float of 32 bits. */
function ofFloat(value: number): number {
  if (value === 0) return value;
  for (let digits = 1; digits <= FLOAT_DIGITS_MAX; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
