/**
 * Documents made of the source's rows, without the nest: a second way, for `reconcile --deep`. A root's rows are read, then the
 * rows that join them, level by level. It shares the forms of values and the user's functions with the nest, and nothing else:
 * joins, conditions, order and limits are its own.
 *
 *     roots ─► their keys ─► rows of the source that join the rows with these ─► grouped, ordered, cut ─► objects
 *
 * The rows of one document come from several reads. A document that changes meanwhile may be one that never was: whoever compares
 * looks again (reconcile/foreign/verify.ts).
 */
import type { Readable, ReadableTable, ReadableTables, TextRow } from "../core/contracts/readable.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import type { TableName } from "../core/contracts/connector.ts";
import type { Column } from "../core/model/schema.ts";
import { tableId } from "../core/model/schema.ts";
import { joinedKey } from "../core/model/row-id.ts";
import { spelledJson } from "../core/targets/expected-json.ts";
import { type Spelling, spellings, spelledAlike } from "../core/values/alike.ts";
import { bindWhere, type Condition, TRUE } from "../rules/where/condition.ts";
import { columnsIn, parseWhere } from "../rules/where/syntax.ts";
import { type Family, familyOf } from "../rules/where/values.ts";
import { type Document, type DocumentNode, documentTableId, type Join, type Relation } from "./document.ts";
import { isTransformed, Transforming, type Transforms } from "./transforms.ts";

/** The source's tables, as the configuration's rules show them. */
interface TableReads {
  rows(table: TableShape, columns: readonly number[], signal: AbortSignal): AsyncIterable<readonly TextRow[]>;
  rowsAt(
    table: TableShape,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]>;
  /** Rows that join rows of another table, and perhaps others: see `RowReads`. Null: the source can't look them up. */
  readonly joined:
    | ((
        table: TableShape,
        columns: readonly number[],
        by: readonly number[],
        above: { readonly table: TableShape; readonly of: readonly number[]; readonly keys: readonly KeyText[] },
        signal: AbortSignal,
      ) => Promise<readonly TextRow[]>)
    | null;
}

/** So many documents are put together at once. */
const ROOTS_MAX = 200;

interface DocumentReadsParts {
  readonly documents: readonly Document[];
  readonly transforms: Transforms;
  /** Of the source. */
  readonly tables: readonly TableShape[];
  /** Of the documents, as sinks see them, and those that the nest can't make now. */
  readonly made: Pick<ReadableTables, "refused"> & { readonly tables: readonly TableShape[] };
  readonly reads: TableReads;
}

export class DocumentReads implements Readable {
  readonly #found: ReadableTables;
  readonly #made = new Map<string, MadeDocument>();

  constructor({ documents, transforms, tables, made, reads }: DocumentReadsParts) {
    const refused: { id: string; reason: string }[] = [];
    for (const document of documents) {
      const id = documentTableId(document.name);
      const shape = made.tables.find((one) => one.id === id);
      if (shape === undefined || reads.joined === null) {
        const why = made.refused.find((one) => one.id === id)?.reason;
        const reason =
          shape === undefined
            ? `the nest can't make it now${why === undefined ? "" : `: ${why}`}`
            : "its source can't look rows up by the columns that join them";
        refused.push({ id, reason });
        continue;
      }
      try {
        this.#made.set(shape.id, new MadeDocument(document, shape, { tables, reads, transforms }));
      } catch (error) {
        if (!(error instanceof NotReadable)) throw error;
        refused.push({ id: shape.id, reason: error.message });
      }
    }
    this.#found = { tables: made.tables.filter(({ id }) => this.#made.has(id)), refused };
  }

  async tables(): Promise<ReadableTables> {
    return this.#found;
  }

  async *rows(
    { id }: ReadableTable,
    columns: readonly number[],
    signal: AbortSignal,
  ): AsyncGenerator<readonly TextRow[]> {
    for await (const part of this.#made.get(id)!.all(signal)) yield part.map((row) => columns.map((i) => row[i]!));
  }

  async rowsAt(
    { id }: ReadableTable,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]> {
    const found = await this.#made.get(id)!.at(keys, signal);
    return found.map((row) => columns.map((i) => row[i]!));
  }

  async close(): Promise<void> {}
}

/** Why a document can't be made in this way. */
class NotReadable extends Error {}

interface Around {
  readonly tables: readonly TableShape[];
  readonly reads: TableReads;
  readonly transforms: Transforms;
}

class MadeDocument {
  readonly #root: NodeRows;
  readonly #shape: TableShape;
  readonly #reads: TableReads;
  /** The root's fields as the document has them: an array is JSON there. */
  readonly #fields: readonly { readonly column: Column; readonly at: number; readonly isSpelled: boolean }[];
  readonly #transforming: Transforming | null;

