/** A schema file of pgsync as a configuration of Millrace: its indexes as documents, and the search engine as their sink. */
import { documentsDefinition, documentsOf } from "../../config/documents.ts";
import { type KnownTables, resolveDocuments } from "../../documents/resolve.ts";
import { cliError } from "../errors.ts";
import { asName } from "../init/init-file.ts";
import { type Fields, fieldsOf, refuseOthers } from "./connector-file.ts";
import { type Imported, type LeftOut, UNDECIDED } from "./findings.ts";

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
  readonly through?: string;
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
    const { database, index = database, nodes } = fields ?? {};
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
  readonly sinks: { readonly search: object };
}

/** Joins are left to the foreign keys, as in pgsync; those that the source does not have are named. */
export function importedFromPgsync(indexes: readonly PgsyncIndex[], source: PgsyncSource): Imported<PgsyncConfig> {
  const left: LeftOut[] = [];
  const documents: Record<string, DocumentKeys> = {};
  const tables = new Set<string>();
  for (const { index, database, fields } of indexes) {
    const known = left.length;
    const name = asName(index, 60) || "documents";
    const reading = new Reading(index, source.schema, left, tables);
    if (database !== source.database) reading.leave("database", `it is ${database}, and --source names another one`);
    if (name !== index)
      reading.leave("index", `the document is named ${name}: a name has lower-case letters, digits and _`);
    if (Object.hasOwn(documents, name)) {
      reading.block("index", `a second document would be named ${name}`);
      continue;
    }
    const document = reading.document(fields);
    for (const { place, message } of problemsOf({ [name]: document }, source.known))
      left.push({ key: place, why: message, isNeedless: false, isBlocking: true });
    const undecided = left.slice(known).filter(({ isBlocking }) => isBlocking);
    documents[name] = undecided.length === 0 ? document : { [UNDECIDED]: undecided.map(({ key }) => key), ...document };
  }
  const names = Object.keys(documents);
  const config = {
    name: source.name,
    source: { kind: source.kind, url: source.url, tables: [...tables].toSorted() },
    documents,
    sinks: { search: { kind: "elasticsearch", url: "${ELASTICSEARCH_URL}", documents: names } },
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
  ["setting", "write it as `index.settings` of the sink or document"],
  ["mapping", "write it as `index.mappings` of the sink or document"],
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

class Reading {
  readonly #index: string;
  readonly #schema: string;
  readonly #left: LeftOut[];
  readonly #tables: Set<string>;

  constructor(index: string, schema: string, left: LeftOut[], tables: Set<string>) {
    this.#index = index;
    this.#schema = schema;
    this.#left = left;
    this.#tables = tables;
  }

  document(fields: Fields): DocumentKeys {
    for (const key of Object.keys(fields)) {
      if (["database", "index", "nodes"].includes(key)) continue;
      const why = OF_INDEX.get(key);
      if (key === "plugins") this.block(key, BY_CODE);
      else if (why === undefined) this.block(key, UNKNOWN);
      else this.leave(key, why);
    }
    const nodes: unknown = fields["nodes"];
    const roots: readonly unknown[] = Array.isArray(nodes) ? nodes : [nodes];
    if (roots.length !== 1) this.block("nodes", "a document has one root: give each its own index");
    const root = fieldsOf(roots[0]);
    if (root === null) {
      this.block("nodes", "it has no root");
      return { from: UNDECIDED };
    }
    const { value, ...keys } = this.#node("nodes", root, false);
    return value === undefined ? keys : { ...keys, columns: [value] };
  }

  #node(path: string, node: Fields, isScalar: boolean): DocumentKeys & { readonly value?: string } {
    for (const key of Object.keys(node)) if (!OF_NODE.has(key)) this.block(`${path}.${key}`, UNKNOWN);
    for (const key of ["table", "schema", "label"]) this.#text(`${path}.${key}`, node[key]);
    if (node["base_tables"] !== undefined) this.block(`${path}.base_tables`, "a view is not captured: name its tables");
    if (node["primary_key"] !== undefined)
      this.leave(`${path}.primary_key`, "the table's own key counts; `key` under `tables` chooses another");
    const columns = this.#columns(`${path}.columns`, node["columns"]);
    const from = this.#table(textOf(node["schema"]), textOf(node["table"]));
    const rename = this.#transform(`${path}.transform`, node["transform"], columns);
    const below = this.#children(`${path}.children`, node["children"]);
    const [only, ...others] = columns;
    if (isScalar && only !== undefined && others.length === 0 && Object.keys(below).length === 0)
      return { from, value: only };
    if (isScalar) this.leave(`${path}.relationship.variant`, "it has several fields: objects were written");
    return {
      from,
      ...(columns.length === 0 ? {} : { columns }),
      ...(Object.keys(rename).length === 0 ? {} : { rename }),
      ...(Object.keys(below).length === 0 ? {} : { with: below }),
    };
  }

  /** None: all. What is no name of a column is an expression of SQL. */
  #columns(path: string, given: unknown): readonly string[] {
    const all = this.#texts(path, given);
    const plain = all.filter((column) => /^[\w$ -]+$/u.test(column) && !column.includes("->"));
    if (plain.length < all.length) {
      const others = all.filter((column) => !plain.includes(column)).join(", ");
      // Without its columns the node would show all of them.
      if (plain.length === 0) this.block(path, `${others}: a part of a JSON column is no column`);
      else this.leave(path, `${others}: a part of a JSON column is no column, and was left out`);
    }
    return plain.length === 0 && (all.length > 0 || (given !== undefined && !Array.isArray(given)))
      ? [UNDECIDED]
      : plain;
  }

  #transform(path: string, given: unknown, columns: readonly string[]): Readonly<Record<string, string>> {
    const transform = this.#object(path, given);
    for (const key of Object.keys(transform)) {
      if (key === "rename") continue;
      if (key === "mapping") this.leave(`${path}.${key}`, "write it as `index.mappings` of the sink or document");
      else this.block(`${path}.${key}`, BY_CODE);
    }
    const rename = Object.entries(this.#object(`${path}.rename`, transform["rename"])).flatMap(([from, to]) => {
      const field = this.#text(`${path}.rename.${from}`, to);
      if (columns.length === 0 || columns.includes(from)) return field === "" ? [] : [[from, field] as const];
      this.leave(`${path}.rename.${from}`, "the node has no such column");
      return [];
    });
    return Object.fromEntries(rename);
  }

  #children(path: string, given: unknown): Readonly<Record<string, RelationKeys>> {
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
      else found[name] = this.#relation(at, node);
    }
    return found;
  }

  #relation(path: string, node: Fields): RelationKeys {
    const at = `${path}.relationship`;
    const {
      type,
      variant = "object",
      through_tables: through,
      foreign_key: key,
      ...rest
    } = this.#object(at, node["relationship"]);
    for (const other of Object.keys(rest)) this.block(`${at}.${other}`, UNKNOWN);
    if (type !== "one_to_one" && type !== "one_to_many") this.block(`${at}.type`, "it is one_to_one or one_to_many");
    if (variant !== "object" && variant !== "scalar") this.block(`${at}.variant`, "it is object or scalar");
    const between = this.#texts(`${at}.through_tables`, through);
    if (between.length > 1) this.block(`${path}.relationship.through_tables`, "one table lies between two");
    const [first] = between;
    return {
      ...this.#node(path, node, variant === "scalar"),
      ...(type === "one_to_many" ? { many: true as const } : {}),
      ...(first === undefined ? {} : { through: this.#between(first) }),
      ...this.#joins(`${path}.relationship.foreign_key`, key, first !== undefined),
    };
  }

  #joins(path: string, given: unknown, isThrough: boolean): Pick<RelationKeys, "on"> {
    const { parent, child, ...rest } = this.#object(path, given);
    for (const other of Object.keys(rest)) this.block(`${path}.${other}`, UNKNOWN);
    if (given === undefined || given === null) return {};
    const columns = (side: unknown) => this.#texts(path, typeof side === "string" ? [side] : side);
    const [above, below] = [columns(parent), columns(child)];
    if (isThrough || above.length !== below.length || above.length === 0) {
      this.block(path, "say by `on` what joins the tables");
      return {};
    }
    return { on: Object.fromEntries(below.map((column, i) => [column, above[i]!])) };
  }

  /** `schema.table`, or a table in the default schema. */
  #between(text: string): string {
    const dot = text.indexOf(".");
    return dot < 0 ? this.#table("", text) : this.#table(text.slice(0, dot), text.slice(dot + 1));
  }

  #table(schema: string, table: string): string {
    const name = `${schema === "" ? this.#schema : schema}.${table}`;
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
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
