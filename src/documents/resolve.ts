/**
 * From what the configuration asks for to documents: finds tables and columns, and by foreign keys what joins them. It
 * looks at tables as sinks see them, under the rules of the configuration.
 */
import { createHash } from "node:crypto";
import type {
  Alike,
  CapturedTables,
  Catalog,
  Equalities,
  Equality,
  ForeignKey,
  TableShape,
} from "../core/contracts/catalog.ts";
import { isRecord } from "../core/stored-json.ts";
import type { TableName } from "../core/contracts/connector.ts";
import { type Column, whyLeftOut } from "../core/model/schema.ts";
import type { ColumnType } from "../core/model/types.ts";
import type { Functions } from "../rules/computed/functions.ts";
import { suggestion } from "../rules/nearest.ts";
import { bindWhere } from "../rules/where/condition.ts";
import { WhereError } from "../rules/where/syntax.ts";
import {
  type Document,
  type DocumentField,
  type DocumentNode,
  isDocument,
  type Join,
  type MadeField,
  type Order,
  type Relation,
  type Through,
  type Transform,
  type WantedCondition,
  type WantedDocument,
  type WantedNode,
  type WantedRelation,
} from "./document.ts";
import type { DocumentProblem } from "./errors.ts";

export interface KnownTables extends Pick<CapturedTables, "tables" | "refused"> {
  /** Null: the source can't tell them. */
  readonly foreignKeys: readonly ForeignKey[] | null;
  /** Null: the source can't tell them. Then texts are equal if they are the same. */
  readonly equalities: Equalities | null;
}

/** What the source tells of how rows of these tables join. */
export async function joinsKnown(
  catalog: Pick<Catalog, "foreignKeys" | "equalities">,
  tables: readonly TableShape[],
  signal: AbortSignal,
): Promise<Pick<KnownTables, "foreignKeys" | "equalities">> {
  return {
    foreignKeys: (await catalog.foreignKeys?.(tables, signal)) ?? null,
    equalities: (await catalog.equalities?.(tables, signal)) ?? null,
  };
}

export interface Resolved {
  /** Of those without a problem. */
  readonly documents: readonly Document[];
  readonly problems: readonly DocumentProblem[];
}

export function resolveDocuments(
  wanted: readonly WantedDocument[],
  known: KnownTables,
  functions: Functions = new Map(),
): Resolved {
  const problems: DocumentProblem[] = [];
  const documents: Document[] = [];
  for (const one of wanted) {
    const resolver = new Resolver(one.name, known, functions);
    const document = resolver.document(one);
    if (document !== null && resolver.problems.length === 0) documents.push(document);
    problems.push(...resolver.problems);
  }
  return { documents, problems };
}

/** What says nothing of the document, but where the configuration lies. */
const ELSEWHERE: ReadonlySet<string> = new Set(["place", "expression", "path", "base", "budgetMs"]);
/** Their keys are names of the user's. */
const BY_NAME: ReadonlySet<string> = new Set(["rename", "on", "fields"]);

/** Of what the configuration says, wherever it stands in the file. */
export function digestOf(wanted: WantedDocument): string {
  const text = JSON.stringify(wanted, (key, value: unknown) => {
    if (ELSEWHERE.has(key)) return undefined;
    return BY_NAME.has(key) && isRecord(value) ? Object.entries(value) : value;
  });
  return createHash("sha256").update(text).digest("hex");
}

/** `schema.table` of each table that a document names. */
export function tablesNamed({ root }: WantedDocument): readonly string[] {
  const below = ({ from, relations }: WantedNode): readonly string[] => [
    from,
    ...relations.flatMap((one) => [...(one.through === null ? [] : [one.through.from]), ...below(one)]),
  ];
  return below(root);
}

/** Of these tables, what rules hide of those that the document names. */
export function hiding(wanted: WantedDocument, tables: readonly TableShape[]): Pick<Document, "hides"> {
  const named = new Set(tablesNamed(wanted));
  const hidden = tables.flatMap(({ id, hides, ...table }) =>
    hides !== undefined && named.has(nameOfTable(table)) ? [`${id} ${hides}`] : [],
  );
  if (hidden.length === 0) return {};
  return { hides: createHash("sha256").update(JSON.stringify(hidden.toSorted())).digest("hex").slice(0, 16) };
}

