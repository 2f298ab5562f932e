/** A schema file of pgsync as a configuration of Millrace: its indexes as documents, and the search engine as their sink. */
import { documentsDefinition, documentsOf } from "../../config/documents.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import type { Join } from "../../documents/document.ts";
import { type KnownTables, keysBetween, resolveDocuments, spelled } from "../../documents/resolve.ts";
import { cliError } from "../errors.ts";
import { asName } from "../init/init-file.ts";
import { type Fields, fieldsOf, refuseOthers } from "./connector-file.ts";
import { type Imported, type LeftOut, UNDECIDED } from "./findings.ts";
import { type FieldsTree, type IndexKeys, indexKeys, refusedOf } from "./pgsync-index.ts";

/** As `documents` of millrace.yaml has it. */
interface DocumentKeys {
  readonly from: string;
  readonly columns?: readonly string[];
  readonly rename?: Readonly<Record<string, string>>;
  readonly with?: Readonly<Record<string, RelationKeys>>;
  /** What is to be decided. It does not load. */
  readonly [UNDECIDED]?: readonly string[];
}

interface RelationKeys extends DocumentKeys {
  readonly many?: true;
  readonly through?: string | { readonly from: string; readonly on: Readonly<Record<string, string>> };
  readonly on?: Readonly<Record<string, string>>;
  readonly value?: string;
}

interface PgsyncIndex {
  readonly database: string;
  readonly index: string;
  readonly fields: Fields;
}

