/**
 * Records of Debezium and of Millrace, without that in which they are known to differ (connectors/kafka/README.md names it):
 *
 *   version, lsn, sequence     the program's own; the position of the change's record, ours of its transaction
 *   pos, row, thread           the same for MySQL; the connection, which the source does not tell
 *   ts_… beside op             when the record was made
 *   source of a row that was read
 *   the position in a transaction's id, transactions without changes
 *   default                    a column's default, which Debezium's schemas have
 */
import type { ToldRecord } from "./engine.ts";

type Plain = null | boolean | number | string | readonly Plain[] | Fields;
interface Fields {
  readonly [name: string]: Plain;
}

const OWN_WORDS = ["version", "lsn", "sequence", "pos", "row", "thread"];
const READ_WORDS = ["file", "server_id", "gtid", "snapshot", "txId", "ts_ms", "ts_us", "ts_ns"];

/** `name`: what the names of topics begin with. */
export function sameAs(records: readonly ToldRecord[], name: string): readonly unknown[] {
  const read = records.map(({ key, value }) => ({ key: parsed(key, name), value: parsed(value, name) }));
  const empty = new Set(read.flatMap(({ value }) => emptyTransaction(value)));
  return read
    .filter(({ key }) => !empty.has(transactionOf(key) ?? null))
    .map(({ key, value }) => ({ key, value: told(value) }));
}

function parsed(text: string | null, name: string): Plain {
  if (text === null) return null;
  return withoutNames(JSON.parse(text, unrounded), name);
}

/** A number that JavaScript would round is compared by its digits. */
function unrounded(this: unknown, _: string, value: Plain, context?: { readonly source?: string }): Plain {
  const digits = context?.source ?? "";
  return typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(digits) ? digits : value;
}

function withoutNames(plain: Plain, name: string): Plain {
  if (typeof plain === "string") return plain.startsWith(`${name}.`) ? plain.slice(name.length) : plain;
  if (plain === null || typeof plain !== "object") return plain;
  if (isList(plain)) return plain.map((item) => withoutNames(item, name));
  return Object.fromEntries(
    Object.entries(plain).map(([key, value]) => [key, shown(key, withoutNames(value, name), name)]),
  );
}

/** JSON as text, whose order and spaces are open, and the names that are not the same. */
function shown(key: string, value: Plain, name: string): Plain {
  if (/^(iodebezium)?name$/.test(key) && value === name) return "";
  if (key === "id" && typeof value === "string") return value.replace(/^(\d+):\d+$/, "$1").replace(/^file=.*/, "");
  if (typeof value !== "string" || !value.startsWith('{"')) return value;
  const json: Plain = JSON.parse(value);
  return json;
}

function told(value: Plain): Plain {
  const whole = fieldsOf(value);
  if (typeof whole["specversion"] === "string") return toldEvent(whole);
  const payload = fieldsOf(whole["payload"] ?? value);
  const shownPayload = "op" in payload ? toldChange(payload) : "__op" in payload ? toldRow(payload) : null;
  if (shownPayload === null) return value;
  return "payload" in whole ? { ...whole, payload: shownPayload } : shownPayload;
}

function toldChange({ ts_ms: ms, ts_us: us, ts_ns: ns, ...payload }: Fields): Plain {
  const isRead = payload["op"] === "r";
  const source = without(fieldsOf(payload["source"] ?? null), isRead ? [...OWN_WORDS, ...READ_WORDS] : OWN_WORDS);
  return {
    ...payload,
    source,
    times: [ms, us, ns].map((time) => /^\d+$/.test(JSON.stringify(time).replaceAll('"', ""))),
  };
}

function toldRow(payload: Fields): Plain {
  return without(payload, payload["__op"] === "r" ? ["__lsn", "__source_ts_ms"] : ["__lsn"]);
}

const OWN_ATTRIBUTES = ["id", "source", "iodebeziumversion", "iodebeziumlsn", "iodebeziumsequence", "iodebeziumtxId"];
const READ_ATTRIBUTES = ["time", "iodebeziumsnapshot", "iodebeziumtsms", "iodebeziumtsus", "iodebeziumtsns"];

/** An attribute that is null is none. Ours has a time in microseconds. */
function toldEvent(event: Fields): Plain {
  const isRead = event["iodebeziumop"] === "r";
  const kept = without(event, isRead ? [...OWN_ATTRIBUTES, ...READ_ATTRIBUTES] : OWN_ATTRIBUTES);
  const known = Object.entries(kept).filter(([, value]) => value !== null);
  return Object.fromEntries(known.map(([name, value]) => [name, name === "time" ? inMilliseconds(value) : value]));
}

function inMilliseconds(time: Plain): Plain {
  return typeof time === "string" ? time.replace(/(\.\d{3})\d*Z/, "$1Z") : time;
}

function without(fields: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}

function transactionOf(key: Plain): Plain | undefined {
  return fieldsOf(fieldsOf(key)["payload"] ?? key)["id"];
}

function emptyTransaction(value: Plain): Plain[] {
  const { status, event_count: count, id } = fieldsOf(fieldsOf(value)["payload"] ?? value);
  return status === "END" && count === 0 ? [id ?? null] : [];
}

function fieldsOf(plain: Plain): Fields {
  return plain !== null && typeof plain === "object" && !isList(plain) ? plain : {};
}

function isList(plain: object): plain is readonly Plain[] {
  return Array.isArray(plain);
}