class Resolver {
  readonly #document: string;
  readonly #known: KnownTables;
  readonly #functions: Functions;
  readonly problems: DocumentProblem[] = [];

  constructor(document: string, known: KnownTables, functions: Functions) {
    this.#document = document;
    this.#known = known;
    this.#functions = functions;
  }

  document(wanted: WantedDocument): Document | null {
    const { name, where, root } = wanted;
    if (this.#known.tables.some(isDocument))
      this.#problem(
        root.place,
        "the source has a schema `documents`, as documents have in sinks: leave it out of `source.tables`",
      );
    const shape = this.#table(root.place, root.from);
    if (shape === null) return null;
    const key = shape.key.map((ordinal) => shape.columns[ordinal]!.name);
    const condition = this.#condition(where, shape);
    const made = this.#node(root, shape, key);
    this.#rootTransform(made, root, key);
    return { name, where: condition, root: made, ...hiding(wanted, this.#known.tables), wanted: digestOf(wanted) };
  }

  /** `always`: columns that are fields in any case. */
  #node(wantedNode: WantedNode, shape: TableShape, always: readonly string[]): DocumentNode {
    const { place, columns, rename, relations } = wantedNode;
    const wanted = columns ?? shape.columns.map(({ name }) => name);
    const names = [...new Set([...always, ...wanted])];
    for (const name of names) this.#column(place, shape, name);
    for (const name of Object.keys(rename))
      if (!names.includes(name)) this.#problem(place, `rename: ${JSON.stringify(name)} is none of its columns`);
    const fields = names.map((column): DocumentField => ({ name: nameOf(rename, column), column }));
    const made = relations.flatMap((relation) => this.#relation(relation, shape) ?? []);
    const all = [...fields, ...relations].map(({ name }) => name);
    const twice = all.find((name, i) => all.indexOf(name) < i);
    if (twice !== undefined) this.#problem(place, `two fields have the name ${JSON.stringify(twice)}; rename one`);
    const transform = this.#transform(wantedNode, shape);
    return { table: tableOf(shape), fields, ...(columns === null ? { hasAll: true } : {}), relations: made, transform };
  }

  #transform({ transform }: WantedNode, { dialect }: TableShape): Transform | null {
    if (transform === null) return null;
    const { place, function: name } = transform;
    const loaded = this.#functions.get(name.text);
    if (loaded === undefined || !("digest" in loaded)) {
      const why = loaded === undefined ? "it is not loaded" : `${loaded.message}. ${loaded.fix}`;
      this.#problem(place, `function ${name.text}: ${why}`, { isBinding: true });
    }
    const fields = Object.entries(transform.fields).map(([field, { text, type, native: of }]): MadeField => {
      const native = of[dialect];
      if (native === null)
        this.#problem(place, `fields: the source has no type ${text} for ${JSON.stringify(field)}: take json or text`);
      return { name: field, type, native: native ?? text };
    });
    const digest = loaded !== undefined && "digest" in loaded ? loaded.digest : "";
    return { function: name.text, digest, fields };
  }

  /** A document keeps its key, and a failure of its functions stands in a field. */
  #rootTransform({ fields, relations, transform }: DocumentNode, { place }: WantedNode, key: readonly string[]): void {
    const inKey = fields.filter(({ column }) => key.includes(column)).map(({ name }) => name);
    for (const { name } of transform?.fields ?? [])
      if (inKey.includes(name)) this.#problem(place, `transform: ${JSON.stringify(name)} is of the key, which stays`);
    const count = fields.length + relations.length + (transform?.fields.length ?? 0);
    if (transform !== null && count === inKey.length)
      this.#problem(place, "transform: the document has nothing but its key; give it a field");
  }

  #relation(wanted: WantedRelation, above: TableShape): Relation | null {
    const { place, name, many, orderBy, limit, value } = wanted;
    const shape = this.#table(place, wanted.from);
    const joined = shape === null ? null : this.#joined(wanted, above, shape);
    if (shape === null || joined === null) return null;
    for (const { column } of orderBy) this.#ordering(place, shape, column);
    if (value !== null) this.#column(place, shape, value);
    const node =
      value === null
        ? this.#node(wanted, shape, [])
        : { table: tableOf(shape), fields: [{ name: value, column: value }], relations: [], transform: null };
    return { name, many, ...joined, where: this.#condition(wanted.where, shape), orderBy, limit, value, node };
  }

