/**
 * Where connectors' configurations lie: answers and requests of Kafka Connect's API, its properties files, resources of
 * Strimzi, and files of Debezium Server.
 */
import { isMap, isSeq, LineCounter, parseAllDocuments } from "yaml";
import { getProperties } from "properties-file";
import { faultsOf } from "../../config/document.ts";
import { cliError } from "../errors.ts";

export interface Connector {
  readonly name: string;
  /** As the file has them: a value may be of any kind. */
  readonly keys: ReadonlyMap<string, unknown>;
  /** What says that other keys may count, too. */
  readonly elsewhere?: string;
}

export type Fields = Readonly<Record<string, unknown>>;

const CLASS = "connector.class";
const SERVER_CLASS = `debezium.source.${CLASS}`;

/** The connector of this name in the file; without a name, the only one. */
export function readConnector(file: string, text: string, name: string | null): Connector {
  const refuse = (what: string) => cliError("MR1140", `${file} ${what}`);
  const plain = text.replace(/^\uFEFF/, "").trim();
  refuseOthers(file, plain, "debezium");
  const documents = documentsOf(file, plain);
  if (documents === null) throw refuse("is neither JSON, YAML nor properties");
  const found = documents.flatMap((document) => connectorsOf(document));
  const chosen = name === null ? found : found.filter((connector) => connector.name === name);
  const [first] = chosen;
  if (first === undefined) throw refuse(nothingIn(documents, found, name));
  if (chosen.length > 1)
    throw refuse(`has ${chosen.length} connectors; choose one with --connector: ${namesOf(chosen)}`);
  if (first.elsewhere !== undefined)
    throw refuse(
      `may not have all keys of its connector, for it has ${first.elsewhere}: write those that count into one file`,
    );
  return first;
}

function nothingIn(documents: readonly unknown[], found: readonly Connector[], name: string | null): string {
  if (name !== null) return `has no connector ${JSON.stringify(name)}; it has ${namesOf(found) || "none"}`;
  const isStatus = documents.some((document) =>
    Object.values(fieldsOf(document) ?? {}).some((each) => fieldsOf(each)?.["status"] !== undefined),
  );
  return isStatus
    ? "holds only how connectors are: ask Kafka Connect with ?expand=info"
    : "can't be imported: it has no connector.class";
}

function namesOf(connectors: readonly Connector[]): string {
  return connectors.map(({ name }) => JSON.stringify(name)).join(", ");
}

/**
 * Null: it is in none of the forms. Messages of parsers quote the file, which holds a password: none is shown. A file of YAML
 * with an object is not read as properties, which would lose what is nested in it.
 */