  constructor(document: Document, shape: TableShape, { tables, reads, transforms }: Around) {
    const { root } = document;
    this.#shape = shape;
    this.#reads = reads;
    this.#root = new NodeRows(root, document.where, { tables, reads });
    this.#fields = root.fields.map(({ name, column: from }) => {
      const at = this.#root.table.at(from);
      const { type } = this.#root.table.columns[at]!;
      const column = shape.columns.find((one) => one.name === name)!;
      return { column, at, isSpelled: type.kind === "array" };
    });
    const given = [
      ...this.#fields.map(({ column, isSpelled }) => (isSpelled ? { ...column, type: JSON_TYPE } : column)),
      ...root.relations.map(({ name }) => shape.columns.find((one) => one.name === name)!),
    ];
    const columns = { given, made: shape.columns, key: shape.key };
    this.#transforming = isTransformed(document) ? new Transforming(document, columns, transforms) : null;
  }

  async *all(signal: AbortSignal): AsyncGenerator<readonly TextRow[]> {
    const { shape, ordinals } = this.#root.table;
    for await (const part of this.#reads.rows(shape, ordinals, signal)) yield* this.#inParts(part, signal);
  }

  async at(keys: readonly KeyText[], signal: AbortSignal): Promise<readonly TextRow[]> {
    const { shape, ordinals } = this.#root.table;
    const rows = await this.#reads.rowsAt(shape, ordinals, keys, signal);
    const made: TextRow[] = [];
    for await (const part of this.#inParts(rows, signal)) made.push(...part);
    return made;
  }

  #isKey(ordinal: number): boolean {
    return this.#shape.key.includes(ordinal);
  }

  async *#inParts(rows: readonly TextRow[], signal: AbortSignal): AsyncGenerator<readonly TextRow[]> {
    for (let i = 0; i < rows.length; i += ROOTS_MAX) yield await this.#documents(rows.slice(i, i + ROOTS_MAX), signal);
  }

  async #documents(rows: readonly TextRow[], signal: AbortSignal): Promise<readonly TextRow[]> {
    const roots = this.#root.passing(rows);
    const relations = await this.#root.relationsOf(roots, signal);
    return roots.flatMap((row, i) => {
      const fields = this.#fields.map(({ at, isSpelled }) => {
        const text = row[at] ?? null;
        return text === null || !isSpelled ? text : spelledJson(this.#root.table.columns[at]!.type, text);
      });
      const texts = [...fields, ...relations.map((of) => of[i]!)];
      if (this.#transforming === null) return [texts];
      const made = this.#transforming.apply(texts);
      if (made.kind === "leftOut") return [];
      // As the nest shows it: by its key.
      return [
        made.kind === "failed" ? this.#shape.columns.map((_, i) => (this.#isKey(i) ? texts[i]! : null)) : made.texts,
      ];
    });
  }
}

const JSON_TYPE = { kind: "json" } as const;

/** The columns of one table that are read of it, in this order. */
class TableColumns {
  readonly shape: TableShape;
  readonly ordinals: readonly number[];
  readonly columns: readonly Column[];

  constructor(name: TableName, wanted: Iterable<string>, tables: readonly TableShape[]) {
    const id = tableId(name.schema, name.table);
    const shape = tables.find((one) => one.id === id);
    if (shape === undefined) throw new NotReadable(`its table ${id} is not captured now`);
    const names = new Set([...shape.key.map((ordinal) => shape.columns[ordinal]!.name), ...wanted]);
    this.shape = shape;
    this.ordinals = shape.columns.flatMap(({ name: column }, ordinal) => (names.has(column) ? [ordinal] : []));
    this.columns = this.ordinals.map((ordinal) => shape.columns[ordinal]!);
    const missing = [...names].find((one) => this.columns.every((column) => column.name !== one));
    if (missing !== undefined) throw new NotReadable(`${id} has no column ${JSON.stringify(missing)} now`);
  }

  at(name: string): number {
    return this.columns.findIndex((column) => column.name === name);
  }

  keyOf(row: TextRow): KeyText {
    return this.shape.key.map((ordinal) => row[this.ordinals.indexOf(ordinal)] ?? "");
  }
}

/** The rows of a node, and what belongs to them. */
class NodeRows {
  readonly table: TableColumns;
  readonly #node: DocumentNode;
  readonly #condition: Condition | null;
  readonly #relations: readonly RelationRows[];