  #joined(wanted: WantedRelation, above: TableShape, below: TableShape): Pick<Relation, "through" | "on"> | null {
    const { place, many, through, on } = wanted;
    if (through === null) {
      const joins = on === null ? this.#byKey(place, above, below, many) : this.#given(place, above, below, on);
      return joins === null ? null : { through: null, on: joins };
    }
    const between = this.#table(through.place, through.from);
    if (between === null) return null;
    const first =
      through.on === null
        ? this.#byKey(through.place, above, between, true)
        : this.#given(through.place, above, between, through.on);
    const second = on === null ? this.#byKey(place, between, below, false) : this.#given(place, between, below, on);
    if (first === null || second === null) return null;
    const made: Through = { table: tableOf(between), on: first };
    return { through: made, on: second };
  }

  #given(place: string, above: TableShape, below: TableShape, on: Readonly<Record<string, string>>): Join[] | null {
    const joins = Object.entries(on).map(([column, of]): Join => ({ above: of, below: column }));
    return this.#exactly(place, above, below, joins);
  }

  /**
   * The one foreign key that joins the two tables: where many rows may belong to one, that of the table below; else that of
   * the table above, or, without any, that of the table below.
   */
  #byKey(place: string, above: TableShape, below: TableShape, many: boolean): Join[] | null {
    const { foreignKeys } = this.#known;
    const between = `${nameOfTable(below)} and ${nameOfTable(above)}`;
    if (foreignKeys === null) {
      this.#problem(place, `the source does not tell foreign keys: say by \`on\` what joins ${between}`);
      return null;
    }
    const { up, down } = keysBetween(foreignKeys, above, below);
    const [found, ...more] = many || down.length === 0 ? up : down;
    if (found === undefined) {
      const other = many && down.length > 0 ? `; without \`many\` a foreign key of ${nameOfTable(above)} does` : "";
      this.#problem(place, `no foreign key joins ${between}: say by \`on\` what does${other}`);
      return null;
    }
    if (more.length > 0) {
      const listed = [found, ...more].map((joins) => `on: ${spelled(joins)}`).join(", or ");
      this.#problem(place, `${more.length + 1} foreign keys join ${between}; say which one: ${listed}`);
      return null;
    }
    return this.#exactly(place, above, below, found);
  }

  /** Null: of two columns, equal values may have several forms. */
  #exactly(place: string, above: TableShape, below: TableShape, joins: readonly Join[]): Join[] | null {
    const exact = joins.flatMap((join) => this.#exact(place, above, below, join) ?? []);
    return exact.length === joins.length ? exact : null;
  }

  #exact(place: string, above: TableShape, below: TableShape, join: Join): Join | null {
    const [a, b] = [this.#end(place, above, join.above), this.#end(place, below, join.below)];
    if (a === null || b === null) return null;
    const masks = [a.mask, b.mask];
    if (masks.some((mask) => mask !== null) && masks.some((mask) => mask !== "hash")) {
      this.#problem(place, `${join.below} and ${join.above} can't be joined: a rule masks one of them`, {
        isBinding: true,
      });
      return null;
    }
    const exact = exactJoin(a, b);
    const isHashed = a.mask !== null;
    if (exact !== null && !(isHashed && !areWrittenAlike(a, b)))
      return exact === "same" ? join : { ...join, alike: exact };
    const ends = `${join.below} (${spelledEnd(b)}) and ${join.above} (${spelledEnd(a)})`;
    const isCollated =
      a.column.type.kind === b.column.type.kind && [a, b].some(({ equality }) => equality !== null) && exact === null;
    if (isHashed)
      this.#problem(place, `${ends} can't be joined by their hashes: equal values may be written otherwise`, {
        isBinding: true,
      });
    else if (isCollated) this.#problem(place, `${ends} can't be joined: ${WRITTEN_OTHERWISE}`, { isBinding: true });
    else this.#problem(place, `${ends} can't be joined by their values`);
    return null;
  }

  #end(place: string, shape: TableShape, name: string): JoinEnd | null {
    const column = this.#column(place, shape, name);
    if (column === null) return null;
    const { source = name, mask = null } = shape.ruled?.lineage.find(({ target }) => target === name) ?? {};
    const own = shape.ruled?.source.columns.find((one) => one.name === source) ?? column;
    const equality = this.#known.equalities?.get(shape.id)?.get(source) ?? null;
    return { column: mask === null ? column : own, mask, equality: column.computed === undefined ? equality : null };
  }

  #ordering(place: string, shape: TableShape, name: string): void {
    const column = this.#column(place, shape, name);
    if (column === null) return;
    // MariaDB's uuids are sorted by their time.
    const isOrdered = column.type.kind === "uuid" ? shape.dialect !== "mysql" : ORDERED.has(column.type.kind);
    if (isOrdered) return;
    this.#problem(place, `orderBy: ${name} (${column.native}) has no order that all sinks agree on`);
  }

  #condition(wanted: WantedCondition | null, shape: TableShape): string | null {
    if (wanted === null) return null;
    try {
      bindWhere(wanted.expression, shape.columns, shape.origins);
    } catch (error) {
      if (!(error instanceof WhereError)) throw error;
      this.#problem(wanted.place, `at character ${error.at + 1}: ${error.message}`);
    }
    return wanted.text;
  }

  #table(place: string, from: string): TableShape | null {
    const { tables, refused } = this.#known;
    const found = tables.find((table) => nameOfTable(table) === from);
    if (found !== undefined) return found;
    const why = refused.find(({ id }) => id === from);
    const message =
      why === undefined
        ? `${from} is no captured table; ${suggestion(from, tables.map(nameOfTable))}`
        : `${from} is not captured: ${why.reason}; ${why.fix}`;
    this.#problem(place, message);
    return null;
  }

  #column(place: string, shape: TableShape, name: string): Column | null {
    const found = shape.columns.find((column) => column.name === name);
    if (found !== undefined) return found;
    const known = shape.columns.map((column) => column.name);
    this.#problem(
      place,
      `${nameOfTable(shape)} has no column ${JSON.stringify(name)}${whyLeftOut(name, shape.origins)}; ${suggestion(name, known)}`,
    );
    return null;
  }

  #problem(place: string, message: string, rest: Pick<DocumentProblem, "isBinding"> = {}): void {
    if (!this.problems.some((one) => one.place === place && one.message === message))
      this.problems.push({ document: this.#document, place, message, ...rest });
  }
}

