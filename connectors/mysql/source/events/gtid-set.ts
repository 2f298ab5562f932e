/**
 * Sets of transactions by their names in a replication set. A name is an origin and a number that the origin counts up.
 * MySQL has `uuid:12` or `uuid:tag:12`. MariaDB has `domain-server-12`, and the origin is the server in the domain; there,
 * as in all positions of MariaDB, the last name of an origin includes all before it.
 */
import type { Flavour } from "../wire/event-header.ts";

interface Range {
  first: number;
  last: number;
}

export interface GtidName {
  readonly origin: string;
  readonly number: number;
}

const MYSQL_NAME = /^([0-9a-f-]{36}(?::[a-z_]\w*)?):(\d+)$/i;
const MARIADB_NAME = /^(\d+-\d+)-(\d+)$/;

/** Undefined if it is no such name: for anonymous transactions. */
export function parseGtid(text: string): GtidName | undefined {
  const match = MYSQL_NAME.exec(text) ?? MARIADB_NAME.exec(text);
  const number = Number(match?.[2]);
  return match === null || !Number.isSafeInteger(number) ? undefined : { origin: match[1]!.toLowerCase(), number };
}

export function spellGtid({ origin, number }: GtidName): string {
  return `${origin}${isMariadb(origin) ? "-" : ":"}${number}`;
}

export class GtidSet {
  /** In ascending order, with gaps between them. */
  readonly #ranges = new Map<string, Range[]>();

  /** `uuid:1-5:7:tag:1-3,uuid:1`, and the text that `toString` makes; undefined if it is neither. */
  static parse(text: string): GtidSet | undefined {
    const set = new GtidSet();
    for (const part of text.split(",")) {
      const [server = "", ...words] = part.trim().toLowerCase().split(":");
      let origin = server;
      for (const word of words) {
        const match = /^(\d+)(?:-(\d+))?$/.exec(word);
        if (match !== null) {
          const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
          // Servers count to 2^63.
          if (!Number.isSafeInteger(last)) return undefined;
          set.add(origin, first, last);
        } else if (/^[a-z_]\w*$/.test(word)) origin = `${server}:${word}`;
        else return undefined;
      }
    }
    return set;
  }

  /** What a server of this flavour prints for a set or a position. */
  static ofServer(text: string, flavour: Flavour): GtidSet | undefined {
    if (flavour === "mysql") return GtidSet.parse(text);
    const set = new GtidSet();
    for (const part of text.split(",").filter((one) => one.trim() !== "")) {
      const name = parseGtid(part.trim());
      if (name === undefined) return undefined;
      set.add(name.origin, 1, name.number);
    }
    return set;
  }

  get isEmpty(): boolean {
    return this.#ranges.size === 0;
  }

  add(origin: string, first: number, last: number): void {
    const ranges = this.#ranges.get(origin) ?? [];
    this.#ranges.set(origin, ranges);
    const end = ranges.at(-1);
    if (end !== undefined && first >= end.first && first <= end.last + 1) {
      end.last = Math.max(end.last, last);
      return;
    }
    const touches = (range: Range): boolean => range.first <= last + 1 && range.last >= first - 1;
    const joined = ranges.filter(touches);
    const range = {
      first: Math.min(first, ...joined.map((one) => one.first)),
      last: Math.max(last, ...joined.map((one) => one.last)),
    };
    const others = ranges.filter((one) => !touches(one));
    this.#ranges.set(
      origin,
      [...others, range].toSorted((a, b) => a.first - b.first),
    );
  }

  /** A transaction that was read. */
  addRead({ origin, number }: GtidName): void {
    this.add(origin, isMariadb(origin) ? 1 : number, number);
  }

  addAll(other: GtidSet): void {
    for (const [origin, ranges] of other.#ranges) for (const { first, last } of ranges) this.add(origin, first, last);
  }

  has({ origin, number }: GtidName): boolean {
    return this.#ranges.get(origin)?.some(({ first, last }) => first <= number && number <= last) ?? false;
  }

  isWithin(other: GtidSet): boolean {
    for (const [origin, ranges] of this.#ranges) {
      const outer = other.#ranges.get(origin) ?? [];
      if (!ranges.every((range) => outer.some(({ first, last }) => first <= range.first && range.last <= last)))
        return false;
    }
    return true;
  }

  clone(): GtidSet {
    const copy = new GtidSet();
    copy.addAll(this);
    return copy;
  }

  /** As its server spells it: MySQL a set, MariaDB the last name of each server in each domain. */
  get spelled(): string {
    const origins = [...this.#ranges];
    if (!origins.some(([origin]) => isMariadb(origin))) return this.toString();
    return origins.map(([origin, ranges]) => `${origin}-${ranges.at(-1)!.last}`).join(",");
  }

  toString(): string {
    const spelled = ({ first, last }: Range): string => (first === last ? String(first) : `${first}-${last}`);
    return [...this.#ranges].map(([origin, ranges]) => `${origin}:${ranges.map(spelled).join(":")}`).join(",");
  }
}

function isMariadb(origin: string): boolean {
  return /^\d+-\d+$/.test(origin);
}