  constructor(
    node: DocumentNode,
    where: string | null,
    around: Omit<Around, "transforms">,
    besides: readonly string[] = [],
  ) {
    const expression = where === null ? null : parseWhere(where);
    const wanted = [
      ...besides,
      ...node.fields.map(({ column }) => column),
      ...node.relations.flatMap(({ on, through }) => (through?.on ?? on).map(({ above }) => above)),
      ...(expression === null ? [] : columnsIn(expression)),
    ];
    this.table = new TableColumns(node.table, wanted, around.tables);
    this.#condition = expression === null ? null : bindWhere(expression, this.table.columns);
    this.#node = node;
    this.#relations = node.relations.map((relation) => new RelationRows(relation, this.table, around));
  }

  passing(rows: readonly TextRow[]): readonly TextRow[] {
    const condition = this.#condition;
    if (condition === null) return rows;
    return rows.filter((row) => {
      const judged = { text: (i: number) => row[i] ?? null, isLeftOut: () => false, remembered: () => undefined };
      return condition.evaluate(judged) === TRUE;
    });
  }

  /** By relation and row, the relation's JSON; null: no row joins one that is not `many`. */
  async relationsOf(rows: readonly TextRow[], signal: AbortSignal): Promise<readonly (readonly (string | null)[])[]> {
    const all: (readonly (string | null)[])[] = [];
    for (const relation of this.#relations) all.push(await relation.of(rows, signal));
    return all;
  }

  /** The JSON of each row. */
  async objectsOf(rows: readonly TextRow[], signal: AbortSignal): Promise<readonly string[]> {
    const relations = await this.relationsOf(rows, signal);
    return rows.map((row, i) => {
      const fields = this.#node.fields.map(({ name, column }) => [name, this.jsonOf(row, column)] as const);
      const below = this.#node.relations.map(({ name }, r) => [name, relations[r]![i] ?? "null"] as const);
      return `{${[...fields, ...below].map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`;
    });
  }

  jsonOf(row: TextRow, column: string): string {
    const at = this.table.at(column);
    const text = row[at] ?? null;
    return text === null ? "null" : spelledJson(this.table.columns[at]!.type, text);
  }
}

/** The rows of a relation that belong to rows above it. */
class RelationRows {
  readonly #relation: Relation;
  readonly #node: NodeRows;
  /** From the rows above, over the table in between if there is one. */
  readonly #steps: readonly JoinStep[];
  readonly #order: readonly ((a: TextRow, b: TextRow) => number)[];

  constructor(relation: Relation, above: TableColumns, around: Omit<Around, "transforms">) {
    const { node, where, on, through, orderBy, value } = relation;
    this.#relation = relation;
    const besides = [
      ...on.map(({ below }) => below),
      ...orderBy.map(({ column }) => column),
      ...(value === null ? [] : [value]),
    ];
    this.#node = new NodeRows(node, where, around, besides);
    const { table } = this.#node;
    if (through === null) this.#steps = [new JoinStep(above, table, on, around.reads)];
    else {
      const between = new TableColumns(
        through.table,
        [...through.on.map(({ below }) => below), ...on.map((join) => join.above)],
        around.tables,
      );
      this.#steps = [
        new JoinStep(above, between, through.on, around.reads),
        new JoinStep(between, table, on, around.reads),
      ];
    }
    const byKey = table.shape.key.map((ordinal) => ({
      column: table.shape.columns[ordinal]!.name,
      isDescending: false,
    }));
    this.#order = [...orderBy, ...byKey].map(({ column, isDescending }) => orderOf(table, column, isDescending));
  }

  async of(above: readonly TextRow[], signal: AbortSignal): Promise<readonly (string | null)[]> {
    let joined = above.map((row): readonly TextRow[] => [row]);
    for (const step of this.#steps) {
      const below = await step.from(joined.flat(), signal);
      joined = joined.map((rows) => rows.flatMap((row) => below(row)));
    }
    const { many, limit, value } = this.#relation;
    const chosen = joined.map((rows) =>
      this.#node
        .passing(rows)
        .toSorted((a, b) => this.#compared(a, b))
        .slice(0, many ? (limit ?? undefined) : 1),
    );
    const flat = [...new Set(chosen.flat())];
    const objects =
      value === null ? await this.#node.objectsOf(flat, signal) : flat.map((row) => this.#node.jsonOf(row, value));
    const json = new Map(flat.map((row, i) => [row, objects[i]!]));
    return chosen.map((rows) => {
      const made = rows.map((row) => json.get(row)!);
      return many ? `[${made.join(",")}]` : (made[0] ?? null);
    });
  }

  #compared(a: TextRow, b: TextRow): number {
    for (const compare of this.#order) {
      const order = compare(a, b);
      if (order !== 0) return order;
    }
    return 0;
  }
}