/** Types whose values SQLite, Postgres and MySQL put into one order. */
const ORDERED: ReadonlySet<ColumnType["kind"]> = new Set([
  "bool",
  "int",
  "float",
  "decimal",
  "text",
  "bytes",
  "date",
  "time",
  "timestamp",
] as const);

/** A column that joins, as it is at the source. */
interface JoinEnd {
  readonly column: Column;
  readonly mask: string | null;
  readonly equality: Equality | null;
}

const WRITTEN_OTHERWISE =
  "the source takes texts for equal that are written otherwise. Give both a collation that compares characters (`_bin`; deterministic), or join by computed columns of both tables that write equal texts alike";

/** Null: equal values may have several forms, and it is not known how these are alike. */
function exactJoin(one: JoinEnd, other: JoinEnd): "same" | Alike | null {
  const [a, b] = [one.column.type, other.column.type];
  const isOneType = one.column.native === other.column.native;
  if (a.kind === "enum" && b.kind === "enum") {
    // A collation has no two labels of one list for equal.
    const areOfOneList = isOneType || areIn(a.labels, b.labels) || areIn(b.labels, a.labels);
    return areOfOneList || (one.equality === null && other.equality === null) ? "same" : null;
  }
  if (a.kind === "text" && b.kind === "text") {
    const [first, second] = [one.equality, other.equality];
    if (a.padded !== b.padded || (!isOneType && [one, other].some(isNoText))) return null;
    if (first === null && second === null) return "same";
    const [alike, too] = [first?.alike ?? null, second?.alike ?? null];
    return alike?.isPadded === too?.isPadded && alike?.isFolded === too?.isFolded ? alike : null;
  }
  if (NUMBERS.has(a.kind) && NUMBERS.has(b.kind)) return "same";
  if (a.kind === "timestamp" && b.kind === "timestamp") return a.zone === b.zone ? "same" : null;
  if (a.kind === "opaque" && b.kind === "opaque") return isOneType && ONE_TEXT.test(one.column.native) ? "same" : null;
  return a.kind === b.kind && ONE_FORM.has(a.kind) ? "same" : null;
}