function documentsOf(file: string, text: string): readonly unknown[] | null {
  if (/^[{[]/.test(text)) {
    try {
      return [JSON.parse(text)];
    } catch {
      return null;
    }
  }
  const documents = yamlDocuments(file, text);
  if (documents !== null) return documents;
  const properties = environmentIn(file, text) ?? propertiesIn(text);
  if (SERVER_CLASS in properties || CLASS in properties) return [properties];
  return null;
}

/** Null: it is no YAML, or has no object. */
function yamlDocuments(file: string, text: string): readonly unknown[] | null {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { prettyErrors: false, merge: true, lineCounter: lines });
  if (!Array.isArray(documents) || documents.some(({ errors }) => errors.length > 0)) return null;
  if (!documents.some(({ contents }) => isMap(contents) || isSeq(contents))) return null;
  const [fault] = documents.flatMap(faultsOf);
  if (fault !== undefined)
    throw cliError("MR1140", `${file} can't be imported: line ${lines.linePos(fault.at).line}: ${fault.message}`);
  try {
    return documents.map((document): unknown => document.toJS());
  } catch (error) {
    throw cliError("MR1140", `${file} can't be imported: its aliases unfold to too much`, { cause: error });
  }
}

/** None: its escapes are malformed. */
function propertiesIn(text: string): Fields {
  try {
    return getProperties(text);
  } catch {
    return {};
  }
}

/**
 * A file of environment variables, as shells and Docker read it; null: it is none. Unlike properties it takes a backslash as it
 * is, but without quotes a shell does not.
 */
function environmentIn(file: string, text: string): Fields | null {
  if (!/^\s*(?:export\s+)?DEBEZIUM_SOURCE_CONNECTOR_CLASS=/im.test(text)) return null;
  const lines = text.split(/\r?\n/);
  const found = lines.map((line): Readonly<Record<string, string>> | undefined =>
    /^\s*(?:#|$)/.test(line) ? {} : VARIABLE.exec(line)?.groups,
  );
  const other = found.indexOf(undefined);
  if (other >= 0) {
    const why = "is no KEY=value: a value of several lines, or a command, is not followed";
    throw cliError("MR1140", `${file} can't be imported: line ${other + 1} ${why}`);
  }
  const variables = found.filter((groups) => groups?.["key"] !== undefined);
  const entries = variables.map(({ exported, key = "", double, single, plain = "" } = {}) => {
    if (double !== undefined) return [key, referring(double.replaceAll(/\\([\\"])/g, "$1"))] as const;
    return [key, single ?? referring(exported === undefined ? plain : plain.replaceAll(/\\(.)/g, "$1"))] as const;
  });
  return withoutEnvironment(Object.fromEntries(entries));
}

const VARIABLE =
  /^\s*(?<exported>export\s+)?(?<key>\w+)=(?:"(?<double>(?:[^"\\]|\\.)*)"|'(?<single>[^']*)'|(?<plain>(?!["']).*?))\s*(?:\s#.*)?$/s;

/** `$NAME` as `${NAME}`. */
function referring(text: string): string {
  return text.replaceAll(/\$(?=[A-Za-z_])(\w+)/g, "${$1}");
}

/** Debezium Server's keys as environment variables, `DEBEZIUM_SOURCE_TOPIC_PREFIX`, as its properties have them. */
function withoutEnvironment(fields: Fields): Fields {
  const renamed = Object.entries(fields).map(([key, value]): readonly [string, unknown] => {
    const variable = /^DEBEZIUM_\w+$/i.exec(key)?.[0];
    if (variable === undefined) return [key, value];
    const quoted = typeof value === "string" ? /^(["'])(.*)\1$/s.exec(value.trim()) : null;
    return [variable.toLowerCase().replaceAll("_", "."), quoted === null ? value : quoted[2]];
  });
  return Object.fromEntries(renamed);
}

/** Of containers, as files of Docker Compose and of Kubernetes have them. What is not in the file is a reference. */
function ofContainers(fields: Fields): readonly Connector[] {
  const services = Object.values(fieldsOf(fields["services"]) ?? {});
  const spec = fieldsOf(fields["spec"]);
  const pod = fieldsOf(fieldsOf(spec?.["template"])?.["spec"]) ?? spec;
  const containers: readonly unknown[] = Array.isArray(pod?.["containers"]) ? pod["containers"] : [];
  return [...services, ...containers].flatMap((container): readonly Connector[] => {
    const own = fieldsOf(container) ?? {};
    const environment = own["environment"] ?? own["env"];
    const entries = Array.isArray(environment)
      ? environment.map((each) => environmentEntry(each))
      : Object.entries(fieldsOf(environment) ?? {});
    const known = entries.map(([key, value]): readonly [string, unknown] => [
      key,
      value === null || value === undefined ? `\${${key}}` : filledIn(value),
    ]);
    const server = ofServer(withoutEnvironment(Object.fromEntries(known)));
    return server === null ? [] : [{ ...server, ...keptElsewhere(own) }];
  });
}

/** Docker Compose's `$NAME` and `$$`, and Kubernetes' `$(NAME)`. */
function filledIn(value: unknown): unknown {
  if (typeof value !== "string") return value;
  return referring(value.replaceAll(/(?<!\$)\$\((\w+)\)/g, "${$1}").replaceAll("$$", "\0")).replaceAll("\0", "$");
}

const FILES_OF_KEYS: ReadonlySet<string> = new Set(["env_file", "envFrom", "extends"]);
/** A mounted file, or an argument of the program. */
const OTHER_KEYS = /\/debezium\/conf|application\.(?:properties|ya?ml)|-D"?debezium\./;

function keptElsewhere(container: Fields): Pick<Connector, "elsewhere"> {
  const found = Object.entries(container).find(
    ([key, value]) => FILES_OF_KEYS.has(key) || OTHER_KEYS.test(JSON.stringify(value) ?? ""),
  );
  return found === undefined ? {} : { elsewhere: found[0] };
}

function environmentEntry(entry: unknown): readonly [string, unknown] {
  const { name, value } = fieldsOf(entry) ?? {};
  if (typeof name === "string") return [name, value];
  const [, key = "", text] = /^([^=]*)(?:=(.*))?$/s.exec(typeof entry === "string" ? entry : "") ?? [];
  return [key, text];
}

function connectorsOf(document: unknown): readonly Connector[] {
  if (Array.isArray(document)) return document.flatMap((each) => connectorsOf(each));
  const fields = fieldsOf(document);
  if (fields === null) return [];
  const spec = fieldsOf(fields["spec"]);
  if (fields["kind"] === "KafkaConnector" && spec !== null) return [ofStrimzi(fields, spec)];
  const server = ofServer(fields);
  if (server !== null) return [server];
  const config = fieldsOf(fields["config"]);
  if (config !== null && CLASS in config) {
    const { name = config["name"], initial_state: state } = fields;
    return [named(name, state === undefined ? config : { ...config, initial_state: state })];
  }
  if (CLASS in fields) return [named(fields["name"], fields)];
  if (fields["kind"] === "ConfigMap") return ofFiles(Object.entries(fieldsOf(fields["data"]) ?? {}));
  if (fields["kind"] === "DebeziumServer" && spec !== null) return ofOperator(fields, spec);
  const found = ofContainers(fields);
  if (found.length > 0) return found;
  if (Array.isArray(fields["items"])) return connectorsOf(fields["items"]);
  // ?expand=info: an object of connectors, by name.
  return Object.values(fields).flatMap((each) => connectorsOf(fieldsOf(each)?.["info"]));
}

function named(name: unknown, keys: Fields): Connector {
  return { name: typeof name === "string" ? name : "", keys: new Map(Object.entries(keys)) };
}

function ofStrimzi(resource: Fields, spec: Fields): Connector {
  const { class: type, config, state, pause } = spec;
  const others = Object.entries({ "spec.state": state, "spec.pause": pause }).filter(
    ([, value]) => value !== undefined,
  );
  return named(fieldsOf(resource["metadata"])?.["name"], {
    [CLASS]: type,
    ...fieldsOf(config),
    ...Object.fromEntries(others),
  });
}

/** The files of a ConfigMap. Which of several a program reads is not in it. */
function ofFiles(files: readonly (readonly [string, unknown])[]): readonly Connector[] {
  const texts = files.flatMap(([name, text]) => (typeof text === "string" ? [[name, text.trim()] as const] : []));
  return texts.flatMap(([name, text]) => {
    const other = texts.find(([each, rest]) => each !== name && /^\s*%?[\w.]*debezium\./m.test(rest));
    return connectorsOf(documentsOf(name, text) ?? []).map((connector) => ({
      ...connector,
      ...(other === undefined ? {} : { elsewhere: other[0] }),
    }));
  });
}

/** A resource of Debezium's operator, as properties of Debezium Server. */
function ofOperator(resource: Fields, spec: Fields): readonly Connector[] {
  const part = (fields: unknown, key: string): Fields => fieldsOf(fieldsOf(fields)?.[key]) ?? {};
  const { source, sink, format, quarkus, transforms, predicates, ...rest } = spec;
  const list: readonly unknown[] = Array.isArray(transforms)
    ? transforms
    : transforms === undefined
      ? []
      : [transforms];
  const chain = list.map((each, i) => {
    const { type, predicate, negate, config } = fieldsOf(each) ?? {};
    return [`t${i}`, { type, ...fieldsOf(config), ...(predicate === undefined ? {} : { predicate, negate }) }] as const;
  });
  const conditions = Object.entries(fieldsOf(predicates) ?? {}).map(([name, each]) => {
    const { type, config } = fieldsOf(each) ?? {};
    return [name, { type, ...fieldsOf(config) }] as const;
  });
  const { type: kind } = fieldsOf(sink) ?? {};
  const names = (entries: readonly (readonly [string, unknown])[]) => entries.map(([name]) => name).join(",");
  const server = ofServer({
    debezium: {
      source: { [CLASS]: fieldsOf(source)?.["class"], ...part(source, "config") },
      sink: { type: kind, [String(kind)]: part(sink, "config") },
      format: Object.fromEntries(
        Object.keys(fieldsOf(format) ?? {}).map((side) => {
          const { type: own = null } = part(format, side);
          return [side, { "": own, ...part(part(format, side), "config") }];
        }),
      ),
      ...(chain.length === 0 ? {} : { transforms: { "": names(chain), ...Object.fromEntries(chain) } }),
      ...(conditions.length === 0 ? {} : { predicates: { "": names(conditions), ...Object.fromEntries(conditions) } }),
    },
    quarkus: part(quarkus, "config"),
    // Of storages, and of how it runs.
    spec: rest,
  });
  if (server === null) return [];
  const { name } = fieldsOf(resource["metadata"]) ?? {};
  return [{ ...server, name: typeof name === "string" ? name : "" }];
}

const OTHER_FILES = /^(?:smallrye|quarkus)\.config\.(?:locations|profile\.parent)$/;
const CONVERTERS: Readonly<Record<string, string>> = {
  json: "org.apache.kafka.connect.json.JsonConverter",
  avro: "io.confluent.connect.avro.AvroConverter",
  cloudevents: "io.debezium.converters.CloudEventsConverter",
};

/** With the keys of Debezium Server as the connector inside it has them; null if there are none. */
function ofServer(fields: Fields): Connector | null {
  const flat = flattened(fields, "");
  if (!flat.some(([key]) => key === SERVER_CLASS)) return null;
  const renamed = flat.map(([key, value]): readonly [string, unknown] => {
    const source = /^debezium\.source\.(.*)$/s.exec(key)?.[1];
    if (source !== undefined) return [source, value];
    const producer = /^debezium\.sink\.kafka\.producer\.(.*)$/s.exec(key)?.[1];
    if (producer !== undefined) return [`producer.override.${producer}`, value];
    const format = /^debezium\.format\.(key|value|header)(.*)$/s.exec(key);
    if (format !== null) {
      const [, part = "", rest = ""] = format;
      const isClass = rest === "" && typeof value === "string";
      return [`${part}.converter${rest}`, isClass ? (CONVERTERS[value.toLowerCase()] ?? value) : value];
    }
    return [/^debezium\.(?:transforms|predicates)/.test(key) ? key.slice("debezium.".length) : key, value];
  });
  const keys = new Map(renamed);
  // Which of Quarkus' profiles counts is not in the file, nor which of two keys that the connector has as one.
  const unsure =
    flat.find(([key]) => key.startsWith("%") || OTHER_FILES.test(key)) ??
    flat.find((_, i) => keys.get(renamed[i]![0]) !== renamed[i]![1]);
  return { name: "debezium", keys, ...(unsure === undefined ? {} : { elsewhere: unsure[0] }) };
}

function flattened(fields: Fields, start: string): readonly (readonly [string, unknown])[] {
  return Object.entries(fields).flatMap(([key, value]) => {
    const inner = fieldsOf(value);
    // A key may have a value of its own beside others that begin with it: it is that of the empty name.
    const own = key === "" ? start.replace(/\.$/, "") : start + key;
    return inner === null ? [[own, value] as const] : flattened(inner, `${own}.`);
  });
}

/** Tools whose files are told apart, by the command that reads them. */
const TOOLS = { pgsync: "pgsync", sequin: "Sequin", peerdb: "PeerDB", "flink-cdc": "Flink CDC" } as const;

/** A file of another tool is refused, with the command that reads it. */
export function refuseOthers(file: string, text: string, own: string): void {
  const tool = toolOf(text);
  if (tool === null || tool === own) return;
  const source = tool === "pgsync" ? " --source URL" : "";
  throw cliError("MR1140", `${file} is a file of ${TOOLS[tool]}: millrace import ${tool} FILE${source}`);
}

function toolOf(text: string): keyof typeof TOOLS | null {
  if (/^\s*create\s+(?:peer|mirror)\b/im.test(text)) return "peerdb";
  if (/"nodes?"\s*:/.test(text) && /"(?:database|index)"\s*:/.test(text)) return "pgsync";
  if (/^ *pipeline:/m.test(text) && /^ *source:/m.test(text)) return "flink-cdc";
  if (
    /^(?:databases|sinks|streams|http_endpoints|account):/m.test(text) &&
    /^\s*-?\s*(?:account|database|slot):/m.test(text)
  )
    return "sequin";
  return null;
}

/** The one object that a YAML file holds. Messages of parsers quote the file: none is shown. */
export function yamlObject(file: string, text: string): Fields {
  const documents = yamlDocuments(file, text.replace(/^\uFEFF/, "")) ?? [];
  const [first, ...others] = documents.filter((document) => document !== null && document !== undefined);
  const only = fieldsOf(first);
  if (only === null || others.length > 0) throw cliError("MR1140", `${file} is no YAML file with one object`);
  return only;
}

export function fieldsOf(value: unknown): Fields | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : null;
}