/** Rows of one table that have the values of rows of another one. */
class JoinStep {
  readonly #above: TableColumns;
  readonly #below: TableColumns;
  readonly #reads: TableReads;
  readonly #pairs: readonly Joined[];

  constructor(above: TableColumns, below: TableColumns, on: readonly Join[], reads: TableReads) {
    this.#above = above;
    this.#below = below;
    this.#reads = reads;
    this.#pairs = on.map((join) => joinedBy(above, below, join));
  }

  /** Which rows join one of `above`. */
  async from(above: readonly TextRow[], signal: AbortSignal): Promise<(row: TextRow) => readonly TextRow[]> {
    // One row for each of the values.
    const wanted = new Map<string, KeyText>();
    for (const row of above) {
      const id = this.#idOf(row, "above");
      if (id !== null) wanted.set(id, this.#above.keyOf(row));
    }
    const found = new Map<string, Map<string, TextRow>>();
    const { shape, ordinals } = this.#below;
    const by = this.#pairs.map(({ below }) => ordinals[below]!);
    const of = this.#pairs.map((pair) => this.#above.ordinals[pair.above]!);
    const keys = [...wanted.values()];
    const rows =
      keys.length === 0
        ? []
        : await this.#reads.joined!(shape, ordinals, by, { table: this.#above.shape, of, keys }, signal);
    for (const row of rows) {
      const id = this.#idOf(row, "below");
      // A source that compares texts without case finds more.
      if (id === null || !wanted.has(id)) continue;
      const own = found.get(id) ?? new Map<string, TextRow>();
      own.set(joinedKey(this.#below.keyOf(row)), row);
      found.set(id, own);
    }
    return (row) => {
      const id = this.#idOf(row, "above");
      return id === null ? [] : [...(found.get(id)?.values() ?? [])];
    };
  }

  /** Equal for rows that join; null joins nothing. */
  #idOf(row: TextRow, side: "above" | "below"): string | null {
    const parts: string[] = [];
    for (const pair of this.#pairs) {
      const text = row[pair[side]] ?? null;
      if (text === null) return null;
      parts.push(pair.spell[side === "above" ? 0 : 1](text));
    }
    return joinedKey(parts);
  }
}

interface Joined {
  readonly above: number;
  readonly below: number;
  readonly spell: readonly [Spelling, Spelling];
}

function joinedBy(above: TableColumns, below: TableColumns, join: Join): Joined {
  const ends = [above.at(join.above), below.at(join.below)] as const;
  for (const [i, table] of [above, below].entries()) {
    const { name, computed } = table.columns[ends[i]!]!;
    if (computed !== undefined)
      throw new NotReadable(`its rows join by the column ${JSON.stringify(name)}, which a function makes`);
  }
  const types = [above.columns[ends[0]]!.type, below.columns[ends[1]]!.type] as const;
  const spell = spellings(types[0], types[1]);
  if (spell === null) throw new NotReadable(`${join.above} and ${join.below} are of different kinds`);
  const { alike } = join;
  if (alike === undefined) return { above: ends[0], below: ends[1], spell };
  const spelled: Spelling = (text) => spelledAlike(text, alike);
  return { above: ends[0], below: ends[1], spell: [spelled, spelled] };
}

/** Postgres has nulls behind all values, MySQL before them. */
function orderOf(table: TableColumns, column: string, isDescending: boolean): (a: TextRow, b: TextRow) => number {
  const i = table.at(column);
  const family = familyOf(table.columns[i]!);
  const sign = isDescending ? -1 : 1;
  const nullLast = table.shape.dialect === "postgres" ? 1 : -1;
  return (a, b) => {
    const [one, other] = [a[i] ?? null, b[i] ?? null];
    if (one === null || other === null) return sign * nullLast * (Number(one === null) - Number(other === null));
    return sign * comparedTexts(family, one, other);
  };
}

function comparedTexts(family: Family | null, one: string, other: string): number {
  const [a, b] = [family?.read(one), family?.read(other)];
  if (family === null || a === undefined || b === undefined)
    return Buffer.compare(Buffer.from(one), Buffer.from(other));
  return family.compare(a, b);
}