/** Those of one database. `from`: its name; null: the file's only one. */
export function parsePgsync(file: string, text: string, from: string | null = null): readonly PgsyncIndex[] {
  refuseOthers(file, text, "pgsync");
  const refuse = (what: string) => cliError("MR1140", `${file} ${what}`);
  let read: unknown;
  try {
    read = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch {
    throw refuse("is not JSON");
  }
  const list: readonly unknown[] = Array.isArray(read) ? read : [read];
  const found = list.map((one, i) => {
    const fields = fieldsOf(one);
    const { database, index = database, nodes = fields?.["node"] } = fields ?? {};
    if (fields === null || nodes === undefined || typeof database !== "string" || typeof index !== "string")
      throw refuse(`is no schema of pgsync: its entry ${i + 1} has no \`database\`, \`index\` and \`nodes\``);
    return { database, index, fields };
  });
  const chosen = found.filter(({ database }) => from === null || database === from);
  const names = [...new Set(found.map(({ database }) => JSON.stringify(database)))].join(", ");
  if (chosen.length === 0) throw refuse(`has no such database; it has ${names || "none"}`);
  if (new Set(chosen.map(({ database }) => database)).size > 1)
    throw refuse(`has indexes of several databases; choose one with --from: ${names}`);
  return chosen;
}

interface PgsyncSource {
  readonly name: string;
  readonly kind: string;
  /** As the file is to have it. */
  readonly url: string;
  /** Of the url; empty: it names none. */
  readonly database: string;
  /** Of nodes that name none. */
  readonly schema: string;
  readonly known: KnownTables;
}

interface PgsyncConfig {
  readonly name: string;
  readonly source: { readonly kind: string; readonly url: string; readonly tables: readonly string[] };
  readonly documents: Readonly<Record<string, DocumentKeys>>;
  readonly sinks: { readonly search: { readonly kind: "elasticsearch"; readonly index?: object } & object };
}

/** Joins are left to the foreign keys, as in pgsync; those that the source does not have are named. */
export function importedFromPgsync(indexes: readonly PgsyncIndex[], source: PgsyncSource): Imported<PgsyncConfig> {
  const left: LeftOut[] = [];
  const documents: Record<string, DocumentKeys> = {};
  const byIndex: Record<string, IndexKeys> = {};
  const tables = new Set<string>();
  for (const { index, database, fields } of indexes) {
    const known = left.length;
    const name = asName(index, 60) || "documents";
    const reading = new Reading(index, name, source, left, tables);
    if (database !== source.database) reading.leave("database", `it is ${database}, and --source names another one`);
    if (name !== index)
      reading.leave("index", `the document is named ${name}: a name has lower-case letters, digits and _`);
    if (Object.hasOwn(documents, name)) {
      reading.block("index", `a second document would be named ${name}`);
      continue;
    }
    const document = reading.document(fields);
    const own = reading.index(fields, document);
    if (own !== null) byIndex[name] = own;
    for (const { place, message } of problemsOf({ [name]: document }, source.known))
      if (!reading.unclear.has(place)) reading.decide(place, message);
    const undecided = left.slice(known).filter(({ isBlocking }) => isBlocking);
    documents[name] = undecided.length === 0 ? document : { [UNDECIDED]: undecided.map(({ key }) => key), ...document };
  }
  const names = Object.keys(documents);
  const config = {
    name: source.name,
    source: { kind: source.kind, url: source.url, tables: [...tables].toSorted() },
    documents,
    sinks: {
      search: {
        kind: "elasticsearch" as const,
        url: "${ELASTICSEARCH_URL}",
        documents: names,
        ...(Object.keys(byIndex).length === 0 ? {} : { index: byIndex }),
      },
    },
  };
  const variables = [
    { name: "DATABASE_URL", from: "--source" },
    { name: "ELASTICSEARCH_URL", from: "ELASTICSEARCH_URL, or ELASTICSEARCH_HOST and its like, of pgsync" },
  ];
  return { config, left, variables };
}

/** What the source's tables and foreign keys have to say. */
function problemsOf(documents: Readonly<Record<string, DocumentKeys>>, known: KnownTables) {
  const parsed = documentsDefinition.safeParse(documents);
  if (!parsed.success)
    return parsed.error.issues.map(({ path, message }) => ({ place: ["documents", ...path].join("."), message }));
  const wanted = documentsOf(parsed.data, { folder: ".", place: (path) => path.join("."), problem: () => undefined });
  return resolveDocuments(wanted, known).problems;
}

/** Keys of an entry that are about a whole index. */
const OF_INDEX: ReadonlyMap<string, string> = new Map([
  ["mappings", "pgsync sends it in a form that engines refuse; write its fields as `mapping`"],
  ["pipeline", "an ingest pipeline of the search engine is not used"],
  ["routing", "documents are spread by their ids"],
  ["es_boost", "it has no counterpart"],
]);
/** They change or hide values in ways that only their code says. */
const BY_CODE = "what it does to documents is not known: write a `transform` that does it, or take the key out";
const UNKNOWN = "Millrace does not know this key: take it out, or write what it does";
const OF_NODE = new Set([
  "table",
  "schema",
  "columns",
  "label",
  "children",
  "relationship",
  "transform",
  "primary_key",
  "base_tables",
]);

/** Where a node is. */
interface NodeAt {
  /** In the file of pgsync. */
  readonly path: string;
  /** In millrace.yaml. */
  readonly place: string;
}

class Reading {
  readonly #index: string;
  readonly #name: string;
  readonly #source: PgsyncSource;
  readonly #left: LeftOut[];
  readonly #tables: Set<string>;
  /** By the place of a node, what its `transform.mapping` says. */
  readonly #mappings = new Map<string, Fields>();
  /** Places of relations that foreign keys join in several ways. */
  readonly unclear = new Set<string>();

  constructor(index: string, name: string, source: PgsyncSource, left: LeftOut[], tables: Set<string>) {
    this.#index = index;
    this.#name = name;
    this.#source = source;
    this.#left = left;
    this.#tables = tables;
  }

  document(fields: Fields): DocumentKeys {
    for (const key of Object.keys(fields)) {
      if (["database", "index", "nodes", "node", "setting", "mapping"].includes(key)) continue;
      const why = OF_INDEX.get(key);
      if (key === "plugins") this.block(key, BY_CODE);
      else if (why === undefined) this.block(key, UNKNOWN);
      else this.leave(key, why);
    }
    const { node, nodes = node } = fields;
    if (node !== undefined && nodes !== node) this.block("node", "there are `nodes` too: remove one of them");
    const roots: readonly unknown[] = Array.isArray(nodes) ? nodes : [nodes];
    if (roots.length !== 1) this.block("nodes", "a document has one root: give each its own index");
    const root = fieldsOf(roots[0]);
    if (root === null) {
      this.block("nodes", "it has no root");
      return { from: UNDECIDED };
    }
    return this.#node({ path: "nodes", place: `documents.${this.#name}` }, root);
  }

  /** What the search engine is to be told of the document's index; null: nothing. */
  index(fields: Fields, document: DocumentKeys): IndexKeys | null {
    const [setting, mapping] = [this.#object("setting", fields["setting"]), this.#object("mapping", fields["mapping"])];
    const tree = this.#tree(`documents.${this.#name}`, document, true);
    const keys = indexKeys(setting, mapping, tree, (key, why) => this.leave(key, why));
    for (const { path, message } of keys === null ? [] : refusedOf(keys))
      this.decide(`sinks.search.index.${this.#name}.${path}`, message);
    return keys;
  }

  #tree(place: string, node: DocumentKeys, isRoot: boolean): FieldsTree {
    const { columns, rename = {}, with: relations = {} } = node;
    const { columns: all = [], key = [] } = this.#known(node.from) ?? {};
    // The key is in a document in any case.
    const always = isRoot ? key.map((ordinal) => all[ordinal]!.name) : [];
    const shown = [...always, ...(columns ?? all.map(({ name }) => name))];
    const below = Object.entries(relations).filter(([, { value }]) => value === undefined);
    return {
      names: new Set([
        ...shown.map((column) => (Object.hasOwn(rename, column) ? rename[column]! : column)),
        ...Object.keys(relations),
      ]),
      relations: new Map(below.map(([name, relation]) => [name, this.#tree(`${place}.with.${name}`, relation, false)])),
      mapping: this.#mappings.get(place) ?? {},
    };
  }

  #node({ path, place }: NodeAt, node: Fields): DocumentKeys {
    const from = this.#ownKeys(path, node);
    const columns = this.#columns(`${path}.columns`, node["columns"], false);
    const rename = this.#transform({ path: `${path}.transform`, place }, node["transform"], columns);
    const below = this.#children({ path: `${path}.children`, place }, node["children"], from);
    return {
      from,
      ...(columns.length === 0 ? {} : { columns }),
      ...(Object.keys(rename).length === 0 ? {} : { rename }),
      ...(Object.keys(below).length === 0 ? {} : { with: below }),
    };
  }

  /** pgsync shows the first column of such a node, and nothing else of it. */
  #scalar({ path, place }: NodeAt, node: Fields): DocumentKeys & { readonly value?: string } {
    const from = this.#ownKeys(path, node);
    const columns = this.#columns(`${path}.columns`, node["columns"], true);
    this.#transform({ path: `${path}.transform`, place }, node["transform"], columns);
    const value = columns[0] ?? this.#known(from)?.columns[0]?.name;
    const children = this.#list(`${path}.children`, node["children"]);
    if (Object.keys(this.#mappings.get(place) ?? {}).length > 0)
      this.leave(
        `${path}.transform.mapping`,
        "a bare value has no fields: write it under the field's name in `mapping`",
      );
    if (columns.length !== 1 || children.length > 0)
      this.leave(`${path}.relationship.variant`, "a bare value is of the node's first column: the rest was left out");
    return value === undefined ? { from } : { from, value };
  }

  /** Returns the table. */
  #ownKeys(path: string, node: Fields): string {
    for (const key of Object.keys(node)) if (!OF_NODE.has(key)) this.block(`${path}.${key}`, UNKNOWN);
    for (const key of ["table", "schema", "label"]) this.#text(`${path}.${key}`, node[key]);
    if (node["base_tables"] !== undefined) this.block(`${path}.base_tables`, "a view is not captured: name its tables");
    if (node["primary_key"] !== undefined)
      this.leave(`${path}.primary_key`, "the table's own key counts; `key` under `tables` chooses another");
    const given = textOf(node["schema"]);
    const schema = this.#schemaOf(node);
    if (given !== "" && given !== schema)
      this.leave(`${path}.schema`, `pgsync does not look at it in MySQL; tables of ${schema} were taken`);
    return this.#table(schema, textOf(node["table"]));
  }

  /** None: all. What is no name of a column is an expression of SQL. */
  #columns(path: string, given: unknown, isScalar: boolean): readonly string[] {
    const all = this.#texts(path, given);
    const plain = all.filter((column) => /^[\w$ -]+$/u.test(column) && !column.includes("->"));
    if (plain.length < all.length) {
      const others = all.filter((column) => !plain.includes(column)).join(", ");
      // Without its columns the node would show all of them, and a bare value would be another one.
      if (plain.length === 0 || isScalar) this.block(path, `${others}: a part of a JSON column is no column`);
      else this.leave(path, `${others}: a part of a JSON column is no column, and was left out`);
    }
    return plain.length === 0 && (all.length > 0 || (given !== undefined && !Array.isArray(given)))
      ? [UNDECIDED]
      : plain;
  }

  #transform({ path, place }: NodeAt, given: unknown, columns: readonly string[]): Readonly<Record<string, string>> {
    const transform = this.#object(path, given);
    for (const key of Object.keys(transform))
      if (key !== "rename" && key !== "mapping") this.block(`${path}.${key}`, BY_CODE);
    this.#mappings.set(place, this.#object(`${path}.mapping`, transform["mapping"]));
    const rename = Object.entries(this.#object(`${path}.rename`, transform["rename"])).flatMap(([from, to]) => {
      const field = this.#text(`${path}.rename.${from}`, to);
      if (columns.length === 0 || columns.includes(from)) return field === "" ? [] : [[from, field] as const];
      this.leave(`${path}.rename.${from}`, "the node has no such column");
      return [];
    });
    return Object.fromEntries(rename);
  }

  #children({ path, place }: NodeAt, given: unknown, above: string): Readonly<Record<string, RelationKeys>> {
    const found: Record<string, RelationKeys> = {};
    for (const [i, child] of this.#list(path, given).entries()) {
      const node = fieldsOf(child);
      const at = `${path}[${i}]`;
      if (node === null) {
        this.block(at, "it is no object");
        continue;
      }
      const name = textOf(node["label"]) || textOf(node["table"]);
      if (Object.hasOwn(found, name))
        this.block(`${at}.label`, `a second field would be named ${JSON.stringify(name)}`);
      else found[name] = this.#relation({ path: at, place: `${place}.with.${name}` }, node, above);
    }
    return found;
  }

  #relation(at: NodeAt, node: Fields, above: string): RelationKeys {
    const path = `${at.path}.relationship`;
    const {
      type,
      variant = "object",
      through_tables: through,
      foreign_key: key,
      ...rest
    } = this.#object(path, node["relationship"]);
    for (const other of Object.keys(rest)) this.block(`${path}.${other}`, UNKNOWN);
    if (type !== "one_to_one" && type !== "one_to_many") this.block(`${path}.type`, "it is one_to_one or one_to_many");
    if (variant !== "object" && variant !== "scalar") this.block(`${path}.variant`, "it is object or scalar");
    const between = this.#texts(`${path}.through_tables`, through);
    if (between.length > 1) this.block(`${path}.through_tables`, "one table lies between two");
    const [first] = between;
    const isOne = type === "one_to_one";
    if (isOne && first !== undefined)
      this.leave(
        `${path}.type`,
        "pgsync shows a list of all rows behind a through-table, of their first column where the node has no children: `many` was written, with all columns. For one row write `orderBy` in its place",
      );
    const made = variant === "scalar" ? this.#scalar(at, node) : this.#node(at, node);
    const many = type === "one_to_many" || first !== undefined;
    const ends: Ends = { above, between: first === undefined ? null : this.#between(first, node), below: made.from };
    return { ...made, ...(many ? { many } : {}), ...this.#joins(at, key, ends, many) };
  }

  #joins(at: NodeAt, given: unknown, ends: Ends, many: boolean): Pick<RelationKeys, "on" | "through"> {
    const path = `${at.path}.relationship.foreign_key`;
    const { parent, child, ...rest } = this.#object(path, given);
    for (const other of Object.keys(rest)) this.block(`${path}.${other}`, UNKNOWN);
    const { above, between, below } = ends;
    if (given !== undefined && given !== null) {
      const through = between === null ? {} : { through: between };
      const columns = (side: unknown) => this.#texts(path, typeof side === "string" ? [side] : side);
      const [ofAbove, ofBelow] = [columns(parent), columns(child)];
      if (between === null && ofAbove.length === ofBelow.length && ofAbove.length > 0)
        return { on: Object.fromEntries(ofBelow.map((column, i) => [column, ofAbove[i]!])) };
      this.block(path, "say by `on` what joins the tables");
      return through;
    }
    if (between !== null) {
      const first = this.#byKey(`${at.place}.through`, above, between);
      this.#byKey(at.place, between, below);
      return { through: first === null || first.isOfBelow ? between : { from: between, on: onOf(first.joins) } };
    }
    const found = this.#byKey(at.place, above, below);
    if (found === null) return {};
    // Millrace takes a list for rows that refer to the one above.
    if (many) return found.isOfBelow ? {} : { on: onOf(found.joins) };
    if (found.isOfBelow && !this.#isKey(below, found.joins))
      this.leave(
        `${at.path}.relationship.type`,
        `several rows of ${below} may belong to one: pgsync shows any of them, Millrace the first by key. \`orderBy\` chooses another`,
      );
    return {};
  }

  /** The foreign key that joins two tables, of either of them; null: none, or it is not known which. */
  #byKey(place: string, above: string, below: string): { readonly joins: Join[]; readonly isOfBelow: boolean } | null {
    const [upper, lower] = [this.#known(above), this.#known(below)];
    const { foreignKeys } = this.#source.known;
    if (upper === undefined || lower === undefined || foreignKeys === null) return null;
    const { up, down } = keysBetween(foreignKeys, upper, lower);
    const [joins, ...more] = [...up, ...down];
    if (joins === undefined) return null;
    if (more.length === 0) return { joins, isOfBelow: up.length > 0 };
    const listed = [joins, ...more].map((one) => `on: ${spelled(one)}`).join(", or ");
    this.unclear.add(place);
    this.decide(place, `foreign keys join ${below} and ${above} in ${more.length + 1} ways; say which one: ${listed}`);
    return null;
  }

  #isKey(table: string, joins: readonly Join[]): boolean {
    const shape = this.#known(table);
    if (shape === undefined) return false;
    return shape.key.every((ordinal) => joins.some(({ below }) => below === shape.columns[ordinal]!.name));
  }

  #known(name: string): TableShape | undefined {
    return this.#source.known.tables.find(({ schema, table }) => `${schema}.${table}` === name);
  }

  /** `schema.table`, or a table in the schema of the node behind it. */
  #between(text: string, node: Fields): string {
    const dot = text.indexOf(".");
    return dot < 0 ? this.#table(this.#schemaOf(node), text) : this.#table(text.slice(0, dot), text.slice(dot + 1));
  }

  /** In MySQL, which has no schemas, pgsync takes the database. */
  #schemaOf(node: Fields): string {
    const { kind, schema } = this.#source;
    return kind === "postgres" ? textOf(node["schema"]) || schema : schema;
  }

  #table(schema: string, table: string): string {
    const name = `${schema}.${table}`;
    this.#tables.add(name);
    return name;
  }

  /** What is there and of another kind is named: without it the document would be another one. */
  #object(path: string, given: unknown): Fields {
    const fields = fieldsOf(given);
    if (fields === null && given !== undefined && given !== null) this.block(path, "it is no object");
    return fields ?? {};
  }

  #list(path: string, given: unknown): readonly unknown[] {
    if (Array.isArray(given)) return given;
    if (given !== undefined && given !== null) this.block(path, "it is no list");
    return [];
  }

  #texts(path: string, given: unknown): readonly string[] {
    const list = this.#list(path, given);
    const texts = list.filter((one) => typeof one === "string");
    if (texts.length < list.length) this.block(path, "it has something that is no text");
    return texts;
  }

  #text(path: string, given: unknown): string {
    if (given !== undefined && given !== null && typeof given !== "string") this.block(path, "it is no text");
    return textOf(given);
  }

  leave(key: string, why: string): void {
    this.#left.push({ key: `${this.#index}.${key}`, why, isNeedless: false, isBlocking: false });
  }

  /** Something would be shown, or be wrong, without it. */
  block(key: string, why: string): void {
    this.#left.push({ key: `${this.#index}.${key}`, why, isNeedless: false, isBlocking: true });
  }

  /** What is to be decided at a place of millrace.yaml. */
  decide(place: string, why: string): void {
    this.#left.push({ key: place, why, isNeedless: false, isBlocking: true });
  }
}

interface Ends {
  readonly above: string;
  /** Null: none. */
  readonly between: string | null;
  readonly below: string;
}

function onOf(joins: readonly Join[]): Readonly<Record<string, string>> {
  return Object.fromEntries(joins.map(({ above, below }) => [below, above]));
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
