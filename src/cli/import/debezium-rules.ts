/** Debezium's keys about columns, as the rules in `tables`. */
import { fits, isGlob } from "../../core/table-selection.ts";
import type { DebeziumConfig } from "./debezium-config.ts";
import { type ColumnPlace, columnPlaces, expressionsOf, haveCommonNames, readExpression } from "./expression.ts";
import { UNDECIDED } from "./findings.ts";

type ColumnRule =
  | { readonly drop: true; readonly optional?: true }
  | { readonly mask: "hash" | "redact" | typeof UNDECIDED; readonly optional?: true };

export interface TableRules {
  readonly columns?: Readonly<Record<string, ColumnRule | readonly string[]>>;
  readonly where?: string;
  readonly optional?: true;
}

/** How a column is hidden; the later, the less is left of its values. `undecided` does not load. */
const HIDINGS = ["hash", "redact", "drop", UNDECIDED] as const;
export type Hiding = (typeof HIDINGS)[number];

interface Place {
  readonly table: string;
  readonly column: string;
  readonly hiding: Hiding;
  /** False: the place is only one of several that an expression can mean. */
  readonly isMeant: boolean;
}

/** Columns that are hidden, wherever a key or a transform says so. */
export class HiddenColumns {
  readonly #given: DebeziumConfig;
  /** What the globs of `source.tables` include; empty: every table. */
  readonly #captured: readonly string[];
  /** Which tables are captured is not known yet. */
  readonly #isUndecided: boolean;
  readonly #places: Place[] = [];
  /** By table glob, the only columns that go out. */
  readonly #only = new Map<string, readonly string[]>();
  /** Rows that a filter leaves out can't be told apart: nothing is captured until somebody decides. */
  #hasUndecidedFilter = false;

  /** `captured`: the globs of `source.tables`. */
  constructor(given: DebeziumConfig, captured: readonly string[]) {
    this.#given = given;
    this.#captured = captured.filter((glob) => !glob.startsWith("!"));
    this.#isUndecided = captured.includes(UNDECIDED);
    const dropped = given.take("column.exclude.list", "column.blacklist");
    if (dropped !== null) this.#addList("column.exclude.list", dropped, "drop");
    for (const [key, list] of given.startingWith("column.mask.")) {
      given.take(key);
      const isHash = key.startsWith("column.mask.hash.");
      this.#addList(withoutSalt(key), list, isHash ? "hash" : "redact");
      if (isHash)
        given.leave(withoutSalt(key), "`mask: hash` is keyed by `maskKey`: its hashes differ from Debezium's");
    }
    for (const [key, list] of given.startingWith("column.truncate.to.")) {
      given.take(key);
      this.#addList(key, list, "redact");
      given.leave(key, "no rule cuts values: they are hidden (`redact`); `partial` shows the last characters");
    }
    const kept = given.take("column.include.list", "column.whitelist");
    if (kept !== null) this.#keepOnly(kept);
  }