const NUMBERS: ReadonlySet<ColumnType["kind"]> = new Set(["int", "decimal"] as const);
const ONE_FORM: ReadonlySet<ColumnType["kind"]> = new Set(["bool", "bytes", "date", "time", "uuid"] as const);
/** Types without a form of their own, whose equal values have one text: `1 mon` and `30 days` are equal intervals. */
const ONE_TEXT = /^(?:inet|cidr|macaddr8?|bit|money|"char"|xid8?|pg_lsn|ltree|time|set)(?![a-z])/;

/** MySQL's, which sinks get as text. */
function isNoText({ column }: JoinEnd): boolean {
  return /^(?:inet[46]|date|datetime|timestamp)(?![a-z])/.test(column.native);
}

function areIn(labels: readonly string[], others: readonly string[]): boolean {
  return labels.length > 0 && labels.every((label) => others.includes(label));
}

/** Whether equal values have one text, whose hashes are equal. */
function areWrittenAlike(one: JoinEnd, other: JoinEnd): boolean {
  const [a, b] = [one.column.type, other.column.type];
  if (one.equality !== null || other.equality !== null) return false;
  if (a.kind === "decimal") return b.kind === "decimal" && a.scale !== null && a.scale === b.scale;
  if (a.kind === "int" || (a.kind === "text" && a.padded !== true)) return a.kind === b.kind;
  return one.column.native === other.column.native;
}

function spelledEnd({ column: { native }, equality }: JoinEnd): string {
  return equality === null || equality.by === native ? native : `${native}, ${equality.by}`;
}

function nameOf(rename: Readonly<Record<string, string>>, column: string): string {
  return Object.hasOwn(rename, column) ? rename[column]! : column;
}

function tableOf({ schema, table }: TableShape): TableName {
  return { schema, table };
}

function nameOfTable({ schema, table }: TableName): string {
  return `${schema}.${table}`;
}

function isTable(shape: TableShape, { schema, table }: TableName): boolean {
  return shape.schema === schema && shape.table === table;
}

/** What foreign keys join of two tables: `up` by one of the table below, `down` by one of the table above. */
export function keysBetween(
  foreignKeys: readonly ForeignKey[],
  above: TableShape,
  below: TableShape,
): { readonly up: readonly Join[][]; readonly down: readonly Join[][] } {
  const up = foreignKeys.flatMap((key) => {
    if (!isTable(below, key.table) || !isTable(above, key.references)) return [];
    return joinsOf(seen(above, key.referenced), seen(below, key.columns));
  });
  const down = foreignKeys.flatMap((key) => {
    if (!isTable(above, key.table) || !isTable(below, key.references)) return [];
    return joinsOf(seen(above, key.columns), seen(below, key.referenced));
  });
  return { up: distinct(up), down: distinct(down) };
}

/** The names that sinks see of a table's columns; null: the rules leave one out. */
function seen({ ruled }: TableShape, columns: readonly string[]): readonly string[] | null {
  if (ruled === undefined) return columns;
  const names = columns.map((column) => ruled.lineage.find(({ source }) => source === column)?.target ?? null);
  return names.every((name) => name !== null) ? names : null;
}

/** None if the rules leave out a column of the foreign key. */
function joinsOf(above: readonly string[] | null, below: readonly string[] | null): Join[][] {
  return above === null || below === null
    ? []
    : [above.map((column, i): Join => ({ above: column, below: below[i]! }))];
}

function distinct(candidates: readonly Join[][]): readonly Join[][] {
  const texts = candidates.map(spelled);
  return candidates.filter((_, i) => texts.indexOf(texts[i]!) === i);
}

/** As `on` has them. */
export function spelled(joins: readonly Join[]): string {
  return `{ ${joins.map(({ above, below }) => `${below}: ${above}`).join(", ")} }`;
}

/** `-name`: descending. */
export function orderOf(text: string): Order {
  return text.startsWith("-") ? { column: text.slice(1), isDescending: true } : { column: text, isDescending: false };
}
