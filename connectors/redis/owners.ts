/**
 * Which sink prepared a table's keys last, and from whom it took them, as long as rows of that one may be there. Two that write
 * to them hide each other's rows: versions come from different logs.
 * Each prefix has its register of tables. `shop` with the schema `eu`, and `shope` with `u`, make the same keys: so a sink also
 * looks into the registers of prefixes that begin with its own, or that its own begins with, and takes its tables there too.
 * A table with a scope has its values behind the name: the keys of a table without one, which has the name, begin as those of all
 * tables that share it. Neither takes the other's (`sharingText`).
 */
import { randomBytes } from "node:crypto";
import type { ForeignTarget } from "../../src/core/contracts/sink.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { groupsOf } from "../../src/core/each-of.ts";
import { joined, type MillraceError } from "../../src/core/errors.ts";
import { shellWord } from "../../src/core/shell-word.ts";
import { sharingText } from "../../src/core/targets/sharing.ts";
import { takenBy } from "../../src/core/targets/taken.ts";
import { type Commands, listOf, textOf } from "./connection.ts";
import { readOwn } from "./checkpoint.ts";
import { isWithoutPermission, raise } from "./errors.ts";
import { ownersKey, PREFIXES_KEY } from "./keys.ts";

const NAMES_MAX = 500;

/**
 * Writes only over what was seen: a call that comes late changes nothing that was written since. Its own value has a mark
 * that no other call has, also where the owner stays the same.
 */
const TAKE = `
local left = 0
for i = 1, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  else
    left = left + 1
  end
end
return left
`;

/**
 * Entries of other owners that meet these starts: a start with a scope meets the entry of its bare name, a bare name the first
 * entry that begins with it. The owner's own entries of that kind are left from former routes, and are removed if ARGV[2] is given.
 * A register has thousands of entries: all are read only for a name that the owner does not have yet.
 */
const MEET = `
local found, told, names = {}, {}, {}
local function owner(entry) return string.match(redis.call('HGET', KEYS[1], entry) or '', '(%S+)$') end
local function meets(start, entry)
  local other = owner(entry)
  if not other or told[start] then return end
  if other ~= ARGV[1] then
    told[start] = true
    found[#found + 1] = {start, entry, other}
  elseif ARGV[2] ~= '' and string.match(redis.call('HGET', KEYS[1], entry), '^%x+ %S+$') then
    redis.call('HDEL', KEYS[1], entry)
  end
end
for i = 3, #ARGV, 2 do
  local start, name = ARGV[i], ARGV[i + 1]
  if start ~= name then meets(start, name)
  elseif owner(name) ~= ARGV[1] then names[name] = true end
end
if next(names) then
  local entries = redis.call('HGETALL', KEYS[1])
  for e = 1, #entries, 2 do
    local entry = entries[e]
    local at = string.find(entry, ':', 1, true)
    while at and at < #entry do
      local name = string.sub(entry, 1, at)
      if names[name] then meets(name, entry) end
      at = string.find(entry, ':', at + 1, true)
    end
  end
end
return found
`;

const FORGET = `
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 0
`;

/** The mark, the former owner, and the owner. */
const VALUE = /^(?:[0-9a-f]{16} )?(?:(\S+) )?(\S+)$/;
/** In the former owner's place, once no rows of that one are left. */
const EXPELLED = "-";

const MARK_LENGTH = 17;

/** A sink, `<daemon>/<sink>`, and what its keys begin with. */
export interface Former {
  readonly name: string;
  readonly prefix: string;
}

type Entry = readonly [name: string, value: string];

/** Starts of keys: of the table, and of its name without the values of its scope. */
export type Starts = readonly [start: string, name: string];

interface Met {
  readonly start: string;
  readonly entry: string;
  readonly owner: string;
}

interface Taken {
  /** As the register has it. */
  readonly value: string;
  readonly former: string;
}

export class Owners {
  readonly #prefix: string;
  readonly #key: Buffer;
  readonly #owner: string;
  readonly #keyStart: (table: TableVersion) => string;
  /** The tables that this process has prepared, by the start of their keys. */
  readonly #prepared = new Map<string, string>();

