/** Which sink prepared a table's keys last. Two that write to them hide each other's rows: versions come from different logs. */
import type { TableVersion } from "../../src/core/model/schema.ts";
import { groupsOf } from "../../src/core/each-of.ts";
import { takenBy } from "../warehouse/table-change.ts";
import { type Commands, listOf, textOf } from "./connection.ts";
import { raise } from "./errors.ts";

const NAMES_MAX = 500;

const FORGET = `
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i + 1] == ARGV[1] then redis.call('HDEL', KEYS[1], all[i]) end
end
return 0
`;

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
    // The driver converts the reply into an object.
    const all = await connection.command("hgetall", this.#key);
    const owners = typeof all === "object" && all !== null ? Object.entries(all) : [];
    return owners.flatMap(([start, owner]) => (textOf(owner) === this.#owner ? [] : [start]));
  }

  async take(connection: Commands, tables: readonly TableVersion[]): Promise<void> {
    if (tables.length === 0) return;
    const starts = tables.map((table) => [this.#keyStart(table), table.id] as const);
    for (const some of groupsOf(starts, NAMES_MAX))
      await connection.command("hset", this.#key, ...some.flatMap(([start]) => [start, this.#owner]));
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
    await connection.command("eval", FORGET, "1", this.#key, this.#owner);
    this.#prepared.clear();
  }

  async #others(connection: Commands, starts: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const some of groupsOf(starts, NAMES_MAX)) {
      const owners = (listOf(await connection.command("hmget", this.#key, ...some)) ?? []).map(textOf);
      for (const [i, owner] of owners.entries())
        if (owner !== null && owner !== this.#owner) found.set(some[i]!, owner);
    }
    return found;
  }
}
