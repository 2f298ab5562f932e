/** Which sink prepared a table's keys last. Two that write to them hide each other's rows: versions come from different logs. */
import { randomBytes } from "node:crypto";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { groupsOf } from "../../src/core/each-of.ts";
import { takenBy } from "../warehouse/table-change.ts";
import { type Commands, listOf, textOf } from "./connection.ts";
import { raise } from "./errors.ts";

const NAMES_MAX = 500;

/**
 * Writes only over what was seen: a call that comes late changes nothing that was written since. Its own value has a mark
 * that no other call has, also where the owner stays the same.
 */
const TAKE = `
local left = 0
for i = 2, #ARGV, 2 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[1])
  else
    left = left + 1
  end
end
return left
`;

const FORGET = `
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 0
`;

const MARKED = /^[0-9a-f]{16} /;

export class Owners {
  readonly #key: Buffer;
  readonly #owner: string;
  readonly #keyStart: (table: TableVersion) => string;
  /** The tables that this process has prepared, by the start of their keys. */
  readonly #prepared = new Map<string, string>();

  constructor(key: Buffer, owner: string, keyStart: (table: TableVersion) => string) {
    this.#key = key;
    this.#owner = owner;
    this.#keyStart = keyStart;
  }

  /** Those of the tables whose keys another sink prepared last. */
  async foreign(connection: Commands, tables: readonly TableVersion[]): Promise<readonly TableVersion[]> {
    const others = await this.#others(connection, tables.map(this.#keyStart));
    return tables.filter((table) => others.has(this.#keyStart(table)));
  }

  /** Starts of the keys of all tables that other sinks prepared last. */
  async others(connection: Commands): Promise<readonly string[]> {
    return (await this.#all(connection)).flatMap(([start, value]) => (ownerIn(value) === this.#owner ? [] : [start]));
  }

  async take(connection: Commands, tables: readonly TableVersion[]): Promise<void> {
    const starts = tables.map((table) => [this.#keyStart(table), table.id] as const);
    const value = `${randomBytes(8).toString("hex")} ${this.#owner}`;
    for (const some of groupsOf(starts, NAMES_MAX)) {
      const names = some.map(([start]) => start);
      let leftCount: unknown;
      do {
        const seen = await this.#values(connection, names);
        const pairs = names.flatMap((name, i) => (seen[i] === value ? [] : [name, seen[i] ?? ""]));
        leftCount = pairs.length === 0 ? 0 : await connection.command("eval", TAKE, "1", this.#key, value, ...pairs);
        // Another sink took one between the two calls.
      } while (leftCount !== 0);
    }
    for (const [start, id] of starts) this.#prepared.set(start, id);
  }

  /** Throws for a prepared table that another sink has taken over since; it is forgotten. */
  async compare(connection: Commands): Promise<void> {
    for (const [start, successor] of await this.#others(connection, [...this.#prepared.keys()])) {
      const id = this.#prepared.get(start)!;
      this.#prepared.delete(start);
      throw takenBy(raise, `${start}…`, id, successor);
    }
  }

  /** Removes what names this sink. */
  async forget(connection: Commands): Promise<void> {
    const own = (await this.#all(connection)).filter(([, value]) => ownerIn(value) === this.#owner);
    for (const some of groupsOf(own, NAMES_MAX))
      await connection.command("eval", FORGET, "1", this.#key, ...some.flat());
    this.#prepared.clear();
  }

  async #others(connection: Commands, starts: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const some of groupsOf(starts, NAMES_MAX)) {
      for (const [i, value] of (await this.#values(connection, some)).entries()) {
        const owner = value === null ? this.#owner : ownerIn(value);
        if (owner !== this.#owner) found.set(some[i]!, owner);
      }
    }
    return found;
  }

  async #all(connection: Commands): Promise<readonly (readonly [start: string, value: string])[]> {
    // The driver converts the reply into an object.
    const all = await connection.command("hgetall", this.#key);
    const owners: readonly (readonly [string, unknown])[] =
      typeof all === "object" && all !== null ? Object.entries(all) : [];
    return owners.map(([start, value]) => [start, textOf(value) ?? ""]);
  }

  async #values(connection: Commands, starts: readonly string[]): Promise<readonly (string | null)[]> {
    return (listOf(await connection.command("hmget", this.#key, ...starts)) ?? []).map(textOf);
  }
}

function ownerIn(value: string): string {
  return value.replace(MARKED, "");
}
