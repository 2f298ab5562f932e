/** Settings and mappings of a pgsync index, as `index` of the search sink has them. */
import { definition } from "../../../connectors/elasticsearch/config.ts";
import { type Fields, fieldsOf } from "./connector-file.ts";

/** A node of a document, by the names of its fields. */
export interface FieldsTree {
  readonly names: ReadonlySet<string>;
  /** Of relations that are objects. */
  readonly relations: ReadonlyMap<string, FieldsTree>;
  /** What the node's own `transform.mapping` says, by field. */
  readonly mapping: Fields;
}

export interface IndexKeys {
  readonly settings?: Fields;
  readonly mappings?: { readonly properties: Fields };
}

/** Tells of a key of the file that the document has no use for. */
type Leave = (key: string, why: string) => void;

const NO_FIELD = "the document has no such field";

/**
 * What one index is to have; null: nothing of its own. As in pgsync, `mapping` of the index takes the place of those of nodes.
 * Fields are named as the document has them, after `rename`.
 */
export function indexKeys(setting: Fields, mapping: Fields, tree: FieldsTree, leave: Leave): IndexKeys | null {
  // With templates it is a whole mapping, else its properties.
  const { properties = {}, ...rest } = "dynamic_templates" in mapping ? mapping : { properties: mapping };
  for (const key of Object.keys(rest))
    leave(`mapping.${key}`, "Millrace maps no field by itself, and keeps all of them");
  const given = fieldsOf(properties) ?? {};
  const isWhole = Object.keys(mapping).length > 0;
  const found = isWhole ? known("mapping", given, tree, leave) : ofNodes("nodes", tree, leave);
  if (isWhole && hasMapping(tree)) leave("nodes.transform.mapping", "pgsync does not use it beside `mapping`");
  const made: IndexKeys = {
    ...(Object.keys(setting).length === 0 ? {} : { settings: setting }),
    ...(Object.keys(found).length === 0 ? {} : { mappings: { properties: found } }),
  };
  return Object.keys(made).length === 0 ? null : made;
}

/** What the sink does not take of it: by path below the entry. */
export function refusedOf(keys: IndexKeys): readonly { readonly path: string; readonly message: string }[] {
  const entry = "public.any";
  const parsed = definition.safeParse({ url: "http://127.0.0.1:9200", index: { [entry]: keys } });
  if (parsed.success) return [];
  return parsed.error.issues.map(({ path, message }) => ({ path: path.slice(2).join("."), message }));
}

function hasMapping({ mapping, relations }: FieldsTree): boolean {
  return Object.keys(mapping).length > 0 || [...relations.values()].some(hasMapping);
}

/** A node's mapping, with those of the nodes below it as objects. */
function ofNodes(path: string, tree: FieldsTree, leave: Leave): Fields {
  const below = [...tree.relations].flatMap(([name, relation]): readonly (readonly [string, Fields])[] => {
    const properties = ofNodes(`${path}.${name}`, relation, leave);
    return Object.keys(properties).length === 0 ? [] : [[name, { properties }]];
  });
  return { ...Object.fromEntries(below), ...known(`${path}.transform.mapping`, tree.mapping, tree, leave) };
}

/** Without fields that the document does not have. Beside its own there are aliases, and fields that others are copied to. */
function known(path: string, properties: Fields, tree: FieldsTree, leave: Leave): Fields {
  const copied = new Set(Object.values(properties).flatMap((of) => [fieldsOf(of)?.["copy_to"] ?? []].flat()));
  const kept = Object.entries(properties).flatMap(([name, of]): readonly (readonly [string, unknown])[] => {
    const fields = fieldsOf(of);
    const relation = tree.relations.get(name);
    if (!tree.names.has(name) && fields?.["type"] !== "alias" && !copied.has(name)) {
      leave(`${path}.${name}`, NO_FIELD);
      return [];
    }
    const inner = fieldsOf(fields?.["properties"]);
    if (relation === undefined || inner === null) return [[name, of]];
    return [[name, { ...fields, properties: known(`${path}.${name}.properties`, inner, relation, leave) }]];
  });
  return Object.fromEntries(kept);
}