  constructor(prefix: string, owner: string, keyStart: (table: TableVersion) => string) {
    this.#prefix = prefix;
    this.#key = Buffer.from(ownersKey(prefix));
    this.#owner = owner;
    this.#keyStart = keyStart;
  }

  /** See `TargetPresence.foreign`; `compare` does not tell them again. */
  async foreign(connection: Commands, tables: readonly TableVersion[]): Promise<readonly ForeignTarget[]> {
    const starts = tables.map(this.#keyStart);
    const others = await this.#others(connection, starts);
    const taken = await this.#taken(connection, starts);
    for (const start of others.keys()) this.#prepared.delete(start);
    return tables.flatMap((table, i) => {
      const owner = others.get(starts[i]!) ?? taken.get(starts[i]!)?.former;
      return owner === undefined ? [] : [{ table, owner }];
    });
  }

  /** Throws for tables whose name others share that are another sink's, and the reverse. `takes`: what the own ones had of that goes. */
  async expectApart(connection: Commands, tables: readonly TableVersion[], takes = false): Promise<void> {
    const starts = tables.map((table): Starts => {
      const { scope: _, ...named } = table;
      return [this.#keyStart(table), this.#keyStart(named)];
    });
    const refused = await refusedIn(connection, { prefix: this.#prefix, owner: this.#owner, takes }, starts);
    const [first, ...further] = tables.flatMap((table, i) => refused[i]?.with({ table: table.id }) ?? []);
    if (first !== undefined) throw joined([first, ...further]);
  }

  /** Those of these tables that no other sink has taken over. */
  async ownOf(connection: Commands, tables: readonly TableVersion[]): Promise<readonly TableVersion[]> {
    const others = await this.#others(connection, tables.map(this.#keyStart));
    return tables.filter((table) => !others.has(this.#keyStart(table)));
  }

  /** Starts of the keys of all tables where rows of other sinks may be. */
  async others(connection: Commands): Promise<readonly string[]> {
    const all = await Promise.all((await this.#registers(connection)).map((key) => entriesOf(connection, key)));
    return all.flat().flatMap(([start, value]) => (isOwned(this.#owner, value) ? [] : [start]));
  }

  /** Returns whose rows may be there. The own register tells of them until `expelled`. */
  async take(connection: Commands, tables: readonly TableVersion[]): Promise<readonly Former[]> {
    const [own, ...beside] = await this.#registers(connection);
    const starts = tables.map((table) => [this.#keyStart(table), table.id] as const);
    const mark = `${randomBytes(8).toString("hex")} `;
    const names = starts.map(([start]) => start);
    const others = await this.#others(connection, names);
    const formers = await this.#takeIn(connection, own, names, mark, (start, owner) => owner ?? others.get(start));
    for (const register of beside) {
      const met = (await this.#foreignIn(connection, register)).filter(([start]) => names.some(meeting(start)));
      const taken = met.map(([start]) => start);
      await this.#takeIn(connection, register, taken, mark, () => EXPELLED);
    }
    for (const [start, id] of starts) this.#prepared.set(start, id);
    if (formers.size === 0) return [];
    const prefixes = new Map(await prefixesIn(connection));
    return [...formers].map((name) => ({ name, prefix: prefixes.get(name) ?? this.#prefix }));
  }

  /** `formerOf`: whom the register is to tell of; `owner`: the present one, if that is another sink. */
  async #takeIn(
    connection: Commands,
    register: Buffer,
    all: readonly string[],
    mark: string,
    formerOf: (name: string, owner: string | null) => string | undefined,
  ): Promise<ReadonlySet<string>> {
    const formers = new Set<string>();
    for (const names of groupsOf(all, NAMES_MAX)) {
      let leftCount: unknown;
      do {
        const seen = await valuesIn(connection, register, names);
        const changes = names.flatMap((name, i) => {
          const value = seen[i] ?? "";
          if (value.startsWith(mark)) return [];
          const [owner, before] = partsOf(value);
          const other = value === "" || owner === this.#owner ? null : owner;
          const former = other === null && hasRows(before) ? before : (formerOf(name, other) ?? before);
          if (hasRows(former)) formers.add(former);
          return [name, value, `${mark}${former === undefined ? "" : `${former} `}${this.#owner}`];
        });
        leftCount = changes.length === 0 ? 0 : await connection.command("eval", TAKE, "1", register, ...changes);
        // Another sink took one between the two calls.
      } while (leftCount !== 0);
    }
    return formers;
  }

  /** No rows of others are there any more. */
  async expelled(connection: Commands, tables: readonly TableVersion[]): Promise<void> {
    const taken = await this.#taken(connection, tables.map(this.#keyStart));
    for (const some of groupsOf([...taken], NAMES_MAX)) {
      const changes = some.flatMap(([start, { value }]) => [
        start,
        value,
        `${value.slice(0, MARK_LENGTH)}${EXPELLED} ${this.#owner}`,
      ]);
      await connection.command("eval", TAKE, "1", this.#key, ...changes);
    }
  }

  /** By start, the entries of this sink that tell of a former owner. */
  async #taken(connection: Commands, starts: readonly string[]): Promise<ReadonlyMap<string, Taken>> {
    const found = new Map<string, Taken>();
    for (const some of groupsOf(starts, NAMES_MAX)) {
      for (const [i, value] of (await valuesIn(connection, this.#key, some)).entries()) {
        const [owner, former] = partsOf(value ?? "");
        if (owner === this.#owner && hasRows(former)) found.set(some[i]!, { value: value!, former });
      }
    }
    return found;
  }

  /** Throws for prepared tables that other sinks have taken over since; they are forgotten. */
  async compare(connection: Commands): Promise<void> {
    const others = [...(await this.#others(connection, [...this.#prepared.keys()]))];
    const taken = others.map(([start, owner]) => takenBy(raise, `${start}…`, this.#prepared.get(start)!, owner));
    for (const [start] of others) this.#prepared.delete(start);
    const [first, ...further] = taken;
    if (first !== undefined) throw joined([first, ...further]);
  }

  /** Removes what names this sink, but for tables that another one had, which has to know that rows there are not its own. */
  async forget(connection: Commands): Promise<void> {
    for (const register of await this.#registers(connection)) {
      const own = (await entriesOf(connection, register)).filter(([, value]) => {
        const [owner, former] = partsOf(value);
        return owner === this.#owner && former === undefined;
      });
      for (const some of groupsOf(own, NAMES_MAX))
        await connection.command("eval", FORGET, "1", register, ...some.flat());
    }
    await permitted(connection.command("hdel", PREFIXES_KEY, this.#owner), 0);
    this.#prepared.clear();
  }

  async #others(connection: Commands, starts: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const [, ...beside] = await this.#registers(connection);
    const found = new Map(await successorsIn(connection, { prefix: this.#prefix, owner: this.#owner }, starts));
    for (const register of beside) {
      for (const [start, owner] of await this.#foreignIn(connection, register)) {
        for (const met of starts.filter(meeting(start))) found.set(met, owner);
      }
    }
    return found;
  }

  async #foreignIn(connection: Commands, register: Buffer): Promise<readonly Entry[]> {
    const entries = (await entriesOf(connection, register)).map(([start, value]): Entry => [start, ownerIn(value)]);
    return entries.filter(([, owner]) => owner !== this.#owner);
  }

  /** The own one, and those of prefixes around it and within it. It tells the others of its own. */
  async #registers(connection: Commands): Promise<readonly [own: Buffer, ...beside: Buffer[]]> {
    const prefixes = await prefixesIn(connection);
    const told = prefixes?.some(([sink, prefix]) => sink === this.#owner && prefix === this.#prefix);
    if (told === false) await permitted(connection.command("hset", PREFIXES_KEY, this.#owner, this.#prefix), 0);
    const others = new Set(prefixes?.map(([, prefix]) => prefix));
    const beside = [...others].filter((prefix) => prefix !== this.#prefix && meeting(prefix)(this.#prefix));
    return [this.#key, ...beside.map((prefix) => Buffer.from(ownersKey(prefix)))];
  }
}

/** By start, the other sink that has it in the register of this prefix. */
export async function successorsIn(
  connection: Commands,
  { prefix, owner }: { readonly prefix: string; readonly owner: string },
  starts: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const some of groupsOf(starts, NAMES_MAX)) {
    for (const [i, value] of (await valuesIn(connection, Buffer.from(ownersKey(prefix)), some)).entries()) {
      const other = value === null ? owner : ownerIn(value);
      if (other !== owner) found.set(some[i]!, other);
    }
  }
  return found;
}

/** For each of these starts, why its table can't be written; null: it can. */
export async function refusedIn(
  connection: Commands,
  { prefix, owner, takes = false }: { readonly prefix: string; readonly owner: string; readonly takes?: boolean },
  all: readonly Starts[],
): Promise<readonly (MillraceError | null)[]> {
  const key = ownersKey(prefix);
  const met = new Map<string, Met>();
  if ((await readOwn(connection, "hlen", key)) === 0) return all.map(() => null);
  for (const some of groupsOf(all, NAMES_MAX)) {
    const found = await connection.command("eval", MEET, "1", key, owner, takes ? "1" : "", ...some.flat());
    for (const one of listOf(found) ?? []) {
      const [start = "", entry = "", other = ""] = (listOf(one) ?? []).map((text) => textOf(text) ?? "");
      met.set(start, { start, entry, owner: other });
    }
  }
  return all.map(([start, name]) => {
    const other = met.get(start);
    if (other === undefined) return null;
    const message = sharingText(`${name}…`, start === name);
    const hint = `Give the table another name by \`into\`, or the sink another \`prefix\`. If ${other.owner} does not write there any more: HDEL ${shellWord(key)} ${shellWord(other.entry)}`;
    return raise("MR3106", "fatal", message, { hint });
  });
}

/** By sink, what its keys begin with. Null: the user has no right to the key, which lies outside its prefix. */
export async function prefixesIn(connection: Commands): Promise<readonly Entry[] | null> {
  return await permitted(allOf(connection, PREFIXES_KEY), null);
}

/** Whether keys with one of these starts may also have the other. */
export function meeting(one: string): (other: string) => boolean {
  return (other) => one.startsWith(other) || other.startsWith(one);
}

/** Empty for the register of another prefix that the user has no right to. The sink of that one has a right to this one's. */
async function entriesOf(connection: Commands, register: Buffer): Promise<readonly Entry[]> {
  return await permitted(allOf(connection, register), []);
}

async function allOf(connection: Commands, key: Buffer | string): Promise<readonly Entry[]> {
  // The driver converts the reply into an object.
  const all = await readOwn(connection, "hgetall", key);
  const entries: readonly (readonly [string, unknown])[] =
    typeof all === "object" && all !== null ? Object.entries(all) : [];
  return entries.map(([name, value]) => [name, textOf(value) ?? ""]);
}

async function valuesIn(
  connection: Commands,
  register: Buffer,
  names: readonly string[],
): Promise<readonly (string | null)[]> {
  return (listOf(await readOwn(connection, "hmget", register, ...names)) ?? []).map(textOf);
}

async function permitted<T>(answer: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (isWithoutPermission(error)) return otherwise;
    throw error;
  }
}

function partsOf(value: string): readonly [owner: string, former: string | undefined] {
  const [, former, owner = value] = VALUE.exec(value) ?? [];
  return [owner, former];
}

function ownerIn(value: string): string {
  return partsOf(value)[0];
}

/** Whether it is this sink's, and has no rows of others. */
function isOwned(owner: string, value: string): boolean {
  const [noted, former] = partsOf(value);
  return noted === owner && !hasRows(former);
}

/** Whether there may be rows of a former owner. */
function hasRows(former: string | undefined): former is string {
  return former !== undefined && former !== EXPELLED;
}
