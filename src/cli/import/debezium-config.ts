/** The configuration of one Debezium connector, as its keys are taken one by one. */
import { cliError } from "../errors.ts";
import type { KeptOut } from "./debezium-keys.ts";
import { whyLeftOut } from "./debezium-keys.ts";

export interface LeftOut extends KeptOut {
  readonly key: string;
}

/** An environment variable that stands in place of a value, and the key that had the value. */
export interface Variable {
  readonly name: string;
  readonly from: string;
}

export class DebeziumConfig {
  readonly left: LeftOut[] = [];
  readonly #values: ReadonlyMap<string, string>;
  readonly #taken = new Set<string>();

  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  /** The value of the first of these keys that is there and not empty. All of them count as carried over. */
  take(...keys: readonly string[]): string | null {
    let value: string | null = null;
    for (const key of keys) {
      if (!this.#values.has(key)) continue;
      this.#taken.add(key);
      value ??= this.#values.get(key)?.trim() || null;
    }
    return value;
  }

  /** The keys that begin with this text, with their values. They do not count as carried over yet. */
  startingWith(start: string): readonly (readonly [string, string])[] {
    return [...this.#values].filter(([key]) => key.startsWith(start));
  }

  /** Names a key whose value Millrace can't have, fully or at all. */
  leave(key: string, why: string): void {
    this.#taken.add(key);
    this.left.push({ key, why, isNeedless: false });
  }

  /** Names every key that was not asked for. */
  leaveRest(): void {
    for (const key of this.#values.keys())
      if (!this.#taken.has(key) && !this.left.some((left) => left.key === key))
        this.left.push({ key, ...whyLeftOut(key) });
  }
}

/** Reads `{name, config: {…}}` as Kafka Connect's API takes it, or the keys alone. */
export function parseDebezium(file: string, text: string): { readonly kind: string; readonly config: DebeziumConfig } {
  const values = propertiesOf(file, text);
  const type = values.get("connector.class") ?? "";
  const kind = KINDS.find(([pattern]) => pattern.test(type))?.[1];
  if (kind === undefined) {
    const what =
      type === "" ? "it has no connector.class" : `its connector.class is not one of Postgres, MySQL or MariaDB`;
    throw cliError("MR1140", `${file} can't be imported: ${what}`);
  }
  const config = new DebeziumConfig(values);
  config.take("connector.class");
  return { kind, config };
}

/** Debezium's own classes, and those of Confluent Cloud. */
const KINDS = [
  [/postgres/i, "postgres"],
  [/mysql|mariadb/i, "mysql"],
] as const;

function propertiesOf(file: string, text: string): ReadonlyMap<string, string> {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    // The parser's message quotes the file, which holds a password.
    throw cliError("MR1140", `${file} is not JSON`);
  }
  const fields = fieldsOf(document);
  const inner = fields?.find(([key]) => key === "config")?.[1];
  const properties = fieldsOf(inner) ?? fields;
  if (properties === null) throw cliError("MR1140", `${file} is not a JSON object`);
  const isText = (value: unknown): value is string | number | boolean =>
    ["string", "number", "boolean"].includes(typeof value);
  return new Map(properties.flatMap(([key, value]) => (isText(value) ? [[key, String(value)] as const] : [])));
}

function fieldsOf(value: unknown): readonly (readonly [string, unknown])[] | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : null;
}