  /** Hides the columns that records have as this field, in every table. `isMeant` false: it may be that there is none. */
  add(field: string, hiding: Hiding, isMeant = true): void {
    const isSaid = !isGlob(field);
    for (const column of isSaid ? columnsAs(field, nameAdjustment(this.#given)) : ["*"])
      this.#places.push({ table: "*.*", column, hiding: isSaid ? hiding : UNDECIDED, isMeant });
  }

  /** No other column goes out from any captured table. False: this can't be said. */
  keep(columns: readonly string[]): boolean {
    if (this.#only.size > 0 || this.#captured.length === 0) return false;
    for (const table of this.#captured) this.#only.set(table, columns);
    return true;
  }

  /** What is hidden can't be said: the rules do not load. */
  hideAll(): void {
    this.#places.push({ table: "*.*", column: "*", hiding: UNDECIDED, isMeant: true });
  }

  filter(): void {
    this.#hasUndecidedFilter = true;
  }

  /** By table glob. */
  rules(): Readonly<Record<string, TableRules>> {
    const byTable = Map.groupBy([...this.#places, ...this.#placesInOtherCase()], ({ table }) => table);
    const rules = [...byTable].map(([table, places]): readonly [string, TableRules] => {
      const columns = Map.groupBy(places, ({ column }) => column);
      const isMeant = this.#only.has(table) || places.some((place) => place.isMeant);
      const own = Object.fromEntries([...columns].map(([column, same]) => [column, this.#ruleOf(same)]));
      return [table, { columns: own, ...(isMeant ? {} : { optional: true as const }) }];
    });
    const found = Object.fromEntries(rules);
    for (const [table, only] of this.#only)
      found[table] = { ...found[table], columns: { only, ...found[table]?.columns } };
    if (!this.#hasUndecidedFilter) return found;
    return { ...found, "*.*": { ...found["*.*"], where: `${UNDECIDED}: which rows?` } };
  }

  /**
   * Debezium's expressions ignore case, and Millrace refuses a table that a glob hides by its letters in another case, unless a
   * rule names it. So a rule that names a table repeats what globs hide of it in another case.
   */
  #placesInOtherCase(): readonly Place[] {
    const tables = new Set([...this.#places.map(({ table }) => table), ...this.#only.keys()]);
    return [...tables].flatMap((table) =>
      isGlob(table)
        ? []
        : this.#places
            .filter((place) => !fits(place.table, table) && fits(place.table.toLowerCase(), table.toLowerCase()))
            .map((place) => ({ ...place, table, isMeant: false })),
    );
  }

  /** The most exact glob decides on a column, so none of those that may fit it is weaker than another one. */
  #ruleOf(places: readonly Place[]): ColumnRule {
    const { table, column } = places[0]!;
    const meeting = this.#places.filter(
      (other) => haveCommonNames(other.table, table) && haveCommonNames(other.column, column),
    );
    const hiding = HIDINGS.findLast((each) => meeting.some((place) => place.hiding === each)) ?? UNDECIDED;
    const optional = places.some(({ isMeant }) => isMeant) ? {} : { optional: true as const };
    return hiding === "drop" ? { drop: true, ...optional } : { mask: hiding, ...optional };
  }

  /**
   * `column.include.list`: what it does not name goes out from no table. Of several lists that fit a table the most exact one
   * counts, so each repeats what the wider ones say.
   */
  #keepOnly(list: string): void {
    const key = "column.include.list";
    const read = list.includes("${") ? [null] : expressionsOf(list).map(readExpression);
    const isExact = read.every((found) => found?.every((each) => each.isExact && each.without.length === 0) === true);
    const places = read.flatMap((found) => (found ?? []).flatMap(({ parts }) => columnPlaces(parts)));
    const tables = [...new Set(places.map(({ table }) => table))];
    const isWhole =
      this.#captured.length > 0 &&
      this.#captured.every((glob) => tables.some((table) => covers(table, glob) || table === "*.*"));
    const areApart = tables.every((a) => tables.every((b) => !haveCommonNames(a, b) || covers(a, b) || covers(b, a)));
    if (!isExact || !areApart || !(isWhole || tables.includes("*.*"))) {
      this.#given.block(key, `write what it leaves: \`columns: { only: […] }\` for each table of ${list}`);
      this.hideAll();
      return;
    }
    for (const table of tables) {
      const columns = places.filter((place) => covers(place.table, table)).map(({ column }) => column);
      this.#only.set(table, [...new Set(columns)]);
    }
    this.#given.leave(key, "the columns of the key must be in `only` too");
  }

  #addList(key: string, list: string, hiding: Hiding): void {
    for (const expression of list.includes("${") ? [list] : expressionsOf(list)) {
      const found = list.includes("${") ? null : readExpression(expression);
      // Every column that the expression hides has to be hidden, so more than it says will do, and less will not.
      const places = (found ?? []).map(({ parts }) => columnPlaces(parts));
      if (found === null || places.some((each) => each.length === 0)) {
        this.#given.block(key, `no glob says ${expression}: write its columns to \`tables\``);
        this.hideAll();
        continue;
      }
      if (!places.flat().some(({ table }) => this.#mayBeCaptured(table)))
        this.#given.leave(key, `${expression} is of no table that is captured`);
      else if (found.some(({ isExact, without }) => !isExact || without.length > 0))
        this.#given.leave(key, `no glob says ${expression} exactly: more columns are hidden than it selects`);
      // Of the many names that `phone_\d` says, some may not be there.
      const isVaried = found.length > 1 && /[?{[]|\\d/.test(expression.replaceAll(/\(\?[:i]/g, ""));
      for (const each of places)
        for (const [i, { table, column }] of each.entries())
          if (this.#mayBeCaptured(table))
            this.#places.push({ table, column, hiding, isMeant: !isVaried && i === meantOf(each) });
    }
  }

  #mayBeCaptured(table: string): boolean {
    return (
      this.#isUndecided || this.#captured.length === 0 || this.#captured.some((glob) => haveCommonNames(glob, table))
    );
  }
}

/** How fields are named after columns. Before Debezium 2, whose topics had `database.server.name`, Avro decided. */
function nameAdjustment(given: DebeziumConfig): string {
  const keys = new Map(given.startingWith("").map(([key, value]) => [key, value.trim().toLowerCase()]));
  const mode = keys.get("field.name.adjustment.mode") ?? "";
  const isAvro = keys.has("database.server.name") && (keys.get("value.converter") ?? "").endsWith("avroconverter");
  const isSanitized = keys.get("sanitize.field.names") ?? String(isAvro);
  return mode !== "" ? mode : isSanitized === "true" ? "avro" : "none";
}

/** Globs over the columns that become this field: what Avro takes in no name is a `_` there, and one is before a digit. */
function columnsAs(field: string, adjustment: string): readonly string[] {
  switch (adjustment) {
    case "none":
      return [field];
    case "avro_unicode":
      return [
        field.replaceAll(/_u([0-9a-f]{4})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16))),
      ];
    default: {
      const glob = field.replaceAll("_", "?");
      return /^_\d/.test(field) ? [glob, glob.slice(1)] : [glob];
    }
  }
}

/** True if every name that fits one glob fits the wider one. A `?` of the wider one is taken for a sign of its own. */
function covers(wide: string, narrow: string): boolean {
  return wide === narrow || (!wide.includes("?") && fits(wide, narrow));
}

/** Of the places that an expression can mean, the one whose dots are its own; without them, where dots belong: the fewest wildcards. */
function meantOf(places: readonly ColumnPlace[]): number {
  const doubts = places.map(
    ({ table, column, isOwnDot }) => (`${table}.${column}`.match(/[*?]/g) ?? []).length + (isOwnDot ? 0 : DOUBT),
  );
  return doubts.indexOf(Math.min(...doubts));
}

/** More than there are wildcards. */
const DOUBT = 1_000_000;

/** The salt is a secret. */
function withoutSalt(key: string): string {
  return key.replace(/(\.with\.salt\.).*$/s, "$1…");
}
