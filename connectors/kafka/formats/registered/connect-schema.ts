/** Kafka Connect's schemas, as its JsonConverter writes them: what the formats of Debezium are described by. */

export interface ConnectSchema {
  readonly type:
    | "int8"
    | "int16"
    | "int32"
    | "int64"
    | "float"
    | "double"
    | "boolean"
    | "string"
    | "bytes"
    | "array"
    | "struct";
  readonly optional?: boolean;
  /** Of the logical type, or of the struct. */
  readonly name?: string;
  readonly version?: number;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly doc?: string;
  readonly default?: unknown;
  /** Of a struct's member: its name. */
  readonly field?: string;
  readonly fields?: readonly ConnectSchema[];
  readonly items?: ConnectSchema;
}

/** Key and value of a topic's records. */
export interface RecordSchemas {
  readonly key: ConnectSchema;
  readonly value: ConnectSchema;
}

export function parseConnectSchema(text: string): ConnectSchema {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by the formats of this folder
  return JSON.parse(text) as ConnectSchema;
}

export function memberName({ field }: ConnectSchema): string {
  if (field === undefined) throw new Error("a member of a struct has a name");
  return field;
}

export function elementOf({ items }: ConnectSchema): ConnectSchema {
  if (items === undefined) throw new Error("an array has elements");
  return items;
}
