/** The configuration of one Debezium connector, as its keys are taken one by one. */
import { cliError } from "../errors.ts";
import { readConnector } from "./connector-file.ts";
import { whyLeftOut } from "./debezium-keys.ts";
import { Findings, type Variable } from "./findings.ts";

const MAY_HIDE = /^(?!debezium\.sink\.).*(?:include|exclude|whitelist|blacklist|filter|mask|encrypt|redact|anonymi)/i;
const WORDS_OF_YAML: ReadonlyMap<string, string> = new Map([
  ["yes", "true"],
  ["on", "true"],
  ["no", "false"],
  ["off", "false"],
]);
/** Those with a secret in the key or beside the reference, and those of which a part is named. */
const NAMED_BY_OTHERS = /^(?:transforms|column)\.|\.jaas\.config$/;

export class DebeziumConfig extends Findings {
  readonly #values: ReadonlyMap<string, string>;
  readonly #taken = new Set<string>();

  constructor(values: ReadonlyMap<string, string>) {
    super();
    this.#values = values;
  }

  /** The value of the first of these keys that is there and not empty. All of them count as carried over; one that says otherwise is named. */
  take(...keys: readonly string[]): string | null {
    const there = keys.filter((key) => this.#values.has(key));
    for (const key of there) this.#taken.add(key);
    const said = there.flatMap((key) => {
      const value = this.#values.get(key)?.trim() ?? "";
      return value === "" ? [] : [{ key, value }];
    });
    const [first, ...others] = said;
    for (const { key, value } of others)
      if (value !== first?.value) this.leave(key, `${first?.key} counts in its place`);
    return first?.value ?? null;
  }

  /** A value of a fixed set, which Debezium reads in any case. Kubernetes reads YAML 1.1, whose `no` is false. */
  takeWord(...keys: readonly string[]): string | null {
    const word = this.take(...keys)?.toLowerCase() ?? null;
    return word === null ? null : (WORDS_OF_YAML.get(word) ?? word);
  }

  /** False also of a word that is no truth value, which is named. Null: it is not there. */
  takeFlag(key: string): boolean | null {
    const word = this.takeWord(key);
    if (word !== null && word !== "true" && word !== "false" && !word.includes("${"))
      this.leave(key, "it is neither true nor false");
    return word === null || word.includes("${") ? null : word === "true";
  }

  /** The keys that begin with this text, with their values. They do not count as carried over yet. */
  startingWith(start: string): readonly (readonly [string, string])[] {
    return [...this.#values].filter(([key]) => key.startsWith(start));
  }

  /**
   * Names every key that was not asked for, and those whose value another store has. `variables`: stand in place of values.
   * Unsure: one that Millrace does not know may hide or leave out something, by its name.
   */
  leaveRest(variables: readonly Variable[]): "sure" | "unsure" {
    for (const [key, value] of this.#values) {
      const isNamed = this.left.some((left) => left.key === key) || variables.some(({ from }) => from.startsWith(key));
      if (this.#taken.has(key) && value.includes("${") && !isNamed && !NAMED_BY_OTHERS.test(key))
        this.leave(key, "its value is not in the file: write what it says");
    }
    let unsure = false;
    for (const [key, value] of this.#values) {
      if (this.#taken.has(key) || this.left.some((left) => left.key === key)) continue;
      const known = whyLeftOut(key);
      const isUnsure = known === null && value.trim() !== "" && MAY_HIDE.test(key);
      unsure ||= isUnsure;
      if (known !== null) this.left.push({ key, ...known, isBlocking: false });
      else if (isUnsure)
        this.block(key, "by its name it may hide or leave out something: take it out, or write what it does");
      else this.leave(key, "Millrace does not know this key");
    }
    return unsure ? "unsure" : "sure";
  }
}

/** Reads the connector of this name; without a name, the file's only one. */
export function parseDebezium(
  file: string,
  text: string,
  name: string | null = null,
): { readonly kind: string; readonly config: DebeziumConfig } {
  const { keys } = readConnector(file, text, name);
  const type = keys.get("connector.class");
  const kind = typeof type === "string" ? KINDS.get(type.trim()) : undefined;
  if (kind === undefined)
    throw cliError(
      "MR1140",
      `${file} can't be imported: its connector.class is not Debezium's source for Postgres, MySQL or MariaDB`,
    );
  const texts = [...keys].map(([key, value]): readonly [string, string | null] => [key, textOf(value)]);
  const odd = texts.find(([, value]) => value === null);
  if (odd !== undefined) throw cliError("MR1140", `${file} can't be imported: ${odd[0]} is neither a text nor a list`);
  const config = new DebeziumConfig(new Map(texts.map(([key, value]) => [key, value ?? ""])));
  config.take("connector.class");
  return { kind, config };
}

/** Debezium's own classes, by the short names that Kafka Connect takes too, and those of Confluent Cloud. */
const KINDS: ReadonlyMap<string, string> = new Map(
  [
    ["postgres", "io.debezium.connector.postgresql.", "PostgresConnector", "Postgres"],
    ["postgres", "", "PostgresCdcSource", "PostgresCdcSourceV2"],
    ["mysql", "io.debezium.connector.mysql.", "MySqlConnector", "MySql"],
    ["mysql", "io.debezium.connector.mariadb.", "MariaDbConnector", "MariaDb"],
    ["mysql", "", "MySqlCdcSource", "MySqlCdcSourceV2", "MariaDbCdcSource"],
  ].flatMap(([kind = "", folder = "", name = "", ...others]) =>
    [folder + name, name, ...others].map((each) => [each, kind] as const),
  ),
);

/** A list is one text with commas, as in properties. Null: it is an object. */
function textOf(value: unknown): string | null {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (!Array.isArray(value)) return null;
  const texts = value.map((each) => textOf(each));
  return texts.includes(null) ? null : texts.filter((text) => text !== "").join(",");
}
